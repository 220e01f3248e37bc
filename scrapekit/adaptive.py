"""Adaptive concurrency: how many requests an origin gets at a time. Sans-IO.

The law, as in TCP: start low, and grow by half for as long as the site answers as quickly as
before; halve at once when it says that it is too much, or nothing at all; go back soon to just
below where that was, and from there on probe in steps that begin small and grow while all is calm.

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

_GROWTH: Final = 1.5
"""From one window to the next, until something gives. Twice would be found out sooner to be far
too much, but would be that for a whole window of answers."""
_TOLERANCE: Final = 1.5
"""Answers may take so many times as long as when the site was asked least."""
_QUICKER: Final = 0.8
"""Less than that share is no chance: the site can answer quicker than was thought."""
_SLACK_S: Final = 0.05
"""Nobody is hurt by less than that: on a fast site, or this very machine, answers that take a
few milliseconds more tell of our own work rather than of the site's."""
_FIRST_WINDOW: Final = 4
"""Answers that are judged together, at least, until there has been any trouble. A window has one
for each request at a time."""
_WINDOW: Final = 16
"""The same once there was; then a window has two."""
_OUTLIER: Final = 8.0
"""A single answer counts as so many times the usual, at most."""
_BELOW: Final = 0.9
"""How near to the limit that was too much the next one comes without hesitation."""
_STEP: Final = 0.05
"""How much is added for each calm window: in requests, and below one at a time as a share."""
_STUBBORN: Final = 10
"""How often the steps are halved, at most, for a site that refuses whenever it is asked for more:
each time costs a page its try."""
_RESTING: Final = 4
"""As so many refusals counts one that everybody has to wait for."""


@dataclass(slots=True)
class Adaptive:
    """The limit of one origin. Requests are told apart by numbers that grow; `latest` is that of
    the last one begun.

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
    exhausted: bool = False
    """Whether the longest pause hasn't helped either."""
    refusals: int = 0
    """How often the site refused, since as much as it refused was last found to be fine."""
    refused_at: float = math.inf
    lowered_after: float = -math.inf
    """What was begun until then is no new sign."""
    _measured_from: float = -math.inf
    """Answers to what was begun before tell of another limit."""
    _answers: int = 0
    """In the window; of those `_count` were timed, and `_logs` is the sum of their logarithms."""
    _logs: float = 0.0
    _count: int = 0
    _needed: int = _FIRST_WINDOW

    @classmethod
    def under(cls, ceiling: int) -> Adaptive:
        """The limit of an origin of which nothing is known."""
        return cls() if ceiling > START else cls(float(ceiling), "the most that is allowed")

    @property
    def limit(self) -> int:
        """Requests at a time."""
        return max(1, int(self.value))

    @property
    def spacing_s(self) -> float:
        """Pause between two requests, if less than one at a time is allowed."""
        return 1 / self.value - 1 if self.value < 1 else 0.0

    def answered(
        self, number: float, elapsed_s: float | None, latest: float, *, ceiling: int, busy: bool
    ) -> None:
        """An answer came, after `elapsed_s`; None if that tells nothing of the site. `busy`: as
        many requests were on their way as are allowed; a limit that isn't reached isn't tested,
        and doesn't rise.
        """
        if number <= self.lowered_after:
            return
        self.failures, self.exhausted = 0, False
        if self.value < 1:
            self.calm += 1
        if busy and self.knee < math.inf:
            self._raise(ceiling)
        if number >= self._measured_from:
            self._answers += 1
            if elapsed_s is not None:
                self._measure(elapsed_s)
            if self._answers >= self._needed or self._is_plain_already:
                self._judge(latest, ceiling if busy else 0)

    def overloaded(
        self, number: float, latest: float, what: str, *, spoke: bool, rests: bool = False
    ) -> None:
        """The site was overloaded; `what` names the sign. `spoke`: by its own word (429, 503),
        not by silence, which may have any cause and doesn't tell how much is too much. `rests`: by
        a Retry-After, which all requests have to wait for.
        """
        if number <= self.lowered_after:
            return
        self.failures += 1
        self.exhausted = self.value <= LEAST
        self.why = f"{what} at {self.wording}"
        if spoke or (self.failures == 1 and self.value >= 1):
            self.knee = self.value
        if spoke and self.failures == 1:
            self.refusals += _RESTING if rests else 1
        if spoke:
            self.refused_at = self.value
        self._lower(self.value / 2, latest)

    @property
    def wording(self) -> str:
        """The limit in words."""
        if self.value < 1:
            return f"one every {1 / self.value:.0f} s"
        return f"{self.limit} at a time"

    @property
    def _is_plain_already(self) -> bool:
        """Whether it takes no whole window to see that answers take much longer."""
        if not self.base_s or self._count < _FIRST_WINDOW:
            return False
        return self._logs / self._count > math.log(2 * _TOLERANCE * self.base_s)

    def _measure(self, elapsed_s: float) -> None:
        elapsed_s = max(elapsed_s, 1e-4)
        if self.base_s:
            elapsed_s = min(elapsed_s, _OUTLIER * self.base_s)
        self._logs += math.log(elapsed_s)
        self._count += 1

    def _judge(self, latest: float, ceiling: int) -> None:
        """See to a whole window; grow, if nothing has ever given."""
        # If most of it tells nothing, the site isn't what we wait for.
        if 2 * self._count >= self._answers and self._is_slow(latest):
            return
        self.calm += 1
        if self.value >= self.refused_at:
            self.refusals = 0
        if self.knee == math.inf and self.value < ceiling:
            self._set(min(_GROWTH * self.value, ceiling), ceiling)
            self._measured_from = latest
        self._begin_window()

    def _is_slow(self, latest: float) -> bool:
        """Compare the window with the quickest; lower the limit if there is a queue."""
        usual_s = math.exp(self._logs / self._count)
        slower = usual_s / self.base_s if self.base_s else 1.0
        queue = slower > _TOLERANCE and usual_s - self.base_s > _SLACK_S
        if not self.base_s or (queue and self.limit == 1):
            # Asked for one page at a time, it takes that long: that is the site's own pace.
            self.base_s = usual_s
        elif queue:
            self.why = f"answers took {slower:.1f} times as long at {self.wording}"
            self._lower(max(1.0, self.value * max(0.5, _TOLERANCE / slower)), latest)
            self.knee = self.value / _BELOW
            return True
        elif slower < _QUICKER:
            # A step on the way: one window of light pages is no measure for all of them.
            self.base_s += (usual_s - self.base_s) / 4
        return False

    def _lower(self, value: float, latest: float) -> None:
        self.value = max(LEAST, value)
        self.lowered_after = latest
        self.calm = 0
        self._begin_window()

    def _begin_window(self) -> None:
        self._answers, self._logs, self._count = 0, 0.0, 0
        unhurt = self.knee == math.inf
        self._needed = max(_FIRST_WINDOW, self.limit) if unhurt else max(_WINDOW, 2 * self.limit)

    def _raise(self, ceiling: int) -> None:
        """Go back to just below the knee, an answer at a time; from there, feel the way."""
        target = min(_BELOW * self.knee, ceiling)
        if self.value < target:
            self._set(min(target, self.value + min(1.0, self.value)), ceiling)
            return
        step = min(1.0, _STEP * self.calm)
        if self.limit + 2 > self.refused_at:
            # One more at a time is what was refused.
            step /= 2 ** min(self.refusals, _STUBBORN)
        growth = step * self.value if self.value < 1 else step / self.value
        self._set(min(self.value + growth, ceiling), ceiling)

    def _set(self, value: float, ceiling: int) -> None:
        self.value = float(value)
        if value >= ceiling:
            self.why = "the most that is allowed"
