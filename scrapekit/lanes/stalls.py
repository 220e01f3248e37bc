"""StallWatch: notices that the event loop is blocked, and names the line that blocks it.

A thread asks the loop for a sign of life, a few times in `threshold_s`. If none comes, it looks at
what the loop's thread is executing, and goes on waiting. A step of one of our own callbacks is
timed exactly, by the lane; the thread only adds the line. What else blocks, such as code of the
application around an embedded crawl, is timed by how long the sign of life took.

No debug mode of asyncio, no tracing, nothing in the loop but forty empty calls a second.
"""

from __future__ import annotations

import asyncio
import linecache
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Final, Literal

from scrapekit.failure import is_user_code

_SIGNS: Final = 4
"""How many signs of life are asked for in `threshold_s`."""
_COMPUTING: Final = 0.5
"""From this share of CPU time on, a callback computes rather than waits."""

Whose = Literal["callback", "spider", "application", "threads", "unknown"]


@dataclass(frozen=True, slots=True)
class Stall:
    """The loop was blocked once."""

    whose: Whose
    """"callback": one of ours. "spider": other code of the crawl, such as start(), a stage or an
    observer. "application": code around the crawl. "threads": nothing blocked the loop, but
    threads that compute kept the interpreter from it."""
    callback: str | None
    where: str
    """The place in the user's code, as "file:line"; "" if it wasn't seen."""
    statement: str
    """The source of that line."""
    blocked_s: float
    advice: str


@dataclass(frozen=True, slots=True)
class _Sample:
    where: str
    statement: str
    whose: Whose


class StallWatch:
    """Watches the running loop from start() to close(). `tell` is called on the loop.

    `threads_busy` says whether the crawl's own threads could be what keeps the loop waiting: if
    they couldn't, the machine is busy with something else, and nobody is blamed.
    """

    def __init__(
        self,
        threshold_s: float,
        tell: Callable[[Stall], None],
        *,
        threads_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.threshold_s = threshold_s
        self._tell = tell
        self._threads_busy = threads_busy
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._alive = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._sample: _Sample | None = None
        self._told = False

    def __repr__(self) -> str:
        return f"<StallWatch threshold_s={self.threshold_s} running={self._thread is not None}>"

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(
            target=self._watch, name="scrapekit stall watch", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop watching. Waits for the thread, which is idle: no time worth mentioning."""
        if self._thread is not None:
            self._closing.set()
            self._alive.set()
            self._thread.join()
            self._thread = None

    def step_blocked(self, callback: str, wall_s: float, cpu_s: float) -> None:
        """A step of a callback took longer than `threshold_s`. Called on the loop."""
        sample = self._sample
        self._told = True
        self._tell(
            Stall(
                whose="callback",
                callback=callback,
                where=sample.where if sample else "",
                statement=sample.statement if sample else "",
                blocked_s=wall_s,
                advice=cure(wall_s, cpu_s),
            )
        )

    def _watch(self) -> None:
        pause_s = self.threshold_s / _SIGNS
        while not self._closing.is_set():
            self._alive.clear()
            asked = time.perf_counter()
            try:
                self._loop.call_soon_threadsafe(self._sign)
            except RuntimeError:
                # The loop is closed: there is nothing left to watch.
                return
            if not self._alive.wait(self.threshold_s / 2):
                self._look(asked)
            self._closing.wait(pause_s)

    def _sign(self) -> None:
        self._alive.set()

    def _look(self, asked: float) -> None:
        """No sign of life for half the threshold: see what the loop's thread does, and wait."""
        self._told = False
        self._sample = self._take_sample()
        self._alive.wait()
        blocked_s = time.perf_counter() - asked
        sample, self._sample = self._sample, None
        late = blocked_s >= self.threshold_s * (1 - 1 / _SIGNS)
        if sample is None or self._told or not late or self._closing.is_set():
            return
        if sample.whose == "threads" and not self._threads_busy():
            return
        stall = Stall(
            whose=sample.whose,
            callback=None,
            where=sample.where,
            statement=sample.statement,
            blocked_s=blocked_s,
            advice=_ADVICE[sample.whose],
        )
        try:
            self._loop.call_soon_threadsafe(self._tell, stall)
        except RuntimeError:
            return

    def _take_sample(self) -> _Sample | None:
        frame = sys._current_frames().get(self._loop_thread)
        if frame is None:
            return None
        if frame.f_code.co_name == "select":
            return _Sample("", "", "threads")
        place = frame
        while not is_user_code(place) and place.f_back is not None:
            place = place.f_back
        if not is_user_code(place):
            return _Sample(_at(frame), _source(frame), "unknown")
        return _Sample(_at(place), _source(place), _owner(place))


def cure(wall_s: float, cpu_s: float) -> str:
    """Which lane would keep a callback that blocks like this off the loop."""
    if cpu_s >= _COMPUTING * wall_s:
        return 'it computes: write it as a plain def with @lane("process")'
    return "it waits in a blocking call: write it as a plain def, which runs in a thread"


_ADVICE: Final[dict[Whose, str]] = {
    "callback": "",
    "spider": "call what blocks in a thread, by asyncio.to_thread()",
    "application": "this is the application's own code, not the crawl's",
    "threads": 'plain callbacks compute in threads: mark them with @lane("process")',
    "unknown": "no code of yours was seen to run",
}


def _owner(frame: FrameType | None) -> Whose:
    """Whether scrapekit called the code that blocks."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("scrapekit."):
            return "spider"
        frame = frame.f_back
    return "application"


def _at(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _source(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
