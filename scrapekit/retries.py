"""Retries: what failed is made a date again, as the rules, the site and its budget allow."""

from __future__ import annotations

import random

from scrapekit import retry, urls
from scrapekit.announcer import Announcer
from scrapekit.clock import Clock
from scrapekit.messages import Request, Response
from scrapekit.retry import RetryBudget
from scrapekit.settings import Settings


class Retries:
    """Decides for one crawl, and tells observers."""

    def __init__(self, settings: Settings, clock: Clock, announcer: Announcer) -> None:
        self._settings = settings
        self._clock = clock
        self._tell = announcer
        self._budget = RetryBudget()

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
        if due is None or not self._budget.take(origin):
            return None
        self._tell.retried(request, tries, error, due)
        return due

    def came(self, response: Response) -> None:
        """A page came, which makes its origin worth more retries; not one that is accepted though
        its status says that the site is overloaded.
        """
        if response.status not in retry.OVERLOAD_STATUSES:
            self._budget.came(urls.origin(response.url))
