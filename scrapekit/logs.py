"""LogObserver: tells Python's logging what went wrong, so that no failure passes unseen."""

from __future__ import annotations

import logging
from typing import Final

from scrapekit.events import Event, Failed, LoopStalled, RequestsDropped, RetryScheduled
from scrapekit.report import printable

# No NullHandler: in a program that has not configured logging, failures go to stderr rather than
# nowhere.
logger = logging.getLogger("scrapekit")

_BLOCKERS: Final = {
    "spider": "other code of the spider",
    "application": "the application's code",
    "threads": "callbacks in threads",
    "unknown": "a library",
}


class LogObserver:
    """Logs failures (with a traceback the first time it is this one), retries and drops.

    User code's failures are errors, a site's are warnings, retries are info, drops are debug.
    """

    kinds = frozenset({Failed, LoopStalled, RetryScheduled, RequestsDropped})

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"<LogObserver told={len(self._told)}>"

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, Failed):
            self._failed(event)
        elif isinstance(event, LoopStalled):
            self._stalled(event)
        elif isinstance(event, RetryScheduled) and logger.isEnabledFor(logging.INFO):
            logger.info(
                "%s: try %d failed (%s: %s), again in %.1f s",
                printable(event.request.url),
                event.tries,
                type(event.error).__name__,
                printable(str(event.error)),
                event.due - event.at,
            )
        elif isinstance(event, RequestsDropped) and logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "dropped %d (%s), such as %s", event.count, event.reason, printable(event.example)
            )

    def _stalled(self, event: LoopStalled) -> None:
        if self._is_new(f"stall {event.callback} {event.where}"):
            place = f" at {event.where}: {printable(event.statement)}" if event.where else ""
            logger.warning(
                "the event loop was blocked for %.2f s by %s%s (%s)",
                event.blocked_s,
                event.callback or _BLOCKERS.get(event.whose, event.whose),
                place,
                event.advice,
            )

    def _failed(self, event: Failed) -> None:
        failed = event.failure
        level = logging.ERROR if failed.of_user_code else logging.WARNING
        url = printable(failed.url) or "(no page)"
        logger.log(level, "%s: %s: %s", failed.during, url, printable(str(failed)))
        if failed.traceback and self._is_new(f"{type(failed.error).__name__} {failed.where}"):
            # A site's text may be in it, and must not command the terminal.
            lines = (printable(line) for line in failed.traceback.splitlines())
            logger.log(level, "%s", "\n".join(lines))

    def _is_new(self, kind: str) -> bool:
        if kind in self._told or len(self._told) > 1000:
            return False
        self._told.add(kind)
        return True
