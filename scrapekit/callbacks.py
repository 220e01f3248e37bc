"""Callbacks: a spider's methods, called by name in their lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scrapekit.failure import Failure
from scrapekit.lanes import HUGE_BYTES, Lanes
from scrapekit.messages import Request, Response
from scrapekit.spider import LaneName, Spider, lane_of


class Callbacks:
    """The callbacks of one spider. What isn't there is found when a request names it.

    `check(request)` raises UsageError for a request whose own additions the crawl can't keep.
    """

    def __init__(
        self, spider: Spider, lanes: Lanes, check: Callable[[Request], None] | None = None
    ) -> None:
        self._check = check
        self._spider = spider
        self._lanes = lanes
        self._known: dict[str | None, tuple[Callable[..., Any], LaneName]] = {}
        on_error = spider.on_error
        overridden = getattr(on_error, "__func__", None) is not Spider.on_error
        self._on_error = (on_error, lane_of(on_error)) if overridden else None

    def __repr__(self) -> str:
        return f"<Callbacks of {self._spider.name}: {sorted(n or 'parse' for n in self._known)}>"

    def resolve(self, name: str | None) -> tuple[Callable[..., Any], LaneName]:
        """A callback and its lane. Raises UnknownCallback."""
        known = self._known.get(name)
        if known is None:
            callback = self._spider.callback(name)
            known = self._known[name] = callback, lane_of(callback)
        return known

    async def call(self, name: str | None, response: Response) -> list[Any]:
        """The results of a callback. Raises what it raises, NotAResult, and UnknownCallback if
        one of its requests names what isn't there.
        """
        callback, lane = self.resolve(name)
        return self._checked(await self._run(lane, name, callback, response, response))

    async def call_on_error(self, failed: Failure) -> list[Any]:
        """The results of the spider's `on_error`, if it has one."""
        if self._on_error is None:
            return []
        callback, lane = self._on_error
        return self._checked(await self._run(lane, "on_error", callback, failed, failed.response))

    async def _run(
        self,
        lane: LaneName,
        name: str | None,
        callback: Callable[..., Any],
        argument: Response | Failure,
        response: Response | None,
    ) -> list[Any]:
        if response is None:
            return await self._lanes.run(lane, name, callback, argument)
        if lane == "process" or len(response.body) <= HUGE_BYTES or not response.is_markup:
            await self._lanes.make_parsable(lane, response)
            return await self._lanes.run(lane, name, callback, argument)
        async with self._lanes.huge:
            await self._lanes.make_parsable(lane, response)
            try:
                return await self._lanes.run(lane, name, callback, argument)
            finally:
                response.let_go()

    def _checked(self, results: list[Any]) -> list[Any]:
        requests = [result for result in results if isinstance(result, Request)]
        for name in {request.callback for request in requests}:
            self.resolve(name)
        if self._check is not None:
            for request in requests:
                self._check(request)
        return results
