"""The thread lane: a bounded pool of threads that belongs to one crawl.

Not the loop's default executor, which DNS look-ups share: slow callbacks would starve them. And
not a ThreadPoolExecutor, which keeps the interpreter alive until a stuck callback returns, and
wakes the loop once for each result.

Short functions are left to as many threads as there are CPUs, the one that was last at work first:
a page takes less time to parse than it takes to wake a thread for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from scrapekit.advice import usable_cpus
from scrapekit.errors import UsageError

_T = TypeVar("_T")

_SHORT_S: Final = 0.005
"""Functions that take less on average may wait for a thread that is at work."""
_NUDGE_S: Final = 0.002
"""But not longer than this, if none of those is getting done."""
_ALL_STUCK: Final = "every thread is stuck in a callback that ran past callback_timeout_s"


class _Job:
    __slots__ = (
        "abandoned",
        "context",
        "ended",
        "error",
        "function",
        "future",
        "result",
        "started",
    )

    def __init__(self, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.context = contextvars.copy_context()
        self.function = function
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None
        self.started = 0.0
        """When a thread took it up; 0 while it waits for one."""
        self.ended = 0.0
        self.abandoned = False

    def work(self) -> None:
        if self.future.done():
            # Nobody waits any more, and it hasn't begun.
            return
        self.started = time.monotonic()
        try:
            self.result = self.context.run(self.function)
        except Exception as exc:
            self.error = exc
        except BaseException as exc:
            # sys.exit() in a thread ends that thread and nothing else: say so instead.
            self.error = UsageError(f"{type(exc).__name__} was raised off the event loop")
            self.error.__cause__ = exc
        self.ended = time.monotonic()

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

    All is decided on the event loop's thread. The others take jobs from a deque, and put
    themselves on one when there is none: what is done to either is a single step.
    """

    def __init__(self, threads: int, *, at_once: int | None = None) -> None:
        self.limit = threads
        self._at_once = min(threads, at_once or usable_cpus())
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Job | None] = deque()
        self._idle: deque[threading.Lock] = deque()
        """For each thread that sleeps, what it waits to acquire."""
        self._job_s = 1.0
        """How long a function took lately, as a moving average."""
        self._finished = 0
        self._nudge: asyncio.TimerHandle | None = None
        self._threads: list[threading.Thread] = []
        self._timers: dict[_Job, asyncio.TimerHandle] = {}
        self._unfinished = 0
        self._stuck = 0
        """Functions that were given up, but still run."""
        self._retired = 0
        """Threads that were told to end, and haven't yet."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._done: deque[_Job] = deque()
        self._wake_sent = False
        self._ended: deque[threading.Thread] = deque()
        self._all_ended = asyncio.Event()
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"<ThreadLane threads={len(self._threads)}/{self.limit} "
            f"unfinished={self._unfinished} stuck={self._stuck}>"
        )

    @property
    def full(self) -> bool:
        """Whether as many functions wait for a thread as there are threads."""
        return self._unfinished - self._stuck >= 2 * self.limit

    @property
    def busy(self) -> bool:
        """Whether any function runs or waits."""
        return self._unfinished > 0

    async def room(self) -> None:
        """Wait until it isn't full."""
        while self.full:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter

    async def run(
        self, function: Callable[..., _T], *args: Any, timeout_s: float | None = None
    ) -> _T:
        """Call the function in a thread, with this task's context variables.

        Cancelling the wait doesn't stop a function that has begun: it goes on and keeps its
        thread busy. Neither does `timeout_s`, which counts from when a thread takes it up and
        raises TimeoutError; but another thread takes the place of the one that is stuck, as long
        as no more than `threads` are. When those are stuck as well, TimeoutError comes at once.
        Raises what the function raises.
        """
        if self._closed:
            raise RuntimeError("the thread lane is closed")
        if self._all_stuck:
            raise TimeoutError(_ALL_STUCK)
        future: asyncio.Future[Any] = self._loop.create_future()
        job = _Job((lambda: function(*args)) if args else function, future)
        self._unfinished += 1
        self._jobs.append(job)
        self._rouse()
        if timeout_s is None:
            return cast("_T", await future)
        timer = self._loop.call_later(timeout_s, self._expire, job, timeout_s)
        self._timers[job] = timer
        try:
            return cast("_T", await future)
        finally:
            self._timers.pop(job).cancel()

    def _expire(self, job: _Job, timeout_s: float) -> None:
        if job.future.done():
            return
        left_s = job.started + timeout_s - time.monotonic() if job.started else timeout_s
        if left_s > 0 and not (self._all_stuck and not job.started):
            self._timers[job] = self._loop.call_later(left_s, self._expire, job, timeout_s)
            return
        if job.started:
            job.abandoned = True
            self._stuck += 1
            if self._jobs:
                self._rouse()
        job.future.set_exception(TimeoutError())
        if self._all_stuck:
            self._fail_waiting()
        self.let_in()

    def _fail_waiting(self) -> None:
        """Give up the functions that no thread is left for."""
        for _ in range(len(self._jobs)):
            try:
                job = self._jobs.popleft()
            except IndexError:
                # A thread is back after all.
                return
            if job is None:
                self._jobs.append(None)
                continue
            self._unfinished -= 1
            if not job.future.done():
                job.future.set_exception(TimeoutError(_ALL_STUCK))

    @property
    def _all_stuck(self) -> bool:
        return self._stuck >= 2 * self.limit

    @property
    def _bound(self) -> int:
        return self.limit + min(self._stuck, self.limit)

    def _rouse(self) -> None:
        """Have a thread take up a job that waits; now, or if those at work don't get to it."""
        awake = len(self._threads) - len(self._idle) - self._stuck
        if self._job_s >= _SHORT_S or awake < self._at_once:
            self._wake_thread()
        elif self._nudge is None:
            self._nudge = self._loop.call_later(_NUDGE_S, self._look_after, self._finished)

    def _look_after(self, finished: int) -> None:
        self._nudge = None
        if not self._jobs or self._closed:
            return
        if finished == self._finished and not self._done:
            for _ in range(len(self._jobs)):
                self._wake_thread()
        self._nudge = self._loop.call_later(_NUDGE_S, self._look_after, self._finished)

    def _wake_thread(self) -> None:
        if self._idle:
            # The latest to fall asleep: what it needs is still in the CPU's cache. It can have
            # left the deque meanwhile, because it saw a job.
            with contextlib.suppress(IndexError):
                self._idle.pop().release()
        elif self._unfinished > len(self._threads) < self._bound:
            self._start_thread()

    def _retire(self) -> None:
        """End the threads that took the place of stuck ones which are back."""
        for _ in range(len(self._threads) - self._retired - self._bound):
            self._end_thread()

    def _end_thread(self) -> None:
        self._retired += 1
        self._jobs.append(None)
        if self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().release()

    def _start_thread(self) -> None:
        # Daemon threads: a callback that never returns must not keep the interpreter alive.
        thread = threading.Thread(target=self._serve, name="scrapekit callback", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _serve(self) -> None:
        wake = threading.Lock()
        wake.acquire()
        while (job := self._take(wake)) is not None:
            job.work()
            self._done.append(job)
            del job
            if not self._wake_sent:
                self._wake_sent = True
                if not self._tell_loop(self._settle):
                    return
        self._ended.append(threading.current_thread())
        self._tell_loop(self._bury)

    def _take(self, wake: threading.Lock) -> _Job | None:
        """The next job, as soon as there is one; None: the thread has to end."""
        while True:
            if self._jobs:
                with contextlib.suppress(IndexError):
                    return self._jobs.popleft()
            self._idle.append(wake)
            if self._jobs and self._is_left_alone(wake):
                # It came before anybody could know that this thread was idle.
                continue
            wake.acquire()

    def _is_left_alone(self, wake: threading.Lock) -> bool:
        """Whether nobody has woken this thread; nobody will from now on."""
        try:
            self._idle.remove(wake)
        except ValueError:
            return False
        return True

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
            job = self._done.popleft()
            self._unfinished -= 1
            self._stuck -= job.abandoned
            self._finished += 1
            if job.started:
                self._job_s += 0.1 * (job.ended - job.started - self._job_s)
            job.settle()
        self._retire()
        self.let_in()

    def let_in(self) -> None:
        """Tell as many of those who wait for room as there is room for.

        To be called as well when somebody who was let in did without it, or nobody else would be.
        """
        free = 2 * self.limit - (self._unfinished - self._stuck)
        while self._waiting and free > 0:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    def _bury(self) -> None:
        while self._ended:
            thread = self._ended.popleft()
            thread.join()
            self._threads.remove(thread)
            self._retired -= 1
        if not self._threads:
            self._all_ended.set()

    async def aclose(self, patience_s: float) -> int:
        """End the threads. Waits at most `patience_s` seconds for functions that still run;
        returns how many had to be left behind.
        """
        self._closed = True
        if self._nudge is not None:
            self._nudge.cancel()
        for _ in range(len(self._threads) - self._retired):
            self._end_thread()
        if self._threads:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), patience_s)
        return len(self._threads)
