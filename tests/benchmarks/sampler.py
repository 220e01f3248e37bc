"""A sampling profiler that charges CPU time, not samples, and costs some five percent.

A signal interrupts the main thread 500 times a second. The CPU time that each thread has
used since the last signal is charged to the place where the thread is now. So a call into C that
holds back the signal for three milliseconds is charged three milliseconds, and a thread that waits
is charged nothing. Python looks for signals when a function is entered, a call into C returns or a
loop goes round, so a place may be charged what a statement before it took:
trust stages more than single functions.

The time of the collector of cycles is known exactly, and told apart.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Literal, NamedTuple, Self

from tests.benchmarks import instructions

INTERVAL_S = 0.002

_Phase = Literal["start", "stop"]


class Place(NamedTuple):
    """A function, by its file and its name."""

    file: str
    function: str


class Charge(NamedTuple):
    """What was used somewhere: seconds of CPU time, and instructions where they can be counted."""

    seconds: float = 0.0
    instructions: float = 0.0

    def plus(self, other: Charge) -> Charge:
        return Charge(self.seconds + other.seconds, self.instructions + other.instructions)


Place_of = Callable[[FrameType], tuple[str, Place]]
"""Names the stage that a frame is in, and the function that is at work there."""

GARBAGE = "garbage collection"
SAMPLING = "sampling"


class Sampler:
    """Charges the CPU time of this process while it is entered; main thread only.

    `charged` has stage, function and whether it was in the main thread. SIGALRM is taken.
    """

    def __init__(self, place_of: Place_of) -> None:
        self.charged: dict[tuple[str, Place, bool], Charge] = {}
        self._is_at_work = False
        self._place_of = place_of
        self._main = threading.get_ident()
        self._meters: dict[int, _Meter] = {}

    def __enter__(self) -> Self:
        self._meters[self._main] = _Meter(self._main)
        gc.callbacks.append(self._collecting)
        signal.signal(signal.SIGALRM, self._sample)
        signal.setitimer(signal.ITIMER_REAL, INTERVAL_S, INTERVAL_S)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        gc.callbacks.remove(self._collecting)
        for meter in self._meters.values():
            meter.close()

    def _sample(self, _: int, here: FrameType | None) -> None:
        if self._is_at_work:
            return
        self._is_at_work = True
        # An event loop that listens to signals would be woken by each of ours.
        signal.set_wakeup_fd(-1)
        for thread, frame in _current_frames().items():
            at = here if thread == self._main else frame
            if at is not None:
                self._charge(thread, *self._place_of(at))
        self._charge(self._main, SAMPLING, _NOWHERE)
        self._is_at_work = False

    def _collecting(self, phase: _Phase, _: dict[str, int]) -> None:
        """The collector works in whichever thread made the last object; it begins or ends."""
        thread = threading.get_ident()
        if phase == "stop":
            self._charge(thread, GARBAGE, _NOWHERE)
        elif (caller := sys._getframe().f_back) is not None:
            self._charge(thread, *self._place_of(caller))

    def _charge(self, thread: int, stage: str, place: Place) -> None:
        meter = self._meters.get(thread)
        if meter is None:
            meter = self._meters[thread] = _Meter(thread)
        key = stage, place, thread == self._main
        self.charged[key] = self.charged.get(key, Charge()).plus(meter.since())

    def by_stage(self, *, main: bool | None = None) -> dict[str, Charge]:
        """What each stage was charged; in the main thread, in the others, or in all."""
        found: dict[str, Charge] = {}
        for (stage, _, in_main), charge in self.charged.items():
            if main is None or main == in_main:
                found[stage] = found.get(stage, Charge()).plus(charge)
        return found

    def by_place(self, stage: str) -> Counter[Place]:
        """Seconds that each function of a stage was charged."""
        found: Counter[Place] = Counter()
        for (name, place, _), charge in self.charged.items():
            if name == stage:
                found[place] += charge.seconds  # type: ignore[assignment]  # seconds, not a count
        return found


_NOWHERE = Place("", "")


def _current_frames() -> dict[int, FrameType]:
    """What each thread is at.

    CPython holds a lock of its own meanwhile, which no code may run into: collecting cycles would
    run finalizers.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if was_enabled:
            gc.enable()


class _Meter:
    """The CPU time and the instructions of one thread, since it was last asked."""

    def __init__(self, thread: int) -> None:
        self._clock = time.pthread_getcpuclockid(thread)
        self._counter = instructions.Counter.of_thread(thread)
        # A thread that is met for the first time may have begun since the last sample.
        self._seconds = time.clock_gettime(self._clock) if thread == threading.get_ident() else 0.0
        self._instructions = self._counter.read()

    def since(self) -> Charge:
        try:
            seconds = time.clock_gettime(self._clock)
        except OSError:  # the thread has just ended
            seconds = self._seconds
        count = self._counter.read()
        charge = Charge(seconds - self._seconds, count - self._instructions)
        self._seconds, self._instructions = seconds, count
        return charge

    def close(self) -> None:
        self._counter.close()
