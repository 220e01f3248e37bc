"""What a callback costs: wall and CPU time, measured where it runs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")


@dataclass(slots=True)
class Cost:
    """Seconds. `cpu_s` is that of the one thread which ran the callback."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    blocked_s: float = 0.0
    """The longest time for which it kept the event loop from other work; 0 off the loop."""


def timed(work: Callable[[], _T]) -> tuple[_T | None, BaseException | None, Cost]:
    """Run plain code in this thread; what it returned or raised, and its cost."""
    wall, cpu = time.perf_counter(), time.thread_time()
    result: _T | None = None
    raised: BaseException | None = None
    try:
        result = work()
    except BaseException as exc:
        raised = exc
    return result, raised, Cost(time.perf_counter() - wall, time.thread_time() - cpu)


def _nothing() -> None: ...


class StepWatch(Protocol):
    """Who wants to know of steps that block the loop."""

    threshold_s: float

    def step_blocked(self, callback: str, wall_s: float, cpu_s: float) -> None:
        """A step took longer than `threshold_s`."""


class Stepped(Awaitable[_T]):
    """Awaits a coroutine and measures its own steps, not what runs between them."""

    def __init__(
        self,
        name: str,
        coroutine: Coroutine[Any, Any, _T],
        cost: Cost,
        watch: StepWatch,
        waits: Callable[[], None] = _nothing,
    ) -> None:
        self._name = name
        self._coroutine = coroutine
        self._cost = cost
        self._watch = watch
        self._waits = waits
        """Called before the coroutine waits for the first time."""

    def __await__(self) -> Generator[Any, Any, _T]:
        step: Callable[[Any], Any] = self._coroutine.send
        value: Any = None
        started = time.perf_counter()
        try:
            while True:
                wall, cpu = time.perf_counter(), time.thread_time()
                try:
                    waited_for = step(value)
                except StopIteration as stop:
                    result: _T = stop.value
                    return result
                finally:
                    cpu = time.thread_time() - cpu
                    wall = time.perf_counter() - wall
                    self._cost.cpu_s += cpu
                    self._cost.blocked_s = max(self._cost.blocked_s, wall)
                    if wall > self._watch.threshold_s:
                        self._watch.step_blocked(self._name, wall, cpu)
                step, value = self._coroutine.send, None
                self._waits()
                self._waits = _nothing
                try:
                    value = yield waited_for
                except BaseException as exc:
                    step, value = self._coroutine.throw, exc
        finally:
            self._cost.wall_s += time.perf_counter() - started
