"""Adaptive concurrency: how many requests an origin gets at a time. Sans-IO.

The law, as in TCP: start low, and grow by what has proved to be fine: an answer that came as
quickly as the first ones, to a request that was one of so many, allows half as many more. Halve at
once when the site says that it is too much, or nothing at all; go back soon to just below where
that was, and from there on probe in steps that begin small and grow while all is calm.

Answers that take longer are a sign, too: a window of them is compared with what the first ones
took, as in Netflix's gradient limits, and a queue on the site's side lowers the limit before the
site has to refuse anything. Geometric means are compared, and the more a site's answers differ by
themselves, the more it takes to count as a difference. Whether it is a queue is tried out: if
answers take as long when fewer are asked for, that is the site's own pace, and no reason to wait.

A page that fails among many that don't is to blame itself.

Below one at a time there are pauses: a limit of 1/4 is one request, and then three seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

START: Final = 2.0
LEAST: Final = 1 / 64
"""One request a minute."""

_GROWTH: Final = 1.5
"""So many times what has proved to be fine may be tried. Twice would be found out sooner to be far
too much, but would be that for a whole round of answers."""
_AT_LEAST: Final = 2
"""Or so many more, while there are few."""
_TOLERANCE: Final = 1.5
"""Answers may take so many times as long as when the site was asked least."""
_UNEASE: Final = 1.25
"""From here on, one at a time less is tried."""
_QUICK: Final = 1.1
"""An answer that takes no longer than so many times the usual is as quick as ever, ..."""
_QUICK_S: Final = 0.005
"""... or than so much longer, in seconds."""
_QUICKER: Final = 0.8
"""Less than that share is no chance: the site can answer quicker than was thought."""
_UNEASY: Final = 3
"""So many times one less is tried, before it is tried out whether that helps."""
_SLACK_S: Final = 0.05
"""Nobody is hurt by less than that: on a fast site, or this very machine, answers that take a
few milliseconds more tell of our own work rather than of the site's."""
_UNEASE_S: Final = 0.015
"""The same for trying one less, which costs next to nothing."""
_SLOW: Final = 3
"""So many slow answers, with no quick one to as many at a time, end the start."""
_FIRST_WINDOW: Final = 4
"""Answers that are judged together, at least, until there has been any trouble. A window has one
for each request at a time."""
_WINDOW: Final = 16
"""The same once there was; then a window has two."""
_OUTLIER: Final = 8.0
"""A single answer counts as so many times the usual, at most."""
_LEARNED: Final = 32
"""Answers that tell what is usual. Later ones would tell of a queue that we have made."""
_SURE: Final = 2.0
"""Differences of so many standard errors are no chance."""
_GUESS: Final = 0.3
"""By how much answers differ, as the standard deviation of their logarithms, before there are
any; counts as two of them."""
_BELOW: Final = 0.9
"""How near to the limit that was too much the next one comes without hesitation."""
_STEP: Final = 0.05
"""How much is added for each calm window: in requests, and below one at a time as a share."""
_STUBBORN: Final = 10
"""How often the steps are halved, at most, for a site that refuses whenever it is asked for more:
each time costs a page its try."""
_CALM: Final = 8
"""After so many windows without trouble the steps grow with the limit, too: the site isn't what it
was."""
_STRIDE: Final = 0.05
"""By how much, as a share of the limit, for each window more; ..."""
_LONGEST_STRIDE: Final = 0.25
"""... and that is the most."""
_TRUST: Final = 18
"""So many good answers speak for a site, at most: a few failures among them are those of pages."""
_DISTRUST: Final = 3
"""A failure counts as much as so many good answers: one in four is too much for chance."""
_MEANT_FOR_ALL: Final = "status 429"
"""A site says that to whoever asks, whatever for; other signs may be meant for a page."""
_TRIAL: Final = 64
"""After so many answers it is decided whether it was a queue, if it isn't plain before; ..."""
_TRIED: Final = 8
"""... and not after fewer than that."""
_RESTING: Final = 4
"""As so many refusals counts one that everybody has to wait for."""


class Asked(NamedTuple):
    """A request: numbers grow, and `beside` is how many there were at a time when it went, itself
    included. `is_again`: it has failed before.
    """

    number: float
    beside: int
    is_again: bool = False


class _Doubt(NamedTuple):
    """What was before the limit was lowered, because answers seemed to wait in a queue."""

    value: float
    knee: float
    why: str
    log: float
    """How long answers took, as a logarithm, and how many tell that; none but a single one, if it
    ended the start."""
    answers: int


@dataclass(slots=True)
class Adaptive:
    """The limit of one origin. `latest` is the number of the last request begun.

    `value` is what is allowed, from LEAST to the ceiling that is handed in; `why` says what it
    was that set it. `base_s` is what answers take when all is well (0: not known yet), `knee`
    the limit that was too much; until there has been one, it is the start.
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
    """So many at a time it was."""
    lowered_after: float = -math.inf
    """What was begun until then is no new sign."""
    _trust: int = 0
    """Good answers that speak for the site; less what spoke against it."""
    _fine: int = 0
    """The most at a time that were answered."""
    _silent_at: float = math.inf
    """From so many on silence means that it was too much, because it has come before."""
    _doubt: _Doubt | None = None
    """While it is tried out whether there was a queue."""
    _uneasy: int = 0
    """How often one less was tried, since that was tried out; ..."""
    _patience: int = _UNEASY
    """... and after how many times that is done."""
    _proven: int = 0
    """The most at a time that were answered quickly."""
    _slow: int = 0
    """Slow answers since, to more than that."""
    _rose: bool = False
    """Whether the limit did, in this window."""
    _measured_from: float = -math.inf
    """Answers to what was begun before tell of another limit."""
    _answers: int = 0
    """In the window; of those `_count` were timed, and `_logs` and `_squares` are the sums of their
    logarithms and of the squares of those."""
    _logs: float = 0.0
    _squares: float = 0.0
    _count: int = 0
    _needed: int = int(START)
    _learned: int = _LEARNED
    """From how many answers `base_s` is, and `_spread` how much they differed."""
    _spread: float = _GUESS
    _quick_s: float = 0.0
    """From here on an answer isn't quick any more, and from there on it is slow: of `base_s`."""
    _slow_s: float = 0.0

    def __post_init__(self) -> None:
        self._set_base(self.base_s)

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
        self, asked: Asked, elapsed_s: float | None, latest: float, *, ceiling: int, busy: bool
    ) -> None:
        """An answer came, after `elapsed_s`; None if that tells nothing of the site. `busy`: as
        many requests were on their way as are allowed; a limit that isn't reached isn't tested,
        and doesn't rise.
        """
        if asked.number <= self.lowered_after:
            return
        self._note_fine(asked)
        self._grow(asked, elapsed_s, latest, ceiling, busy=busy)
        if asked.number >= self._measured_from and asked.number > self.lowered_after:
            self._answers += 1
            if elapsed_s is not None:
                self._measure(elapsed_s)
            if self._doubt is not None:
                self._try_out(self._doubt, latest, ceiling)
                return
            is_long = elapsed_s is not None and elapsed_s > 2 * _TOLERANCE * self.base_s
            if self._answers >= self._needed or (is_long and self._is_plain_already):
                self._judge(latest, ceiling if busy else 0)

    def overloaded(
        self, asked: Asked, latest: float, what: str, *, spoke: bool, rests: bool = False
    ) -> None:
        """The site was overloaded; `what` names the sign. `spoke`: by its own word (429, 503),
        not by silence, which may have any cause and doesn't tell how much is too much. `rests`: by
        a Retry-After, which all requests have to wait for.
        """
        if asked.number <= self.lowered_after:
            if spoke:
                self._note_refused(asked.beside)
            return
        if not self.failures and self._is_forgiven(asked, what, spoke=spoke, rests=rests):
            return
        self.failures += 1
        self.exhausted = self.value <= LEAST
        self.why = f"{what} at {self.wording}"
        if spoke:
            self.knee = self.value
        elif self.failures == 1 and self.value >= 1:
            self._note_silence()
        self._trust, self._fine = 0, min(self._fine, asked.beside - 1)
        if spoke and self.failures == 1:
            self.refusals += _RESTING if rests else 1
        if spoke:
            self.refused_at = self.value
            self._note_refused(asked.beside)
        self._lower(self.value / 2, latest)

    @property
    def wording(self) -> str:
        """The limit in words."""
        if self.value < 1:
            return f"one every {1 / self.value:.0f} s"
        return f"{self.limit} at a time"

    def _note_fine(self, asked: Asked) -> None:
        """It answers, so many at a time."""
        if self.failures:
            self.failures, self.exhausted, self._trust = 0, False, _DISTRUST
        elif self._trust < _TRUST:
            self._trust += 1
        beside = asked.beside
        self._fine = max(self._fine, beside)
        if self.value < 1:
            self.calm += 1
        if beside >= self.refused_at:
            self.refusals, self.refused_at = 0, math.inf

    def _grow(
        self, asked: Asked, elapsed_s: float | None, latest: float, ceiling: int, *, busy: bool
    ) -> None:
        """Allow as much more as an answer does."""
        if self._doubt is not None:
            return
        if self.knee < math.inf:
            if busy:
                self._raise(asked, elapsed_s, ceiling)
        elif self.value < 1:
            self._set(2 * self.value, ceiling)
        elif elapsed_s is not None and self.base_s:
            self._explore(asked.beside, elapsed_s, latest, ceiling)

    def _is_forgiven(self, asked: Asked, what: str, *, spoke: bool, rests: bool) -> bool:
        """Whether a failure is rather that of a page, because the site answers otherwise."""
        if self._trust < _DISTRUST or rests or what == _MEANT_FOR_ALL:
            return False
        if spoke and asked.beside > self._fine:
            # More than ever were answered: the next one has to do better.
            self._trust = 0
        elif not asked.is_again:
            self._trust -= _DISTRUST
        return True

    def _note_silence(self) -> None:
        """Silence has many causes. The second time at as many, that is the cause."""
        if self.knee < math.inf or self.value >= self._silent_at:
            self.knee = self.value
        self._silent_at = _BELOW * self.value
        self._proven, self._slow = min(self._proven, int(self.value / 2)), 0

    def _note_refused(self, beside: int) -> None:
        """While the limit rises, fewer may have been too much already when a request went."""
        self.knee = min(self.knee, float(beside))
        self.refused_at = min(self.refused_at, float(beside))

    @property
    def _is_plain_already(self) -> bool:
        """Whether it takes no whole window to see that answers take much longer."""
        if not self.base_s or self._count < _FIRST_WINDOW:
            return False
        return self._longer > math.log(2 * _TOLERANCE) + self._chance

    @property
    def _longer(self) -> float:
        """How much longer the answers in the window took than usual, as a logarithm."""
        return self._logs / self._count - math.log(self.base_s)

    @property
    def _chance(self) -> float:
        """How much of that may be chance."""
        return _SURE * self._spread * math.sqrt(1 / self._count + 1 / self._learned)

    def _measure(self, elapsed_s: float) -> None:
        elapsed_s = max(elapsed_s, 1e-4)
        if self.base_s:
            elapsed_s = min(elapsed_s, _OUTLIER * self.base_s)
        log = math.log(elapsed_s)
        self._logs += log
        self._squares += log * log
        self._count += 1

    def _set_base(self, base_s: float) -> None:
        self.base_s = base_s
        usual_s = math.exp(self._spread) * base_s
        self._quick_s = _QUICK * usual_s + _QUICK_S
        self._slow_s = max(_TOLERANCE * usual_s, base_s + _SLACK_S)

    def _explore(self, beside: int, elapsed_s: float, latest: float, ceiling: int) -> None:
        """Go as far as what has proved to be fine allows; nothing has ever given. Beyond the
        first slow answers that is the limit.

        Requests that went when the limit was nearly reached are the ones that tell. How many there
        are when the answer is looked at doesn't: answers come together.
        """
        if elapsed_s <= self._quick_s:
            if beside > self._proven:
                self._proven, self._slow = beside, 0
            reach = min(max(self._proven + _AT_LEAST, _GROWTH * self._proven), ceiling)
            if reach > self.value and beside * _GROWTH >= self.value:
                self._set(reach, ceiling)
                self._rose = True
        elif 0 < self._proven < beside and elapsed_s > self._slow_s:
            self._slow += 1
            if self._slow >= _SLOW:
                doubt = _Doubt(self.value, self.knee, self.why, math.log(elapsed_s), 1)
                self.why = f"answers took {elapsed_s / self.base_s:.1f} times as long at {beside}"
                self._lower(min(self.value, self._proven), latest)
                self.knee = self.value / _BELOW
                self._doubt = doubt

    def _judge(self, latest: float, ceiling: int) -> None:
        """See to a whole window; grow, if nothing has ever given."""
        # If most of it tells nothing, the site isn't what we wait for.
        if self._count and 2 * self._count >= self._answers and self._is_queue(latest):
            return
        self.calm += 1
        if self.knee == math.inf and self.value < ceiling and not self._rose:
            # Where no answer is quick: they differ too much, or come on new connections.
            self._set(min(_GROWTH * self.value, ceiling), ceiling)
            self._measured_from = latest
        self._begin_window()

    def _is_queue(self, latest: float) -> bool:
        """Compare the window with what is usual; lower the limit if there is a queue."""
        usual_s = math.exp(self._logs / self._count)
        if not self.base_s:
            self._learn(usual_s, self._count)
            return False
        longer, chance, more_s = self._longer, self._chance, usual_s - self.base_s
        queue = longer > math.log(_TOLERANCE) + chance and more_s > _SLACK_S
        if self.limit == 1 and longer > 0:
            # Asked for one page at a time, it takes that long: that is the site's own pace.
            self._learn(usual_s, self._count)
        elif queue:
            slower, why = usual_s / self.base_s, self.why
            self.why = f"answers took {slower:.1f} times as long at {self.wording}"
            knee = max(1.0, self.value * max(0.5, _TOLERANCE / slower)) / _BELOW
            doubt = _Doubt(self.value, self.knee, why, self._logs / self._count, self._count)
            self._lower(max(1.0, self.value / 2), latest)
            self.knee, self._doubt = knee, doubt
            return True
        elif longer > math.log(_UNEASE) + chance and more_s > _UNEASE_S and self._may_try_less:
            self._try_less(latest)
            return True
        elif abs(longer) <= chance and self._learned < _LEARNED:
            self._learn_more()
        elif longer < math.log(_QUICKER) - chance:
            # A step on the way: one window of light pages is no measure for all of them.
            self._set_base(self.base_s + (usual_s - self.base_s) / 4)
        return False

    def _try_out(self, doubt: _Doubt, latest: float, ceiling: int) -> None:
        """See whether answers are quicker now that fewer are asked for. If not, it was no queue."""
        if self._count < _FIRST_WINDOW:
            # Most of it may tell nothing, for as long as it takes.
            self._doubt = None if self._answers >= 2 * _TRIAL else doubt
            return
        is_queue = self._was_slow(doubt, latest) if doubt.answers == 1 else self._was_queue(doubt)
        if is_queue is None:
            return
        if not is_queue:
            self.knee, self.why = doubt.knee, doubt.why
            self._slow = 0
            self._measured_from = latest
            if doubt.answers > 1:
                self._set(min(doubt.value, ceiling), ceiling)
        self._doubt = None
        self._begin_window()

    def _was_queue(self, doubt: _Doubt) -> bool | None:
        """Whether answers took longer because there were more at a time; None: not plain yet. In a
        queue they would take as many times as long as there were more.
        """
        if self._count < _TRIED:
            return None
        usual = self._logs / self._count
        middle = math.log(int(doubt.value) / self.limit) / 2
        chance = _SURE * self._spread * math.sqrt(1 / doubt.answers + 1 / self._count)
        shorter = doubt.log - usual
        if abs(shorter - middle) <= chance and self._count < _TRIAL:
            return None
        if shorter < middle:
            self._learn(math.exp(usual), self._count)
        return shorter >= middle

    def _was_slow(self, doubt: _Doubt, latest: float) -> bool | None:
        """Whether what ended the start was slow, now that more is known of what is usual."""
        if self._count < _WINDOW and not self._is_plain_already:
            return None
        self.why, knee, self.knee = doubt.why, self.knee, doubt.knee
        if self._is_queue(latest):
            # Or its first answers were too quick, which is to be tried out in turn.
            return None
        self.knee = knee
        return math.exp(doubt.log) > self._slow_s

    def _learn_more(self) -> None:
        """The window tells of the usual as well."""
        share = self._count / (self._learned + self._count)
        self._learn(self.base_s * math.exp(self._longer * share), self._learned + self._count)

    def _try_less(self, latest: float) -> None:
        """One less; now and then, ever more rarely, half as many, to see whether it is a queue."""
        self._uneasy += 1
        if self._uneasy < self._patience:
            self._lower(self.value - 1, self.lowered_after)
        else:
            self._uneasy, self._patience = 0, 2 * self._patience
            doubt = _Doubt(self.value, self.knee, self.why, self._logs / self._count, self._count)
            self._lower(self.value / 2, self.lowered_after)
            self.knee, self._doubt = (doubt.value - 1) / _BELOW, doubt
        self._measured_from = latest

    @property
    def _may_try_less(self) -> bool:
        return self.knee < math.inf and self.value >= 2

    def _learn(self, base_s: float, learned: int) -> None:
        """What is usual, from so many answers; the last of them are in the window."""
        known = 2 if not self.base_s else self._learned
        variance = self._squares / self._count - (self._logs / self._count) ** 2
        total = known * self._spread**2 + self._count * max(0.0, variance)
        self._spread = math.sqrt(total / (known + self._count - 1))
        self._learned = learned
        self._set_base(base_s)

    def _lower(self, value: float, latest: float) -> None:
        self.value = max(LEAST, value)
        self.lowered_after = latest
        self._doubt = None
        self.calm = 0
        self._begin_window()

    def _begin_window(self) -> None:
        self._answers, self._logs, self._squares, self._count = 0, 0.0, 0.0, 0
        self._rose = False
        unhurt = self.knee == math.inf
        self._needed = max(_FIRST_WINDOW, self.limit) if unhurt else max(_WINDOW, 2 * self.limit)

    def _raise(self, asked: Asked, elapsed_s: float | None, ceiling: int) -> None:
        """Go back to just below the knee, an answer at a time; from there, feel the way."""
        target = min(_BELOW * self.knee, ceiling)
        if self.value < target:
            self._set(min(target, self.value + min(1.0, self.value)), ceiling)
            return
        if self.value >= 1 and not self._is_proof(asked, elapsed_s):
            return
        step = min(1.0, _STEP * self.calm)
        if self.calm > _CALM and self.value >= 1:
            share = min(_LONGEST_STRIDE, _STRIDE * (self.calm - _CALM))
            step = max(step, share * self.value)
        if self.limit + 2 > self.refused_at:
            # One more at a time is what was refused.
            step /= 2 ** min(self.refusals, _STUBBORN)
        growth = step * self.value if self.value < 1 else step / self.value
        self._set(min(self.value + growth, ceiling), ceiling)

    def _is_proof(self, asked: Asked, elapsed_s: float | None) -> bool:
        """Whether as many as are allowed now have proved to be fine."""
        if asked.beside < self.limit:
            return False
        return elapsed_s is None or not self.base_s or elapsed_s <= self._quick_s

    def _set(self, value: float, ceiling: int) -> None:
        self.value = float(value)
        if value >= ceiling:
            self.why = "the most that is allowed"
