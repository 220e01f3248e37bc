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
        "scrape",
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
        "Disallow: # all",
        "Disalow:/a/c",
        "User-agent: scrapekit # us",
        "Allow: /a/index.html",
    ]
)
FILES = st.lists(AGENTS | RULES, max_size=20).map("\n".join)
PATHS = ("/", "/a", "/a/", "/a/b", "/a/c", "/c", "/dx", "/x/y", "/robots.txt", "")
URLS = [f"https://a.test{path}" for path in PATHS]


@given(FILES)
def test_a_file_says_what_protego_reads_in_it(text: str) -> None:
    ours, protego = Robots(text, AGENT), Protego.parse(text)
    assert [ours.allows(url) for url in URLS] == [protego.can_fetch(url, AGENT) for url in URLS]
    assert ours.delay_s == (protego.crawl_delay(AGENT) or 0.0)
    rate = protego.request_rate(AGENT)
    assert ours.rate == (rate and (rate.requests, rate.seconds))
    assert robotsfile.read(text, AGENT).sitemaps == list(protego.sitemaps)


@given(st.text(max_size=60), st.sampled_from(["1/10", "30/1m 0900-1700", "2/x", "/", "1/1/1"]))
def test_what_is_no_file_is_none_for_both(line: str, rate: str) -> None:
    text = f"User-agent: {line}\nRequest-rate: {rate}\nDisallow: /a"
    expected = Protego.parse(text).can_fetch(URLS[1], AGENT)
    assert Robots(text, AGENT).allows(URLS[1]) == expected


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
