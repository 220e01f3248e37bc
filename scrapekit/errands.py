"""Errands: the robots.txt of each origin, fetched before its pages (RFC 9309).

Once for an origin however many of its pages wait, in turns of the scheduler like any other
request: what the origin, and those it redirects to, allow holds for its robots.txt as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from scrapekit import guard, retry, robots
from scrapekit.announcer import Announcer
from scrapekit.begun import Errand
from scrapekit.budget import ByteBudget
from scrapekit.clock import Clock
from scrapekit.errors import OutOfFiles, RedirectError, Refused, RobotsUnavailable, SiteError
from scrapekit.failure import failure
from scrapekit.fetcher import Fetcher
from scrapekit.frontier.base import Hop
from scrapekit.limits import Rate
from scrapekit.messages import Response
from scrapekit.outage import Outage
from scrapekit.retries import Retries
from scrapekit.robots import Robots, RobotsBook
from scrapekit.scheduler import Scheduler
from scrapekit.settings import Settings
from scrapekit.standing import OriginState

_LONG_DELAY_S: Final = 30.0
"""A Crawl-delay from which the crawl may look as if it hung."""

_MAX_WARNINGS: Final = 10
"""A crawl of many origins has many such; the report has their delays."""

logger = logging.getLogger("scrapekit")


class Errands:
    """Fetches what the scheduler hands out as an Errand, and writes it into the book. `keep` is
    told what was learned, for later processes.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        scheduler: Scheduler,
        retries: Retries,
        book: RobotsBook,
        settings: Settings,
        clock: Clock,
        announcer: Announcer,
        run_blocking: Callable[..., Awaitable[Robots]],
        keep: Callable[[OriginState], None] = lambda _state: None,
    ) -> None:
        self._fetcher = fetcher
        self._scheduler = scheduler
        self._retries = retries
        self._book = book
        self._settings = settings
        self._clock = clock
        self._tell = announcer
        self._run_blocking = run_blocking
        self._keep = keep
        self._warned = 0
        self._parsing = asyncio.Lock()
        # Apart from that of the pages, which wait for it with what they hold; and on top of it.
        self._budget = ByteBudget(min(settings.max_bytes_in_flight, 8 * robots.MAX_BYTES))

    async def run(self, errand: Errand) -> None:
        """One turn of an errand: to its end, to its next hop, or to be tried again."""
        try:
            hop = await self._step(errand)
        except (SiteError, OutOfFiles) as error:
            if self._tried_again(errand, error):
                return
            if isinstance(error, OutOfFiles):
                self._tell.failed(failure(error, "fetch", request=errand.hop.request))
            self._close(errand, error)
        except Refused as refusal:
            # The pages' own addresses are looked at as well, so these needn't be forbidden. Others
            # may lead further, and a later run may: nothing is known of what it says.
            self._book.refuse(errand.origin, errand.first.request.reach, self._clock.now())
            self._tell.robots_read(errand.origin, f"refused: {refusal.reason}", 0.0, [])
        except Exception as error:
            self._tell.failed(failure(error, "fetch", request=errand.hop.request))
            self._close(errand, error)
        else:
            if hop is not None:
                self._scheduler.forward_errand(errand, hop)
                return
        self._scheduler.end_errand(errand)

    async def _step(self, errand: Errand) -> Hop | None:
        """Make the request; the hop that it is redirected to, or None if all is read."""
        with self._budget.account() as account:
            account.enough = robots.MAX_BYTES
            response, elapsed_s = await self._fetcher.ask(
                errand.hop, account, measured=False, fresh=True
            )
            errand.sent = response.cached != "hit"
        if response.status in guard.REDIRECTS and response.headers.get("Location") is not None:
            try:
                return self._fetcher.next_hop(errand.hop, response, elapsed_s, robots.MAX_REDIRECTS)
            except RedirectError as error:
                # RFC 9309, 2.3.1.2: like one that isn't there.
                self._learn(errand, "", str(error))
                return None
        await self._read(errand, response)
        return None

    async def _read(self, errand: Errand, response: Response) -> None:
        reading = robots.reading_of_status(response.status)
        if reading == "unavailable":
            retry_after = response.headers.get("Retry-After")
            message = f"status {response.status}"
            raise RobotsUnavailable(message, url=response.url, retry_after=retry_after)
        text = robots.decode(response.body) if reading == "parse" else ""
        rules = None
        if len(text) > robots.SLOW:
            # One at a time: threads that compute leave the event loop a fraction of its time.
            async with self._parsing:
                rules = await self._run_blocking(self._book.parse, text)
        self._learn(errand, text, f"status {response.status}", rules)

    def _learn(self, errand: Errand, text: str, how: str, rules: Robots | None = None) -> None:
        origin = errand.origin
        rules = self._book.learn(origin, text, self._clock.now(), rules)
        rate = Rate(*rules.rate) if rules.rate else None
        self._scheduler.slow_down(origin, rules.delay_s, rate)
        self._keep(
            OriginState(
                origin=origin,
                delay_s=rules.delay_s,
                rate=rules.rate,
                # A later process asks again for what it couldn't parse in passing.
                robots=text if len(text) <= robots.SLOW else None,
                robots_at=self._clock.now(),
            )
        )
        self._tell.robots_read(origin, how, rules.delay_s, rules.sitemaps(errand.hop.request.url))
        if rules.delay_s > _LONG_DELAY_S and self._warned < _MAX_WARNINGS:
            self._warned += 1
            logger.warning(
                "robots.txt of %s asks for %g s between requests; leave the site out by "
                "allowed_domains if that is too slow",
                origin,
                rules.delay_s,
            )

    def _tried_again(self, errand: Errand, error: SiteError | OutOfFiles) -> bool:
        """Whether the errand waits for another try, and with it all of its origin."""
        self._note(errand, error)
        trouble = error if isinstance(error, OutOfFiles) else _unavailable(errand, error)
        due = self._retries.at(errand.first.request, errand.tries, errand.turn, trouble)
        if due is None:
            due = self._after_outage(errand, error)
        if due is None:
            return False
        errand.tries += 1
        self._scheduler.forward_errand(errand, errand.first, due)
        return True

    def _note(self, errand: Errand, error: SiteError | OutOfFiles) -> None:
        if retry.is_outage(error):
            errand.outage = errand.outage or Outage()
            errand.outage.failed(errand.tries, errand.tries, self._clock.now(), str(error))

    def _after_outage(self, errand: Errand, error: SiteError | OutOfFiles) -> float | None:
        """When to go on with a site that is down; None to give it up."""
        outage, now = errand.outage, self._clock.now()
        if outage is None or not retry.is_outage(error) or not self._settings.retries:
            return None
        if self._book.has_rules(errand.origin):
            # RFC 9309, 2.4: an old one holds meanwhile.
            return None
        if outage.is_hopeless(now, self._settings.max_outage_s):
            return None
        trouble = _unavailable(errand, error)
        return self._retries.told(errand.first.request, errand.tries, trouble, outage.until)

    def _close(self, errand: Errand, error: Exception) -> None:
        # From when on its pages can be settled: with long delays, none would ever be before it is
        # asked for again.
        begin = max(self._clock.now(), self._scheduler.free_at(errand.origin))
        until = begin + max(60.0, self._settings.max_retry_delay_s)
        self._book.close(errand.origin, str(_unavailable(errand, error)), until)


def _unavailable(errand: Errand, error: Exception) -> RobotsUnavailable:
    retry_after = error.retry_after if isinstance(error, RobotsUnavailable) else None
    return RobotsUnavailable(
        f"robots.txt of {errand.origin}: {error}",
        url=f"{errand.origin}/robots.txt",
        retry_after=retry_after,
    )
