"""Lanes: where a callback runs. The loop for waiting, threads for blocking, processes for
computing, all behind one `run()`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from scrapekit.errors import UsageError
from scrapekit.failure import contained
from scrapekit.lanes.drain import drain, drain_async
from scrapekit.lanes.meter import Cost, Stepped, timed
from scrapekit.lanes.processes import ProcessLane
from scrapekit.lanes.threads import ThreadLane

_T = TypeVar("_T")

Note = Callable[[str, str, Cost], None]
"""Called with callback, lane and cost whenever a callback has ended."""


class Lanes:
    """The lanes of one crawl. Must be made on its event loop.

    `make_processes` is called when the process lane is first needed.
    """

    def __init__(
        self, *, threads: int, make_processes: Callable[[], ProcessLane], note: Note
    ) -> None:
        self._threads = ThreadLane(threads)
        self._make_processes = make_processes
        self._processes: ProcessLane | None = None
        self._note = note

    def __repr__(self) -> str:
        return f"<Lanes {self._threads} {self._processes}>"

    async def run(
        self, lane: str, name: str | None, callback: Callable[..., Any], argument: Any
    ) -> list[Any]:
        """Call a callback where it belongs; all its results, once it has ended.

        Raises what it raises, NotAResult for what is no result.
        """
        if lane == "thread":
            return await self._in_thread(name or "parse", callback, argument)
        if lane == "process":
            return await self._in_process(name, argument)
        return await self._on_loop(name or "parse", callback, argument)

    async def run_blocking(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call any plain function in the crawl's threads."""
        return await self._threads.run(function, *args)

    async def _on_loop(self, name: str, callback: Callable[..., Any], argument: Any) -> list[Any]:
        async def call() -> list[Any]:
            return await drain_async(callback(argument), callback)

        cost = Cost()
        try:
            with contained(name):
                return await Stepped(call(), cost)
        finally:
            self._note(name, "loop", cost)

    async def _in_thread(self, name: str, callback: Callable[..., Any], argument: Any) -> list[Any]:
        def job() -> tuple[list[Any] | None, BaseException | None, Cost]:
            return timed(lambda: drain(callback(argument), callback))

        results, raised, cost = await self._threads.run(job)
        self._note(name, "thread", cost)
        if isinstance(raised, Exception):
            raise raised
        if raised is not None:
            raise UsageError(f"{name} raised {type(raised).__name__}") from raised
        return results or []

    async def _in_process(self, name: str | None, argument: Any) -> list[Any]:
        if self._processes is None:
            self._processes = self._make_processes()
        try:
            results, cost = await self._processes.run(name, argument)
        except Exception as exc:
            self._note(name or "parse", "process", getattr(exc, "cost", Cost()))
            raise
        self._note(name or "parse", "process", cost)
        return results

    async def aclose(self, patience_s: float) -> int:
        """End threads and processes; returns how many threads are stuck in user code, left
        behind after `patience_s` seconds.
        """
        try:
            if self._processes is not None:
                await self._processes.aclose(patience_s)
        finally:
            stuck = await self._threads.aclose(patience_s)
        return stuck
