"""Retries: what failed is made a date again, as the rules, the site and its budget allow."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from scrapekit import retry, urls
from scrapekit.announcer import Announcer
from scrapekit.clock import Clock
from scrapekit.errors import OutOfFiles
from scrapekit.messages import Request, Response
from scrapekit.retry import RetryBudget
from scrapekit.settings import Settings

logger = logging.getLogger("scrapekit")


class Retries:
    """Decides for one crawl, and tells observers. `waits_until(origin, now)` is the date until
    which an origin that is down is to be waited for.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        announcer: Announcer,
        waits_until: Callable[[str, float], float | None] = lambda _origin, _now: None,
    ) -> None:
        self._waits_until = waits_until
        self._settings = settings
        self._clock = clock
        self._tell = announcer
        self._budget = RetryBudget()
        self._warned = False

    def __repr__(self) -> str:
        return f"<Retries {self._budget!r}>"

    def at(self, request: Request, tries: int, origin: str, error: Exception) -> float | None:
        """When to make a request again that failed at an origin; None to give it up."""
        now = self._clock.now()
        due = retry.decide(
            error,
            method=request.method,
            tries=tries,
            settings=self._settings,
            now=now,
            random=random.random,
        )
        if due is None:
            return None
        # Of what isn't the site's fault, nobody has to fear a storm of retries there.
        if isinstance(error, OutOfFiles):
            self._warn(error)
        elif not self._budget.take(origin):
            return None
        self._tell.retried(request, tries, error, due)
        return due

    def after_outage(
        self, request: Request, tries: int, origin: str, error: Exception
    ) -> float | None:
        """When to make a request again that failed because its site is down, which costs it no try;
        None if it failed for another reason, or mustn't be made again.
        """
        if not self._settings.retries or not retry.is_outage(error):
            return None
        if not retry.is_repeatable(request.method, self._settings):
            return None
        due = self._waits_until(origin, self._clock.now())
        return None if due is None else self.told(request, tries, error, due)

    def told(self, request: Request, tries: int, error: Exception, due: float) -> float:
        """A request waits until `due` because its site is down, which costs it no try."""
        self._tell.retried(request, tries, error, due)
        return due

    def _warn(self, error: OutOfFiles) -> None:
        """Once: there may be thousands of them, and none in the end, if waiting helps."""
        if not self._warned:
            self._warned = True
            logger.warning("%s; until then, requests wait for others to end", error)

    def came(self, response: Response) -> None:
        """A page came, which makes its origin worth more retries; not one that is accepted though
        its status says that the site is overloaded.
        """
        if response.status not in retry.OVERLOAD_STATUSES:
            self._budget.came(urls.origin(response.url))
