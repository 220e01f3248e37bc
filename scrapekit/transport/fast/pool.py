"""Pool: the connections there are, and those that wait for another request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from scrapekit.transport.fast.line import Line

# Ending takes some turns of the loop. A loop that fails to tell of it holds up nobody for ever.
_END_S: Final = 5.0

Key = tuple[str, str, str | None]
"""Who may share a connection: the same origin, session and proxy with its credentials."""


class Pool:
    """Keeps at most `max_idle` connections that nobody uses; the one unused for longest goes."""

    def __init__(self, max_idle: int) -> None:
        self.lines: set[Line] = set()
        """Every connection whose socket is open."""
        self._max_idle = max_idle
        self._idle: dict[Line, Key] = {}
        self._by_key: dict[Key, dict[Line, None]] = {}
        self._dialling: set[asyncio.Timeout] = set()
        self._empty: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Pool connections={len(self.lines)} idle={len(self._idle)}>"

    def take(self, key: Key) -> Line | None:
        """The connection of that key used last, if there is one in order."""
        while (lines := self._by_key.get(key)) is not None:
            line = next(reversed(lines))
            self._forget(line)
            if line.is_silent():
                return line
            line.cut()
        return None

    def put(self, key: Key, line: Line) -> None:
        """Keep a connection for the next request, or close it if it is good for none."""
        if not line.may_go_on():
            line.cut()
            return
        line.rest()
        self._idle[line] = key
        self._by_key.setdefault(key, {})[line] = None
        if len(self._idle) > self._max_idle:
            oldest = next(iter(self._idle))
            self._forget(oldest)
            oldest.cut()

    def lost(self, line: Line) -> None:
        """Its socket is closed."""
        self.lines.discard(line)
        self._forget(line)
        self._tell()

    def _forget(self, line: Line) -> None:
        key = self._idle.pop(line, None)
        if key is None:
            return
        lines = self._by_key[key]
        del lines[line]
        if not lines:
            del self._by_key[key]

    @contextmanager
    def dialling(self, deadline: asyncio.Timeout) -> Iterator[None]:
        """While a connection is made: closing the pool moves its deadline to now."""
        self._dialling.add(deadline)
        try:
            yield
        finally:
            self._dialling.discard(deadline)
            self._tell()

    async def aclose(self) -> None:
        """End all there is, and wait until that is over, but for no more than 5 seconds."""
        loop = asyncio.get_running_loop()
        for deadline in self._dialling:
            if not deadline.expired():
                deadline.reschedule(loop.time())
        for line in list(self.lines):
            line.cut()
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._until_empty()

    async def _until_empty(self) -> None:
        loop = asyncio.get_running_loop()
        while self.lines or self._dialling:
            self._empty = loop.create_future()
            await self._empty

    def _tell(self) -> None:
        if self._empty is not None and not self._empty.done():
            self._empty.set_result(None)
