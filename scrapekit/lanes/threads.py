"""The thread lane: a bounded pool of threads that belongs to one crawl.

Not the loop's default executor, which DNS look-ups share: slow callbacks would starve them. And
not a ThreadPoolExecutor, which keeps the interpreter alive until a stuck callback returns, and
wakes the loop once for each result.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from scrapekit.errors import UsageError

_T = TypeVar("_T")


class _Job:
    __slots__ = ("context", "error", "function", "future", "result")

    def __init__(self, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.context = contextvars.copy_context()
        self.function = function
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def work(self) -> None:
        try:
            self.result = self.context.run(self.function)
        except Exception as exc:
            self.error = exc
        except BaseException as exc:
            # sys.exit() in a thread ends that thread and nothing else: say so instead.
            self.error = UsageError(f"{type(exc).__name__} was raised off the event loop")
            self.error.__cause__ = exc

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        elif isinstance(self.error, StopIteration):
            error = RuntimeError("StopIteration was raised off the event loop")
            error.__cause__ = self.error
            self.future.set_exception(error)
        else:
            self.future.set_exception(self.error)


class ThreadLane:
    """Runs plain functions in at most `threads` threads, started as they are needed.

    Everything but the functions themselves happens on the event loop's thread, so there is no
    lock here.
    """

    def __init__(self, threads: int) -> None:
        self.limit = threads
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._done: deque[_Job] = deque()
        self._wake_sent = False
        self._ended: deque[threading.Thread] = deque()
        self._all_ended = asyncio.Event()
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"<ThreadLane threads={len(self._threads)}/{self.limit} unfinished={self._unfinished}>"
        )

    async def run(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call the function in a thread, with this task's context variables.

        Cancelling the wait doesn't stop the function: it goes on and keeps its thread busy.
        Raises what the function raises.
        """
        if self._closed:
            raise RuntimeError("the thread lane is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        call = (lambda: function(*args)) if args else function
        self._unfinished += 1
        self._jobs.put(_Job(call, future))
        if self._unfinished > len(self._threads) < self.limit:
            self._start_thread()
        return cast("_T", await future)

    def _start_thread(self) -> None:
        # Daemon threads: a callback that never returns must not keep the interpreter alive.
        thread = threading.Thread(target=self._serve, name="scrapekit callback", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.work()
            self._done.append(job)
            del job
            if not self._wake_sent:
                self._wake_sent = True
                if not self._tell_loop(self._settle):
                    return
        self._ended.append(threading.current_thread())
        self._tell_loop(self._bury)

    def _tell_loop(self, call: Callable[[], None]) -> bool:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            # The loop is closed: the crawl was abandoned, nobody waits any more.
            return False
        return True

    def _settle(self) -> None:
        # Cleared before the queue is emptied: a job that ends in between sends a wake-up too
        # many rather than none.
        self._wake_sent = False
        while self._done:
            self._unfinished -= 1
            self._done.popleft().settle()

    def _bury(self) -> None:
        while self._ended:
            thread = self._ended.popleft()
            thread.join()
            self._threads.remove(thread)
        if not self._threads:
            self._all_ended.set()

    async def aclose(self, patience_s: float) -> int:
        """End the threads. Waits at most `patience_s` seconds for functions that still run;
        returns how many had to be left behind.
        """
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        if self._threads:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), patience_s)
        return len(self._threads)
