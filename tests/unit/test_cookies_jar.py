from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit import urls
from scrapekit.cookies import dates, setcookie
from scrapekit.cookies.jar import Cookie, Jar

NOW = 1_800_000_000.0
DAY = 86_400.0
PAGE = "https://www.shop.test/a/b"


def jar_of(*lines: str, url: str = PAGE) -> Jar:
    jar = Jar()
    for line in lines:
        jar.take(url, line, NOW)
    return jar


def sent(jar: Jar, url: str = PAGE, now: float = NOW) -> str:
    return "; ".join(f"{name}={value}" for name, value in jar.pairs(url, now))


class TestWhereCookiesGo:
    @pytest.mark.parametrize(
        ("line", "url", "goes"),
        [
            ("a=1", "https://www.shop.test/a/other", True),
            ("a=1", "http://www.shop.test/a/", False),
            ("a=1", "https://www.shop.test:8443/a/", True),
            ("a=1", "https://www.shop.test/", False),
            ("a=1", "https://www.shop.test/ab", False),
            ("a=1; Path=/", "https://www.shop.test/", True),
            ("a=1; Path=/x", "https://www.shop.test/x", True),
            ("a=1; Path=/x", "https://www.shop.test/xy", False),
            ("a=1; Path=/x/", "https://www.shop.test/x", False),
            ("a=1; Path=x", "https://www.shop.test/a/", True),
            ("a=1; Path=/", "https://shop.test/", False),
            ("a=1; Path=/", "https://deep.www.shop.test/", False),
            ("a=1; Path=/; Domain=shop.test", "https://shop.test/", True),
            ("a=1; Path=/; Domain=.SHOP.test", "https://other.shop.test/", True),
            ("a=1; Path=/; Domain=shop.test", "https://evilshop.test/", False),
            ("a=1; Path=/; Domain=www.shop.test", "https://deep.www.shop.test/", True),
            ("a=1; Path=/; Secure", "http://www.shop.test/", False),
            ("a=1; Path=/; Secure", "https://www.shop.test/", True),
            ("a=1; Path=/; HttpOnly; SameSite=Strict", "https://www.shop.test/", True),
        ],
    )
    def test_host_path_and_scheme_decide(self, line: str, url: str, goes: bool) -> None:
        assert sent(jar_of(line), url) == ("a=1" if goes else "")

    @pytest.mark.parametrize(
        "domain", ["other.test", "deep.www.shop.test", "test", "w.shop.test", "shop.test:80", "a b"]
    )
    def test_no_other_domain_can_be_named(self, domain: str) -> None:
        assert not Jar().take(PAGE, f"a=1; Domain={domain}", NOW)

    @pytest.mark.parametrize(
        ("url", "suffix"),
        [
            ("https://www.bbc.co.uk/", "co.uk"),
            ("https://me.github.io/", "github.io"),
            ("https://me.github.io/", "io"),
            ("https://www.example.com./", "com."),
        ],
    )
    def test_public_suffixes_are_refused(self, url: str, suffix: str) -> None:
        assert not Jar().take(url, f"a=1; Domain={suffix}", NOW)

    def test_a_host_that_is_a_public_suffix_keeps_its_own(self) -> None:
        jar = jar_of("a=1; Domain=github.io", url="https://github.io/")
        assert sent(jar, "https://github.io/") == "a=1"
        assert sent(jar, "https://evil.github.io/") == ""

    def test_names_in_other_scripts_are_compared_in_punycode(self) -> None:
        page = urls.normalize("https://www.bücher.test/")
        jar = jar_of("a=1; Domain=bücher.test", url=page)
        assert sent(jar, urls.normalize("https://shop.bücher.test/")) == "a=1"

    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
    def test_addresses_have_no_parents(self, host: str) -> None:
        jar = jar_of("a=1", f"b=2; Domain={host}", "c=3; Domain=0.0.1", url=f"http://{host}/")
        assert sent(jar, f"http://{host}:8080/") == "a=1; b=2"
        assert sent(jar, "http://9.0.0.1/") == ""

    def test_longer_paths_go_first_then_older_cookies(self) -> None:
        jar = jar_of("a=1; Path=/", "b=2; Path=/a", "c=3; Path=/a", "a=4; Path=/")
        assert sent(jar) == "b=2; c=3; a=4"

    def test_one_name_may_go_out_twice(self) -> None:
        assert sent(jar_of("a=1; Path=/", "a=2; Path=/a")) == "a=2; a=1"


HOSTS = (
    *("shop.test", "www.shop.test", "a.www.shop.test", "shopxtest", "other.test", "test"),
    *("me.github.io", "you.github.io", "github.io", "io", "a.co.uk", "b.co.uk", "co.uk", "uk"),
    *("127.0.0.1", "0.0.1", "localhost", "a.localhost", "[::1]", "xn--bcher-kva.test"),
)


@pytest.mark.parametrize("host", HOSTS)
def test_no_cookie_ever_leaves_what_somebody_registered(host: str) -> None:
    for domain in (*HOSTS, "", ".", "..", f".{host}", f"{host}.", f"x.{host}"):
        jar = jar_of(f"a=1; Path=/; Domain={domain}", url=f"http://{host}/")
        for other in HOSTS:
            if other != host and sent(jar, f"http://{other}/"):
                assert urls.registrable_domain(other) == urls.registrable_domain(host)
                assert not urls.is_address(host)
                assert other.endswith(f".{domain.strip('.')}") or other == domain.strip(".")


class TestSecureCookies:
    def test_plain_http_sets_none(self) -> None:
        assert not Jar().take("http://www.shop.test/", "a=1; Secure", NOW)

    @pytest.mark.parametrize(
        "line", ["a=evil", "a=evil; Domain=shop.test", "a=evil; Path=/x/y", "a=; Max-Age=0"]
    )
    def test_plain_http_does_not_replace_one(self, line: str) -> None:
        jar = jar_of("a=1; Secure; Path=/; Domain=shop.test")
        assert not jar.take("http://www.shop.test/x/y", line, NOW)
        assert sent(jar) == "a=1"

    def test_plain_http_does_not_set_one_beside_it_from_further_up(self) -> None:
        jar = jar_of("a=1; Secure; Path=/")
        assert not jar.take("http://shop.test/", "a=evil; Domain=shop.test", NOW)
        assert jar.take("http://shop.test/", "a=own", NOW)
        assert sent(jar) == "a=1"

    def test_plain_http_may_set_others(self) -> None:
        jar = jar_of("a=1; Secure; Path=/login")
        assert jar.take("http://www.shop.test/", "a=2", NOW)
        assert jar.take("http://www.shop.test/login", "b=2", NOW)

    def test_what_came_by_http_goes_to_https_and_not_the_other_way_round(self) -> None:
        jar = jar_of("a=1; Path=/")
        assert jar.take("http://www.shop.test/", "b=2; Path=/", NOW)
        assert sent(jar, "https://www.shop.test/") == "a=1; b=2"
        assert sent(jar, "http://www.shop.test/") == "b=2"
        assert sent(Jar(list(jar)), "http://www.shop.test/") == "b=2"

    @pytest.mark.parametrize(
        ("line", "kept"),
        [
            ("__Secure-a=1; Secure", True),
            ("__Secure-a=1", False),
            ("__SECURE-a=1", False),
            ("__Host-a=1; Secure; Path=/", True),
            ("__host-a=1; Secure", False),
            ("__Host-a=1; Path=/", False),
            ("__Host-a=1; Secure; Path=/a", False),
            ("__Host-a=1; Secure; Path=/; Domain=www.shop.test", False),
            ("__Hosta=1", True),
        ],
    )
    def test_a_prefix_is_a_promise(self, line: str, kept: bool) -> None:
        assert Jar().take(PAGE, line, NOW) is kept


class TestTime:
    @pytest.mark.parametrize(
        ("attributes", "lives_s"),
        [
            ("Max-Age=60", 60),
            ("Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 60),
            ("Max-Age=60; Max-Age=120", 120),
            ("Max-Age=60; Max-Age=soon", 60),
            ("Max-Age=999999999999999999999999999999", 400 * DAY),
            ("Expires=Sun, 06 Nov 2095 08:49:37 GMT", 400 * DAY),
            ("Expires=nonsense; Max-Age=5", 5),
        ],
    )
    def test_a_cookie_ends_at_its_date(self, attributes: str, lives_s: float) -> None:
        jar = jar_of(f"a=1; {attributes}")
        assert sent(jar, now=NOW + lives_s - 1) == "a=1"
        assert sent(jar, now=NOW + lives_s) == ""
        assert len(jar) == 0

    @pytest.mark.parametrize("attributes", ["", "; Expires=nonsense", "; Max-Age=1d"])
    def test_without_a_date_it_stays(self, attributes: str) -> None:
        assert sent(jar_of(f"a=1{attributes}"), now=NOW + 5_000 * DAY) == "a=1"

    @pytest.mark.parametrize(
        "attributes", ["Max-Age=0", "Max-Age=-1", "Expires=Thu, 01 Jan 1970 00:00:00 GMT"]
    )
    def test_a_date_in_the_past_deletes(self, attributes: str) -> None:
        jar = jar_of("a=1", f"a=; {attributes}")
        assert len(jar) == 0

    def test_a_deleted_cookie_comes_back_as_the_latest(self) -> None:
        jar = jar_of("a=1", "b=2", "a=; Max-Age=0", "a=3")
        assert sent(jar) == "b=2; a=3"


class TestBounds:
    def test_the_oldest_of_a_domain_makes_room(self) -> None:
        jar = jar_of(*(f"c{number}=1" for number in range(200)))
        assert len(jar) == 180
        assert {cookie.name for cookie in jar} == {f"c{number}" for number in range(20, 200)}

    def test_the_domain_that_was_used_least_lately_makes_room(self) -> None:
        jar = Jar()
        for number in range(3_000):
            jar.take(f"https://www.s{number}.test/", "a=1", NOW)
        assert sent(jar, "https://www.s0.test/") == "a=1"
        jar.take("https://www.new.test/", "a=1", NOW)
        assert sent(jar, "https://www.s0.test/") == "a=1"
        assert sent(jar, "https://www.s1.test/") == ""

    def test_all_that_somebody_registered_has_180_cookies_and_128_kilobytes(self) -> None:
        jar = Jar()
        for number in range(1_000):
            jar.take(f"https://h{number}.evil.test/", "a=1", NOW)
        assert len(jar) == 180
        for number in range(1_000):
            jar.take(f"https://h{number}.evil.test/", f"a={'x' * 4_000}", NOW)
        assert 20 < len(jar) <= 32
        assert sent(jar, "https://h999.evil.test/") == f"a={'x' * 4_000}"

    def test_a_flood_leaves_16_megabytes_at_most(self) -> None:
        line, taken = f"a{{}}={'x' * 4_000}; Path=/{{}}", 0
        tracemalloc.start()
        try:
            jar = Jar()
            for site in range(400):
                for number in range(20):
                    line_, url = line.format(number, number), f"https://s{site}.test/"
                    taken += jar.take(url, line_, NOW)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert taken == 8_000
        assert held <= 20 << 20
        assert sent(jar, "https://s399.test/0/").startswith("a0=x")
        assert sent(jar, "https://s0.test/0/") == ""

    def test_what_makes_room_is_told_as_a_change(self) -> None:
        jar = Jar()
        for number in range(3_000):
            jar.take(f"https://www.s{number}.test/", "a=1", NOW)
        jar.changed.clear()
        jar.take("https://www.new.test/", "a=1", NOW)
        assert jar.changed == {"new.test", "s0.test"}
        assert jar.of("s0.test") == []

    @pytest.mark.parametrize(("size", "kept"), [(4_095, True), (4_096, False)])
    def test_a_cookie_has_at_most_4096_octets(self, size: int, kept: bool) -> None:
        assert Jar().take(PAGE, f"a={'x' * size}", NOW) is kept

    def test_a_header_has_at_most_16_kilobytes(self) -> None:
        jar = jar_of(*(f"c{number}={'x' * 4_000}; Path=/" for number in range(10)))
        assert len(sent(jar)) <= 16_384
        assert sent(jar).startswith("c0=")

    def test_an_attribute_that_is_too_long_is_left_out(self) -> None:
        assert sent(jar_of(f"a=1; Path=/{'x' * 1_024}")) == "a=1"

    def test_bytes_that_are_no_text_cannot_be_sent_back(self) -> None:
        assert setcookie.parse("a=\udce4", NOW) is None


class TestState:
    def test_a_jar_made_of_its_cookies_sends_the_same(self) -> None:
        jar = jar_of("a=1; Max-Age=60", "b=2; Path=/; Secure; HttpOnly; Domain=shop.test", "c=3")
        copy = Jar(list(jar))
        assert list(copy) == list(jar)
        assert copy.pairs(PAGE, NOW) == jar.pairs(PAGE, NOW)
        assert copy.pairs(PAGE, NOW + 60) == [("c", "3"), ("b", "2")]

    def test_repr_shows_no_cookies(self) -> None:
        assert repr(jar_of("sid=secret")) == "<Jar cookies=1 domains=1>"

    def test_a_cookie_is_told_by_its_fields(self) -> None:
        assert list(jar_of("a=1; Max-Age=60")) == [
            Cookie(
                name="a",
                value="1",
                domain="www.shop.test",
                path="/a",
                host_only=True,
                from_https=True,
                expires=NOW + 60,
            )
        ]


PIECES = st.sampled_from(
    ["a", "=", ";", " ", "\t", ",", '"', "Path", "Domain", "Max-Age", "Expires", "Secure", "/", "."]
)
LINES = st.lists(PIECES | st.text(max_size=4) | st.integers().map(str), max_size=20).map("".join)


@given(st.lists(LINES, max_size=5))
def test_no_line_is_an_error_and_what_is_sent_fits_a_header(lines: list[str]) -> None:
    jar = jar_of(*lines)
    header = sent(jar)
    header.encode()
    assert not any(char in header for char in "\r\n\0")


@given(st.text(alphabet="0123456789: -,janfebJANgmt/.", max_size=40) | st.text(max_size=40))
def test_no_date_is_an_error(text: str) -> None:
    date = dates.parse(text)
    assert date is None or isinstance(date, float)
