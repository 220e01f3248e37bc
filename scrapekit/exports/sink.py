"""Bytes on their way from the event loop to a file, without the loop ever waiting for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Protocol, Self

import anyio

# Enough to keep a disk busy; little enough to be no burden times ten exports.
BUFFER_BYTES = 256 * 1024


class Target(Protocol):
    """What a sink empties itself into: an opened file, or what looks like one."""

    size: int
    """What it held when it was opened, in bytes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def write(self, data: bytes) -> None: ...

    def interrupt(self) -> None: ...

    def release(self) -> None: ...


_GATHERED_BYTES: Final = 65_536
_GATHERED_S: Final = 0.05
"""What is pushed is gathered for so long, or up to so many bytes: to wake a thread for each page
costs more than to write what it has.
"""


class Sink:
    """A bounded buffer, and a thread that opens a file, empties the buffer into it and closes it.

    `push` takes bytes at once and never waits; `room` waits while `limit_bytes` or more are not
    written yet. What was pushed is written in that order as soon as the file is free. After a
    failure, kept in `failure`, the file is closed, and what was pushed is thrown away.

    The thread is the sink's own: in a shared one, exports would wait for slow callbacks. It
    never touches what the loop's thread writes but for the queue, and tells the loop nothing
    unless somebody waits, which makes a write cost no trip back to the loop.
    """

    def __init__(self, open_file: Callable[[], Target], *, limit_bytes: int = BUFFER_BYTES) -> None:
        self.failure: Exception | None = None
        self._open_file = open_file
        self._limit = limit_bytes
        self._file: Target | None = None
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._gathered: list[bytes] = []
        """Pushed, but not handed to the thread yet."""
        self._timer: asyncio.TimerHandle | None = None
        self._pushed = 0
        self._handed = 0
        self._written = 0
        self._closing = False
        self._ended = False
        self._released = False
        self._waiters = 0
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # A daemon, so that a pipe nobody reads can't keep the interpreter from ending.
        self._thread = threading.Thread(target=self._serve, name="scrapekit export", daemon=True)

    def __repr__(self) -> str:
        state = "failed" if self.failure else "closed" if self._ended else "open"
        return f"<Sink {state}, {self._pushed - self._written} bytes to write>"

    @property
    def position(self) -> int:
        """The size of the file, in bytes, once all that was pushed is written."""
        return (self._file.size if self._file else 0) + self._pushed

    async def start(self) -> None:
        """Open the file. Raises what opening it raises, and has nothing open then."""
        self._thread.start()
        try:
            await self._until(lambda: self._file is not None or self._ended)
        except asyncio.CancelledError:
            with contextlib.suppress(asyncio.CancelledError):
                await self.aclose()
            raise
        if self._file is None and self.failure:
            self._thread.join()
            raise self.failure

    def push(self, data: bytes) -> None:
        """Accept `data`, to be written whole unless the file fails; within a moment."""
        if not data:
            return
        self._pushed += len(data)
        self._gathered.append(data)
        if self._pushed - self._handed >= min(_GATHERED_BYTES, self._limit):
            self._hand_over()
        elif self._timer is None:
            self._timer = self._loop.call_later(_GATHERED_S, self._hand_over)

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._gathered:
            self._handed = self._pushed
            self._queue.put(b"".join(self._gathered))
            self._gathered.clear()

    @property
    def full(self) -> bool:
        """Whether the limit or more is unwritten, and the file hasn't failed."""
        return self._pushed - self._written >= self._limit and not self._ended

    async def room(self) -> None:
        """Wait until it isn't full."""
        await self._until(lambda: not self.full)

    def finish(self) -> None:
        """Have the file closed when all that was pushed is written. Doesn't wait. Idempotent."""
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._queue.put(None)

    async def aclose(self) -> None:
        """Finish, and wait for it; look at `failure` afterwards. Idempotent.

        If cancelled, a regular file is still finished, for that takes a moment; but the reader
        of a pipe isn't waited for any longer, and what it hasn't taken by then is lost.
        """
        self.finish()
        try:
            await self._until(lambda: self._ended)
        except asyncio.CancelledError:
            await self._hurry()
            raise
        finally:
            if self._ended:
                self._release()

    async def _hurry(self) -> None:
        if self._file and not self._ended:
            self._file.interrupt()
        with anyio.CancelScope(shield=True):
            while not self._ended:
                with contextlib.suppress(asyncio.CancelledError):
                    await self._until(lambda: self._ended)

    def _release(self) -> None:
        self._thread.join()
        if self._file and not self._released:
            self._released = True
            self._file.release()

    async def _until(self, condition: Callable[[], bool]) -> None:
        # Waiting is announced before the condition is looked at, and the thread looks for the
        # waiting after it has changed something: one of them always sees the other.
        self._waiters += 1
        try:
            while not condition():
                self._news.clear()
                await self._news.wait()
        finally:
            self._waiters -= 1

    def _serve(self) -> None:
        try:
            with self._open_file() as file:
                del self._open_file  # the owner's method, which would keep it from being collected
                self._file = file
                self._tell_loop()
                while data := self._next():
                    file.write(data)
                    self._written += len(data)
                    self._tell_loop()
        except Exception as error:
            self.failure = error
        self._ended = True
        self._tell_loop()

    def _next(self) -> bytes:
        """All that is to be written now; waits until there is something; empty at the end."""
        parts = []
        while (part := self._queue.get()) is not None:
            parts.append(part)
            if self._queue.empty():
                return b"".join(parts)
        self._queue.put(None)  # still the end when what came before it is written
        return b"".join(parts)

    def _tell_loop(self) -> None:
        if self._waiters:
            # The loop may be closed: then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._news.set)
