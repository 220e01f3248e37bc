"""Cut: tasks that are to end early are cancelled once each, and not at a bad moment.

A cancelled scope of anyio cancels again at every await, so that `finally: await pool.close()` in
code written for asyncio never gets to its end. And what has begun to be committed must be seen
through to where it is told and written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def seen_through(
    doing: Coroutine[Any, Any, T], hurry: Callable[[], None] = lambda: None
) -> T:
    """Wait for the end of something short that must not be left halfway, such as letting go of
    files. A cancellation meanwhile calls `hurry`, and is raised when it is over; what it raises
    itself goes first.
    """
    task = asyncio.ensure_future(doing)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            # A cancelled scope of anyio around us would interrupt every wait anew.
            with anyio.CancelScope(shield=cancelled is not None):
                await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
            hurry()
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result


class Cut:
    """The tasks inside of `task()`, and the moment they are cut short."""

    def __init__(self) -> None:
        self.made = False
        """Whether it was asked for. Tasks that come later aren't cancelled: they look here."""
        self._tasks: set[asyncio.Task[object] | None] = set()

    def __repr__(self) -> str:
        return f"<Cut {'made' if self.made else 'not made'}, tasks={len(self._tasks)}>"

    @contextmanager
    def task(self) -> Iterator[None]:
        """Let the current task be cut short while inside. Its cancellation ends here."""
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self.made:
                raise
        finally:
            self._tasks.discard(task)

    def make(self) -> None:
        """Cancel the tasks. A second call cancels again those that are still busy."""
        self.made = True
        for task in tuple(self._tasks):
            if task is not None:
                task.cancel()

    def held_off(self) -> HeldOff:
        """For an `async with`, inside of which the current task isn't cut short.

        A cut that is under way arrives before the inside has begun.
        """
        return HeldOff(self, self._tasks)


class HeldOff:
    """See `Cut.held_off`."""

    __slots__ = ("_cut", "_exposed", "_task", "_tasks")

    def __init__(self, cut: Cut, tasks: set[asyncio.Task[object] | None]) -> None:
        self._cut = cut
        self._tasks = tasks
        self._task = asyncio.current_task()
        self._exposed = self._task in tasks

    async def __aenter__(self) -> None:
        if self._cut.made:
            await asyncio.sleep(0)
        self._tasks.discard(self._task)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._exposed:
            self._tasks.add(self._task)
