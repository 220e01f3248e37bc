from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.errors import Refused
from scrapekit.settings import Settings
from scrapekit.traps import MAX_SAME, SAMPLE, WATCHED_FROM, Traps, numbers, template

ORIGIN = "https://shop.test"
NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()


def traps(**settings: int | None) -> Traps:
    return Traps(Settings(**settings), lambda: NOW)  # type: ignore[arg-type]


def refused(found: Traps, path: str) -> str:
    """Why a page is cut off; "" if it isn't."""
    try:
        found.check(ORIGIN, ORIGIN + path)
    except Refused as refusal:
        return refusal.reason
    return ""


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"{ORIGIN}/", f"{ORIGIN}/"),
        (f"{ORIGIN}/a/12/b-7?page=3&sort=asc", f"{ORIGIN}/a/{{}}/b-{{}}?page={{}}&sort=asc"),
        ("http://127.0.0.1:80/1", "http://127.0.0.1:80/{}"),
        (f"{ORIGIN}/550e8400-e29b-41d4-a716-446655440000/x", f"{ORIGIN}/{{}}/x"),
        (f"{ORIGIN}/deadbeefdeadbeef", f"{ORIGIN}/{{}}"),
        (f"{ORIGIN}/decade", f"{ORIGIN}/decade"),
    ],
)
def test_a_template_is_a_url_without_its_numbers(url: str, name: str) -> None:
    assert template(url) == name


def test_a_url_that_is_too_long() -> None:
    assert refused(traps(), "/" + "a" * 1_970) == ""
    assert refused(traps(), "/" + "a" * 2_000) == "trap: the URL is too long"
    assert refused(traps(max_url_length=20), "/abcdefgh") == "trap: the URL is too long"


def test_a_url_whose_length_alone_is_looked_at_is_no_page_yet() -> None:
    found = traps(max_url_length=60, max_pages_per_origin=1)
    found.check_length(f"{ORIGIN}/1")
    with pytest.raises(Refused, match="trap: the URL is too long"):
        found.check_length(f"{ORIGIN}/{'a' * 60}")
    assert refused(found, "/1") == ""


@pytest.mark.parametrize(
    ("path", "is_trap"),
    [
        ("/a/a/a/a", True),
        ("/img/img/img", False),
        ("/a/a/a/a/a/a", True),
        ("/x/a/b/a/b/a/b/a/b/y", True),
        ("/en/docs/en/docs/en/docs/en/docs", True),
        ("/en/docs/en/docs", False),
        ("/a/b/c/d/e/f/g/h/i/j", False),
        ("/a?p=/a/a/a/a/a/a/a", False),
        ("/2024/2024/24", False),
        ("/aa/aaa/aaaa/aaaaa", False),
    ],
)
def test_a_path_that_repeats_itself(path: str, is_trap: bool) -> None:
    reason = refused(traps(), path)
    assert (reason == "trap: the path repeats itself") is is_trap


@pytest.mark.parametrize(
    ("first", "second", "is_trap"),
    [
        ("/a;jsessionid=0123456789AB", "/a;jsessionid=BA9876543210", True),
        ("/a?PHPSESSID=abcdefgh1", "/a?PHPSESSID=abcdefgh2", True),
        ("/a?x=1&sid=0123456789ab&y=2", "/a?x=1&sid=ba9876543210&y=2", True),
        ("/a?sid=0123456789ab", "/b?sid=0123456789ab", False),
        ("/a?sid=12", "/a?sid=13", False),
        ("/a?basid=0123456789ab", "/a?basid=ba9876543210", False),
    ],
)
def test_the_same_page_with_another_session_id(first: str, second: str, is_trap: bool) -> None:
    found = traps()
    assert refused(found, first) == ""
    assert bool(refused(found, second)) is is_trap


@pytest.mark.parametrize(
    ("path", "is_trap"),
    [
        ("/calendar/2027-05", False),
        ("/calendar/2028-12-31", False),
        ("/calendar/2029-01", True),
        ("/calendar/2031/05", True),
        ("/calendar/2031/05/17/", True),
        ("/events?date=2040-02-30&x", True),
        ("/events?year=2040", True),
        ("/archive/1999/12", False),
        ("/archive/1850-12-31", False),
        ("/thread/2087/3", False),
        ("/2031-model", False),
        ("/p/2031", False),
        ("/news/2031/05/why", True),
    ],
)
def test_a_calendar_without_an_end(path: str, is_trap: bool) -> None:
    assert refused(traps(), path).startswith("trap: a calendar") is is_trap


def test_a_template_has_a_budget_of_its_own() -> None:
    found = traps(max_pages_per_template=3)
    reasons = [refused(found, f"/item/{n}") for n in range(5)]
    assert reasons[:3] == ["", "", ""]
    assert reasons[3:] == [f"trap: max_pages_per_template of {ORIGIN}/item/{{}}"] * 2
    assert refused(found, "/other/1") == ""
    assert all(refused(found, f"/page-{name}") == "" for name in "abcdefgh")


def test_an_origin_has_a_budget_if_one_is_set() -> None:
    found = traps(max_pages_per_origin=2)
    assert [refused(found, f"/{name}") for name in "abc"] == [
        "",
        "",
        f"max_pages_per_origin of {ORIGIN}",
    ]
    found.check("https://other.test", "https://other.test/a")


def month(number: int) -> bytes:
    """A calendar's page: the same twelve names, the same days, another year."""
    days = "".join(f"<td class=day>{day}</td>" for day in range(1, 29))
    year, name = 2000 + number // 12, "JFMAMJJASOND"[number % 12]
    return (
        f"<h1>{name} {year}</h1><table>{days}</table>"
        f'<a href="/cal/{number - 1}">before</a><a href="/cal/{number + 1}">after</a>'
    ).encode()


def crawl(found: Traps, bodies: dict[str, bytes]) -> int:
    """How many of the pages are fetched before the rest is cut off."""
    for count, (path, body) in enumerate(bodies.items()):
        if refused(found, path):
            return count
        found.came(ORIGIN + path, body)
    return len(bodies)


def test_pages_that_show_nothing_new_are_cut_off() -> None:
    calendar = {f"/cal?m={n % 12 + 1}&y={2000 + n // 12}": month(n) for n in range(1000)}
    assert crawl(traps(), calendar) < 200
    same = {f"/p/{n}": b"<p>Nothing here</p>" * 50 for n in range(1000)}
    found = traps()
    assert crawl(found, same) == WATCHED_FROM + (MAX_SAME + 1) * SAMPLE
    assert refused(found, "/p/1001") == f"trap: nothing new on {ORIGIN}/p/{{}}"
    assert refused(found, "/q/1001") == ""


def test_pages_whose_words_differ_are_no_trap() -> None:
    pages = {
        f"/p/{n}": f"<p>{chr(97 + n % 26)}{chr(97 + n // 26)}</p>".encode() * 80 for n in range(600)
    }
    assert crawl(traps(), pages) == 600


def test_pages_of_measurements_are_no_trap_though_only_numbers_differ() -> None:
    pages = {
        f"/t/{n}": f"<p>temperature {n * 7919 % 100_003} mK</p>".encode() * 80 for n in range(600)
    }
    assert crawl(traps(), pages) == 600


def test_small_pages_are_no_trap() -> None:
    assert crawl(traps(), {f"/p/{n}": b"[]" for n in range(600)}) == 600


def test_a_page_of_tags_that_never_end_takes_no_longer_than_others() -> None:
    # By its square this would take days.
    assert numbers(f"{ORIGIN}/1", b"<" * 5_000_000 + b"7") == {7}


def test_now_and_then_a_page_that_is_the_same_is_no_trap() -> None:
    pages = {
        f"/p/{n}": (b"<p>sold out</p>" if n % 3 else b"<p>%c%x</p>" % (97 + n % 26, n)) * 80
        for n in range(600)
    }
    assert crawl(traps(), pages) == 600


@given(st.text(), st.binary(max_size=2_000))
def test_no_url_and_no_body_is_an_error(path: str, body: bytes) -> None:
    found = traps()
    for _ in range(2):
        refused(found, f"/{path}")
        for _ in range(SAMPLE):
            found.came(f"{ORIGIN}/{path}", body * 2)
    found._of_template = dict.fromkeys(found._of_template, 100)
    for _ in range(SAMPLE):
        found.came(f"{ORIGIN}/{path}", body)


def test_templates_that_were_few_are_forgotten_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrapekit.traps._MAX_TEMPLATES", 50)
    found = traps()
    for number in range(30):
        assert refused(found, f"/many/{number}") == ""
    for number in range(200):
        assert refused(found, f"/{'a' * number}/1") == ""
    assert len(found._of_template) <= 50
    assert found._of_template[f"{ORIGIN}/many/{{}}"] == 30
