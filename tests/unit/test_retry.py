from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.errors import (
    BadStatus,
    BodyTooLarge,
    BodyTruncated,
    BodyUndecodable,
    ConnectError,
    FetchTimeout,
    InvalidJSON,
    ProtocolError,
    ProxyError,
    RedirectError,
    Refused,
    RobotsUnavailable,
    UsageError,
)
from scrapekit.retry import (
    RetryBudget,
    decide,
    is_passing,
    overload_sign,
    parse_retry_after,
    wished_delay_s,
)
from scrapekit.settings import Settings

NOW = 1_000_000.0
URL = "https://shop.test/"
PASSING = ConnectError("refused", url=URL)


def again(
    error: Exception = PASSING,
    *,
    method: str = "GET",
    tries: int = 1,
    random: float = 1.0,
    **settings: float,
) -> float | None:
    """In how many seconds to try again."""
    due = decide(
        error,
        method=method,
        tries=tries,
        settings=Settings(**settings),  # type: ignore[arg-type]
        now=NOW,
        random=lambda: random,
    )
    return None if due is None else due - NOW


def status(code: int, retry_after: str | None = None) -> BadStatus:
    return BadStatus(code, url=URL, retry_after=retry_after)


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ConnectError("x"), True),
        (FetchTimeout("x", url=URL, phase="read", after_s=1), True),
        (ProtocolError("x"), True),
        (BodyTruncated("x"), True),
        (RobotsUnavailable("x"), True),
        (BodyTooLarge("x", url=URL, limit_bytes=1), False),
        (BodyUndecodable("x"), False),
        (RedirectError("x"), False),
        (InvalidJSON("x"), False),
        (Refused("robots", url=URL), False),
        (UsageError("x"), False),
        (ValueError("x"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_may_pass_by_itself_is_tried_again(error: Exception, passing: bool) -> None:
    assert is_passing(error) is passing
    assert (again(error) is not None) is passing


def test_few_statuses_are_tried_again() -> None:
    passing = [code for code in range(100, 1000) if is_passing(status(code))]
    assert passing == [408, 425, 429, 500, 502, 503, 504]


@pytest.mark.parametrize(
    ("method", "repeated"),
    [
        ("GET", True),
        ("HEAD", True),
        ("OPTIONS", True),
        ("TRACE", True),
        ("PUT", True),
        ("DELETE", True),
        ("POST", False),
        ("PATCH", False),
        ("PURGE", False),
    ],
)
def test_only_idempotent_methods_are_repeated(method: str, repeated: bool) -> None:
    assert (again(method=method) is not None) is repeated


def test_other_methods_are_repeated_if_the_settings_say_so() -> None:
    assert again(method="POST", retry_methods=("POST",)) is not None  # type: ignore[arg-type]
    assert again(method="PATCH", retry_methods=("POST",)) is None  # type: ignore[arg-type]


def test_after_the_retries_it_is_given_up() -> None:
    assert [again(tries=tries, retries=2) is None for tries in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        True,
    ]
    assert again(retries=0) is None


def test_the_longest_wait_doubles_with_each_try_up_to_the_bound() -> None:
    waits = [
        again(tries=tries, retries=9, retry_delay_s=1.5, max_retry_delay_s=10)
        for tries in range(1, 6)
    ]
    assert waits == [1.5, 3.0, 6.0, 10.0, 10.0]


def test_the_jitter_is_full() -> None:
    assert again(random=0.0, retry_delay_s=8) == 0.0
    assert again(random=0.25, retry_delay_s=8) == 2.0


@pytest.mark.parametrize("tries", [1025, 10**6])
def test_so_many_tries_that_floats_overflow_are_fine(tries: int) -> None:
    assert again(tries=tries, retries=10**9, max_retry_delay_s=300) == 300.0
    assert again(tries=tries, retries=10**9, retry_delay_s=0) == 0.0


def test_a_wished_delay_is_the_least_wait() -> None:
    assert again(status(429, "20"), random=0.0) == 20.0
    assert again(status(503, "1"), retry_delay_s=8) == 8.0


def test_a_wished_delay_is_bounded() -> None:
    assert again(status(429, "999999"), max_retry_delay_s=60) == 60.0


def test_a_wish_does_not_make_a_lasting_error_pass() -> None:
    assert again(status(404, "1")) is None
    assert wished_delay_s(status(404, "1"), NOW) == 1.0


def test_a_robots_txt_may_wish_as_well() -> None:
    unavailable = RobotsUnavailable("status 503", url=URL, retry_after="7")
    assert wished_delay_s(unavailable, NOW) == 7.0
    assert again(unavailable, random=0.0) == 7.0


def test_only_statuses_wish() -> None:
    assert wished_delay_s(PASSING, NOW) is None
    assert wished_delay_s(status(429), NOW) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("  7\t", 7.0),
        ("Mon, 12 Jan 1970 13:46:50 GMT", 10.0),
        ("Monday, 12-Jan-70 13:46:50 GMT", 10.0),
        ("Mon Jan 12 13:46:50 1970", 10.0),
        ("Mon, 12 Jan 1970 13:46:50 -0000", 10.0),
        ("Mon, 12 Jan 1970 13:46:30 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("+5", None),
        ("1e3", None),
        ("٣", None),
        ("²", None),
        ("5, 10", None),
        ("Mon, 99 Jan 1970 13:46:50 GMT", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.text())
def test_no_retry_after_is_an_error(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


@given(st.from_regex(r"\A\d{1,400}\Z"))
def test_no_number_is_too_long(digits: str) -> None:
    seconds = parse_retry_after(digits, NOW)
    assert seconds is None or math.isfinite(seconds)


@given(st.datetimes(datetime(1970, 1, 13), datetime(9999, 1, 1)))  # noqa: DTZ001 -- made aware below
def test_dates_are_read_to_the_second(date: datetime) -> None:
    value = format_datetime(date.replace(tzinfo=UTC, microsecond=0), usegmt=True)
    seconds = parse_retry_after(value, NOW)
    assert seconds == date.replace(tzinfo=UTC, microsecond=0).timestamp() - NOW


@given(
    tries=st.integers(1, 10**6),
    retries=st.integers(0, 10**6),
    delay=st.floats(0, 1e6),
    most=st.floats(0, 1e6),
    random=st.floats(0, 1, exclude_max=True),
    wish=st.none() | st.integers(0, 10**9),
)
def test_a_retry_is_never_in_the_past_and_never_too_late(
    tries: int, retries: int, delay: float, most: float, random: float, wish: int | None
) -> None:
    wait = again(
        status(503, None if wish is None else str(wish)),
        tries=tries,
        random=random,
        retries=retries,
        retry_delay_s=delay,
        max_retry_delay_s=most,
    )
    if tries > retries:
        assert wait is None
        return
    assert wait is not None
    assert -1e-6 <= wait <= most + 1e-6
    if wish is not None:
        assert wait >= min(wish, most) - 1e-6


@pytest.mark.parametrize(
    ("error", "sign"),
    [
        (FetchTimeout("x", url=URL, phase="connect", after_s=1), "a timeout"),
        (FetchTimeout("x", url=URL, phase="connect", after_s=1, stage="name"), None),
        (ConnectError("x"), "a broken connection"),
        (ConnectError("x", stage="name"), None),
        (ConnectError("x", stage="tls"), None),
        (ConnectError("x", stage="way"), None),
        (ProxyError("x", url=URL), None),
        (BodyTruncated("x"), "a body cut off"),
        (BodyTooLarge("x", url=URL, limit_bytes=1), None),
        (BodyUndecodable("x"), None),
        (RedirectError("x"), None),
        (ValueError("x"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_may_come_of_asking_too_much(error: Exception, sign: str | None) -> None:
    assert overload_sign(error) == sign


def test_a_dying_site_gets_so_many_retries_and_no_more() -> None:
    budget = RetryBudget()
    assert sum(budget.take("a") for _ in range(1_000)) == RetryBudget.START
    assert budget.take("b")


def test_pages_that_come_earn_retries_up_to_a_bound() -> None:
    budget = RetryBudget()
    while budget.take("a"):
        pass
    for _ in range(20):
        budget.came("a")
    assert sum(budget.take("a") for _ in range(100)) == 20 * RetryBudget.PER_PAGE
    for _ in range(100_000):
        budget.came("a")
    assert sum(budget.take("a") for _ in range(1_000)) == RetryBudget.MOST


def test_an_origin_that_never_failed_costs_no_memory() -> None:
    budget = RetryBudget()
    for number in range(100):
        budget.came(f"o{number}")
    assert repr(budget) == "<RetryBudget origins=0>"


@given(st.lists(st.booleans(), max_size=500))
def test_no_more_retries_than_were_earned(moves: list[bool]) -> None:
    budget, taken, came = RetryBudget(), 0, 0
    for is_page in moves:
        if is_page:
            budget.came("a")
            came += 1
        else:
            taken += budget.take("a")
        assert taken <= RetryBudget.START + RetryBudget.PER_PAGE * came
