"""Committer: gathers changes in an open group, and has it written at the right moment.

That is when nobody is left who could add to it, when it is large, or after a moment; and one at a
time, so that what comes while one is written makes up the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from scrapekit.errors import JobError
from scrapekit.frontier.group import Group
from scrapekit.frontier.store import Store
from scrapekit.frontier.writer import Follower, Writer

GROUP_S: Final = 0.004
"""How long a group stays open for others: a transaction costs about 0.2 ms of both threads, a wait
costs pages, as long as they are in the making."""

_GROUP_ROWS: Final = 2_000
"""A group of that size is written at once."""


class Committer:
    """Writes groups to a store, from a thread of its own.

    `is_last()` tells whether no further change is to be waited for; `notes()` gives what is noted
    with each group; `saved(group)` is called when one is on disk. Belongs to the loop's thread.
    """

    def __init__(
        self,
        store: Store,
        follower: Follower | None,
        *,
        is_last: Callable[[], bool],
        notes: Callable[[], Mapping[tuple[str, str], str]],
        saved: Callable[[Group], None],
    ) -> None:
        self.group = Group(0)
        """The open one."""
        self.failure: Exception | None = None
        self.unsaved_rows = 0
        """Requests that aren't on disk yet."""
        self._store = store
        self._is_last = is_last
        self._notes = notes
        self._saved = saved
        self._writer = Writer(store, self._settled, follower)
        self._is_writing = False
        self._timer: asyncio.Handle | None = None
        self._is_ripe = False
        self._closed = False

    def __repr__(self) -> str:
        state = "failed" if self.failure else "writing" if self._is_writing else "idle"
        return f"<Committer {state} {self.group!r}>"

    def plan(self) -> None:
        """See to it that the open group is written: soon, or after a moment.

        Never at once: what is told between two waits belongs together.
        """
        if self._is_ripe or self._closed:
            return
        nobody_left = bool(self.group.waiters) and self._is_last()
        if nobody_left or self.group.size >= _GROUP_ROWS:
            self._is_ripe = True
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_soon(self._write)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GROUP_S, self._write)

    async def kept(self) -> None:
        """Wait until what is in the open group is on disk. Raises JobError if it can't be."""
        if self.failure is not None:
            raise self.failure
        waiter = asyncio.get_running_loop().create_future()
        self.group.waiters.append(waiter)
        self.plan()
        await waiter

    async def aclose(self) -> None:
        """Write what is left, and end the thread."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self.failure is None and self.group:
            self._hand_over()
        await asyncio.to_thread(self._writer.finish)
        # What the writer told the loop last.
        await asyncio.sleep(0)

    def _write(self) -> None:
        self._timer, self._is_ripe = None, False
        if self.group and not self._is_writing and not self._closed:
            self._hand_over()

    def _hand_over(self) -> None:
        group, self.group = self.group, Group(self.group.number + 1)
        group.notes.update(self._notes())
        self._is_writing = True
        self._writer.write(group)

    def _settled(self, group: Group, error: Exception | None) -> None:
        self._is_writing = False
        error = error or self._missed()
        if error is not None:
            self._fail(group, error)
            return
        self.unsaved_rows -= len(group.added)
        self._saved(group)
        for waiter in group.waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._timer is None:
            # It was ripe while the one before was written.
            self._write()

    def _missed(self) -> Exception | None:
        """Why nothing is kept after all, if the files are gone."""
        try:
            self._store.look_for_file()
        except JobError as error:
            return error
        return None

    def _fail(self, group: Group, error: Exception) -> None:
        self.failure = self.failure or error
        for waiter in (*group.waiters, *self.group.waiters):
            if not waiter.done():
                waiter.set_exception(self.failure)
        self.group.waiters.clear()
