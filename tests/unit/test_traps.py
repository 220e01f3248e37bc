from __future__ import annotations

from calendar import month_name, monthcalendar
from collections.abc import Callable
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


def refused(found: Traps, path: str, *passed: str) -> str:
    """Why a page is cut off, to which others may have redirected; "" if it isn't."""
    try:
        found.check(ORIGIN, ORIGIN + path, [ORIGIN + before for before in passed])
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
        ("/tree/0/0/0/0", False),
        ("/files/00/00/00/00/7.html", False),
        ("/tiles/1/2/1/2/1/2/1/2/3.png", False),
        ("/page/2/page/2/page/2/page/2", True),
        ("/0/0/0/0/0/a/0/a/0/a/0/a", True),
        ("/0/0/0/0a/0a/0a/0a", True),
        ("/c" + "/1" * 24, False),
        ("/c" + "/1" * 25, True),
        ("/c" + "/1/2" * 25, True),
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
        ("/a?sessionid=q1w2e3r4t5y6u7i8", "/a?sessionid=8i7u6y5t4r3e2w1q", True),
        ("/a?sid=0123456789ab", "/b?sid=0123456789ab", False),
        ("/a?sid=12", "/a?sid=13", False),
        ("/a?basid=0123456789ab", "/a?basid=ba9876543210", False),
    ],
)
def test_the_same_page_with_another_session_id(first: str, second: str, is_trap: bool) -> None:
    found = traps()
    assert refused(found, first) == ""
    found.came(ORIGIN + first, b"")
    assert bool(refused(found, second)) is is_trap


@pytest.mark.parametrize("first", ["/a;jsessionid=AAAAAAAA1", "/a?PHPSESSID=AAAAAAAA1"])
def test_a_session_id_counts_once_its_page_has_come(first: str) -> None:
    second = first.replace("AAAAAAAA1", "BBBBBBBB2")
    found = traps()
    # The first one wasn't found.
    assert refused(found, first) == ""
    assert refused(found, second) == ""
    found.came(ORIGIN + second, b"")
    assert refused(found, first) == "trap: the same page with another session id"


def test_a_redirect_that_hands_out_a_session_id_is_no_trap() -> None:
    found = traps()
    first, second, third = (f"/p?PHPSESSID={name * 9}" for name in "ABC")
    assert refused(found, first) == ""
    assert refused(found, second, first) == ""
    found.came(ORIGIN + second, b"")
    assert refused(found, third) == "trap: the same page with another session id"
    # Nor is one from a page that came before.
    assert refused(found, third, "/login") == ""


@pytest.mark.parametrize(
    "path",
    [
        "/series?sid=2000000{}",
        "/series?sid=2000000000000000{}",
        "/talk?session_id=keynote-00{}",
        "/talk?sessionid=keynote202600{}",
        "/talk?session_id=thestateofpython{}-final",
        "/site?sid=ABCDEFGH{}",
    ],
)
def test_what_is_called_sid_need_be_no_session_id(path: str) -> None:
    assert crawl(traps(), {path.format(n): b"" for n in range(10)}) == 10


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
        ("/calendar/2126-12", True),
        ("/part/2127-12", False),
        ("/part/4000-01", False),
        ("/thread/4001/02", False),
        ("/events?year=4001", True),
        ("/part/2031-13", False),
        ("/part/2031-00", False),
        ("/part/2031-12-32", False),
    ],
)
def test_a_calendar_without_an_end(path: str, is_trap: bool) -> None:
    assert refused(traps(), path).startswith("trap: a calendar") is is_trap


def test_a_template_with_numbers_that_are_no_dates_is_no_calendar() -> None:
    found = traps()
    assert refused(found, "/part/2031-05").startswith("trap: a calendar")
    # One may be a mistake, or stand for "never".
    for path in ("/part/9999-12-31", "/part/2031-13", "/part/2031-14"):
        assert refused(found, path) == ""
    assert refused(found, "/part/2031-05").startswith("trap: a calendar")
    assert refused(found, "/part/2031-99") == ""
    assert refused(found, "/part/2031-05") == ""
    assert refused(found, "/news/2031-05").startswith("trap: a calendar")


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


def test_a_page_counts_once_however_often_it_is_redirected() -> None:
    found = traps(max_pages_per_origin=2, max_pages_per_template=2)
    assert refused(found, "/1") == ""
    assert refused(found, "/2", "/1") == ""
    assert refused(found, "/3", "/1", "/2") == ""
    assert refused(found, "/4") == ""
    assert refused(found, "/5") == f"trap: max_pages_per_template of {ORIGIN}/{{}}"
    assert refused(found, "/a") == f"max_pages_per_origin of {ORIGIN}"
    # Each origin has its share of a page that leads to another.
    found.check("https://other.test", "https://other.test/a", [f"{ORIGIN}/1"])
    found.check("https://other.test", "https://other.test/b", [f"{ORIGIN}/4"])
    with pytest.raises(Refused, match="max_pages_per_origin"):
        found.check("https://other.test", "https://other.test/c")


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


WORDS = "<p>All rights reserved. " + "Photographs by our readers, one a day. " * 20 + "</p>"


@pytest.mark.parametrize(
    "page",
    [
        lambda n: f'<h1>Photo</h1><img src="/uploads/{n * 7919 % 100_003}.jpg">',
        lambda n: f'<h1>Product</h1><meta itemprop="price" content="{n * 37 % 991}.99">',
        lambda n: f"<h1>Product</h1><span itemprop=sku content={10**6 + 7 * n}></span>",
        lambda n: f"<h1>Stock</h1><p>In stock: {n * 7 % 10}</p>",
        lambda n: "".join(f"<td>{k * 13}</td>" for k in range(2000)) + f"<b>{n * 7919}</b>",
    ],
    ids=["photos", "prices", "article numbers", "stocks", "one number of many"],
)
def test_pages_that_differ_in_few_numbers_are_no_trap(page: Callable[[int], str]) -> None:
    assert crawl(traps(), {f"/p/{n}": (page(n) + WORDS).encode() for n in range(1000)}) == 1000


def test_what_links_lead_to_and_comments_are_no_news() -> None:
    def page(n: int) -> bytes:
        links = f"<a class=x href=/q/{n * 7}>a</a><a HREF = '/q/{n * 11}'>b</a>"
        return f'{links}<a href="/q/{n * 13}">c</a><!-- {n * 17} ms -->{WORDS}'.encode()

    assert crawl(traps(), {f"/p/{n}": page(n) for n in range(1000)}) < 200
    assert numbers(f"{ORIGIN}/1", page(1000)) == set()


def test_months_that_have_no_names_are_a_trap_as_well() -> None:
    # What is near the address isn't the same for any two of them.
    days = "".join(f"<td>{day}</td>" for day in range(1, 32)) + WORDS
    pages = {
        f"/cal?m={n * 5 % 12 + 1}&y={2000 + n // 12}": f"<h1>{n * 5 % 12 + 1}</h1>{days}".encode()
        for n in range(1000)
    }
    assert crawl(traps(), pages) < 200


def test_a_calendar_shows_nothing_new_though_its_months_begin_on_other_days() -> None:
    def page(year: int, month: int, heading: str) -> bytes:
        weeks = monthcalendar(year, month)
        days = "".join(
            f'<td id="d{day}" data-date="{year}-{month:02}-{day:02}">{day or ""}</td>'
            for week in weeks
            for day in week
        )
        return f"<h1>{heading} {year}</h1>{days}<a href=?m={month + 1}>next</a>{WORDS}".encode()

    months = [(1900 + n // 12, n % 12 + 1) for n in range(1500)]
    for headings in (month_name, [str(n) for n in range(13)]):
        pages = {f"/cal?y={y}&m={m}": page(y, m, headings[m]) for y, m in months}
        assert crawl(traps(), pages) < 200
        # Months of six weeks are rare enough to be news to those that are tried all the same.
        assert len(fetched(traps(), pages)) < 500


def fetched(found: Traps, bodies: dict[str, bytes]) -> list[str]:
    """The pages that are fetched, if others follow those that are cut off."""
    paths = []
    for path, body in bodies.items():
        if not refused(found, path):
            found.came(ORIGIN + path, body)
            paths.append(path)
    return paths


def test_a_template_is_cut_off_no_longer_than_it_shows_nothing_new() -> None:
    def page(n: int) -> bytes:
        is_gone = 100 <= n < 400
        name = "gone" if is_gone else chr(97 + n % 26) + chr(97 + n // 26 % 26)
        return f"<h1>{name}</h1>{WORDS}".encode()

    found = traps()
    paths = fetched(found, {f"/p/{n}": page(n) for n in range(1000)})
    assert len(paths) >= 700
    assert paths[-500:] == [f"/p/{n}" for n in range(500, 1000)]
    # It can be cut off again.
    assert len(fetched(found, {f"/p/{n}": page(200) for n in range(1000, 2000)})) < 150


def test_a_page_that_shows_whether_there_is_news_may_be_redirected() -> None:
    found = traps()
    for n in range(200):
        if not refused(found, f"/p/{n}"):
            found.came(f"{ORIGIN}/p/{n}", WORDS.encode())
    tried = next(n for n in range(200, 400) if not refused(found, f"/p/{n}"))
    assert refused(found, "/p/1001", f"/p/{tried}") == ""
    assert refused(found, "/p/1002", f"/p/{tried}", "/p/1001") == ""
    found.came(f"{ORIGIN}/p/1002", b"<h1>News</h1>" + WORDS.encode())
    assert [refused(found, f"/p/{n}") for n in range(400, 410)] == [""] * 10


def test_ever_fewer_pages_of_a_trap_are_fetched() -> None:
    same = WORDS.encode()
    found = traps()
    assert len(fetched(found, {f"/p/{n}": same for n in range(1_000)})) < 120
    # 20 + 40 + 60 + ... pages are left out, then one is fetched.
    assert 10 < len(fetched(found, {f"/p/{n}": same for n in range(1_000, 10_000)})) < 30


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
