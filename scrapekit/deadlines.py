"""Deadlines: time limits of many tasks, and one timer for all of them.

`asyncio.timeout` sets a timer and cancels it again, for each page and in vain. Here a page in time
costs a note in a table: the timer rings when the first limit of those that are open would be
passed, looks at them all, and is set anew.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self, final

_COARSEST_S: Final = 0.05
"""The timer rings no sooner after it has rung, however many limits are passed meanwhile: that late
a task may be cut short."""


@final
class Deadlines:
    """The limits of the tasks of one event loop."""

    def __init__(self) -> None:
        self._open: dict[Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Deadlines open={len(self._open)}>"

    def within(self, seconds: float | None) -> Deadline:
        """For a `with`, inside of which the current task is cancelled after so many seconds (None:
        never), and leaving it raises TimeoutError then. As asyncio.timeout does, it raises nothing
        if the task is cancelled by others as well.
        """
        when = None if seconds is None else asyncio.get_running_loop().time() + seconds
        return Deadline(self, when)

    def close(self) -> None:
        """Leave no timer behind, once nothing is open any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        first: float | None = None
        for deadline in self._open:
            when = deadline.when()
            if when is None or deadline.expired():
                continue
            if when <= now:
                deadline._pass()
            elif first is None or when < first:
                first = when
        if first is not None:
            self._watch(max(first, now + _COARSEST_S))


@final
class Deadline:
    """See `Deadlines.within`. The deadline may be moved."""

    __slots__ = ("_cancelling", "_expired", "_owner", "_task", "_when")

    def __init__(self, owner: Deadlines, when: float | None) -> None:
        self._owner = owner
        self._when = when
        self._expired = False

    def __repr__(self) -> str:
        return f"<Deadline {'expired' if self._expired else self._when}>"

    def when(self) -> float | None:
        """By the loop's clock; None for never."""
        return self._when

    def expired(self) -> bool:
        """Whether it was passed, and the task cancelled."""
        return self._expired

    def reschedule(self, when: float | None) -> None:
        """Let it be at `when` by the loop's clock; None for never. In vain if it was passed."""
        self._when = when
        if when is not None:
            self._owner._watch(when)

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task to cut short")
        self._task = task
        self._cancelling = task.cancelling()
        self._owner._open[self] = None
        if self._when is not None:
            self._owner._watch(self._when)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del self._owner._open[self]
        if not self._expired:
            return
        ours = self._task.uncancel() <= self._cancelling
        if ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def _pass(self) -> None:
        self._expired = True
        self._task.cancel()
