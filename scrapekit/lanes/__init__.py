"""Lanes: where a callback runs. The loop for waiting, threads for blocking, processes for
computing, all behind one `run()`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from scrapekit import shape, urls
from scrapekit.deadlines import Deadlines
from scrapekit.errors import CallbackTimedOut, UsageError
from scrapekit.failure import contained
from scrapekit.lanes.drain import drain, drain_async
from scrapekit.lanes.meter import Cost, Stepped, StepWatch, timed
from scrapekit.lanes.processes import ProcessLane
from scrapekit.lanes.threads import ThreadLane
from scrapekit.lanes.trial import Trial
from scrapekit.lanes.worker import Answer
from scrapekit.messages import Response

_T = TypeVar("_T")

Note = Callable[[str, str, Cost], None]
"""Called with callback, lane and cost whenever a callback has ended."""


HUGE_BYTES: Final = 4_194_304
"""A tree takes ten times the memory of its page, and no budget counts it. Of larger pages than this
one at a time is parsed and with its callback."""
_LARGE_BYTES: Final = 65_536
"""An ordinary page of this size takes 0.6 ms to parse, more than a thread costs."""


def _kind(response: Response) -> str:
    return response.headers["Content-Type"][:100]


class _Unwatched:
    threshold_s = math.inf

    def step_blocked(self, callback: str, wall_s: float, cpu_s: float) -> None:
        """Nobody asks."""


class Lanes:
    """The lanes of one crawl. Must be made on its event loop.

    `make_processes` is called when the process lane is first needed. `count` is told what
    callbacks counted in other processes. `timeout_s` bounds the run of a callback; `max_parse_s`,
    in CPU time, the parsing of a page.
    """

    def __init__(
        self,
        *,
        threads: int,
        make_processes: Callable[[], Awaitable[ProcessLane]],
        note: Note,
        count: Callable[[dict[str, float]], None] = lambda _counts: None,
        timeout_s: float | None = None,
        max_parse_s: float | None = None,
    ) -> None:
        self.watch: StepWatch = _Unwatched()
        """Who is told of steps that block the loop."""
        self._threads = ThreadLane(threads)
        self._make_processes = make_processes
        self._making = asyncio.Lock()
        self.huge = asyncio.Lock()
        """Whoever has it has the only huge page that may be parsed."""
        self._deadlines = Deadlines()
        self._processes: ProcessLane | None = None
        self._note = note
        self._count = count
        self._timeout_s = timeout_s
        self._trial = Trial(max_parse_s) if max_parse_s is not None else None

    def __repr__(self) -> str:
        return f"<Lanes {self._threads} {self._processes}>"

    @property
    def full(self) -> bool:
        """Whether further pages would only pile up before a lane."""
        return self._threads.full or (self._processes is not None and self._processes.full)

    @property
    def threads_busy(self) -> bool:
        """Whether plain callbacks are running just now."""
        return self._threads.busy

    async def room(self) -> None:
        """Wait until no lane is full. Whoever has done without the room he waited for lets
        others in by asking again, or by `let_in`.
        """
        self.let_in()
        while self.full:
            await self._threads.room()
            if self._processes is not None:
                await self._processes.room()

    def let_in(self) -> None:
        """Tell as many of those who wait for room as there is room for."""
        self._threads.let_in()
        if self._processes is not None:
            self._processes.let_in()

    async def make_parsable(self, lane: str, response: Response) -> None:
        """See to it that no page can block the loop, or cost more than itself, by being parsed.

        On the loop that is done beforehand, in a thread: the parser lets go of the interpreter.
        Only small and plain pages are left to the callback. A page that looks dangerous is parsed
        on trial first. In the process lane nothing need be done: what runs there can be killed.
        """
        body = response.body
        if lane == "process" or (lane == "loop" and self._is_quick(body)):
            return
        reason = ""
        trial = self._trial
        if trial is not None and shape.is_suspect(body, trial.limit_s(len(body))):
            reason = await self._try(trial, response)
        elif lane == "loop" and not response.is_markup:
            reason = f"it is {_kind(response)}, which only a plain def callback can parse as HTML"
        if reason:
            response.refuse_parsing(reason)
        elif lane == "loop":
            await self.run_blocking(response.parse)

    def _is_quick(self, body: bytes) -> bool:
        # Without a limit, sites are trusted: there is nothing to look for.
        return len(body) <= _LARGE_BYTES if self._trial is None else shape.is_quick(body)

    async def _try(self, trial: Trial, response: Response) -> str:
        """Why a page is refused, or "" if it is not."""
        if not response.is_markup:
            return f"it is {_kind(response)}, and might take long to parse as HTML"
        html = await self.run_blocking(response.utf8)
        return await trial.fault(html, urls.origin(response.url))

    async def run(
        self, lane: str, name: str | None, callback: Callable[..., Any], argument: Any
    ) -> list[Any]:
        """Call a callback where it belongs; all its results, once it has ended.

        Raises what it raises, NotAResult for what is no result, CallbackTimedOut, and
        CallbackCrashed if a worker process died of it.
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

        def waits() -> None:
            # Most callbacks never wait, and those that don't can't be cut short.
            if self._timeout_s is not None:
                limit.reschedule(began + self._timeout_s)

        began = asyncio.get_running_loop().time()
        cost = Cost()
        limit = self._deadlines.within(None)
        try:
            with limit, contained(name):
                return await Stepped(name, call(), cost, self.watch, waits)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise self._timed_out(name, argument, "it was cancelled") from exc
        finally:
            self._note(name, "loop", cost)

    async def _in_thread(self, name: str, callback: Callable[..., Any], argument: Any) -> list[Any]:
        def job() -> tuple[list[Any] | None, BaseException | None, Cost]:
            return timed(lambda: drain(callback(argument), callback))

        try:
            results, raised, cost = await self._threads.run(job, timeout_s=self._timeout_s)
        except TimeoutError as exc:
            self._note(name, "thread", Cost(self._timeout_s or 0.0))
            what = 'a thread can\'t be stopped: it is left behind (a @lane("process") could be)'
            raise self._timed_out(name, argument, what, str(exc)) from exc
        self._note(name, "thread", cost)
        if isinstance(raised, Exception):
            raise raised
        if raised is not None:
            raise UsageError(f"{name} raised {type(raised).__name__}") from raised
        return results or []

    def _timed_out(
        self, name: str, argument: Any, what: str, not_run: str = ""
    ) -> CallbackTimedOut:
        after_s = self._timeout_s or 0.0
        url = str(getattr(argument, "url", ""))
        message = f"{name} ran longer than {after_s:g} s; {what}"
        if not_run:
            message = f"{name} wasn't run: {not_run}"
        return CallbackTimedOut(message, callback=name, url=url, after_s=after_s)

    async def _in_process(self, name: str | None, argument: Any) -> list[Any]:
        processes = self._processes or await self._processes_made()
        answer: Answer | None = None
        try:
            answer = await processes.run(name, argument)
        except Exception as exc:
            answer = getattr(exc, "remote_answer", None)
            raise
        finally:
            self._note(name or "parse", "process", answer.cost if answer is not None else Cost())
            if answer is not None and answer.counts:
                self._count(answer.counts)
        return answer.results

    async def _processes_made(self) -> ProcessLane:
        async with self._making:
            if self._processes is None:
                self._processes = await self._make_processes()
        return self._processes

    async def aclose(self, patience_s: float) -> int:
        """End threads and processes; returns how many threads are stuck in user code, left
        behind after `patience_s` seconds.
        """
        self._deadlines.close()
        if self._trial is not None:
            self._trial.close()
        try:
            if self._processes is not None:
                await self._processes.aclose(patience_s)
        finally:
            stuck = await self._threads.aclose(patience_s)
        return stuck
