"""Writer: the thread that keeps groups, a transaction each, in the order of their coming."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Protocol

from scrapekit.frontier.group import Group
from scrapekit.frontier.store import Store

Settled = Callable[[Group, Exception | None], None]
"""Told on the event loop that a group is kept, or why it isn't."""


class Follower(Protocol):
    """Whoever writes on what was committed. Called in the writer's thread; may block."""

    def follow(self, pages: Sequence[tuple[int, int, str]]) -> None:
        """Items were committed: (number, count, JSON Lines) a page. Must not raise."""

    def places(self) -> Mapping[tuple[str, str], str | None]:
        """Notes for the next transaction: how far it has come."""


class Writer:
    """Applies groups to a store. After a failure all further groups fail with the same error."""

    def __init__(self, store: Store, settled: Settled, follower: Follower | None) -> None:
        self._store = store
        self._settled = settled
        self._follower = follower
        self._queue: SimpleQueue[Group | None] = SimpleQueue()
        self._failure: Exception | None = None
        self._loop = asyncio.get_running_loop()
        # A daemon, so that a disk that hangs can't keep the interpreter from ending.
        self._thread = threading.Thread(target=self._serve, name="scrapekit job", daemon=True)
        self._thread.start()

    def write(self, group: Group) -> None:
        """Hand over a group. Doesn't wait."""
        self._queue.put(group)

    def finish(self) -> None:
        """Wait until all groups are written and the thread has ended. Blocks. Idempotent."""
        self._queue.put(None)
        self._thread.join()

    def _serve(self) -> None:
        # Whoever lets go of Python's lock here gets it back late if the loop computes: so there is
        # as little as possible between a group's coming and the news that it is kept.
        while (group := self._queue.get()) is not None:
            if self._failure is None:
                try:
                    self._keep(group)
                except Exception as error:
                    self._failure = error
            # The loop may be closed: then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._settled, group, self._failure)
            if self._follower is not None and self._failure is None and group.items:
                self._follower.follow(group.items)

    def _keep(self, group: Group) -> None:
        if self._follower is not None:
            group.notes.update(self._follower.places())
        self._store.apply(group)
