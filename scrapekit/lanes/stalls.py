"""StallWatch: notices that the event loop is blocked, and names the line that blocks it.

The loop has a beat: a timer, a few times in `threshold_s`, or in a tenth of a second. One that
comes late tells how long the loop was blocked. A thread listens; if a beat is overdue, it looks at
what the loop's thread is executing just now. A step of one of our own callbacks is timed exactly,
by the lane.

No debug mode of asyncio, no tracing, nothing in the loop but forty timers a second.
"""

from __future__ import annotations

import asyncio
import linecache
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Final, Literal

from scrapekit.failure import is_user_code
from scrapekit.lanes.meter import Stepped

_BEATS: Final = 4
"""How many beats there are in `threshold_s`."""
_COMPUTING: Final = 0.25
"""From this share of CPU time on, a callback computes rather than waits: other programs take
theirs as well.
"""
_LOOP: Final = frozenset({"run", "run_forever", "run_until_complete", "_run_once"})
"""The functions of asyncio in which a loop runs."""
_STILL: Final = 50
"""After so many times `threshold_s` it is told that the loop is still blocked: it may be for ever,
and then nobody else could say so."""

_LAG_S: Final = 0.1
"""How late the loop is, is measured as if stalls of so many seconds mattered, at least."""

logger = logging.getLogger("scrapekit")

_UNKNOWN: Final = 5
"""How many times `threshold_s` it takes until code that is nobody's is told of."""

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
    """Taken quickly: what it is taken of may be over in a moment."""

    whose: Whose
    path: str = ""
    line: int = 0
    at: float = field(default_factory=time.perf_counter)

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}" if self.path else ""

    @property
    def statement(self) -> str:
        return linecache.getline(self.path, self.line).strip()


class StallWatch:
    """Watches the running loop from start() to close(). `tell` is called on the loop. With a
    `threshold_s` of 0 it only measures how late the loop is, without a thread, and tells nothing.

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
        self._beat_s = min(threshold_s or _LAG_S, _LAG_S) / _BEATS
        self._tell = tell
        self._threads_busy = threads_busy
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._due = 0.0
        self._cpu_s = 0.0
        """What all threads of the process had used when the beat was set."""
        self._timer: asyncio.TimerHandle | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._samples: list[_Sample] = []
        """What the loop's thread was executing while the beat that is due was overdue."""
        self._told = False
        """Whether a callback's step has been told of since the last beat."""
        self._late_s = 0.0

    def __repr__(self) -> str:
        return f"<StallWatch threshold_s={self.threshold_s} running={self._thread is not None}>"

    def start(self) -> None:
        """Begin to watch."""
        self._wait_for_beat()
        if not self.threshold_s:
            return
        self._thread = threading.Thread(
            target=self._listen, name="scrapekit stall watch", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop watching. Waits for the thread, which is idle: no time worth mentioning."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._judge()
        if self._thread is not None:
            self._closing.set()
            self._thread.join()
            self._thread = None

    def lag_s(self) -> float:
        """For how long, all in all, the loop has been late so far."""
        return self._late_s + max(0.0, self._loop.time() - self._due)

    def step_blocked(self, callback: str, wall_s: float, cpu_s: float) -> None:
        """A step of a callback took longer than `threshold_s`. Called on the loop."""
        began = time.perf_counter() - wall_s
        sample = _usual([sample for sample in self._samples if sample.at >= began])
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

    def _wait_for_beat(self) -> None:
        self._cpu_s = time.process_time()
        self._due = self._loop.time() + self._beat_s
        self._timer = self._loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        self._judge()
        self._wait_for_beat()

    def _judge(self) -> None:
        """See whether the beat that is due is late."""
        late_s = self._loop.time() - self._due
        self._late_s += late_s
        samples, self._samples = self._samples, []
        told, self._told = self._told, False
        sample = _usual(samples)
        # It was due up to a beat after the block began.
        if sample is not None and not told and late_s >= self.threshold_s - self._beat_s:
            self._blocked(sample, late_s)

    def _blocked(self, sample: _Sample, blocked_s: float) -> None:
        if sample.whose == "callback":
            # Its lane has timed it, and found nothing: it was many steps, or a busy machine.
            return
        if sample.whose == "unknown" and blocked_s < _UNKNOWN * self.threshold_s:
            # Nobody's code was seen: a busy machine looks like that, too.
            return
        if sample.whose == "threads" and not self._threads_compute(blocked_s):
            return
        self._tell(
            Stall(
                whose=sample.whose,
                callback=None,
                where=sample.where,
                statement=sample.statement,
                blocked_s=blocked_s,
                advice=_ADVICE[sample.whose],
            )
        )

    def _threads_compute(self, blocked_s: float) -> bool:
        cpu_s = time.process_time() - self._cpu_s
        return self._threads_busy() and cpu_s >= _COMPUTING * blocked_s

    def _listen(self) -> None:
        """Sleep until the beat that is due would be overdue; look, if it still is due then."""
        while not self._closing.is_set():
            due = self._due
            early_s = due + self.threshold_s / 2 - self._loop.time()
            if early_s > 0:
                self._closing.wait(early_s)
            elif self._loop.is_closed():
                # The crawl was abandoned: there is nothing left to watch.
                return
            else:
                # If C code kept us from the interpreter until now, its line is still the current
                # one.
                self._look_on(due)
                self._samples = []

    def _look_on(self, due: float) -> None:
        """Look again and again until the beat comes; cry if it takes so long that it may never."""
        looks = 0
        while self._due == due and not self._closing.is_set():
            looks += 1
            if looks <= _STILL and self._loop.is_running():
                self._samples.append(self._look())
            elif looks == _STILL + 1:
                self._cry()
            self._closing.wait(self.threshold_s)

    def _cry(self) -> None:
        """Say in this thread what the loop can't be told while it is blocked."""
        sample = _usual(self._samples)
        if sample is not None and sample.whose != "threads":
            logger.warning(
                "the event loop has been blocked for %.1f s, and still is, at %s: %s",
                _STILL * self.threshold_s,
                sample.where,
                sample.statement,
            )

    def _look(self) -> _Sample:
        frame = sys._current_frames().get(self._loop_thread)
        if frame is None or _waits(frame) or _is_loop(frame):
            return _Sample("threads")
        place: FrameType | None = frame
        # What called the loop is further out; it isn't what the loop is blocked by.
        while place is not None and not is_user_code(place) and not _is_loop(place):
            place = place.f_back
        if place is None or _is_loop(place):
            return _Sample("unknown", frame.f_code.co_filename, frame.f_lineno)
        return _Sample(_owner(place), place.f_code.co_filename, place.f_lineno)


def _usual(samples: Sequence[_Sample]) -> _Sample | None:
    """The one seen most often, or first; rather somebody's code than nobody's."""
    blamed = [sample for sample in samples if sample.whose != "threads"] or samples
    counts = Counter(sample.where for sample in blamed)
    return max(blamed, key=lambda sample: counts[sample.where], default=None)


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


def _waits(frame: FrameType) -> bool:
    """Whether the loop waits for something to do."""
    return frame.f_code.co_name == "select" and _module(frame) == "selectors"


def _is_loop(frame: FrameType) -> bool:
    """Whether a frame is the running of the loop itself, also that of a loop in C."""
    return frame.f_code.co_name in _LOOP and _module(frame).startswith("asyncio.")


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _owner(frame: FrameType | None) -> Whose:
    """Who called the code that blocks: a lane, other parts of scrapekit, or neither."""
    owner: Whose = "application"
    while frame is not None and not _is_loop(frame):
        if _module(frame) == Stepped.__module__:
            return "callback"
        if _module(frame).startswith("scrapekit."):
            owner = "spider"
        frame = frame.f_back
    return owner
