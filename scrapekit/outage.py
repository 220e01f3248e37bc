"""Outage: a site that fails, whatever it is asked for, is waited for. Sans-IO.

Pages that fail one by one are the pages' own fault, and cost them their tries. Where one page after
the other fails, and none comes in between, it is the site that is down: then it is asked for one
page now and then, and none of them loses a try, until the site answers or all patience is used up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
LEFT_ALONE_S: Final = 600.0
"""How long a site is left alone that was waited for in vain."""
_ENOUGH: Final = 20
PLAIN: Final = 1
"""What a page counts that failed as a page may by itself (status 500): a broken part of a site has
many such in a row."""
STRONG: Final = 4
"""What one counts that failed as sites do that are down."""


@dataclass(slots=True)
class Outage:
    """The failures of one origin since the last answer. Dates are seconds of the crawl's clock,
    requests are numbered as they begin.
    """

    why: str = ""
    """The last failure."""
    failures: int = 0
    """Requests in a row that failed."""
    since: float | None = None
    """When it was clear that the site is down; None if it isn't."""
    until: float = float("-inf")
    """Nothing goes before that date."""
    pause_s: float = 0.0
    _score: int = 0
    _paused_after: float = float("-inf")
    """What was begun until then knows nothing of the last pause."""

    @property
    def wording(self) -> str:
        """The last failure in words."""
        return f"{self.why} when asked every {self.pause_s:.0f} s"

    @property
    def is_on(self) -> bool:
        """Whether the site is down."""
        return self.since is not None

    def failed(
        self, number: float, latest: float, now: float, why: str, *, weight: int = _ENOUGH
    ) -> None:
        """A request failed; `latest` is the last one begun. `weight`: PLAIN or STRONG for a page
        that was tried for the first time, 0 for one that is known to fail; without one, a single
        failure is enough.
        """
        self.failures += 1
        self.why = why
        self._score += weight
        if self.since is None and self._score >= _ENOUGH:
            self.since = now
        if self.since is not None and number > self._paused_after:
            self.pause_s = min(max(FIRST_PAUSE_S, 2 * self.pause_s), LONGEST_PAUSE_S)
            self.until = now + self.pause_s
            self._paused_after = latest

    def ends_with(self, number: float) -> bool:
        """Whether an answer to that request is the end of it: what was asked for earlier may
        come although the site has gone down since.
        """
        return self.since is None or number > self._paused_after

    def is_hopeless(self, now: float, max_outage_s: float) -> bool:
        """Whether the site was waited for long enough."""
        return self.since is not None and now - self.since >= max_outage_s
