"""Recrawl: what a crawl keeps of its pages for a later one, and takes from an earlier one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from scrapekit.errors import Refused
from scrapekit.failure import Failure
from scrapekit.frontier.base import Frontier, Outcome
from scrapekit.frontier.pages import page
from scrapekit.frontier.sqlite import JOB
from scrapekit.jobs.since import GONE, LEFT_OUT, Since, Unchanged
from scrapekit.messages import Request, Response
from scrapekit.sitemaps import CALLBACK as SITEMAP

_NO_SITEMAP: Final = "a sitemap could not be read"
_PER_TURN: Final = 64
"""Pages that are looked up in one go: a millisecond or two."""


class Recrawl:
    """Belongs to one crawl. Without an earlier job, nothing is known and nothing is marked."""

    def __init__(self, frontier: Frontier, since: Since | None) -> None:
        self.since = since
        self._frontier = frontier

    def __repr__(self) -> str:
        return f"<Recrawl {self.since or 'of nothing'}>"

    async def open(self) -> None:
        """Read the earlier job, once the frontier is open. Raises JobError."""
        if self.since is not None:
            await asyncio.to_thread(self.since.open)

    def close(self) -> None:
        """Let go of the earlier job. Idempotent."""
        if self.since is not None:
            self.since.close()

    def conditions(self, request: Request) -> Mapping[str, str]:
        """The headers that ask whether a page is as it was."""
        return self.since.conditions(request) if self.since is not None else {}

    def unchanged(self, request: Request, response: Response) -> Unchanged | None:
        """What the earlier job made of a page, if that is as it was."""
        return self.since.unchanged(request, response) if self.since is not None else None

    def refused(self, request: Request, refusal: Refused) -> None:
        """A rule forbids a page: nobody knows what has become of it, or of what is behind it. But
        one that is a duplicate is had by way of another request.
        """
        if refusal.reason != "duplicate":
            self._leave_out(request, asked=True)

    async def left_out(self, requests: Sequence[Request]) -> None:
        """Requests aren't filed, since a rule forbids it: the same. Waits in between."""
        if self.since is None:
            return
        for number, request in enumerate(requests, 1):
            self._leave_out(request)
            if number % _PER_TURN == 0:
                await asyncio.sleep(0)

    def incomplete(self, why: str) -> None:
        """What there was to be asked for isn't known as a whole, so nothing is told to be gone."""
        if self.since is not None:
            self.since.incomplete(why)

    def failed(self, request: Request, failed: Failure) -> list[Request]:
        """A page could not be had or not be parsed: where it led to in the earlier job."""
        if self.since is None:
            return []
        if request.callback == SITEMAP:
            self.incomplete(_NO_SITEMAP)
        return self.since.missed(request, failed)

    def complete(
        self,
        outcome: Outcome,
        response: Response | None,
        results: Sequence[Any],
        kept: Unchanged | None,
    ) -> None:
        """Add to an outcome what a later crawl is to know, and what has changed."""
        if response is None or outcome.failure is not None:
            return
        # What a stage has lost is worth another try.
        if self._frontier.keeps and not outcome.troubles:
            outcome.page = kept.page if kept is not None else page(response, results)
        if self.since is not None:
            self.since.mark(outcome, kept)
            if outcome.troubles:
                self._leave_out(outcome.lease.request, asked=True)

    async def gone(self) -> AsyncIterator[Outcome]:
        """After the last page: the earlier job's items that are on none, once they are kept."""
        if self.since is None or self.since.counts.why:
            return
        for number, _ in enumerate(self.since.look_behind(self._frontier.has_seen)):
            if number % _PER_TURN == 0:
                await asyncio.sleep(0)
        for outcome, note in self.since.gone():
            self._frontier.remember(JOB, GONE, note)
            await self._frontier.keep(outcome.lines)
            yield outcome

    def _leave_out(self, request: Request, *, asked: bool = False) -> None:
        if self.since is None:
            return
        if request.callback == SITEMAP:
            if self.since.has_asked(request):
                self.incomplete(_NO_SITEMAP if asked else "a sitemap was left out")
        elif (note := self.since.leave_out(request, asked=asked)) is not None:
            self._frontier.remember(LEFT_OUT, *note)
