from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.errors import RobotsUnavailable
from scrapekit.robots import (
    ALLOW_ALL,
    FRESH_S,
    MAX_BYTES,
    Reading,
    Robots,
    RobotsBook,
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


@pytest.mark.parametrize(
    ("value", "rate"),
    [
        ("1/5", (1, 5.0)),
        ("30/1m", (30, 60.0)),
        ("2/1h 0900-1700", (2, 3600.0)),
        ("1/0", None),
        ("0/5", None),
        ("fast", None),
        ("", None),
    ],
)
def test_a_request_rate_is_so_many_requests_in_so_many_seconds(
    value: str, rate: tuple[int, float] | None
) -> None:
    assert robots("User-agent: *", f"Request-rate: {value}").rate == rate
    assert robots("User-agent: other", f"Request-rate: {value}").rate is None


def test_sitemaps_are_offered_as_urls_that_can_be_fetched() -> None:
    rules = robots(
        "Sitemap: https://shop.test/a.xml",
        "User-agent: *",
        "Disallow: /",
        "sitemap: /b.xml",
        "Sitemap: ftp://shop.test/c.xml",
        "Sitemap: http://[",
        "Sitemap: https://shop.test/a.xml",
    )
    assert rules.sitemaps(f"{HOST}/robots.txt") == [f"{HOST}/a.xml", f"{HOST}/b.xml"]
    assert ALLOW_ALL.sitemaps(f"{HOST}/robots.txt") == []
    assert rules.sitemaps("nonsense") == []


NOW = 1_000_000.0


def test_the_book_knows_what_was_read_for_a_day() -> None:
    book = RobotsBook("scrapekit/1")
    assert book.unknown(HOST, NOW)
    book.learn(HOST, "User-agent: *\nDisallow: /b\nSitemap: /s.xml", NOW)
    assert not book.unknown(HOST, NOW + FRESH_S - 1)
    assert book.unknown(HOST, NOW + FRESH_S)
    assert book.allows(HOST, f"{HOST}/a")
    assert not book.allows(HOST, f"{HOST}/b")
    assert book.sitemaps(HOST) == [f"{HOST}/s.xml"]
    assert book.sitemaps("http://other.test") == []
    assert list(book.known()) == [(HOST, "User-agent: *\nDisallow: /b\nSitemap: /s.xml", NOW)]


def test_the_book_lets_nothing_be_fetched_where_nobody_can_say() -> None:
    book = RobotsBook("scrapekit")
    book.close(HOST, "status 500", NOW + 60)
    with pytest.raises(RobotsUnavailable, match="status 500"):
        book.allows(HOST, f"{HOST}/a")
    assert not book.unknown(HOST, NOW + 59)
    assert book.unknown(HOST, NOW + 60)
    assert list(book.known()) == []
    assert book.sitemaps(HOST) == []


def test_an_old_robots_txt_is_better_than_none() -> None:
    book = RobotsBook("scrapekit")
    book.learn(HOST, "User-agent: *\nDisallow: /b", NOW)
    book.close(HOST, "status 500", NOW + FRESH_S + 60)
    assert not book.unknown(HOST, NOW + FRESH_S + 59)
    assert not book.allows(HOST, f"{HOST}/b")
    assert book.allows(HOST, f"{HOST}/a")


def test_missing_files_share_their_rules() -> None:
    book = RobotsBook("scrapekit")
    assert book.learn(HOST, "", NOW) is book.learn("http://other.test", " \n", NOW) is ALLOW_ALL


def test_the_file_is_utf_8_with_or_without_a_mark() -> None:
    assert decode("\ufeffUser-agent: *\nDisallow: /ä".encode()) == "User-agent: *\nDisallow: /ä"
    assert decode(b"\xff\xfe") == "\ufffd\ufffd"


def test_what_is_over_the_limit_is_not_read() -> None:
    assert len(decode(b"a" * (MAX_BYTES + 1))) == MAX_BYTES
    assert decode("é".encode() * MAX_BYTES).endswith("é")
    whole = b"Disallow: /abc\n" * (MAX_BYTES // 15)
    assert decode(whole + b"Disallow: /" + b"x" * 100) == whole.decode()[:-1]


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
    assert rules.rate is None or min(rules.rate) > 0
    assert rules.sitemaps(HOST) is not None
