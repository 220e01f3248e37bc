"""Bytes on their way from the event loop to a file, without the loop ever waiting for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable

import anyio
from anyio.to_thread import run_sync

from scrapekit.exports.files import OutputFile

# Enough to keep a disk busy; little enough to be no burden times ten exports.
BUFFER_BYTES = 256 * 1024


class Sink:
    """A bounded buffer and the task that empties it into `file`, in a thread of its own.

    `push` takes bytes at once and never waits; `room` waits while the buffer is full. What was
    pushed is written in that order as soon as the file is free. A failure to write is kept in
    `failure`; whatever is pushed after it is thrown away.

    Create it on the running event loop; `aclose` it to end its task and close the file.
    """

    def __init__(self, file: OutputFile, *, name: str, limit_bytes: int = BUFFER_BYTES) -> None:
        self.failure: Exception | None = None
        self.position = file.size
        self._file = file
        self._limit = limit_bytes
        self._pending: list[bytes] = []
        self._buffered = 0
        self._closing = False
        self._closed = False
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        # anyio's shared limiter would make exports wait for slow callbacks.
        self._thread = anyio.CapacityLimiter(1)
        self._task = asyncio.create_task(self._run(), name=f"export {name}")

    def __repr__(self) -> str:
        state = "failed" if self.failure else "closed" if self._task.done() else "open"
        return f"<Sink {state}, {self._buffered} bytes to write>"

    def push(self, data: bytes) -> None:
        """Accept `data`; it will be written whole, or the export has failed."""
        if self.failure or not data:
            return
        self._pending.append(data)
        self._buffered += len(data)
        self.position += len(data)
        self._wake.set()

    async def room(self) -> None:
        """Wait until the buffer is below its limit, or the file has failed."""
        while self._buffered >= self._limit:
            self._room.clear()
            await self._room.wait()

    async def aclose(self) -> None:
        """Write what was pushed, then close the file; for the first failure see `failure`.

        If cancelled, a regular file is still finished, for that takes a moment; the reader of a
        pipe is not waited for any longer, and what it hasn't taken is lost. Idempotent.
        """
        self._closing = True
        self._wake.set()
        try:
            await self._ended()
        except asyncio.CancelledError:
            if not self._closed:
                self._file.interrupt()
            with anyio.CancelScope(shield=True):
                await self._ended_at_last()
            raise

    async def _ended(self) -> None:
        await asyncio.wait({self._task})

    async def _ended_at_last(self) -> None:
        while not self._task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await self._ended()

    async def _run(self) -> None:
        try:
            while not self._closing or self._pending:
                await self._wake.wait()
                self._wake.clear()
                await self._flush()
        finally:
            self._closed = True
            if self._buffered:
                self._fail(OSError(errno.ECANCELED, os.strerror(errno.ECANCELED)))
            await self._in_thread(self._file.close)

    async def _flush(self) -> None:
        if not self._pending:
            return
        data = b"".join(self._pending)
        self._pending.clear()
        await self._in_thread(self._file.write, data)
        if not self.failure:
            self._buffered -= len(data)
        self._room.set()

    async def _in_thread(self, function: Callable[..., None], *args: object) -> None:
        try:
            await run_sync(function, *args, limiter=self._thread)
        except Exception as error:  # noqa: BLE001 (if this task died, who waits for room would hang)
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failure = self.failure or error
        self._pending.clear()
        self._buffered = 0
        self._room.set()
