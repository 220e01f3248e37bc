"""Ctrl-C and SIGTERM for programs that are one crawl. Embedded crawls don't come near this."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupts:
    """Which signal came, if any did: `number` is that of the first one."""

    def __init__(self, once: Callable[[], None], twice: Callable[[], None]) -> None:
        self.number: int | None = None
        self._once = once
        self._twice = twice

    def __call__(self, number: int) -> None:
        if self.number is None:
            self.number = number
            self._once()
        else:
            self._twice()


@contextmanager
def interrupts(once: Callable[[], None], twice: Callable[[], None]) -> Iterator[Interrupts]:
    """While inside, the first SIGINT or SIGTERM calls `once`, every further one `twice`.

    Both are called on the event loop. Off the main thread Python delivers no signals, and this
    does nothing.
    """
    taken = Interrupts(once, twice)
    if threading.current_thread() is not threading.main_thread():
        yield taken
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, taken, number)
    try:
        yield taken
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
