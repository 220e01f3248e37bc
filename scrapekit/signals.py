"""Ctrl-C and SIGTERM for programs that are one crawl. Embedded crawls don't come near this."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_DEAF_S: Final = 1.0
"""A loop that hasn't taken up a signal by then is blocked by user code."""


class Interrupts:
    """Which signal came, if any did: `number` is that of the first one."""

    def __init__(self, once: Callable[[], None], twice: Callable[[], None]) -> None:
        self.number: int | None = None
        self._once = once
        self._twice = twice
        self._unheard_since: float | None = None

    def arrive(self, number: int, _frame: FrameType | None) -> None:
        """A signal came; the loop is told of it by other means, if it listens.

        If it doesn't, because a callback never returns to it, a further signal is raised in that
        callback, as KeyboardInterrupt.
        """
        now = time.monotonic()
        if self._unheard_since is None:
            self._unheard_since = now
        elif now - self._unheard_since > _DEAF_S:
            self.number = self.number or number
            raise KeyboardInterrupt

    def __call__(self, number: int) -> None:
        self._unheard_since = None
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
        # The loop hears of signals by its wake-up descriptor, whatever Python's handler is.
        signal.signal(number, taken.arrive)
    try:
        yield taken
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
