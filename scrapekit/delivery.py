"""Delivery: committed items to the exports, and to whoever iterates over the crawl."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio

from scrapekit.announcer import Announcer
from scrapekit.errors import OutputError
from scrapekit.exports.base import Export
from scrapekit.failure import failure
from scrapekit.frontier.base import Outcome

HandOver = Callable[[Sequence[Any]], Awaitable[None]]
"""Gives the items of a page to whoever iterates over the crawl; waits while he is busy."""


class Delivery:
    """Where items go. `broken(error)` is called when an export can't write any more."""

    def __init__(
        self,
        exports: Sequence[Export],
        hand_over: HandOver | None,
        announcer: Announcer,
        broken: Callable[[OutputError], None],
    ) -> None:
        self._exports = exports
        self._hand_over = hand_over
        self._tell = announcer
        self._broken = broken
        self._opened: list[Export] = []
        self._written: dict[Export, int] = {}
        """How many items of each were told of."""
        self._closing: anyio.CancelScope | None = None
        self._waits: set[anyio.CancelScope] = set()
        self._deadline = math.inf

    def __repr__(self) -> str:
        return f"<Delivery exports={[export.path for export in self._exports]}>"

    async def check(self) -> None:
        """Raise OutputError if an export can't be opened; nothing is touched."""
        for export in self._exports:
            await export.check()

    async def open(self) -> None:
        """Open the exports: from here on, what they overwrite is gone."""
        for export in self._exports:
            await export.open()
            self._opened.append(export)

    async def aclose(self) -> None:
        """Complete the exports. Waits for whoever reads them; what goes wrong is announced.

        All are completed, also if the wait for one of them is cut short.
        """
        self._closing = anyio.CancelScope(deadline=self._deadline)
        with self._closing:
            async with AsyncExitStack() as stack:
                for export in reversed(self._opened):
                    stack.push_async_callback(self._complete, export)

    def hurry(self, patience_s: float) -> None:
        """From now on, wait at most that long for whoever reads an export."""
        self._deadline = min(self._deadline, anyio.current_time() + patience_s)
        if self._closing is not None:
            self._closing.deadline = self._deadline
        for wait in self._waits:
            wait.cancel()

    async def deliver(self, outcome: Outcome) -> None:
        """Deliver the items of a page. Waits while those who take them are busy.

        All exports have accepted the items before the first wait: what was committed is written,
        even if the visit is cut short.
        """
        if not outcome.items:
            return
        for export in self._exports:
            self._write(export, outcome)
        for export in self._exports:
            if export.full:
                await self._room(export, outcome)
        if self._hand_over is not None:
            await self._hand_over(outcome.items)

    def _write(self, export: Export, outcome: Outcome) -> None:
        request = outcome.lease.request
        try:
            problems = export.write_nowait(outcome.items)
        except OutputError as error:
            self._fail(error, outcome)
            return
        for problem in problems:
            name = request.callback or "parse"
            self._tell.failed(failure(problem, "export", request=request, callback=name))
        self._written[export] = export.count
        self._tell.written(export)

    async def _room(self, export: Export, outcome: Outcome) -> None:
        """Wait until the export has room, or for no longer than `hurry` allows."""
        with anyio.CancelScope(deadline=self._deadline) as wait:
            self._waits.add(wait)
            try:
                await export.room()
            except OutputError as error:
                self._fail(error, outcome)
            finally:
                self._waits.discard(wait)

    def _fail(self, error: OutputError, outcome: Outcome) -> None:
        self._tell.failed(failure(error, "export", request=outcome.lease.request))
        self._broken(error)

    async def _complete(self, export: Export) -> None:
        try:
            await self._close(export)
        except asyncio.CancelledError:
            # It is closed by now. What its reader hadn't taken is lost, which is worth telling.
            with anyio.CancelScope(shield=True):
                await self._close(export)
            raise

    async def _close(self, export: Export) -> None:
        try:
            for problem in await export.aclose():
                self._tell.failed(failure(problem, "export"))
        except OutputError as error:
            self._tell.failed(failure(error, "export"))
            self._broken(error)
        if export.count != self._written.get(export, 0):
            # What follows a job is written behind it: only now it is known how much that was.
            self._tell.written(export)
