from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scrapekit import urls
from scrapekit.errors import InvalidURL
from scrapekit.urls import (
    Base,
    encode_query,
    fingerprint,
    host,
    normalize,
    origin,
    registrable_domain,
    split_userinfo,
    with_query,
)
from tests import bindings


@pytest.fixture(scope="module", params=bindings.BINDINGS, autouse=True)
def binding(request: pytest.FixtureRequest) -> Iterator[str]:
    with bindings.use(request.param):
        yield request.param


def test_each_binding_is_the_one_that_parses(binding: str) -> None:
    used = sys.modules[binding]
    assert urls._href.__globals__[binding] is used


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("HTTP://Example.COM:80", "http://example.com/"),
        ("https://example.com:443/a", "https://example.com/a"),
        (" \t\nhttp://h/a\n b\x00 ", "http://h/a%20b"),
        ("http://h/a/../b/./c", "http://h/b/c"),
        ("http://h/a\\b", "http://h/a/b"),
        ("http://h/a#b?c", "http://h/a"),
        ("http://h/a?", "http://h/a"),
        ("http://h/a?#b", "http://h/a"),
        ("http://h/a??", "http://h/a??"),
        ("http://h/a?b?", "http://h/a?b?"),
        ("http://h/é?é", "http://h/%C3%A9?%C3%A9"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://[::0:1]/", "http://[::1]/"),
        ("http:h/a", "http://h/a"),
        ("http://u:p@h/", "http://u:p@h/"),
        ("http://h/\ud83d\ude00\udc00", "http://h/%F0%9F%98%80%EF%BF%BD"),
    ],
)
def test_normalize_gives_the_browsers_href_without_fragment_and_lone_question_mark(
    url: str, canonical: str
) -> None:
    assert normalize(url) == canonical


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("example.com", "write https://example.com"),
        ("example.com/a?b", "write https://example.com/a?b"),
        ("//example.com/a", "write https://example.com/a"),
        ("localhost:8000/a", "write http://localhost:8000/a"),
        ("example.com:8000", "write http://example.com:8000"),
        ("/a/b", "it is relative"),
        ("../a", "it is relative"),
        ("?a=b", "it is relative"),
        ("#a", "it is relative"),
        ("ftp://example.com/", "only http and https can be fetched, not 'ftp'"),
        ("mailto:me@example.com", "not 'mailto'"),
        ("javascript:void(0)", "not 'javascript'"),
        ("file:///etc/passwd", "not 'file'"),
        ("httpx://example.com/", "not 'httpx'"),
        ("http://", "host or port"),
        ("http:///", "host or port"),
        ("http://h:99999/", "host or port"),
        ("http://a b/", "host or port"),
        ("http://[::1/", "host or port"),
        ("http://999.1.1.1/", "host or port"),
        ("\ud800", "it has no scheme"),
    ],
)
def test_what_is_no_http_url_is_refused_with_advice(url: str, advice: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        normalize(url)
    assert advice in caught.value.reason
    assert caught.value.url == url
    assert "\n" not in str(caught.value)


def test_the_error_can_be_printed_and_pickled_whatever_the_url() -> None:
    with pytest.raises(InvalidURL) as caught:
        normalize("\ud800\n")
    assert str(caught.value).encode()
    assert pickle.loads(pickle.dumps(caught.value)).reason == caught.value.reason


@pytest.mark.parametrize("url", [None, 1, b"http://h/"])
def test_a_url_of_another_type_is_refused_by_name_of_the_type(url: object) -> None:
    with pytest.raises(InvalidURL, match=type(url).__name__):
        normalize(url)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("href", "joined"),
    [
        ("c", "http://h/a/c"),
        ("/c", "http://h/c"),
        ("//k/c", "http://k/c"),
        ("?c=d", "http://h/a/b?c=d"),
        ("", "http://h/a/b?q"),
        ("#c", "http://h/a/b?q"),
        ("?", "http://h/a/b"),
        ("c?#d", "http://h/a/c"),
        (" c ", "http://h/a/c"),
        ("c #d", "http://h/a/c%20"),
        ("http:c", "http://h/a/c"),
        ("https://k", "https://k/"),
        ("HTTPS://K", "https://k/"),
        ("../../../c", "http://h/c"),
        ("c\ud800", "http://h/a/c%EF%BF%BD"),
        ("c\x00", "http://h/a/c"),
        ("c:d", None),
        ("./c:d", "http://h/a/c:d"),
    ],
)
def test_join_resolves_as_a_browser_does(href: str, joined: str | None) -> None:
    assert Base("http://h/a/b?q#f").join(href) == joined


@pytest.mark.parametrize(
    "href",
    [
        "mailto:me@h",
        "MAILTO:me@h",
        "javascript:void(0)",
        " JavaScript:void(0)",
        "java\nscript:void(0)",
        "tel:+1",
        "data:text/html,x",
        "blob:http://h/x",
        "ftp://h/",
        "file:///etc/passwd",
        "about:blank",
        "//h:99999/",
        "http://",
    ],
)
def test_join_gives_none_for_what_is_no_http_url(href: str) -> None:
    assert Base("http://h/").join(href) is None


def test_a_base_that_is_no_http_url_is_refused() -> None:
    with pytest.raises(InvalidURL):
        Base("about:blank")


def test_a_base_shows_its_canonical_url() -> None:
    assert repr(Base("HTTP://h#x")) == "Base('http://h/')"


def test_join_all_gives_distinct_urls_in_order_of_appearance() -> None:
    hrefs = ["b#1", "a", "b#2", "./b", "mailto:x", "a?", "http://h/c", "//h:80/c#"]
    assert Base("http://h/x").join_all(hrefs) == ["http://h/b", "http://h/a", "http://h/c"]


def test_join_all_leaves_out_references_into_the_page_itself() -> None:
    assert Base("http://h/x").join_all(["", "#", "#top"]) == []
    assert Base("http://h/x").join_all(["x#top"]) == ["http://h/x"]


def test_join_all_keeps_a_space_that_only_a_fragment_follows() -> None:
    assert Base("http://h/").join_all(["a #b", "a "]) == ["http://h/a%20", "http://h/a"]


@pytest.mark.parametrize(
    ("href", "port"),
    [
        ("http://a.test/", 80),
        ("https://a.test/", 443),
        ("http://a.test:8080/:9", 8080),
        ("https://user:1@a.test/", 443),
        ("https://user:1@a.test:8/", 8),
        ("http://[::1]/", 80),
        ("http://[::1]:443/", 443),
        ("http://127.0.0.1/", 80),
    ],
)
def test_the_port_is_told_also_where_it_is_the_default(href: str, port: int) -> None:
    assert urls.port(href) == port


@pytest.mark.parametrize(
    ("href", "expected_origin", "expected_host"),
    [
        ("http://h/", "http://h", "h"),
        ("https://h.example:8443/a?b@c", "https://h.example:8443", "h.example"),
        ("http://u:p@h:81/a", "http://h:81", "h"),
        ("http://u@[::1]:81/a", "http://[::1]:81", "[::1]"),
        ("http://[::1]/", "http://[::1]", "[::1]"),
        ("http://h", "http://h", "h"),
    ],
)
def test_origin_and_host(href: str, expected_origin: str, expected_host: str) -> None:
    assert origin(href) == expected_origin
    assert host(href) == expected_host


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("example.com", "example.com"),
        ("www.example.com", "example.com"),
        ("www.example.com.", "example.com"),
        ("WWW.Example.COM", "example.com"),
        ("a.b.bbc.co.uk", "bbc.co.uk"),
        ("co.uk", "co.uk"),
        ("me.github.io", "me.github.io"),
        ("xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn"),
        ("a.xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn"),
        ("a.b.unknown", "b.unknown"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("", ""),
        (".", ""),
        ("..", ""),
    ],
)
def test_registrable_domain(name: str, domain: str) -> None:
    assert registrable_domain(name) == domain


def test_importing_does_not_read_the_public_suffix_list() -> None:
    program = "import sys, scrapekit.urls; sys.exit('publicsuffixlist' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("href", "bare", "authorization"),
    [
        ("http://h/a@b", "http://h/a@b", None),
        ("http://u:p@h:81/a?b", "http://h:81/a?b", "Basic dTpw"),
        ("http://u@h/", "http://h/", "Basic dTo="),
        ("http://:p@h/", "http://h/", "Basic OnA="),
        ("http://%C3%A9:%40%3A@h/", "http://h/", "Basic w6k6QDo="),
    ],
)
def test_split_userinfo(href: str, bare: str, authorization: str | None) -> None:
    assert split_userinfo(normalize(href)) == (bare, authorization)


def test_a_fingerprint_is_64_bits_and_the_same_in_every_process() -> None:
    assert fingerprint("http://h/") == 12065427263110895659
    assert 0 <= fingerprint("http://h/?b&a", "POST", b"x") < 2**64


def test_query_parameters_count_in_any_order() -> None:
    assert fingerprint("http://h/?b=1&a=2") == fingerprint("http://h/?a=2&b=1")


def test_values_of_one_parameter_count_in_their_order() -> None:
    assert fingerprint("http://h/?a=2&b&a=1") == fingerprint("http://h/?b&a=2&a=1")
    assert fingerprint("http://h/?a=2&a=1") != fingerprint("http://h/?a=1&a=2")


@pytest.mark.parametrize(
    "other",
    [
        ("http://h/b", "GET", b""),
        ("https://h/a", "GET", b""),
        ("http://h/a?", "GET", b""),
        ("http://h/a", "POST", b""),
        ("http://h/a", "GET", b"x"),
        ("http://h/a&b", "GET", b""),
    ],
)
def test_different_requests_have_different_fingerprints(other: tuple[str, str, bytes]) -> None:
    assert fingerprint(*other) != fingerprint("http://h/a")


def test_the_path_is_not_sorted() -> None:
    assert fingerprint("http://h/b&a?c&d") != fingerprint("http://h/a&b?c&d")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/", "http://h/?b=1&b=2&c=x+y%26&d=1.5&e=%C3%A9"),
        ("http://h/?", "http://h/?b=1&b=2&c=x+y%26&d=1.5&e=%C3%A9"),
        ("http://h/?a#f", "http://h/?a&b=1&b=2&c=x+y%26&d=1.5&e=%C3%A9#f"),
        ("http://h/?a&#f?", "http://h/?a&b=1&b=2&c=x+y%26&d=1.5&e=%C3%A9#f?"),
    ],
)
def test_with_query_appends_before_the_fragment(url: str, expected: str) -> None:
    assert with_query(url, {"b": [1, 2], "c": "x y&", "d": 1.5, "e": "é"}) == expected


def test_with_query_of_nothing_changes_nothing() -> None:
    assert with_query("http://h/?#f", {}) == "http://h/?#f"
    assert with_query("http://h/", {"a": []}) == "http://h/"


@pytest.mark.parametrize(
    ("href", "encoding", "expected"),
    [
        ("/é?q=é%20 x&é#é", "cp1252", "/é?q=%E9%20 x&%E9#é"),
        ("?日本", "cp932", "?%93%FA%96{"),
        ("?日", "iso2022_jp", "?%1B$BF|%1B(B"),
        ("?é☃&#233;", "cp1252", "?%E9%26%239731%3B&#233;"),
        ("?\ud800", "cp1252", "?%26%2365533%3B"),
        ("?é", "utf-8", "?é"),
        ("?é", "utf-16-le", "?é"),
        ("?é", "replacement", "?é"),
        ("/é", "cp1252", "/é"),
        ("/é#?é", "cp1252", "/é#?é"),
        ("?a", "cp1252", "?a"),
    ],
)
def test_encode_query_uses_the_encoding_of_the_page(
    href: str, encoding: str, expected: str
) -> None:
    assert encode_query(href, encoding) == expected


_ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
_URL_LIKE = st.lists(
    st.sampled_from([*"/?#@:.&= %\\[]-", "http:", "https://", "é", "h", "a=1", "..", "\ud800", "1"])
    | st.characters(exclude_categories=()),
    max_size=12,
).map("".join)
_TEXT = _ANY_TEXT | _URL_LIKE | _URL_LIKE.map("http://h".__add__) | _URL_LIKE.map("//".__add__)


def _normalized(text: str) -> str | None:
    try:
        return normalize(text)
    except InvalidURL:
        return None


@given(_TEXT)
@example("http://h/?#?")
def test_normalising_twice_changes_nothing(text: str) -> None:
    href = _normalized(text)
    assert href is None or normalize(href) == href


@given(_TEXT)
def test_a_canonical_url_is_ascii_and_has_a_host_and_no_fragment(text: str) -> None:
    href = _normalized(text)
    if href is not None:
        assert href.isascii()
        assert href.startswith(("http://", "https://"))
        assert "#" not in href
        assert not any(character <= " " for character in href)
        assert host(href)
        assert normalize(origin(href)) == origin(href) + "/"


@given(_TEXT)
def test_join_never_raises_and_gives_canonical_urls_alone(text: str) -> None:
    joined = Base("https://h/a/b?c").join(text)
    assert joined is None or normalize(joined) == joined


@given(_TEXT)
def test_an_absolute_url_joins_to_itself(text: str) -> None:
    href = _normalized(text)
    assert href is None or Base("https://h/a/b?c").join(href) == href


@given(st.lists(_TEXT, max_size=6))
def test_join_all_is_join_without_repeats(texts: list[str]) -> None:
    base = Base("http://h/a/b?c")
    into_other_pages = [text for text in texts if text.partition("#")[0]]
    expected = dict.fromkeys(filter(None, map(base.join, into_other_pages)))
    assert base.join_all(texts) == list(expected)


@given(st.lists(_TEXT, max_size=6))
def test_join_all_makes_no_difference_between_the_pages_of_a_folder(texts: list[str]) -> None:
    for page in ("http://h/a/b?c", "http://h/a/", "http://h/a/d?e/f", "http://h/g/"):
        base = Base(page)
        into_other_pages = [text for text in texts if text.partition("#")[0]]
        assert base.join_all(texts) == list(
            dict.fromkeys(filter(None, map(base.join, into_other_pages)))
        )


@given(_TEXT)
def test_userinfo_is_split_off_without_a_trace(text: str) -> None:
    href = _normalized(text)
    if href is not None:
        bare, _ = split_userinfo(href)
        assert split_userinfo(bare) == (bare, None)
        assert normalize(bare) == bare
        assert origin(bare) == origin(href)


@given(_TEXT)
def test_registrable_domain_is_a_tail_of_the_host(text: str) -> None:
    href = _normalized(text)
    if href is not None:
        domain = registrable_domain(host(href))
        assert host(href).rstrip(".").endswith(domain)
        assert registrable_domain(domain) == domain


@given(st.lists(st.sampled_from(["a=1", "b=2", "c", "", "d=%20"]), unique=True), st.randoms())
def test_shuffled_parameters_have_one_fingerprint(parameters: list[str], dice: object) -> None:
    shuffled = sorted(parameters, key=lambda _: dice.random())  # type: ignore[attr-defined]
    first, second = ("http://h/?" + "&".join(order) for order in (parameters, shuffled))
    assert fingerprint(first) == fingerprint(second)


@given(_TEXT, st.sampled_from(["cp1252", "cp932", "iso2022_jp", "big5hkscs", "gb18030", "nope"]))
def test_encode_query_never_raises_and_leaves_the_path_alone(text: str, encoding: str) -> None:
    encoded = encode_query(text, encoding)
    assert encoded.partition("?")[0] == text.partition("?")[0]


@pytest.mark.parametrize("host", ["com", "co.uk", "github.io", "unlisted", "xn--p1ai", "co.uk."])
def test_below_a_public_suffix_everybody_may_register(host: str) -> None:
    assert urls.is_public_suffix(host)


@pytest.mark.parametrize("host", ["bbc.co.uk", "me.github.io", "a.unlisted", "127.0.0.1", "[::1]"])
def test_other_names_belong_to_somebody(host: str) -> None:
    assert not urls.is_public_suffix(host)


def test_a_page_counts_by_itself_in_each_session() -> None:
    url = "http://a.test/?b=1&a=2"
    named = {urls.fingerprint(url, session=name) for name in ("", "x", "y")}
    assert len(named) == 3
    assert urls.fingerprint(url, session="x") == urls.fingerprint(
        "http://a.test/?a=2&b=1", session="x"
    )


def test_links_that_are_long_are_not_kept() -> None:
    urls._joined.clear()
    base = urls.Base("http://a.test/folder/page")
    long = "x" * 1_000_000
    assert base.join_all([long, "y"]) == [f"http://a.test/folder/{long}", "http://a.test/folder/y"]
    assert [*urls._joined["http://a.test/folder"]] == ["y"]
    deep = urls.Base(f"http://a.test/{long}/page")
    assert deep.join_all(["y"]) == [f"http://a.test/{long}/y"]
    assert [*urls._joined] == ["http://a.test/folder"]
