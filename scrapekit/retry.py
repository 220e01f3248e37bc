"""Retry: a failure in, "again at" or "give up" out. Sans-IO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from scrapekit.errors import (
    BadStatus,
    BodyTruncated,
    ConnectError,
    FetchTimeout,
    OutOfFiles,
    ProtocolError,
    ProxyError,
    RobotsUnavailable,
)
from scrapekit.settings import Settings

RETRIED_ERRORS: Final = (
    ConnectError,
    FetchTimeout,
    ProtocolError,
    BodyTruncated,
    RobotsUnavailable,
    OutOfFiles,
)
RETRIED_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
OVERLOAD_STATUSES: Final = {429: "status 429", 503: "status 503"}
"""By which a site says that it is asked for too much, and how that is called."""
SILENT_STATUSES: Final = {502: "status 502", 504: "status 504"}
"""By which a gateway says that the site behind it was silent: like a connection that breaks."""
OUTAGE_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
"""What sites answer that are down, or whose servers are."""
_TRIES_WITHOUT_FILES: Final = 12
"""Nothing was sent, and no site is to blame, so the settings' `retries` aren't what counts. By then
the waits are long enough for others to have closed theirs, or nothing helps.
"""
# RFC 9110, 9.2.2: repeating any other method may do its work twice.
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


def decide(
    error: Exception,
    *,
    method: str,
    tries: int,
    settings: Settings,
    now: float,
    random: Callable[[], float],
) -> float | None:
    """When to try again (seconds since the epoch), or None to give up.

    The wait doubles with each try, with full jitter: anything from nothing to the bound is as
    likely, so that pages which failed together don't come back together. A Retry-After is obeyed
    up to `max_retry_delay_s`. `random` gives floats in [0, 1).
    """
    if not is_passing(error):
        return None
    if isinstance(error, OutOfFiles):
        may = tries < max(_TRIES_WITHOUT_FILES, settings.retries + 1)
    else:
        may = is_repeatable(method, settings) and tries <= settings.retries
    if not may:
        return None
    # Bounded, because floats are: 2.0 ** 1024 is an error.
    growth = 2.0 ** min(tries - 1, 100)
    bound = min(settings.retry_delay_s * growth, settings.max_retry_delay_s)
    wished = wished_delay_s(error, now) or 0.0
    return now + max(bound * random(), min(wished, settings.max_retry_delay_s))


def is_repeatable(method: str, settings: Settings) -> bool:
    """Whether a request may be made twice."""
    return method in IDEMPOTENT or method in settings.retry_methods


def is_passing(error: Exception) -> bool:
    """Whether trying again may help."""
    if isinstance(error, BadStatus):
        return error.status in RETRIED_STATUSES
    return isinstance(error, RETRIED_ERRORS)


def wished_delay_s(error: Exception, now: float) -> float | None:
    """The seconds that the site asks to be left alone for, if it does."""
    if isinstance(error, (BadStatus, RobotsUnavailable)) and error.retry_after:
        return parse_retry_after(error.retry_after, now)
    return None


def overload_sign(error: Exception) -> str | None:
    """How an error is called that may come of a site being asked for too much; None for others."""
    if isinstance(error, ProxyError) or (
        isinstance(error, (ConnectError, FetchTimeout)) and error.stage
    ):
        # It says nothing of the site behind, or of what it can bear.
        return None
    if isinstance(error, FetchTimeout):
        return "a timeout"
    if isinstance(error, ConnectError):
        return "a broken connection"
    return "a body cut off" if isinstance(error, BodyTruncated) else None


def is_outage(error: Exception) -> bool:
    """Whether an error may mean that a whole site is down. A name that isn't known, a broken proxy
    or a wrong certificate don't: waiting is no help there.
    """
    if isinstance(error, BadStatus):
        return error.status in OUTAGE_STATUSES
    return isinstance(error, RobotsUnavailable) or overload_sign(error) is not None


class RetryBudget:
    """How many retries each origin is worth, so that a dying site gets no storm of them.

    An origin begins with `START` retries in hand, each page that comes adds `PER_PAGE`, up to
    `MOST`; a retry takes one.
    """

    START: Final = 50.0
    PER_PAGE: Final = 0.2
    MOST: Final = 200.0

    def __init__(self) -> None:
        self._left: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<RetryBudget origins={len(self._left)}>"

    def take(self, origin: str) -> bool:
        """Take a retry, if there is one."""
        left = self._left.get(origin, self.START)
        self._left[origin] = max(0.0, left - 1)
        return left >= 1

    def came(self, origin: str) -> None:
        """A page of the origin came."""
        left = self._left.get(origin)
        if left is not None:
            self._left[origin] = min(self.MOST, left + self.PER_PAGE)


def rest_s(headers: Mapping[str, str], now: float, settings: Settings) -> float:
    """The seconds for which an answer asks that nothing more is asked, at most
    `max_retry_delay_s`; 0 if it doesn't.

    RFC 9110, 10.2.3 lets any answer ask for that, and names 503 and redirects; RFC 6585 adds 429.
    So the status doesn't matter: a site that takes the trouble to say it means it.
    """
    value = headers.get("Retry-After")
    wished_s = parse_retry_after(value, now) if value else None
    return min(wished_s or 0.0, settings.max_retry_delay_s)


def parse_retry_after(value: str, now: float) -> float | None:
    """A Retry-After header as seconds from `now` (RFC 9110, 10.2.3); None if it is neither
    a number of seconds nor a date.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
