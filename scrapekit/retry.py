"""Retry: a failure in, "again at" or "give up" out. Sans-IO."""

from __future__ import annotations

from collections.abc import Callable
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
    if tries > settings.retries or method not in IDEMPOTENT or not is_passing(error):
        return None
    # Bounded, because floats are: 2.0 ** 1024 is an error.
    growth = 2.0 ** min(tries - 1, 100)
    bound = min(settings.retry_delay_s * growth, settings.max_retry_delay_s)
    wished = wished_delay_s(error, now) or 0.0
    return now + max(bound * random(), min(wished, settings.max_retry_delay_s))


def is_passing(error: Exception) -> bool:
    """Whether trying again may help."""
    if isinstance(error, BadStatus):
        return error.status in RETRIED_STATUSES
    return isinstance(error, RETRIED_ERRORS)


def wished_delay_s(error: Exception, now: float) -> float | None:
    """The seconds that the site asks to be left alone for, if it does."""
    if isinstance(error, BadStatus) and error.retry_after:
        return parse_retry_after(error.retry_after, now)
    return None


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
