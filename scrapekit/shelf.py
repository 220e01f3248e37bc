"""Shelf: the items of some pages between the crawl and whoever iterates over it.

What is taken is taken without waiting, so that nobody whose wait is cancelled loses what was just
handed to him, as with `asyncio.wait_for(anext(run), 1)`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

_Queue = deque["asyncio.Future[None]"]


class Shelf:
    """Holds what `limit` pages yielded. Belongs to the thread of one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pages: deque[Sequence[Any]] = deque()
        self._givers: _Queue = deque()
        self._takers: _Queue = deque()
        self._ended = False
        self._refused = False

    def __repr__(self) -> str:
        state = "refused" if self._refused else "ended" if self._ended else "open"
        return f"<Shelf {state} pages={len(self._pages)}/{self._limit}>"

    async def give(self, items: Sequence[Any]) -> None:
        """Put a page's items there; waits while it is full. Drops them if nobody wants any."""
        while len(self._pages) >= self._limit and not self._refused:
            await _wait_in(self._givers)
        if not self._refused:
            self._pages.append(items)
            _wake(self._takers)

    async def take(self) -> Sequence[Any] | None:
        """The items of the next page; waits for them. None if no more will come."""
        while not self._pages:
            if self._ended:
                return None
            await _wait_in(self._takers)
        items = self._pages.popleft()
        _wake(self._givers)
        return items

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        _wake_all(self._takers)

    def refuse(self) -> None:
        """Nobody wants any more."""
        self._refused = True
        self._pages.clear()
        _wake_all(self._givers)


async def _wait_in(queue: _Queue) -> None:
    waiter = asyncio.get_running_loop().create_future()
    queue.append(waiter)
    try:
        await waiter
    except asyncio.CancelledError:
        if waiter.done() and not waiter.cancelled():
            # Woken and cancelled at once: the wake-up belongs to someone else.
            _wake(queue)
        raise


def _wake(queue: _Queue) -> None:
    while queue:
        waiter = queue.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return


def _wake_all(queue: _Queue) -> None:
    while queue:
        _wake(queue)
