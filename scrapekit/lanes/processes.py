"""The process lane: callbacks that compute, in processes that share no lock with us.

What travels is pickled here and in the worker, so that what can't travel is named, and the bytes
of a page are copied once.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import pickle
from collections.abc import Awaitable, Callable
from concurrent.futures import BrokenExecutor, Executor
from typing import Any, Final

from scrapekit.errors import CallbackCrashed, CallbackTimedOut, UsageError
from scrapekit.lanes.pool import WorkerPool
from scrapekit.lanes.records import replay
from scrapekit.lanes.travel import culprit
from scrapekit.lanes.worker import Answer, SpiderSource, answer_job

_LARGE_BYTES: Final = 65_536
"""An answer of this size takes half a millisecond to unpickle, if its results are plain data."""


class ProcessLane:
    """Runs callbacks by name in worker processes, started as they are needed.

    `executor` takes the place of our own `processes` workers: any concurrent.futures.Executor.
    How well it bears crashes is its own affair. A callback that isn't done after `timeout_s`, the
    time in the executor's queue included, is given up there, but not stopped; `memory_bytes` is not
    enforced. Large answers are unpickled by `run_blocking`, off the loop.
    """

    def __init__(
        self,
        source: SpiderSource,
        processes: int,
        *,
        executor: Executor | None = None,
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
        run_blocking: Callable[..., Awaitable[Answer]] | None = None,
    ) -> None:
        self._source = source
        self._executor = executor
        self._timeout_s = timeout_s
        self._run_blocking = run_blocking
        self._pool = WorkerPool(source, processes, timeout_s=timeout_s, memory_bytes=memory_bytes)

    def __repr__(self) -> str:
        return f"<ProcessLane {self._executor or self._pool!r}>"

    @property
    def full(self) -> bool:
        """Whether more jobs wait than keep the workers busy. A given executor is never full."""
        return self._pool.full

    async def room(self) -> None:
        """Wait until it isn't full."""
        await self._pool.room()

    def let_in(self) -> None:
        """Tell as many of those who wait for room as there is room for."""
        self._pool.let_in()

    async def run(self, name: str | None, argument: Any) -> Answer:
        """Call a callback; what came of it.

        Raises what the callback raised, with the worker's place, traceback and answer attached;
        UsageError for an argument or a result that can't travel; CallbackCrashed or
        CallbackTimedOut if the process didn't live to answer.
        """
        try:
            message = pickle.dumps((name, argument), pickle.HIGHEST_PROTOCOL)
        except Exception as exc:
            raise UsageError(
                f"what {name or 'parse'} is called with can't go to another process: "
                f"{culprit(argument)}: {exc}"
            ) from exc
        url = str(getattr(argument, "url", ""))
        if self._executor is not None:
            answer = await self._run_elsewhere(self._executor, name or "parse", url, message)
        else:
            answer = await self._pool.run(name or "parse", url, message)
        if self._run_blocking is None or len(answer) < _LARGE_BYTES:
            return _unpack(answer, name or "parse")
        return await self._run_blocking(_unpack, answer, name or "parse")

    async def _run_elsewhere(
        self, executor: Executor, name: str, url: str, message: bytes
    ) -> bytes:
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                future = executor.submit(answer_elsewhere, self._source, message)
                return await _answered(asyncio.wrap_future(future))
        except Exception as exc:
            if limit.expired():
                after_s = self._timeout_s or 0.0
                told = f"{name} ran longer than {after_s:g} s in the given executor"
                raise CallbackTimedOut(told, callback=name, url=url, after_s=after_s) from exc
            # What the callback raises is an answer; this is the executor's.
            told = f"the given executor broke while {name} ran: {type(exc).__name__}: {exc}"
            raise CallbackCrashed(told, callback=name, url=url) from exc

    async def aclose(self, patience_s: float) -> None:
        """End our workers; those that haven't ended after `patience_s` seconds are killed.

        A given executor is not touched.
        """
        await self._pool.aclose(patience_s)


async def _answered(future: asyncio.Future[bytes]) -> bytes:
    """Raises BrokenExecutor if the executor has cancelled it: that isn't our own cancellation."""
    try:
        return await future
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise BrokenExecutor("it cancelled the job") from exc


def answer_elsewhere(source: SpiderSource, message: bytes) -> bytes:
    """What a given executor runs. Log records stay where it runs."""
    return answer_job(source, message, [])


def _unpack(packed: bytes, name: str) -> Answer:
    """Raises what the callback raised; what it logged is logged here."""
    try:
        answer: Answer = pickle.loads(packed)
    except BaseException as exc:
        # Results' own code may run here, and raise anything.
        raise UsageError(
            f"a result of {name} can't be made again outside its process: "
            f"{_last_class(packed)}: {type(exc).__name__}: {exc}"
        ) from exc
    replay(answer.records)
    if answer.raised is None:
        return answer
    error, place, trace = answer.raised
    # Not declared by the exception's class, which may be anyone's.
    vars(error).update(remote_place=place, remote_traceback=trace, remote_answer=answer)
    raise error


class _Tracking(pickle.Unpickler):
    last = "an unknown type"

    def find_class(self, module: str, name: str, /) -> Any:
        self.last = f"{module}.{name}"
        return super().find_class(module, name)


def _last_class(packed: bytes) -> str:
    """The class at which unpickling failed."""
    tracking = _Tracking(io.BytesIO(packed))
    with contextlib.suppress(Exception):
        tracking.load()
    return tracking.last
