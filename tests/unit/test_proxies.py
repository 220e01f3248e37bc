from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.errors import ConnectError, FetchTimeout, ProxyError, SiteError
from scrapekit.proxies import Proxies, is_at_fault, sent_nothing

A, B, C = "http://a", "http://b", "http://c"


def proxies(*urls: str) -> Proxies:
    return Proxies(urls, bench_s=10.0)


def test_they_take_turns() -> None:
    some = proxies(A, B, C)
    assert [some.pick("", 0.0) for _ in range(4)] == [A, B, C, A]


def test_an_empty_list_is_false() -> None:
    assert not proxies()
    assert proxies(A)


def test_a_session_stays_with_one_until_it_fails() -> None:
    some = proxies(A, B)
    assert [some.pick("x", 0.0) for _ in range(3)] == [A, A, A]
    assert some.pick("y", 0.0) == B
    some.failed(A, 0.0)
    assert [some.pick("x", 1.0) for _ in range(2)] == [B, B]
    assert some.pick("x", 100.0) == B


def test_one_that_fails_sits_out_and_longer_each_time() -> None:
    some = proxies(A, B)
    some.failed(A, 0.0)
    assert [some.pick("", 9.9) for _ in range(2)] == [B, B]
    assert A in [some.pick("", 10.0) for _ in range(2)]
    some.failed(A, 10.0)
    assert [some.pick("", 29.9) for _ in range(2)] == [B, B]
    assert A in [some.pick("", 30.0) for _ in range(2)]


def test_success_forgets_the_failures() -> None:
    some = proxies(A, B)
    some.failed(A, 0.0)
    some.worked(A)
    assert A in [some.pick("", 0.0) for _ in range(2)]
    some.failed(A, 0.0)
    assert A in [some.pick("", 10.0) for _ in range(2)]


def test_many_failures_at_once_count_as_one() -> None:
    some = proxies(A, B)
    for _ in range(8):
        some.failed(A, 0.0)
    assert A in [some.pick("", 10.0) for _ in range(2)]


def test_if_all_sit_out_the_first_to_return_goes_on() -> None:
    some = proxies(A, B)
    some.failed(A, 0.0)
    some.failed(B, 1.0)
    assert some.pick("", 2.0) == A
    assert some.pick("", 2.0, {A}) == B


def test_what_was_tried_is_taken_only_if_there_is_no_other() -> None:
    some = proxies(A, B)
    assert some.pick("", 0.0, {A}) == B
    assert some.pick("", 0.0, {A, B}) in (A, B)


@pytest.mark.parametrize(
    ("error", "at_fault", "nothing_sent"),
    [
        (ProxyError("", url=""), True, True),
        (ProxyError("", url="https://h/", status=407), True, True),
        (ProxyError("", url="http://h/", status=407), True, False),
        (ProxyError("", url="", status=502), False, False),
        (ProxyError("", url="", status=403), False, False),
        (FetchTimeout("", url="", phase="connect", after_s=1), True, False),
        (FetchTimeout("", url="", phase="read", after_s=1), False, False),
        (ConnectError("", url=""), False, False),
    ],
)
def test_which_failures_are_the_proxys(
    error: SiteError, at_fault: bool, nothing_sent: bool
) -> None:
    assert (is_at_fault(error), sent_nothing(error)) == (at_fault, nothing_sent)


def test_repr_shows_no_credentials() -> None:
    some = proxies("http://user:secret@host:3128", B)
    some.failed(B, 0.0)
    assert repr(some) == "<Proxies free=['http://***@host:3128'] benched=1>"


STEPS = st.lists(st.tuples(st.sampled_from(["pick", "failed", "worked"]), st.integers(0, 3)))


@given(STEPS)
def test_none_is_ever_lost_or_doubled(steps: list[tuple[str, int]]) -> None:
    names = [f"http://p{number}" for number in range(4)]
    some = proxies(*names)
    for now, (step, number) in enumerate(steps):
        if step == "pick":
            assert some.pick("s" if number else "", now * 3.0) in names
        elif step == "failed":
            some.failed(names[number], now * 3.0)
        else:
            some.worked(names[number])
        assert len(some) == 4
    assert {some.pick("", 1e9) for _ in names} == set(names)
