"""Failing: what becomes of a visit that failed. It is tried again, or given up and told of."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from scrapekit import quarantine
from scrapekit.announcer import Announcer
from scrapekit.callbacks import Callbacks
from scrapekit.errors import BadStatus, CallbackCrashed, CallbackTimedOut, RobotsUnavailable
from scrapekit.failure import During, Failure, failure
from scrapekit.fetcher import accepts
from scrapekit.frontier.base import Lease
from scrapekit.messages import Response
from scrapekit.retries import Retries
from scrapekit.settings import Settings


class Failing:
    """Of one crawl."""

    def __init__(
        self,
        settings: Settings,
        retries: Retries,
        callbacks: Callbacks,
        run_blocking: Callable[..., Awaitable[Any]],
        announcer: Announcer,
    ) -> None:
        self._settings = settings
        self._retries = retries
        self._callbacks = callbacks
        self._run_blocking = run_blocking
        self._tell = announcer

    def retry_at(self, lease: Lease, error: Exception, response: Response | None) -> float | None:
        """When to fetch the page again, if that is what its failure calls for."""
        # A robots.txt has been tried again already, for all pages of its origin.
        if self._during(error, response) != "fetch" or isinstance(error, RobotsUnavailable):
            return None
        due = self._retries.after_outage(lease.request, lease.tries, lease.turn, error)
        if due is not None:
            lease.tries -= 1
            return due
        return self._retries.at(lease.request, lease.tries, lease.turn, error)

    async def give_up(
        self, lease: Lease, error: Exception, response: Response | None
    ) -> tuple[Failure, list[Any]]:
        """Record a failure; what the spider's on_error makes of it are the visit's results."""
        request = lease.request
        during = self._during(error, response)
        name = None if during == "fetch" else request.callback or "parse"
        failed = failure(
            error, during, request=request, response=response, callback=name, tries=lease.tries
        )
        self._tell.failed(failed)
        if isinstance(error, (CallbackCrashed, CallbackTimedOut)):
            await self._quarantine(failed)
        results: list[Any] = []
        try:
            results = await self._callbacks.call_on_error(failed)
        except Exception as second:
            self._tell.failed(failure(second, "on_error", request=request, callback="on_error"))
        # The error has its place in one of these frames, so they would keep what was read of the
        # page until the collector of cycles comes.
        traceback.clear_frames(error.__traceback__)
        return failed, results

    async def _quarantine(self, failed: Failure) -> None:
        """Keep the page that took a callback down, if a folder is set."""
        if self._settings.quarantine is None:
            return
        try:
            await self._run_blocking(quarantine.keep, self._settings.quarantine, failed)
        except OSError as error:
            self._tell.failed(failure(error, "quarantine", request=failed.request))

    def _during(self, error: Exception, response: Response | None) -> During:
        """Errors of the site count as such only until its page is handed to the callback."""
        if response is None:
            return "fetch"
        refused = isinstance(error, BadStatus) and not accepts(response.status, self._settings)
        return "fetch" if refused else "callback"
