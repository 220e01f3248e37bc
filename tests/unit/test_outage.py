from __future__ import annotations

import pytest

from scrapekit.outage import PLAIN, STRONG, Outage


def fail(outage: Outage, times: int, weight: int, now: float = 0.0) -> Outage:
    for _ in range(times):
        number = outage.failures + 1.0
        outage.failed(number, number, now, "status 503", weight=weight)
    return outage


@pytest.mark.parametrize(("weight", "enough"), [(STRONG, 5), (PLAIN, 20)])
def test_a_site_is_down_when_so_many_pages_failed_in_a_row(weight: int, enough: int) -> None:
    assert not fail(Outage(), enough - 1, weight).is_on
    assert fail(Outage(), enough, weight).is_on


def test_pages_that_are_known_to_fail_say_nothing_of_their_site() -> None:
    assert not fail(Outage(), 1_000, 0).is_on


def test_the_pauses_double_up_to_a_minute() -> None:
    outage, pauses, now = fail(Outage(), 4, STRONG), [], 0.0
    for _ in range(9):
        fail(outage, 1, STRONG, now)
        pauses.append(outage.until - now)
        now = outage.until
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_what_was_under_way_already_makes_no_pause_longer() -> None:
    outage = fail(Outage(), 5, STRONG)
    for number in (1.0, 3.0, 5.0):
        outage.failed(number, 9.0, 0.5, "a timeout", weight=STRONG)
    assert (outage.pause_s, outage.until) == (1.0, 1.0)
    assert outage.wording == "a timeout when asked every 1 s"


def test_it_ends_with_an_answer_to_what_was_asked_since() -> None:
    assert fail(Outage(), 1, STRONG).ends_with(0.0)
    outage = fail(Outage(), 5, STRONG)
    assert not outage.ends_with(5.0)
    assert outage.ends_with(6.0)


def test_it_is_hopeless_after_so_long_however_few_failures_that_takes() -> None:
    assert not fail(Outage(), 4, STRONG).is_hopeless(10_000.0, 0.0)
    outage = fail(Outage(), 5, STRONG, now=100.0)
    assert not outage.is_hopeless(999.0, 900.0)
    assert outage.is_hopeless(1000.0, 900.0)
