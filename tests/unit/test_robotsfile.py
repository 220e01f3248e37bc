"""Compared with protego, which is used widely."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protego import Protego

from scrapekit import robotsfile
from scrapekit.robots import Robots

AGENT = "scrapekit"
NAMES = st.sampled_from(
    [
        "*",
        "scrapekit",
        "ScrapeKit",
        "kit",
        "other",
        "o*ther",
        "*scrapekit*",
        "**",
        "-",
        "",
    ]
)
FIELDS = st.sampled_from(
    ["User-agent:", "user-agent", "USERAGENT :", "User  agent", "user agent:", "User-agent x:"]
)
AGENTS = st.builds(" ".join, st.tuples(FIELDS, NAMES))
RULES = st.sampled_from(
    [
        "Disallow: /a",
        "Allow: /a/b",
        "Disallow /c",
        "Disallow: /*x$",
        "Disallow: # all",
        "Disalow:/a/c",
        "Allow: /a/index.html",
    ]
)
OTHERS = [
    "Crawl-delay: 2",
    "crawl delay 3",
    "Crawl-delay: soon",
    "Request-rate: 1/10m",
    "Sitemap: https://a.test/s.xml",
    "Host: a.test",
    "Visit-time: 0100-0200",
    "",
    "# User-agent: scrapekit",
    "nonsense",
    "nonsense: 1",
]
US = st.just("User-agent: scrapekit # us")
FILES = st.lists(AGENTS | US | RULES | st.sampled_from(OTHERS), max_size=20)
PATHS = ("/", "/a", "/a/", "/a/b", "/a/c", "/c", "/dx", "/x/y", "/robots.txt", "")
NO_NAME_OF_OURS = st.text(st.characters(codec="utf-8", exclude_characters="sS"), max_size=60)
"""For protego every beginning of our name is ours."""
URLS = [f"https://a.test{path}" for path in PATHS]


@given(FILES)
def test_a_file_says_what_protego_reads_in_it(lines: list[str]) -> None:
    """Groups end with rules alone, so rules are those of a file that has nothing else."""
    text = "\n".join(lines)
    ours, protego = Robots(text, AGENT), Protego.parse(text)
    no_rules = (*OTHERS, *(line for line in lines if line.startswith("User-agent x:")))
    rules = Protego.parse("\n".join(line for line in lines if line not in no_rules))
    assert [ours.allows(url) for url in URLS] == [rules.can_fetch(url, AGENT) for url in URLS]
    assert ours.delay_s == (protego.crawl_delay(AGENT) or 0.0)
    rate = protego.request_rate(AGENT)
    assert ours.rate == (rate and (rate.requests, rate.seconds))
    assert robotsfile.read(text, AGENT).sitemaps == list(protego.sitemaps)


@given(NO_NAME_OF_OURS, st.sampled_from(["1/10", "30/1m 0900-1700", "2/x", "/", "1/1/1"]))
def test_what_is_no_file_is_none_for_both(line: str, rate: str) -> None:
    text = f"User-agent: {line}\nRequest-rate: {rate}\nDisallow: /a"
    expected = Protego.parse(text).can_fetch(URLS[1], AGENT)
    assert Robots(text, AGENT).allows(URLS[1]) == expected


@pytest.mark.parametrize(
    "between",
    ["Crawl-delay: 5", "Request-rate: 1/5", "Noindex: /x", "Visit-time: 1", "Host: h", ""],
)
def test_only_rules_end_the_names_of_a_group(between: str) -> None:
    text = f"User-agent: {AGENT}\n{between}\nUser-agent: other\nDisallow: /a\n"
    assert not Robots(text, AGENT).allows(URLS[1])
    assert not Robots(text, "other").allows(URLS[1])
    assert Robots(f"{text}User-agent: third\nDisallow: /c", AGENT).allows("https://a.test/c")
    assert Robots(text, "third").allows(URLS[1])


def test_a_rule_that_forbids_nothing_ends_them_too() -> None:
    text = f"User-agent: {AGENT}\nDisallow:\nUser-agent: *\nDisallow: /"
    assert Robots(text, AGENT).allows(URLS[1])


def test_a_delay_is_for_the_names_above_it_and_not_for_those_below() -> None:
    text = f"User-agent: slow\nCrawl-delay: 60\n\nUser-agent: {AGENT}\nDisallow: /a"
    assert (Robots(text, AGENT).delay_s, Robots(text, "slow").delay_s) == (0.0, 60.0)


@pytest.mark.parametrize("name", ["s", "scrape", "scrapeki", "scrapekit-images", "kit", "-", "a b"])
def test_what_is_no_whole_name_is_anothers(name: str) -> None:
    """RFC 9309, 2.2.1: the product token is matched, not a part of it."""
    text = f"User-agent: {name}\nAllow: /\n\nUser-agent: *\nDisallow: /"
    assert not Robots(text, f"{AGENT}/1.0").allows(URLS[1])


@pytest.mark.parametrize(
    "name",
    ["scrapekit/1.0", "ScrapeKit 2", "SCRAPEKIT", "scrapekit, other", "scrapekit*", "*scrapekit/"],
)
def test_our_name_is_ours_whatever_follows_it(name: str) -> None:
    text = f"User-agent: {name}\nDisallow: /\n\nUser-agent: *\nAllow: /"
    assert not Robots(text, f"{AGENT}/1.0").allows(URLS[1])


def test_an_agent_with_digits_in_its_name_is_meant_by_that() -> None:
    text = "User-agent: bot2/1.0\nDisallow: /a"
    assert [Robots(text, agent).allows(URLS[1]) for agent in ("bot2/7", "bot3")] == [False, True]


def test_all_groups_of_our_name_count_together() -> None:
    text = "User-agent: scrapekit/1\nDisallow: /a\nUser-agent: ScrapeKit\nDisallow: /c"
    assert robotsfile.read(text, AGENT).rules == [("/a", False), ("/c", False)]


@pytest.mark.parametrize(
    "spell", ["User-agent: {}", "user-agent {}", "User agent {}", " useragent:{}"]
)
def test_ten_thousand_other_agents_have_no_rules_for_us(spell: str) -> None:
    lines = [spell.format(f"bot{number}") for number in range(10_000)]
    rules = [f"Disallow: /{number}" for number in range(10_000)]
    assert robotsfile.read("\n".join([*lines, *rules]), AGENT).rules == []


def test_no_more_sitemaps_are_kept_than_anybody_lists() -> None:
    text = "\n".join(f"Sitemap: https://a.test/{number}" for number in range(2_000))
    assert len(robotsfile.read(text, AGENT).sitemaps) == robotsfile.MAX_SITEMAPS
