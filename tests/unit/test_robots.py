from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.robots import (
    ALLOW_ALL,
    MAX_BYTES,
    Reading,
    Robots,
    decode,
    product_token,
    reading_of_status,
)

HOST = "https://shop.test"


def robots(*lines: str, agent: str = "scrapekit/0.1") -> Robots:
    return Robots("\n".join(lines), agent)


def allowed(rules: Robots, *paths: str) -> list[bool]:
    return [rules.allows(HOST + path) for path in paths]


@pytest.mark.parametrize(
    ("status", "reading"),
    [
        (200, "parse"),
        (206, "parse"),
        (301, "allow"),
        (304, "allow"),
        (400, "allow"),
        (401, "allow"),
        (403, "allow"),
        (404, "allow"),
        (410, "allow"),
        (429, "unavailable"),
        (499, "allow"),
        (500, "unavailable"),
        (503, "unavailable"),
        (599, "unavailable"),
        (100, "unavailable"),
        (999, "unavailable"),
    ],
)
def test_a_status_decides_whether_there_are_rules(status: int, reading: Reading) -> None:
    assert reading_of_status(status) == reading


@pytest.mark.parametrize("text", ["", "  \n\r\n", "# nothing\n", "<html>Not found</html>", "\0"])
def test_a_file_without_rules_allows_everything(text: str) -> None:
    rules = Robots(text, "scrapekit")
    assert allowed(rules, "/", "/private") == [True, True]
    assert rules.delay_s == 0.0


def test_the_longest_rule_wins() -> None:
    rules = robots("User-agent: *", "Disallow: /", "Allow: /shop/", "Disallow: /shop/cart")
    assert allowed(rules, "/", "/shop/a", "/shop/cart/1") == [False, True, False]


def test_wildcards_and_ends_are_understood() -> None:
    rules = robots("User-agent: *", "Disallow: /*.pdf$", "Disallow: /*?sort=")
    assert allowed(rules, "/a.pdf", "/a.pdf?x", "/a?sort=1", "/a") == [False, True, False, True]


def test_the_group_of_our_name_counts_before_that_of_all() -> None:
    rules = robots("User-agent: *", "Disallow: /", "", "User-agent: ScrapeKit", "Disallow: /x")
    assert allowed(rules, "/", "/x") == [True, False]


def test_another_name_is_not_ours() -> None:
    rules = robots("User-agent: kit", "User-agent: scrape", "Disallow: /", agent="myscrapekit/1")
    assert allowed(rules, "/") == [True]


def test_robots_txt_itself_may_be_fetched() -> None:
    assert allowed(robots("User-agent: *", "Disallow: /"), "/robots.txt") == [True]


@pytest.mark.parametrize(
    ("value", "delay_s"),
    [
        ("5", 5.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("9" * 400, 0.0),
    ],
)
def test_a_crawl_delay_is_a_number_of_seconds(value: str, delay_s: float) -> None:
    assert robots("User-agent: *", f"Crawl-delay: {value}").delay_s == delay_s


def test_the_crawl_delay_is_that_of_our_group() -> None:
    lines = ["User-agent: *", "Crawl-delay: 9", "User-agent: scrapekit", "Crawl-delay: 2"]
    assert robots(*lines).delay_s == 2.0
    assert robots(*lines, agent="other").delay_s == 9.0


@pytest.mark.parametrize(
    ("user_agent", "token"),
    [
        ("scrapekit/0.1 (+https://shop.test)", "scrapekit"),
        ("My-Bot", "My-Bot"),
        ("Bot (x/1)", "Bot"),
        ("Mozilla/5.0 (compatible; Bot/1)", "Mozilla"),
        ("", "*"),
        (" /", "*"),
    ],
)
def test_the_product_token_is_what_a_robots_txt_calls_us(user_agent: str, token: str) -> None:
    assert product_token(user_agent) == token


def test_the_file_is_utf_8_with_or_without_a_mark() -> None:
    assert decode("\ufeffUser-agent: *\nDisallow: /ä".encode()) == "User-agent: *\nDisallow: /ä"
    assert decode(b"\xff\xfe") == "\ufffd\ufffd"


def test_what_is_over_the_limit_is_not_read() -> None:
    assert len(decode(b"a" * (MAX_BYTES + 1))) == MAX_BYTES
    assert decode("é".encode() * MAX_BYTES).endswith("é")


def test_a_rule_and_a_url_may_be_percent_encoded_or_not() -> None:
    rules = robots("User-agent: *", "Disallow: /ä", "Disallow: /%E3%83%84")
    assert allowed(rules, "/%C3%A4", "/%e3%83%84", "/a") == [False, False, True]


def test_many_wildcards_do_not_cost_more_than_the_length_of_the_url() -> None:
    # By backtracking this would take longer than the universe has existed.
    rules = robots("User-agent: *", f"Disallow: /{'*a' * 200}*b")
    assert allowed(rules, f"/{'a' * 2000}") == [True]


def test_allow_all_is_what_it_says() -> None:
    assert allowed(ALLOW_ALL, "/", "/x?y=z") == [True, True]
    assert repr(ALLOW_ALL) == "<Robots for *: all allowed>"
    assert repr(robots("User-agent: *", "Disallow: /")) == "<Robots for scrapekit: rules>"


LINES = st.sampled_from(
    [
        "User-agent: *",
        "user-agent",
        "Useragent: scrapekit",
        "Disallow",
        "Disallow: /a*b$",
        "Allow: $",
        "Allow: /%",
        "Crawl-delay: 1e9999",
        "Request-rate: 1/0",
        "Visit-time: 9999-0000",
        "Host: :",
        "Sitemap:",
    ]
)


@given(st.lists(LINES | st.text(max_size=30)), st.text(max_size=20), st.text(max_size=20))
def test_no_file_agent_or_url_is_an_error(lines: list[str], agent: str, path: str) -> None:
    rules = Robots("\n".join(lines), agent)
    assert rules.allows(f"{HOST}/{path}") in (True, False)
    assert rules.delay_s >= 0.0
