from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scrapekit.limits import Limits, Rate
from scrapekit.politeness import Politeness
from scrapekit.standing import OriginState, SharedLimits


def polite(
    *, concurrency: int = 8, delay_s: float = 0.0, shared: SharedLimits | None = None, **more: Any
) -> Politeness:
    limits = Limits(concurrency, delay_s, **more)
    return Politeness(lambda _name: limits, shared=shared, dice=lambda: 0.5)


def take(politeness: Politeness, now: float) -> str | None:
    """Pick and start, as the scheduler does."""
    name = politeness.pick(now)
    if name is not None:
        politeness.started(name, now)
    return name


def test_an_origin_with_a_request_can_be_picked_once_per_booking() -> None:
    politeness = polite()
    assert politeness.book("a", 0, 0.0, now=1.0)
    assert politeness.pick(1.0) == "a"
    assert politeness.pick(1.0) is None


def test_booking_what_is_booked_already_wakes_nobody() -> None:
    politeness = polite()
    assert politeness.book("a", 0, 0.0, now=1.0)
    assert not politeness.book("a", 0, 0.0, now=2.0)
    assert not politeness.book("a", -1, 0.0, now=2.0)
    assert politeness.pick(2.0) == "a"
    assert politeness.pick(2.0) is None


def test_the_origin_with_the_highest_priority_goes_first() -> None:
    politeness = polite()
    for name, priority in (("low", -3), ("high", 7), ("middle", 0)):
        politeness.book(name, priority, 0.0, now=1.0)
    assert [politeness.pick(1.0) for _ in range(3)] == ["high", "middle", "low"]


def test_a_higher_priority_that_comes_later_moves_its_origin_ahead() -> None:
    politeness = polite()
    politeness.book("a", 0, 0.0, now=1.0)
    politeness.book("b", 5, 0.0, now=2.0)
    assert politeness.book("a", 10, 0.0, now=3.0)
    assert [politeness.pick(4.0) for _ in range(3)] == ["a", "b", None]


def test_among_equal_priorities_whoever_waits_longest_goes_first() -> None:
    politeness = polite()
    for name in "cab":
        politeness.book(name, 0, 0.0, now=1.0)
    turns = []
    for _ in range(6):
        picked = take(politeness, 1.0)
        assert picked is not None
        turns.append(picked)
        politeness.book(picked, 0, 0.0, now=1.0)
    assert turns == ["c", "a", "b", "c", "a", "b"]


def test_no_more_requests_than_the_limit_are_on_their_way() -> None:
    politeness = polite(concurrency=2)
    for _ in range(2):
        politeness.book("a", 0, 0.0, now=1.0)
        assert take(politeness, 1.0) == "a"
    assert not politeness.book("a", 0, 0.0, now=1.0)
    assert politeness.pick(1.0) is None
    politeness.finished("a", 2.0)
    assert politeness.book("a", 0, 0.0, now=2.0)
    assert politeness.pick(2.0) == "a"


def test_the_delay_counts_from_the_last_start() -> None:
    politeness = polite(delay_s=10.0)
    politeness.book("a", 0, 0.0, now=100.0)
    assert take(politeness, 100.0) == "a"
    assert not politeness.book("a", 0, 0.0, now=101.0)
    assert politeness.next_date() == 110.0
    assert politeness.pick(109.999) is None
    assert politeness.pick(110.0) == "a"


def test_a_request_of_a_later_date_waits_for_it() -> None:
    politeness = polite()
    assert not politeness.book("a", 0, 50.0, now=1.0)
    assert politeness.next_date() == 50.0
    assert politeness.pick(49.0) is None
    assert politeness.pick(50.0) == "a"


def test_an_earlier_date_takes_the_place_of_a_later_one() -> None:
    politeness = polite()
    politeness.book("a", 0, 50.0, now=1.0)
    politeness.book("a", 0, 20.0, now=1.0)
    assert politeness.next_date() == 20.0
    assert politeness.pick(20.0) == "a"
    assert politeness.pick(50.0) is None
    assert politeness.next_date() is None


def test_a_held_origin_waits_even_if_it_could_go_before() -> None:
    politeness = polite()
    politeness.book("a", 0, 0.0, now=1.0)
    politeness.book("b", 0, 0.0, now=1.0)
    politeness.hold("a", 30.0)
    assert politeness.pick(2.0) == "b"
    assert politeness.pick(2.0) is None
    assert politeness.next_date() == 30.0
    assert politeness.pick(30.0) == "a"


def test_a_second_hold_never_shortens_the_first() -> None:
    politeness = polite()
    politeness.hold("a", 30.0)
    politeness.hold("a", 20.0)
    politeness.book("a", 0, 0.0, now=1.0)
    assert politeness.next_date() == 30.0


def test_a_held_origin_keeps_its_priority() -> None:
    politeness = polite()
    politeness.book("a", 5, 0.0, now=1.0)
    politeness.book("b", 3, 0.0, now=1.0)
    politeness.hold("a", 30.0)
    politeness.hold("b", 30.0)
    assert [politeness.pick(30.0), politeness.pick(30.0)] == ["a", "b"]


def test_a_crawl_delay_never_shortens_the_setting() -> None:
    politeness = polite(delay_s=10.0)
    politeness.slow_down("a", 2.0)
    politeness.book("a", 0, 0.0, now=100.0)
    take(politeness, 100.0)
    politeness.finished("a", 101.0)
    politeness.book("a", 0, 0.0, now=100.0)
    assert politeness.next_date() == 110.0


def test_a_crawl_delay_counts_from_the_request_for_the_robots_txt_on() -> None:
    politeness = polite()
    politeness.book("a", 0, 0.0, now=100.0)
    take(politeness, 100.0)
    politeness.book("a", 0, 0.0, now=101.0)
    politeness.slow_down("a", 10.0)
    politeness.finished("a", 101.0)
    politeness.book("a", 0, 0.0, now=101.0)
    assert take(politeness, 109.9) is None
    assert take(politeness, 110.0) == "a"


def test_a_crawl_delay_of_a_robots_txt_that_was_in_the_cache_costs_no_pause() -> None:
    politeness = polite()
    politeness.book("a", 0, 0.0, now=100.0)
    take(politeness, 100.0)
    politeness.slow_down("a", 10.0, Rate(1, 60.0))
    politeness.unsent("a", 100.0)
    politeness.finished("a", 100.0)
    politeness.book("a", 0, 0.0, now=101.0)
    assert take(politeness, 101.0) == "a"


def test_a_crawl_delay_and_a_rate_that_are_taken_back_hold_no_more() -> None:
    politeness = polite()
    politeness.slow_down("a", 10.0, Rate(1, 60.0))
    politeness.restore(OriginState(origin="b", delay_s=10.0, rate=(1, 60.0)))
    for name in ("a", "b"):
        politeness.book(name, 0, 0.0, now=100.0)
        assert take(politeness, 100.0) == name
        politeness.slow_down(name, 0.0)
        politeness.finished(name, 100.0)
        politeness.book(name, 0, 0.0, now=110.0)
        assert take(politeness, 110.0) == name
        politeness.book(name, 0, 0.0, now=110.0)
        assert take(politeness, 110.0) == name
    assert [(limit.concurrency, limit.delay_s) for limit in politeness.report(9)] == [(8, 0.0)] * 2


def test_a_crawl_that_is_asked_for_less_takes_nothing_back_from_another_one() -> None:
    shared = SharedLimits()
    slowed, free = polite(shared=shared), polite(shared=shared)
    slowed.slow_down("a", 10.0, Rate(1, 60.0))
    free.slow_down("a", 2.0, Rate(5, 60.0))
    standing = shared.get("a")
    assert standing is not None
    assert standing.site_window is not None
    assert (standing.site_delay_s, standing.site_window.rate) == (10.0, Rate(1, 60.0))
    slowed.slow_down("a", 0.0)
    assert (standing.site_delay_s, standing.site_window.rate) == (2.0, Rate(5, 60.0))
    free.leave()
    assert standing.site_delay_s == 2.0
    slowed.slow_down("a", 0.0)
    assert standing.site_delay_s == 0.0
    assert standing.is_plain(1.0)


def test_a_crawl_delay_counts_from_the_last_request_however_long_that_took() -> None:
    politeness = polite()
    politeness.slow_down("a", 10.0)
    politeness.book("a", 0, 0.0, now=100.0)
    take(politeness, 100.0)
    politeness.finished("a", 500.0)
    politeness.book("a", 0, 0.0, now=501.0)
    assert take(politeness, 501.0) == "a"
    politeness.finished("a", 501.5)
    politeness.book("a", 0, 0.0, now=502.0)
    assert politeness.next_date() == 511.0


def test_a_site_that_asks_for_a_delay_gets_one_request_at_a_time() -> None:
    politeness = polite()
    politeness.slow_down("a", 1.0)
    politeness.book("a", 0, 0.0, now=100.0)
    take(politeness, 100.0)
    assert not politeness.book("a", 0, 0.0, now=150.0)
    politeness.finished("a", 150.0)
    assert politeness.book("a", 0, 0.0, now=150.0)
    (limit,) = politeness.report(9)
    assert (limit.concurrency, limit.ceiling, limit.delay_s) == (1, 8, 1.0)
    assert limit.why == "robots.txt asks for a delay"


def test_jitter_makes_delays_longer_and_never_shorter() -> None:
    politeness = polite(delay_s=10.0, delay_jitter=0.4)
    politeness.book("a", 0, 0.0, now=100.0)
    take(politeness, 100.0)
    politeness.book("a", 0, 0.0, now=100.0)
    assert politeness.next_date() == 112.0


@pytest.mark.parametrize("of_site", [True, False])
def test_a_rate_bounds_the_requests_in_any_span_of_its_length(of_site: bool) -> None:
    rate = Rate(3, 60.0)
    politeness = polite() if of_site else polite(rate=rate)
    if of_site:
        politeness.slow_down("a", 0.0, rate)
    starts = []
    now = 100.0
    for _ in range(9):
        politeness.book("a", 0, 0.0, now)
        while take(politeness, now) is None:
            date = politeness.next_date()
            assert date is not None
            now = date
        starts.append(now)
        politeness.finished("a", now)
        now += 7
    assert starts[:4] == [100, 107, 114, 160]
    assert all(later - earlier >= 60 for earlier, later in zip(starts, starts[3:], strict=False))


def test_what_was_not_sent_costs_no_delay() -> None:
    politeness = polite(delay_s=10.0, rate=Rate(2, 100.0))
    politeness.book("a", 0, 0.0, now=100.0)
    take(politeness, 100.0)
    politeness.finished("a", 101.0)
    for _ in range(5):
        politeness.book("a", 0, 0.0, now=110.0)
        assert take(politeness, 110.0) == "a"
        politeness.unsent("a", 110.0)
        politeness.finished("a", 110.0)
    politeness.book("a", 0, 0.0, now=110.0)
    assert take(politeness, 110.0) == "a"


def test_crawls_that_share_limits_never_exceed_them_together() -> None:
    shared = SharedLimits()
    told: list[str] = []
    limits = Limits(2, 0.0)
    one = Politeness(lambda _: limits, shared=shared, freed=told.append)
    other = Politeness(lambda _: limits, shared=shared, freed=told.append)
    one.book("a", 0, 0.0, now=1.0)
    other.book("a", 0, 0.0, now=1.0)
    assert take(one, 1.0) == "a"
    assert take(other, 1.0) == "a"
    assert not one.book("a", 0, 0.0, now=1.0)
    other.finished("a", 2.0)
    assert told == ["a"]
    assert one.book("a", 0, 0.0, now=2.0)
    assert other.book("a", 0, 0.0, now=2.0)
    assert take(other, 2.0) == "a"
    # It was booked, and the other one was quicker.
    assert take(one, 2.0) is None
    one.finished("a", 3.0)
    assert told == ["a"]


def test_crawls_that_share_limits_share_dates() -> None:
    shared = SharedLimits()
    one, other = polite(delay_s=10.0, shared=shared), polite(delay_s=1.0, shared=shared)
    for politeness in (one, other):
        politeness.book("a", 0, 0.0, now=100.0)
    assert take(one, 100.0) == "a"
    assert take(other, 100.0) is None
    assert other.next_date() == 110.0
    other.hold("a", 200.0)
    one.book("a", 0, 0.0, now=100.0)
    assert one.next_date() == 200.0


def test_a_delay_counts_from_the_requests_of_other_crawls_as_well() -> None:
    shared = SharedLimits()
    told: list[str] = []
    careful, quick = polite(delay_s=10.0, shared=shared), polite(delay_s=1.0, shared=shared)
    quick.freed = told.append
    quick.book("a", 0, 0.0, now=100.0)
    assert take(quick, 100.0) == "a"
    careful.book("a", 0, 0.0, now=100.0)
    assert careful.next_date() == 110.0
    # It isn't overtaken for ever, either.
    quick.finished("a", 100.5)
    quick.book("a", 0, 0.0, now=100.5)
    assert quick.next_date() == 110.0
    assert take(careful, 110.0) == "a"
    careful.finished("a", 110.5)
    assert told == ["a"]
    # Its own delay since its own request is all that is left of it.
    quick.book("a", 0, 0.0, now=110.5)
    assert take(quick, 120.0) == "a"
    quick.finished("a", 120.5)
    quick.book("a", 0, 0.0, now=120.5)
    assert take(quick, 121.0) == "a"


def test_the_lowest_limit_holds_for_all_that_share_it() -> None:
    shared = SharedLimits()
    careful, quick = polite(concurrency=1, shared=shared), polite(concurrency=3, shared=shared)
    for _ in range(2):
        quick.book("a", 0, 0.0, now=1.0)
        assert take(quick, 1.0) == "a"
    assert not careful.book("a", 0, 0.0, now=1.0)
    quick.finished("a", 2.0)
    assert not quick.book("a", 0, 0.0, now=2.0)
    quick.finished("a", 3.0)
    assert careful.book("a", 0, 0.0, now=3.0)
    assert take(careful, 3.0) == "a"
    assert not quick.book("a", 0, 0.0, now=3.0)
    careful.finished("a", 4.0)
    for _ in range(3):
        assert quick.book("a", 0, 0.0, now=4.0)
        assert take(quick, 4.0) == "a"
    assert not quick.book("a", 0, 0.0, now=4.0)


def test_rates_of_crawls_that_share_limits_hold_one_by_one() -> None:
    shared = SharedLimits()
    careful = polite(shared=shared, rate=Rate(1, 60.0))
    quick = polite(shared=shared, rate=Rate(3, 60.0))
    for politeness in (careful, quick):
        politeness.book("a", 0, 0.0, now=100.0)
    assert take(careful, 100.0) == "a"
    quick.book("a", 0, 0.0, now=100.0)
    assert take(quick, 100.0) is None
    assert quick.next_date() == 160.0
    careful.finished("a", 101.0)
    for now in (101.0, 102.0):
        quick.book("a", 0, 0.0, now=now)
        assert take(quick, now) == "a"
    quick.book("a", 0, 0.0, now=103.0)
    assert quick.next_date() == 160.0
    careful.book("a", 0, 0.0, now=103.0)
    assert careful.next_date() == 162.0


def test_a_crawl_that_is_over_holds_up_no_other() -> None:
    shared = SharedLimits()
    told: list[str] = []
    gone = polite(concurrency=1, delay_s=1000.0, shared=shared)
    other = polite(shared=shared)
    other.freed = told.append
    other.book("a", 0, 0.0, now=100.0)
    assert take(other, 100.0) == "a"
    gone.book("a", 0, 0.0, now=100.0)
    assert not other.book("a", 0, 0.0, now=100.0)
    gone.leave()
    assert told == ["a"]
    standing = shared.get("a")
    assert standing is not None
    assert gone not in standing.blocked
    assert other.book("a", 0, 0.0, now=100.0)


def test_an_origin_whose_rate_is_used_up_is_not_forgotten() -> None:
    politeness = polite(rate=Rate(1, 60.0))
    for number in range(300):
        politeness.book(f"o{number}", 0, 0.0, now=1.0)
        assert take(politeness, 1.0) is not None
        politeness.finished(f"o{number}", 2.0)
    politeness.book("o299", 0, 0.0, now=2.0)
    assert politeness.next_date() == 61.0


def test_what_is_known_of_an_origin_can_be_handed_out_and_taken_back() -> None:
    politeness = polite(adaptive=True)
    politeness.slow_down("a", 10.0, Rate(3, 60.0))
    for began in (1.0, 2.0):
        politeness.book("a", 0, 0.0, now=began)
        take(politeness, began)
        politeness.overloaded("a", politeness.latest("a"), began + 0.5, "status 429", spoke=True)
        politeness.finished("a", began + 0.5)
    politeness.hold("a", 77.0)
    politeness.book("plain", 0, 0.0, now=1.0)
    states = list(politeness.states(3.0))
    again = polite(adaptive=True)
    for state in msgspec.convert(msgspec.to_builtins(states), list[OriginState]):
        again.restore(state)
    assert list(again.states(3.0)) == states
    assert [state.origin for state in states] == ["a"]
    again.book("a", 0, 0.0, now=5.0)
    assert again.next_date() == 77.0


def test_origins_of_which_nothing_is_left_to_know_are_forgotten() -> None:
    politeness = polite()
    for number in range(1000):
        politeness.book(f"o{number}", 0, 0.0, now=1.0)
    for _ in range(1000):
        name = take(politeness, 1.0)
        assert name is not None
        politeness.finished(name, 2.0)
    # Some are kept for the report.
    assert repr(politeness) == "<Politeness origins=200 ready=0 dated=0>"


def test_a_date_of_an_origin_that_was_forgotten_and_came_back_is_void() -> None:
    politeness = polite()
    politeness.book("a", 0, 50.0, now=1.0)
    politeness.book("a", 0, 0.0, now=1.0)
    take(politeness, 1.0)
    politeness.finished("a", 2.0)
    politeness.book("a", 0, 0.0, now=3.0)
    assert take(politeness, 3.0) == "a"
    assert politeness.pick(50.0) is None


def test_an_origin_is_not_forgotten_while_requests_are_on_their_way_or_wait() -> None:
    politeness = polite(concurrency=2)
    for _ in range(2):
        politeness.book("a", 0, 0.0, now=1.0)
        take(politeness, 1.0)
    politeness.finished("a", 2.0)
    assert "origins=1" in repr(politeness)
    politeness.book("a", 0, 0.0, now=2.0)
    politeness.finished("a", 3.0)
    assert "origins=1" in repr(politeness)
    assert politeness.pick(3.0) == "a"


def test_an_origin_whose_date_has_come_keeps_its_turn_if_it_is_booked_again() -> None:
    politeness = polite()
    politeness.book("a", 0, 10.0, now=1.0)
    politeness.book("b", 0, 10.0, now=1.0)
    assert politeness.due(10.0) == 2
    assert not politeness.book("a", 0, 0.0, now=11.0)
    assert [politeness.pick(11.0), politeness.pick(11.0)] == ["a", "b"]


class Counted(int):
    """An integer that counts how often it is compared, and so how much a heap has to do."""

    comparisons = 0

    def __neg__(self) -> Counted:
        return Counted(-int(self))

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return int(self) == other

    def __lt__(self, other: int) -> bool:
        return int(self) < other

    __hash__ = int.__hash__


def test_a_step_costs_the_logarithm_of_the_number_of_origins() -> None:
    politeness = polite(delay_s=5.0)
    origins = 10_000
    priority = Counted(0)
    for number in range(origins):
        politeness.book(f"o{number}", priority, 0.0, now=1.0)
    Counted.comparisons = 0
    for turn in range(2):
        for _ in range(origins):
            name = take(politeness, 1.0 + 5 * turn)
            assert name is not None
            politeness.finished(name, 1.0 + 5 * turn)
            politeness.book(name, priority, 0.0, now=1.0 + 5 * turn)
    assert Counted.comparisons / (2 * origins) < 4 * math.log2(origins)


NAMES = ("a", "b", "c")
names = st.sampled_from(NAMES)
small = st.integers(0, 6)


class OneOrigin:
    """What the model knows of an origin; requests are (priority, due)."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, float]] = []
        self.in_flight = 0
        self.limit = 1
        self.started_at = -math.inf
        self.held_until = -math.inf
        self.delay_s = 0.0
        self.site_delay_s = 0.0
        """The delay from the next request on."""

    @property
    def free_at(self) -> float:
        return max(self.held_until, self.started_at + self.delay_s)

    def head(self, now: float) -> tuple[int, float] | None:
        """The highest priority among those that may go, else the earliest date."""
        ready = [request for request in self.requests if request[1] <= now]
        if ready:
            return max(ready, key=lambda request: request[0])
        return min(self.requests, key=lambda request: request[1], default=None)


class ScanningModel(RuleBasedStateMachine):
    """Politeness against a model that looks at every origin."""

    dated = False

    @initialize(limit=st.integers(1, 3), delay=small)
    def start(self, limit: int, delay: int) -> None:
        self.limit, self.delay_s = limit, float(delay)
        self.now = 100.0
        self.politeness = polite(concurrency=limit, delay_s=float(delay))
        self.origins = {name: OneOrigin() for name in NAMES}
        for origin in self.origins.values():
            origin.delay_s = float(delay)
            origin.limit = limit
            origin.site_delay_s = float(delay)

    def book(self, name: str) -> None:
        head = self.origins[name].head(self.now)
        if head is not None:
            could_go = name in self.pickable()
            goes = self.politeness.book(name, head[0], head[1], self.now)
            assert could_go or not goes

    def pickable(self) -> list[str]:
        return [
            name
            for name, origin in self.origins.items()
            if (head := origin.head(self.now)) is not None
            and max(head[1], origin.free_at) <= self.now
            and origin.in_flight < origin.limit
        ]

    @rule(name=names, priority=st.integers(-2, 2), after=small)
    def request(self, name: str, priority: int, after: int) -> None:
        due = self.now + after if self.dated else 0.0
        self.origins[name].requests.append((priority, due))
        self.book(name)

    @rule()
    def pick(self) -> None:
        pickable = self.pickable()
        name = self.politeness.pick(self.now)
        assert (name is None) == (not pickable)
        if name is None:
            return
        assert name in pickable
        origin = self.origins[name]
        head = origin.head(self.now)
        assert head is not None
        if not self.dated:
            best = max(self.origins[n].head(self.now) or (-9, 0) for n in pickable)
            assert head[0] == best[0]
        origin.requests.remove(head)
        origin.in_flight += 1
        origin.started_at = self.now
        origin.delay_s = origin.site_delay_s
        self.politeness.started(name, self.now)
        self.book(name)

    @precondition(lambda self: any(o.in_flight for o in self.origins.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        busy = [name for name, origin in self.origins.items() if origin.in_flight]
        name = data.draw(st.sampled_from(busy))
        self.origins[name].in_flight -= 1
        self.politeness.finished(name, self.now)
        self.book(name)

    @rule(name=names, seconds=small)
    def hold(self, name: str, seconds: int) -> None:
        origin = self.origins[name]
        origin.held_until = max(origin.held_until, self.now + seconds)
        self.politeness.hold(name, self.now + seconds)

    @rule(name=names, delay=small)
    def slow_down(self, name: str, delay: int) -> None:
        origin = self.origins[name]
        if origin.in_flight:
            # No page is on its way when a robots.txt is read: all wait for it.
            return
        origin.site_delay_s = max(self.delay_s, float(delay))
        origin.delay_s = max(origin.delay_s, float(delay))
        origin.limit = 1 if delay else self.limit
        self.politeness.slow_down(name, float(delay))
        self.book(name)

    @rule(seconds=small)
    def advance(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def who_waits_for_a_date_is_told_no_later(self) -> None:
        """While nobody can be picked, the next date is when somebody can."""
        if self.politeness.due(self.now) or self.pickable():
            return
        dates = [
            max(head[1], origin.free_at)
            for origin in self.origins.values()
            if (head := origin.head(self.now)) is not None and origin.in_flight < origin.limit
        ]
        assert self.politeness.next_date() == min(dates, default=None)


class DatedModel(ScanningModel):
    """The same with requests that have dates of their own.

    Politeness learns of an origin's head when it is booked, not when a date passes, so of these
    only the limits and the dates are promised, not the order by priority.
    """

    dated = True


TestAgainstAModelThatScans = ScanningModel.TestCase
TestDatesAgainstAModelThatScans = DatedModel.TestCase


@pytest.mark.parametrize("concurrency", [1, 3])
def test_every_request_goes_in_the_end(concurrency: int) -> None:
    politeness = polite(concurrency=concurrency, delay_s=2.0)
    left = dict.fromkeys(NAMES, 20)
    now = 0.0
    for name in NAMES:
        politeness.book(name, NAMES.index(name), 0.0, now)
    while any(left.values()):
        picked = take(politeness, now)
        if picked is None:
            date = politeness.next_date()
            assert date is not None
            now = date
            continue
        left[picked] -= 1
        politeness.finished(picked, now)
        if left[picked]:
            politeness.book(picked, NAMES.index(picked), 0.0, now)
    assert now == 38.0
