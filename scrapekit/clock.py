"""Clock: what everything else asks for the time, so that tests of long delays take none."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """The time, and calls at a time."""

    def now(self) -> float:
        """Seconds since the epoch. Never goes backwards, even if the system's clock is set."""

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        """Arrange `call` on the event loop at `when`, at once if that has passed. Doesn't block."""


class SystemClock:
    """Real time. The epoch is read once; from there the monotonic clock counts."""

    def __init__(self) -> None:
        self._epoch = time.time() - time.monotonic()

    def now(self) -> float:
        return self._epoch + time.monotonic()

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(max(0.0, when - self.now()), call)


class _ManualTimer:
    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    @property
    def is_cancelled(self) -> bool:
        return self._call is None

    def cancel(self) -> None:
        self._call = None

    def fire(self) -> None:
        if self._call is not None:
            self._call()


class ManualClock:
    """Time that moves only when told to. `start` is in seconds since the epoch."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self._now = start
        self._timers: list[tuple[float, int, _ManualTimer]] = []
        self._order = itertools.count()

    def __repr__(self) -> str:
        timers = sum(not timer.is_cancelled for _, _, timer in self._timers)
        return f"<ManualClock now={self._now} timers={timers}>"

    def now(self) -> float:
        return self._now

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        timer = _ManualTimer(call)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`, making the calls that fall due, each at its own time."""
        self.advance_to(self._now + seconds)

    def advance_to(self, when: float) -> None:
        """Move to `when`; a time already passed changes nothing but overdue calls."""
        while self._timers and self._timers[0][0] <= when:
            due, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, due)
            timer.fire()
        self._now = max(self._now, when)

    def next_timer(self) -> float | None:
        """When the next call is due, for tests that jump from date to date."""
        while self._timers and self._timers[0][2].is_cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None
