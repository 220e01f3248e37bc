"""Spiders whose callbacks do what the page says, which is seldom good. Worker processes import
this module, so it imports little.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from scrapekit import Request, Response, Spider, lane

MEBIBYTE = 1 << 20


class Hostile(Spider):
    """Its pages are words: what the callback has to do. Gives an item for those it survives.

    Start URLs are fetched as often as they are there.
    """

    log: str = ""
    """A file that gets a line for each run of the callback: the page's path."""
    fifo: str = ""
    """What `hold` waits at, and `tell` writes to."""

    async def start(self) -> AsyncIterator[Request]:
        for url in self.start_urls:
            yield Request(url, unique=False)

    @lane("process")
    def parse(self, response: Response) -> Iterator[dict[str, Any]]:
        if self.log:
            with Path(self.log).open("a") as file:
                print(_path(response), file=file)
        self.stats.add("runs")
        word, _, argument = response.text.partition(" ")
        getattr(self, f"do_{word}")(argument)
        yield {"path": _path(response)}

    def do_nothing(self, _: str) -> None: ...

    def do_segfault(self, _: str) -> None:
        ctypes.string_at(0)

    def do_exit(self, code: str) -> None:
        os._exit(int(code))

    def do_loop(self, _: str) -> None:
        while True:
            pass

    def do_allocate(self, _: str) -> None:
        hoard = []
        while True:
            hoard.append(bytearray(MEBIBYTE))

    def do_leak(self, mebibytes: str) -> None:
        _LEAKED.append(bytearray(int(mebibytes) * MEBIBYTE))

    def do_kill(self, _: str) -> None:
        """What the kernel does when the machine runs out of memory."""
        os.kill(os.getpid(), signal.SIGKILL)

    def do_raise(self, _: str) -> None:
        raise LookupError("no price")

    def do_hold(self, _: str) -> None:
        """Wait until somebody opens the FIFO to write."""
        Path(self.fifo).read_bytes()

    def do_hang(self, _: str) -> None:
        """Say so by the FIFO, keep it open, and never return nor let another thread run."""
        with open(self.fifo, "w") as file:  # noqa: PTH123 -- it is no file
            print(os.getpid(), file=file, flush=True)
            re.match(r"(a+)+$", "a" * 64 + "b")

    def do_leave(self, how: str) -> None:
        """Start a process that keeps the FIFO and all else open; then hang or die."""
        if os.fork() == 0:
            with open(self.fifo, "w"):  # noqa: PTH123 -- the same
                signal.pause()
        self.do_loop("") if how == "loop" else self.do_exit("5")

    def do_close(self, _: str) -> None:
        """Close every descriptor, and go on for ever."""
        os.closerange(3, 256)
        threading.Event().wait()

    def do_fork(self, _: str) -> None:
        """Go on in two processes, as code that forgets to leave the child does."""
        os.fork()

    def do_run(self, _: str) -> None:
        """Run a program that never ends and keeps the FIFO open."""
        subprocess.run(["/bin/sh", "-c", f"exec 3>{self.fifo}; sleep 1000"], check=False)


_LEAKED: list[bytearray] = []


def _path(response: Response) -> str:
    return response.url.rpartition("/")[2]


class Idle:
    """What a worker takes its callbacks from, without a spider and without any."""

    def load(self) -> None: ...

    def take_counts(self) -> dict[str, float]:
        return {}

    def callback(self, name: str | None) -> Callable[..., Any]:
        raise NotImplementedError
