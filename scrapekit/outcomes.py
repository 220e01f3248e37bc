"""Outcomes: what a callback yielded, sorted, and cut down to what the crawl's rules let in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Any, Final

from scrapekit import urls
from scrapekit.announcer import Announcer
from scrapekit.errors import ItemError
from scrapekit.failure import During, Failure, failure
from scrapekit.frontier.base import Lease, Outcome, batched
from scrapekit.guard import Scope
from scrapekit.items import encode_json, type_name
from scrapekit.messages import Request, Response
from scrapekit.pipeline import Pipeline
from scrapekit.reach import Reach
from scrapekit.settings import Settings
from scrapekit.traps import TOO_LONG

_WHEN: Final = attrgetter("when")


class Outcomes:
    """Makes the outcomes of one crawl. `items` counts those let through."""

    def __init__(
        self,
        settings: Settings,
        scope: Scope,
        pipeline: Pipeline,
        announcer: Announcer,
        reach: Reach,
        *,
        unseen: Callable[[Sequence[Request]], Sequence[Request]],
        left_out: Callable[[Sequence[Request]], Awaitable[None]],
        keep_items: bool = False,
    ) -> None:
        self._settings = settings
        self._scope = scope
        self._pipeline = pipeline
        self._tell = announcer
        self._reach = reach
        self._longest = settings.max_url_length if settings.traps else None
        self._unseen = unseen
        self._left_out = left_out
        self._keep_items = keep_items
        self.items = 0

    def __repr__(self) -> str:
        return f"<Outcomes items={self.items}>"

    @property
    def enough(self) -> bool:
        """Whether `max_items` is reached."""
        limit = self._settings.max_items
        return limit is not None and self.items >= limit

    async def make(
        self,
        lease: Lease,
        response: Response | None,
        results: list[Any],
        failed: Failure | None = None,
    ) -> Outcome:
        """The outcome of a visit, that `failed` or not. Waits for the pipeline."""
        troubles: list[Failure] = []
        requests: list[Request] = []
        items: list[Any] = []
        for result in results:
            if isinstance(result, Request):
                requests.append(result)
            else:
                items.append(result)
        if items:
            items = self._within_limit(lease, await self._process(lease, items, troubles))
        aliases = (*response.redirects[1:], response.url) if response and response.redirects else ()
        last = lease.hop.request if lease.hop else lease.request
        reach = response.reach if response else last.reach
        if failed is not None and self._keep_items:
            # Or else it would pass for a duplicate of itself when it is put back.
            aliases = ()
        lines = self._encode(lease, items, troubles) if self._keep_items else []
        left_out: list[Request] = []
        requests = self._within_depth(lease, requests, left_out)
        admitted: list[Request] = []
        duplicates = 0
        for number, some in enumerate(batched(requests)):
            if number:
                await asyncio.sleep(0)
            new = self._unseen(some)
            admitted += self._admit(lease, new, reach, left_out)
            duplicates += len(some) - len(new)
        if left_out:
            await self._left_out(left_out)
        return Outcome(lease, admitted, items, aliases, lines, failed, troubles, duplicates)

    def _encode(self, lease: Lease, items: list[Any], troubles: list[Failure]) -> list[bytes]:
        """The items as lines of JSON; one that has no such form costs itself alone."""
        lines = []
        for item in items:
            try:
                lines.append(encode_json(item))
            except TypeError as error:
                kind = type_name(item)
                what = f"an item of type {kind} can't be kept in the job: {error}"
                lost = ItemError(what, output="", item_type=kind)
                troubles.append(self._trouble(lease, lost, "export"))
        return lines

    def _trouble(self, lease: Lease, error: Exception, during: During) -> Failure:
        name = lease.request.callback or "parse"
        trouble = failure(error, during, request=lease.request, callback=name)
        self._tell.failed(trouble)
        return trouble

    async def _process(self, lease: Lease, items: list[Any], troubles: list[Failure]) -> list[Any]:
        """The items that come out of the pipeline."""
        processed = await self._pipeline.run(items)
        for _, reason in processed.dropped:
            self._tell.items_dropped(lease.request, reason, 1)
        troubles += [self._trouble(lease, error, "pipeline") for _, error in processed.errors]
        return processed.items

    def _within_limit(self, lease: Lease, items: list[Any]) -> list[Any]:
        limit = None if self._keep_items else self._settings.max_items
        kept = items if limit is None else items[: limit - self.items]
        self.items += len(kept)
        if len(kept) < len(items):
            self._tell.items_dropped(lease.request, "max_items", len(items) - len(kept))
        return kept

    def _within_depth(
        self, lease: Lease, requests: list[Request], left_out: list[Request]
    ) -> list[Request]:
        limit = self._settings.max_depth
        if not requests or limit is None or lease.request.depth < limit:
            return requests
        self._tell.dropped("depth", len(requests), requests[0].url)
        left_out += requests
        return []

    def _admit(
        self, lease: Lease, requests: Sequence[Request], reach: int, left_out: list[Request]
    ) -> Sequence[Request]:
        """Those requests that the crawl's rules let in; the others are added to `left_out`."""
        if not requests:
            return requests
        depth = lease.request.depth + 1
        refused = self._refused(requests, reach)
        if refused:
            self._tell_refused(requests, refused)
            left_out += [r for r in requests if urls.origin(r.url) in refused]
            requests = [r for r in requests if urls.origin(r.url) not in refused]
        if self._longest is not None:
            requests = self._within_length(requests, self._longest, left_out)
        admitted = [request.at_depth(depth, reach) for request in requests]
        if any(map(_WHEN, admitted)):
            now = self._tell.now()
            admitted = [request.filed_at(now) for request in admitted]
        return admitted

    def _within_length(
        self, requests: Sequence[Request], longest: int, left_out: list[Request]
    ) -> Sequence[Request]:
        too_long = [request for request in requests if len(request.url) > longest]
        if not too_long:
            return requests
        self._tell.dropped(TOO_LONG, len(too_long), too_long[0].url)
        left_out += too_long
        return [request for request in requests if len(request.url) <= longest]

    def _refused(self, requests: Sequence[Request], reach: int) -> dict[str, str]:
        """The origins that may not be asked, as far as their URLs tell, and why. What leads there
        isn't filed: it would make a duplicate of the request of one who may ask.
        """
        refused = {}
        for origin in {urls.origin(request.url) for request in requests}:
            url = f"{origin}/"
            if not self._scope.allows(url):
                refused[origin] = "off-domain"
            elif (refusal := self._reach.refusal(url, reach)) is not None:
                refused[origin] = refusal.reason
        return refused

    def _tell_refused(self, requests: Sequence[Request], refused: dict[str, str]) -> None:
        by_reason: dict[str, list[str]] = {}
        for request in requests:
            if reason := refused.get(urls.origin(request.url)):
                by_reason.setdefault(reason, []).append(request.url)
        for reason, found in by_reason.items():
            self._tell.dropped(reason, len(found), found[0])
