from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protego import Protego

from scrapekit.agents import only_for

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
        "Sitemap: https://a.test/s.xml",
        "",
        "# User-agent: scrapekit",
        "nonsense",
        "Disallow: # all",
        "User-agent: scrapekit # us",
    ]
)
FILES = st.lists(AGENTS | RULES, max_size=20).map("\n".join)
URLS = [f"https://a.test{path}" for path in ("/", "/a", "/a/b", "/c", "/dx", "/x/y")]


@given(FILES)
def test_nothing_changes_for_the_agent(text: str) -> None:
    before, after = Protego.parse(text), Protego.parse(only_for(AGENT, text))
    assert [after.can_fetch(url, AGENT) for url in URLS] == [
        before.can_fetch(url, AGENT) for url in URLS
    ]
    assert after.crawl_delay(AGENT) == before.crawl_delay(AGENT)
    assert list(after.sitemaps) == list(before.sitemaps)


@pytest.mark.parametrize(
    "spell", ["User-agent: {}", "user-agent {}", "User agent {}", " useragent:{}"]
)
def test_all_other_agents_have_one_name(spell: str) -> None:
    lines = [spell.format(f"bot{number}") for number in range(100)]
    assert set(only_for(AGENT, "\n".join(lines)).splitlines()) == {"User-agent: -"}


def test_many_names_of_ours_are_as_many_as_it_has_parts() -> None:
    names = [f"User-agent: {'*' * number}scrapekit" for number in range(100)]
    assert set(only_for(AGENT, "\n".join(names)).splitlines()) == {"User-agent: scrapekit"}
