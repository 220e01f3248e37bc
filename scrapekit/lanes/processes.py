"""The process lane: callbacks that compute, in worker processes that share no lock with us.

Workers are spawned, never forked: a fork copies the locks of a running event loop in whatever
state they are. What travels is pickled here, so that what can't travel is named here.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from scrapekit.errors import CallbackCrashed, UsageError
from scrapekit.failure import place as place_of
from scrapekit.failure import render
from scrapekit.lanes.drain import drain
from scrapekit.lanes.meter import Cost, timed


class SpiderSource(Protocol):
    """How a worker gets the spider: see `scrapekit.spider.SpiderRef`."""

    def load(self) -> Any:
        """Import the spider's class."""

    def callback(self, name: str | None) -> Callable[..., Any]:
        """A callback of the spider built in this process."""


def _prepare(source: SpiderSource) -> None:
    # Ctrl-C goes to the whole terminal group; when to stop is the parent's decision.
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source.load()


def _work(source: SpiderSource, name: str | None, payload: bytes) -> bytes:
    """In the worker: run a callback; its results or its exception, and the cost, pickled."""

    def job() -> list[Any]:
        argument = pickle.loads(payload)
        callback = source.callback(name)
        return drain(callback(argument), callback)

    results, raised, cost = timed(job)
    if raised is not None:
        return _pack_error(raised, cost)
    try:
        return pickle.dumps((results, None, cost), pickle.HIGHEST_PROTOCOL)
    except Exception as exc:
        error = UsageError(f"a result of {name or 'parse'} can't leave its process: {exc}")
        return _pack_error(error, cost)


def _pack_error(error: BaseException, cost: Cost) -> bytes:
    details = (place_of(error), render(error))
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        packed = pickle.dumps((None, (error, *details), cost), pickle.HIGHEST_PROTOCOL)
        pickle.loads(packed)
    except Exception:
        substitute = UsageError(f"{type(error).__name__}: {error}")
        packed = pickle.dumps((None, (substitute, *details), cost), pickle.HIGHEST_PROTOCOL)
    return packed


class ProcessLane:
    """Runs callbacks by name in worker processes, started on first use.

    `executor` is any concurrent.futures.Executor; by default a pool of `processes` of our own.
    """

    def __init__(
        self, source: SpiderSource, processes: int, executor: Executor | None = None
    ) -> None:
        self._source = source
        self._processes = processes
        self._given = executor
        self._pool: ProcessPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"<ProcessLane processes={self._processes} started={self._pool is not None}>"

    async def run(self, name: str | None, argument: Any) -> tuple[list[Any], Cost]:
        """Raises what the callback raised, with the worker's place and traceback attached;
        CallbackCrashed if its process died.
        """
        try:
            payload = pickle.dumps(argument, pickle.HIGHEST_PROTOCOL)
        except Exception as exc:
            raise UsageError(f"{argument!r} can't go to another process: {exc}") from exc
        executor = self._given or self._own_pool()
        try:
            future = executor.submit(_work, self._source, name, payload)
            answer = await asyncio.wrap_future(future)
        except BrokenProcessPool as exc:
            if executor is self._pool:
                self._pool = None
            url = str(getattr(argument, "url", ""))
            message = f"the worker process died while {name or 'parse'} ran"
            raise CallbackCrashed(message, callback=name or "parse", url=url) from exc
        return _unpack(answer)

    def _own_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._processes,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_prepare,
                initargs=(self._source,),
            )
        return self._pool

    async def aclose(self, patience_s: float) -> None:
        """End the workers; those that haven't ended after `patience_s` seconds are killed."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            workers = list((pool._processes or {}).values())
            watchdog = threading.Timer(patience_s, _kill, (workers,))
            watchdog.daemon = True
            watchdog.start()
            pool.shutdown(wait=True, cancel_futures=True)
            watchdog.cancel()
            loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=end, name="scrapekit process lane's end", daemon=True).start()
        await ended.wait()


def _kill(workers: Iterable[BaseProcess]) -> None:
    for worker in workers:
        worker.kill()


def _unpack(answer: bytes) -> tuple[list[Any], Cost]:
    results, raised, cost = pickle.loads(answer)
    if raised is not None:
        error, place, trace = raised
        error.remote_place, error.remote_traceback, error.cost = place, trace, cost
        raise error
    return results, cost
