from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import SupportsIndex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protego import Protego

from scrapekit.errors import Refused, RobotsUnavailable
from scrapekit.pathrules import PathRules, TooManyRules
from scrapekit.robots import FRESH_S, MAX_BYTES, TOO_COMPLEX, Robots, RobotsBook

HOST = "https://shop.test"
AGENT = "scrapekit"

PIECES = st.sampled_from(
    ["/", "a", "b", "ab", "*", "$", ".html", "?", "=", "&", "%2F", "%2f", "%61", "%24", "%", "ä"]
)
PATTERNS = st.lists(PIECES, max_size=6).map("".join)
RULES = st.lists(st.tuples(PATTERNS.map(lambda text: f"/{text}"), st.booleans()), max_size=12)
PATHS = st.lists(PIECES.filter(lambda piece: piece not in ("*", "$", "%24")), max_size=8).map(
    "".join
)
MANY = [(f"/x*{number}y", False) for number in range(60)]
"""Enough for rules to be filed by what they have in common with paths; these have nothing."""


def file_of(rules: list[tuple[str, bool]]) -> str:
    lines = [f"{'Allow' if allows else 'Disallow'}: {pattern}" for pattern, allows in rules]
    return "\n".join(["User-agent: *", *lines])


@pytest.mark.parametrize("others", [[], MANY], ids=["few", "many"])
@given(rules=RULES, path=PATHS)
def test_verdicts_are_those_of_protego(
    others: list[tuple[str, bool]], rules: list[tuple[str, bool]], path: str
) -> None:
    text, url = file_of([*rules, *others]), f"{HOST}/{path}"
    assert Robots(text, AGENT).allows(url) == Protego.parse(text).can_fetch(url, AGENT)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("/product/{}*?sort=", "/product/77/x?sort=a", "/product/x?sort=a"),
        ("/*/{}.html$", "/a/77.html", "/a/77.html5"),
        ("/*id={}&", "/a?id=77&b=1", "/a?id=7777777&b=1"),
        ("/shop/*-{}-*$", "/shop/a-77-b", "/shop/a-b"),
    ],
)
def test_a_site_may_have_twenty_thousand_rules(pattern: str, matching: str, other: str) -> None:
    rules = PathRules((pattern.format(number), False) for number in range(20_000))
    assert not rules.allows(HOST + matching)
    assert rules.allows(HOST + other)


def test_few_rules_are_compared_with_long_urls_whatever_they_say() -> None:
    rules = PathRules((f"/*{'a' * 60}{number}*x", False) for number in range(48))
    assert rules.allows(f"{HOST}/{'a' * 2_000}")
    assert not rules.allows(f"{HOST}/{'a' * 2_000}47bx")


def test_a_dollar_is_the_end_at_the_end_and_itself_elsewhere() -> None:
    rules = PathRules([("/a$", False), ("/b$c", False), ("/*.pdf$", False)])
    paths = ("/a", "/a$", "/a%24b", "/b$c/d", "/b%24c", "/x.pdf", "/x.pdf$", "/b")
    expected = [False, True, True, False, False, False, True, True]
    assert [rules.allows(HOST + path) for path in paths] == expected


def lines(make: Callable[[int], str]) -> str:
    """A robots.txt a quarter as large as one may be."""
    found, size = ["User-agent: *"], 0
    while size < MAX_BYTES // 4 - 4_000:
        found.append(f"Disallow: {make(len(found))}")
        size += len(found[-1]) + 1
    return "\n".join(found)


HOSTILE: dict[str, Callable[[int], str]] = {
    "ends": lambda n: f"/*{n}$",
    "pieces in common": lambda n: f"/*{'a' * 8}{n}{'a' * 8}",
    "needles": lambda n: f"/*{'a' * 25}b{'a' * 25}{n % 3}*{n}",
    "many parts": lambda n: f"/{n}{'*a' * 500}*b",
    "beginnings": lambda n: f"/a{n}*?x",
    "no wildcard": lambda n: f"/{n}",
    "lengths": lambda n: f"/{'a' * (n % 2_000)}b",
    "escapes": lambda n: f"/%C3%A4*{n}?x",
}
DICE = random.Random(1)
NASTY_PATHS = ["a" * 1_990, "1234567890" * 199, "".join(DICE.choices("0123456789ab", k=1_990))]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_takes_less_than_4_megabytes(name: str) -> None:
    text = lines(HOSTILE[name])
    tracemalloc.start()
    try:
        rules = Robots(text, AGENT)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 4 << 20
    assert taken < 2 * rules.size + 100_000


@pytest.mark.parametrize("name", HOSTILE)
def test_no_url_is_compared_with_more_rules_than_is_bearable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in comparisons, because time depends on the machine."""
    compared: list[int] = []

    def matches(_parts: object, path: str) -> bool:
        compared.append(len(path))
        return False

    monkeypatch.setattr("scrapekit.pathrules._matches", matches)
    rules = Robots(lines(HOSTILE[name]), AGENT)
    for path in NASTY_PATHS:
        compared.clear()
        with suppress(Refused):
            rules.allows(f"{HOST}/{path}")
        assert len(compared) <= 2_900
        assert sum(compared) * 12 <= 2_000_000


def test_what_cant_be_told_isnt_fetched() -> None:
    rules = PathRules((f"/*{'a' * 8}{number}{'a' * 8}", False) for number in range(20_000))
    with pytest.raises(TooManyRules):
        rules.allows(f"{HOST}/{'a' * 1_990}")
    assert rules.allows(f"{HOST}/b")
    with pytest.raises(Refused, match="more rules with wildcards") as caught:
        Robots(lines(HOSTILE["pieces in common"]), AGENT).allows(f"{HOST}/{'a' * 1_990}")
    assert caught.value.reason == TOO_COMPLEX


class Counted(str):
    """Counts the pieces that are cut out of it."""

    __slots__ = ()
    pieces = 0

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        Counted.pieces += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("name", HOSTILE)
def test_of_a_long_path_no_more_is_looked_up_than_is_bearable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapekit.pathrules._path", lambda url: Counted(url.removeprefix(HOST)))
    rules = Robots(lines(HOSTILE[name]), AGENT)
    for length in (1_990, 16_000, 1_000_000):
        Counted.pieces = 0
        with suppress(Refused):
            rules.allows(f"{HOST}/{'1234567890' * (length // 10)}")
        assert Counted.pieces <= 20_000


def test_a_long_path_is_told_where_that_takes_no_time() -> None:
    few, many = PathRules([("/a", False), ("/*z$", False)]), PathRules(MANY)
    assert few.allows(f"{HOST}/{'b' * 100_000}")
    assert not few.allows(f"{HOST}/{'b' * 100_000}z")
    assert many.allows(f"{HOST}/{'%41' * 700}")
    for rules, path in ((many, "b" * 1_000_000), (few, "%41" * 100_000)):
        with pytest.raises(TooManyRules):
            rules.allows(f"{HOST}/{path}")


def test_what_many_hostile_subdomains_say_takes_bounded_memory() -> None:
    book, text = RobotsBook(AGENT), lines(HOSTILE["ends"])
    book.learn("https://good.test", "User-agent: *\nDisallow: /a", 0.0)
    rules = book.parse(text)
    for number in range(100):
        book.learn(f"https://a{number}.evil.test", text, 0.0, rules)
    assert book.size <= (48 << 20) + 10_000
    assert book.unknown("https://a0.evil.test", 0.0)
    assert not book.unknown("https://a99.evil.test", 0.0)
    assert not book.allows("https://good.test", "https://good.test/a")


def test_files_that_push_one_another_out_are_not_asked_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrapekit.robots._MOST_BYTES_OF_LARGE", 8 << 20)
    book, text = RobotsBook(AGENT), lines(HOSTILE["ends"])
    rules = book.parse(text)
    origins = [f"https://a{number}.evil.test" for number in range(20)]
    asked = 0
    for _ in range(10):
        for origin in origins:
            if book.unknown(origin, 0.0):
                asked += 1
                book.learn(origin, text, 0.0, rules)
    assert asked <= 4 * len(origins)
    closed = []
    for origin in origins:
        try:
            book.allows(origin, f"{origin}/")
        except RobotsUnavailable as error:
            closed.append(str(error))
    assert 5 < len(closed) < 20
    assert set(closed) == {"there is no room for all the large robots.txt of its neighbours"}
    assert all(book.unknown(origin, FRESH_S) for origin in origins)


def test_files_that_are_used_in_between_are_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrapekit.robots._MOST_BYTES_OF_LARGE", 8 << 20)
    book, text = RobotsBook(AGENT), lines(HOSTILE["ends"])
    rules = book.parse(text)
    for _ in range(10):
        for number in range(20):
            origin = f"https://a{number}.test"
            if book.unknown(origin, 0.0):
                book.learn(origin, text, 0.0, rules)
            assert book.allows(origin, f"{origin}/")


def test_what_is_asked_about_is_not_forgotten_for_others() -> None:
    book = RobotsBook(AGENT)
    text = "User-agent: *\n" + "\n".join(f"Disallow: /{n:040}" for n in range(400))
    book.learn("https://used.test", text, 0.0)
    for number in range(5_000):
        book.learn(f"https://a{number}.test", text, 0.0, book.parse(text) if not number else None)
        if number % 100 == 0:
            assert not book.unknown("https://used.test", 0.0)
    assert book.size <= 80 << 20
    assert book.unknown("https://a0.test", 0.0)
