"""A pool of worker processes in which a page that crashes, hangs or swells costs itself alone.

Each worker has a socket on which several small jobs may wait for it, so that it needn't wait for
us between them. It runs them in order; the first one without an answer is the one that is
running. If the worker dies, that one is the suspect: it is tried once more with a worker to
itself. The others are run again as if nothing had happened.

Lives on the event loop: no thread, no polling. A worker's end is seen by its sentinel.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
from collections import deque
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from typing import Final, cast

from scrapekit.errors import CallbackCrashed, CallbackTimedOut
from scrapekit.lanes.records import levels
from scrapekit.lanes.worker import HEADER, SpiderSource, serve

_AHEAD_JOBS: Final = 16
_AHEAD_BYTES: Final = 256 * 1024
"""What may wait at one worker beyond the job it runs."""
_QUICK_S: Final = 0.01
"""Of jobs that take less than this, many wait at a worker; of slower ones one, and none towards the
end: it would be held up while another worker is idle."""
_START_S: Final = 60.0
"""A worker that hasn't imported the spider by then is ended: something hangs there."""
_LAST_MOMENT_S: Final = 0.2
"""Between the end of a worker's socket and that of its process, in either order."""
_FAILED_STARTS: Final = 3
"""After so many workers in a row that end before they are ready, jobs fail."""


class _Job:
    __slots__ = ("future", "message", "name", "started", "suspect", "url")

    def __init__(self, name: str, url: str, message: bytes, future: asyncio.Future[bytes]) -> None:
        self.name = name
        self.url = url
        self.message = message
        self.future = future
        self.suspect = False
        """It was running when a worker died: it gets a worker to itself."""
        self.started = 0.0


class _Worker(asyncio.Protocol):
    """One process and its socket."""

    def __init__(self, pool: WorkerPool, process: SpawnProcess, end: socket.socket) -> None:
        self.process = process
        self.jobs: deque[_Job] = deque()
        self.bytes_ahead = 0
        self.ready = False
        self.late = False
        """It was ended because it didn't get ready."""
        self.buried = False
        """It was waited for: its number may be another process's by now."""
        self.timed_out = False
        self.last_words: bytes | None = None
        """Of one that has run out of memory: the answer for the job that took it, or b""."""
        self.start_error: bytes | None = None
        self._pool = pool
        self._end = end
        self._socket: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports don't inherit from asyncio's.
        self._socket = cast("asyncio.Transport", transport)
        self._socket.set_write_buffer_limits(high=1 << 30)
        self._write(self._pool.source)
        self._timer = asyncio.get_running_loop().call_later(_START_S, self._start_late)

    @property
    def usable(self) -> bool:
        """Whether it takes jobs: it is ready, and not about to end."""
        open_ = self._socket is not None and not self._socket.is_closing()
        return self.ready and open_ and not self.timed_out and self.last_words is None

    def send(self, job: _Job) -> None:
        assert self._socket is not None
        self.jobs.append(job)
        self.bytes_ahead += len(job.message)
        self._write(job.message)
        if len(self.jobs) == 1:
            self._begin(job)

    def _write(self, message: bytes) -> None:
        assert self._socket is not None
        self._socket.write(HEADER.pack(len(message)))
        self._socket.write(message)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            (size,) = HEADER.unpack_from(self._buffer)
            end = HEADER.size + size
            if len(self._buffer) < end:
                return
            message = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            self._answered(message)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._read_rest()
        self._stop_timer()
        self._lost.set()
        # A callback may have closed its socket: nothing can be heard of this process any more.
        asyncio.get_running_loop().call_later(_LAST_MOMENT_S, self._end_deaf)

    def _end_deaf(self) -> None:
        if not self.buried:
            self.kill()

    def _start_late(self) -> None:
        self.late = True
        self.kill()

    def _read_rest(self) -> None:
        """Take the answers that a worker gave before it died. When it is writing that fails, the
        transport reads nothing more, and the pages would be run again.
        """
        with contextlib.suppress(OSError):
            while data := self._end.recv(1 << 18):
                self.data_received(data)

    def hang_up(self) -> None:
        """Let the worker end after the jobs it has."""
        if self._socket is None:
            # It has just been started, and has none.
            self.kill()
        else:
            self._socket.close()

    def kill(self) -> None:
        if not self.buried:
            self._kill_group()
            self.process.kill()

    def _kill_group(self) -> None:
        """Kill what the worker has started as well. It must not have been waited for: until then
        nobody else can have its number.
        """
        assert self.process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def watch(self, exit_: asyncio.Event) -> None:
        """See the process end, and the last of what it sent."""
        await exit_.wait()
        self._kill_group()
        self.process.join()
        self.buried = True
        if not self._lost.is_set() and self._socket is not None:
            # A process of the worker's own may hold the socket open.
            asyncio.get_running_loop().call_later(_LAST_MOMENT_S, self._socket.abort)
        await self._lost.wait()

    def _answered(self, message: bytes) -> None:
        if not self.ready:
            self._stop_timer()
            self.start_error = message or None
            self.ready = not message
            self._pool.worker_ready(self)
            return
        if not message or self.last_words is not None:
            self.last_words = message
            return
        job = self.jobs.popleft()
        self.bytes_ahead -= len(job.message)
        self._stop_timer()
        if self.jobs:
            self._begin(self.jobs[0])
        self._pool.job_done(self, job, message)

    def _begin(self, job: _Job) -> None:
        loop = asyncio.get_running_loop()
        job.started = loop.time()
        if self._pool.timeout_s is not None:
            self._timer = loop.call_later(self._pool.timeout_s, self._time_out)

    def _time_out(self) -> None:
        self.timed_out = True
        self.kill()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class WorkerPool:
    """At most `limit` workers, started as they are needed.

    `timeout_s` bounds one job's time; `memory_bytes` what it may allocate beyond what the worker
    had when it started.
    """

    def __init__(
        self,
        source: SpiderSource,
        limit: int,
        *,
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self.source = pickle.dumps(source, pickle.HIGHEST_PROTOCOL)
        """Sent as the first message: what starts a process writes its arguments to a pipe, which
        blocks until the process has come to reading them."""
        self._limit = limit
        self._memory_bytes = memory_bytes
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Job] = deque()
        self._workers: list[_Worker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = 0
        self._failed_starts = 0
        self._job_s = 1.0
        """How long a job took lately, as a moving average."""
        self._closed = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __repr__(self) -> str:
        running = sum(len(worker.jobs) for worker in self._workers)
        return (
            f"<WorkerPool workers={len(self._workers)}/{self._limit} running={running} "
            f"queued={len(self._queue)}>"
        )

    @property
    def full(self) -> bool:
        """Whether more jobs wait than keep the workers busy."""
        return len(self._queue) >= self._limit * _AHEAD_JOBS

    async def room(self) -> None:
        """Wait until it isn't full."""
        while self.full:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter

    async def run(self, name: str, url: str, message: bytes) -> bytes:
        """Have a job done; its answer, see `scrapekit.lanes.worker.answer_job`.

        Raises CallbackCrashed or CallbackTimedOut if it took two workers down.
        """
        job = _Job(name, url, message, self._loop.create_future())
        self._queue.append(job)
        self._assign()
        return await job.future

    async def aclose(self, patience_s: float) -> None:
        """End the workers; those still running after `patience_s` seconds are killed."""
        self._closed = True
        for worker in self._workers:
            worker.hang_up()
        timer = self._loop.call_later(patience_s, self._kill_all)
        while self._tasks:
            await asyncio.wait(self._tasks)
        timer.cancel()

    def worker_ready(self, worker: _Worker) -> None:
        self._starting -= 1
        if worker.ready:
            self._failed_starts = 0
            self._assign()

    def job_done(self, worker: _Worker, job: _Job, answer: bytes) -> None:
        self._job_s += 0.1 * (self._loop.time() - job.started - self._job_s)
        if not job.future.done():
            job.future.set_result(answer)
        self._assign()

    def _assign(self) -> None:
        """Hand queued jobs to workers that have room, and start workers for the rest."""
        while self._queue and self._queue[0].future.done():
            self._queue.popleft()
        for worker in self._workers:
            while self._queue and self._has_room(worker, self._queue[0]):
                worker.send(self._queue.popleft())
        self.let_in()
        ready = sum(worker.ready for worker in self._workers)
        if ready and self._failed_starts >= _FAILED_STARTS:
            return
        waiting = len(self._queue) - self._starting
        for _ in range(min(waiting, self._limit - ready - self._starting)):
            self._start()

    def let_in(self) -> None:
        """Tell as many of those who wait for room as there is room for."""
        free = self._limit * _AHEAD_JOBS - len(self._queue)
        while self._waiting and free > 0:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    def _has_room(self, worker: _Worker, job: _Job) -> bool:
        if not worker.usable:
            return False
        if not worker.jobs:
            return True
        if job.suspect or worker.jobs[0].suspect:
            return False
        if self._job_s > _QUICK_S:
            # One waits there, if enough others are left for whoever is free sooner: the worker
            # needn't wait for us between two.
            return len(worker.jobs) < 2 and len(self._queue) > 2 * self._limit
        # Only a queue that is deep is worth filling up from: else the next worker is free sooner.
        deep = len(self._queue) >= len(self._workers)
        room = worker.bytes_ahead + len(job.message) <= _AHEAD_BYTES
        return deep and room and len(worker.jobs) <= _AHEAD_JOBS

    def _start(self) -> None:
        self._starting += 1
        task = self._loop.create_task(self._live(), name="scrapekit worker")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self) -> None:
        """A worker from its start to its end."""
        try:
            worker = await self._spawn()
        except Exception as exc:
            # No more processes or files to be had, or no __main__ that a worker could import.
            self._starting -= 1
            self._failed_starts += 1
            self._refuse(f"can't start: {exc}", None)
            return
        exit_ = asyncio.Event()
        descriptor = _exit_descriptor(worker.process)
        self._loop.add_reader(descriptor, self._see_exit, descriptor, exit_)
        if self._closed:
            worker.kill()
        await worker.watch(exit_)
        self._workers.remove(worker)
        self._bury(worker)

    async def _spawn(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            process = multiprocessing.get_context("spawn").Process(
                target=serve,
                args=(theirs, self._memory_bytes, levels()),
                name="scrapekit worker",
                daemon=True,
            )
            try:
                with _sigint_blocked():
                    process.start()
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        worker = _Worker(self, process, ours)
        self._workers.append(worker)
        await self._loop.create_connection(lambda: worker, sock=ours)
        return worker

    def _see_exit(self, descriptor: int, exit_: asyncio.Event) -> None:
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        exit_.set()

    def _bury(self, worker: _Worker) -> None:
        """See to the jobs that a worker left behind."""
        if not worker.ready:
            self._start_failed(worker)
        jobs = worker.jobs
        if jobs and not self._closed:
            job = jobs[0]
            if job.suspect:
                jobs.popleft()
                self._fail(job, worker)
            job.suspect = True
        self._queue.extendleft(reversed(jobs))
        if self._closed:
            self._abandon()
        else:
            self._assign()
        worker.process.close()

    def _fail(self, job: _Job, worker: _Worker) -> None:
        if job.future.done():
            return
        if worker.last_words:
            job.future.set_result(worker.last_words)
            return
        if worker.timed_out:
            assert self.timeout_s is not None
            job.future.set_exception(
                CallbackTimedOut(
                    f"{job.name} ran longer than {self.timeout_s:g} s and was stopped, twice",
                    callback=job.name,
                    url=job.url,
                    after_s=self.timeout_s,
                )
            )
            return
        exitcode = worker.process.exitcode
        how = "ran out of memory" if worker.last_words is not None else ending(exitcode)
        job.future.set_exception(
            CallbackCrashed(
                f"the worker process {how} while {job.name} ran, twice",
                callback=job.name,
                url=job.url,
                exitcode=exitcode,
            )
        )

    def _start_failed(self, worker: _Worker) -> None:
        if worker.start_error is None:
            # It died before it could say anything.
            self._starting -= 1
        self._failed_starts += 1
        if self._failed_starts >= _FAILED_STARTS or worker.start_error is not None:
            how = ending(worker.process.exitcode)
            if worker.late:
                how = f"didn't get ready within {_START_S:g} s"
            self._refuse(how, worker.start_error)

    def _refuse(self, how: str, answer: bytes | None) -> None:
        """Fail what is queued, unless there is another worker that can do it."""
        if any(worker.ready for worker in self._workers):
            return
        while self._queue:
            job = self._queue.popleft()
            if job.future.done():
                continue
            if answer is not None:
                job.future.set_result(answer)
                continue
            message = f"there is no worker process for {job.name}: the last one {how}"
            job.future.set_exception(CallbackCrashed(message, callback=job.name, url=job.url))

    def _abandon(self) -> None:
        while self._queue:
            self._queue.popleft().future.cancel()

    def _kill_all(self) -> None:
        for worker in self._workers:
            worker.kill()


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """A worker is in the terminal's process group until it has one of its own; it inherits this."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit_descriptor(process: SpawnProcess) -> int:
    """A descriptor, to be closed, that can be read once the process has ended."""
    try:
        return os.pidfd_open(process.pid or 0)
    except (AttributeError, OSError):
        # Not on this system. Processes that a callback has forked hold the sentinel open.
        return os.dup(process.sentinel)


def ending(exitcode: int | None) -> str:
    """How a process ended, in words: "was killed by SIGSEGV", "exited with code 3"."""
    if exitcode is not None and exitcode < 0:
        try:
            return f"was killed by {signal.Signals(-exitcode).name}"
        except ValueError:
            return f"was killed by signal {-exitcode}"
    return f"exited with code {exitcode}"
