"""Adaptive concurrency: how many requests an origin gets at a time. Sans-IO.

The law, as in TCP: start low, double from one answer to the next until something gives, halve at
once when the site says that it is too much (or says nothing at all), go back quickly to just below
where that was, and from there on probe in steps that begin small and grow while all is calm.

Answers that take longer are a sign, too: a window of them is compared with the quickest window
so far, as in Netflix's gradient limits, and a queue on the site's side lowers the limit before the
site has to refuse anything. Geometric means are compared: a single slow page moves them little.

Below one at a time there are pauses: a limit of 1/4 is one request, and then three seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

START: Final = 2.0
LEAST: Final = 1 / 64
"""One request a minute."""

_TOLERANCE: Final = 1.5
"""Answers may take so many times as long as when the site was asked least."""
_SLACK_S: Final = 0.05
"""Nobody is hurt by less than that: on a fast site, or this very machine, answers that take a
few milliseconds more tell of our own work rather than of the site's."""
_WINDOW: Final = 8
"""Answers that are judged together, at least. A window has two for each request at a time."""
_FIRST_WINDOW: Final = 4
_OUTLIER: Final = 8.0
"""A single answer counts as so many times the usual, at most."""
_BELOW: Final = 0.9
"""How near to the limit that was too much the next one comes without hesitation."""
_STEP: Final = 0.1
_SLOW_STEP: Final = 0.05
"""How much is added for each calm window: in requests, and below one at a time as a share."""


@dataclass(slots=True)
class Adaptive:
    """The limit of one origin. Times are seconds of the crawl's clock.

    `value` is what is allowed, from LEAST to the ceiling that is handed in; `why` says what it
    was that set it. `base_s` is what answers take when all is well (0: not known yet), `knee`
    the limit that was too much.
    """

    value: float = START
    why: str = "few answers so far"
    base_s: float = 0.0
    knee: float = math.inf
    calm: int = 0
    """Windows without trouble since there was some."""
    failures: int = 0
    """Requests in a row that went wrong, each begun after the limit was lowered for the last."""
    changed_at: float = -math.inf
    """When the limit was last lowered. What was begun until then is no new sign."""
    _logs: float = 0.0
    _count: int = 0

    @property
    def limit(self) -> int:
        """Requests at a time."""
        return max(1, int(self.value))

    @property
    def spacing_s(self) -> float:
        """Pause between two requests, if less than one at a time is allowed."""
        return 1 / self.value - 1 if self.value < 1 else 0.0

    def answered(
        self, began: float, elapsed_s: float, now: float, *, ceiling: int, busy: bool
    ) -> None:
        """An answer came. `busy`: as many requests were on their way as are allowed; a limit that
        isn't reached isn't tested, and doesn't rise.
        """
        self.failures = 0
        if began <= self.changed_at:
            return
        self._measure(elapsed_s)
        needed = max(_WINDOW, 2 * self.limit) if self.base_s else _FIRST_WINDOW
        if self.value < 1:
            self.calm += 1
        if self._count >= needed:
            self._judge(now)
        if busy and self.base_s and began > self.changed_at:
            self._raise(ceiling)

    def overloaded(self, began: float, now: float, what: str, *, spoke: bool) -> None:
        """The site was overloaded; `what` names the sign. `spoke`: by its own word (429, 503),
        not by silence, which may have any cause and doesn't tell how much is too much.
        """
        if began <= self.changed_at:
            return
        self.failures += 1
        self.why = f"{what} at {self.wording}"
        if spoke or self.value >= 1:
            self.knee = self.value
        self._lower(self.value / 2, now)

    @property
    def wording(self) -> str:
        """The limit in words."""
        if self.value < 1:
            return f"one every {1 / self.value:.0f} s"
        return f"{self.limit} at a time"

    def _measure(self, elapsed_s: float) -> None:
        elapsed_s = max(elapsed_s, 1e-4)
        if self.base_s:
            elapsed_s = min(elapsed_s, _OUTLIER * self.base_s)
        self._logs += math.log(elapsed_s)
        self._count += 1

    def _judge(self, now: float) -> None:
        """Compare a whole window with the quickest."""
        usual_s = math.exp(self._logs / self._count)
        self._logs, self._count = 0.0, 0
        queue = usual_s > _TOLERANCE * self.base_s and usual_s - self.base_s > _SLACK_S
        if not self.base_s or (queue and self.limit == 1):
            # Asked for one page at a time, it takes that long: that is the site's own pace.
            self.base_s = usual_s
        elif queue:
            self.knee = self.value
            self.why = f"answers took {usual_s / self.base_s:.1f} times as long at {self.wording}"
            share = max(0.5, _TOLERANCE * self.base_s / usual_s)
            self._lower(max(1.0, self.value * share), now)
            return
        elif usual_s < self.base_s:
            # Half of the way: a window of light pages is no measure for all of them.
            self.base_s = (self.base_s + usual_s) / 2
        self.calm += 1

    def _lower(self, value: float, now: float) -> None:
        self.value = max(LEAST, value)
        self.changed_at = now
        self.calm = 0
        self._logs, self._count = 0.0, 0

    def _raise(self, ceiling: int) -> None:
        target = min(_BELOW * self.knee, float(ceiling))
        if self.value < target:
            self.value = min(target, self.value + min(1.0, self.value))
        elif self.value < 1:
            self.value *= 1 + min(1.0, _SLOW_STEP * self.calm)
        else:
            self.value += min(1.0, _STEP * self.calm) / self.value
        if self.value >= ceiling:
            self.value, self.why = float(ceiling), "the most that is allowed"
