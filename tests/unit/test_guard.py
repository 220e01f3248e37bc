from __future__ import annotations

import itertools
from typing import Any

import pytest

from scrapekit.authority import PUBLIC_HEADERS
from scrapekit.errors import RedirectError, Refused, UsageError
from scrapekit.guard import Credentials, Scope, public_headers, redirect
from scrapekit.messages import Request

HOME = "https://shop.test/a"


def scope(*domains: str) -> Scope:
    return Scope(list(domains))


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "http://example.com:8080/x",
        "https://www.example.com/",
        "https://a.b.example.com./",
        "https://example.com./",
    ],
)
def test_a_domain_includes_its_subdomains_and_every_port(url: str) -> None:
    assert scope("example.com").allows(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://badexample.com/",
        "https://example.com.evil.test/",
        "https://example.org/",
        "https://com/",
        "https://evil.test/example.com",
        "https://evil.test/?example.com",
        "https://[::1]/",
    ],
)
def test_names_that_look_alike_are_outside(url: str) -> None:
    assert not scope("example.com").allows(url)
    with pytest.raises(Refused) as caught:
        scope("example.com").check(url)
    assert (caught.value.reason, caught.value.url) == ("off-domain", url)


def test_a_subdomain_does_not_include_its_parent() -> None:
    assert not scope("www.example.com").allows("https://example.com/")


@pytest.mark.parametrize(
    ("domain", "url"),
    [
        ("EXAMPLE.com", "https://example.com/"),
        (".example.com", "https://www.example.com/"),
        ("example.com.", "https://example.com/"),
        ("münchen.test", "https://www.xn--mnchen-3ya.test/"),
        ("xn--mnchen-3ya.test", "https://xn--mnchen-3ya.test/"),
        ("127.0.0.1", "http://127.0.0.1:8000/"),
        ("[::1]", "http://[::1]:8000/"),
        ("localhost", "http://localhost/"),
        ("test", "http://any.test/"),
    ],
)
def test_a_domain_may_be_written_in_many_ways(domain: str, url: str) -> None:
    assert scope(domain).allows(url)
    assert not scope(domain).allows("https://elsewhere.example/")


@pytest.mark.parametrize(
    "domain",
    [
        "",
        ".",
        "https://example.com",
        "example.com/shop",
        "example.com:8080",
        "user@example.com",
        "*.example.com",
        "exa mple.com",
        " example.com",
        "::1",
        None,
    ],
)
def test_what_would_never_match_a_host_is_refused(domain: Any) -> None:
    with pytest.raises(UsageError, match=r"no host name.*'example.com'"):
        scope("fine.test", domain)


def test_a_string_is_no_list_of_domains() -> None:
    with pytest.raises(UsageError, match=r"write a list: \['example.com'\]"):
        Scope("example.com")


def test_a_star_allows_everything() -> None:
    everywhere = scope("*")
    assert everywhere.allows("https://any.test/")
    assert everywhere.allows("http://[::1]/")
    assert repr(everywhere) == "<Scope *>"


def test_an_empty_list_allows_nothing() -> None:
    nowhere = scope()
    nowhere.add_start("https://example.com/")
    assert not nowhere.allows("https://example.com/")


def test_start_requests_open_their_registrable_domain_if_none_is_given() -> None:
    opened = Scope(None)
    assert not opened.allows("https://www.bbc.co.uk/")
    opened.add_start("https://www.bbc.co.uk/news")
    assert opened.allows("https://www.bbc.co.uk/")
    assert opened.allows("https://sport.bbc.co.uk/")
    assert not opened.allows("https://itv.co.uk/")
    opened.add_start("http://127.0.0.1:8000/")
    assert opened.allows("http://127.0.0.1:9000/")
    assert not opened.allows("http://0.0.1/")
    assert repr(opened) == "<Scope 127.0.0.1 bbc.co.uk>"


def test_start_requests_do_not_widen_a_scope_that_is_given() -> None:
    given = scope("example.com")
    given.add_start("https://other.test/")
    assert not given.allows("https://other.test/")


def test_another_limit_takes_the_place_of_the_first() -> None:
    changed = scope("example.com")
    assert changed.allows("https://example.com/")
    changed.limit_to(["other.test"])
    assert not changed.allows("https://example.com/")
    assert changed.allows("https://other.test/")
    changed.limit_to(None)
    changed.add_start("https://example.com/")
    assert changed.allows("https://example.com/")


SECRETS = {"X-Api-Key": "k", "Authorization": "t", "Accept-Language": "de"}


def test_credentials_go_to_the_origins_of_start_requests_only() -> None:
    credentials = Credentials(SECRETS, {"session": "1"})
    assert credentials.dress(Request(HOME)) == Request(HOME)
    credentials.add_start("https://shop.test/start")
    dressed = credentials.dress(Request(HOME))
    assert dressed.headers == {"X-Api-Key": "k", "Authorization": "t"}
    assert dressed.cookies == {"session": "1"}


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.test/",
        "https://shop.test:8443/",
        "https://www.shop.test/",
        "https://evil.test/",
    ],
)
def test_another_scheme_port_or_host_is_another_origin(url: str) -> None:
    credentials = Credentials(SECRETS, {"session": "1"})
    credentials.add_start(HOME)
    assert credentials.dress(Request(url)) == Request(url)


def test_what_a_request_has_of_its_own_wins() -> None:
    credentials = Credentials(SECRETS, {"session": "1", "theme": "dark"})
    credentials.add_start(HOME)
    dressed = credentials.dress(
        Request(HOME, headers={"AUTHORIZATION": "mine", "X-Own": "1"}, cookies={"session": "2"})
    )
    assert dressed.headers == {"X-Api-Key": "k", "AUTHORIZATION": "mine", "X-Own": "1"}
    assert dressed.cookies == {"session": "2", "theme": "dark"}


def test_dressing_changes_nothing_else() -> None:
    credentials = Credentials(SECRETS, {})
    credentials.add_start(HOME)
    request = Request(HOME, "parse", json=1, meta={"a": 1}, priority=2, unique=False).at_depth(3)
    dressed = credentials.dress(request)
    assert dressed.replace(headers=request.headers) == request


def test_without_secrets_requests_are_left_as_they_are() -> None:
    credentials = Credentials({"Accept-Language": "de"}, {})
    credentials.add_start(HOME)
    request = Request(HOME)
    assert credentials.dress(request) is request


def test_public_headers_are_few_and_say_nothing_of_who_asks() -> None:
    assert public_headers(SECRETS) == {"Accept-Language": "de"}
    assert public_headers({"USER-AGENT": "x", "cookie": "y", "Referer": "z"}) == {"USER-AGENT": "x"}
    assert PUBLIC_HEADERS.isdisjoint({"authorization", "cookie", "proxy-authorization", "origin"})


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
STATUSES = (301, 302, 303, 307, 308)
# Fetch standard, "HTTP-redirect fetch", step 12: what becomes a GET.
BECOMES_GET = {
    ("POST", 301),
    ("POST", 302),
    *((method, 303) for method in METHODS if method not in ("GET", "HEAD")),
}


@pytest.mark.parametrize(("method", "status"), [*itertools.product(METHODS, STATUSES)])
def test_methods_change_as_the_fetch_standard_says(method: str, status: int) -> None:
    request = Request(HOME, method=method, headers={"X-A": "1"})
    after = redirect(request, HOME, status, "/b")
    assert after.method == ("GET" if (method, status) in BECOMES_GET else method)
    assert after.url == "https://shop.test/b"
    assert after.headers == {"X-A": "1"}


@pytest.mark.parametrize(("method", "status"), [*itertools.product(METHODS[2:], STATUSES)])
def test_bodies_go_where_the_method_goes(method: str, status: int) -> None:
    headers = {"X-A": "1", "Content-Language": "de", "content-location": "/x"}
    request = Request(HOME, method=method, json={"a": 1}, headers=headers)
    after = redirect(request, HOME, status, "/b")
    if (method, status) in BECOMES_GET:
        assert after.body == b""
        assert after.headers == {"X-A": "1"}
    else:
        assert after.body == request.body
        assert after.headers == request.headers


@pytest.mark.parametrize(("method", "status"), [*itertools.product(METHODS[2:], STATUSES)])
def test_no_body_changes_its_origin(method: str, status: int) -> None:
    request = Request(HOME, method=method, json={"a": 1})
    if (method, status) in BECOMES_GET:
        after = redirect(request, HOME, status, "https://other.test/")
        assert (after.method, after.body, after.headers) == ("GET", b"", {})
    else:
        with pytest.raises(RedirectError, match=r"body to https://other\.test"):
            redirect(request, HOME, status, "https://other.test/")


@pytest.mark.parametrize(
    "location",
    [
        "http://shop.test/b",
        "https://shop.test:8443/b",
        "https://www.shop.test/b",
        "//evil.test/b",
        "https://evil.test/b",
        "https://shop.test@evil.test/b",
        "https:\\\\evil.test/b",
        "/\\evil.test/b",
    ],
)
@pytest.mark.parametrize("status", STATUSES)
def test_nothing_private_goes_to_another_origin(location: str, status: int) -> None:
    private = {"Authorization": "t", "Cookie": "a=b", "X-Token": "k", "Referer": HOME}
    request = Request(HOME, headers={**private, "Accept-Language": "de"}, cookies={"session": "1"})
    after = redirect(request, HOME, status, location)
    assert after.headers == {"Accept-Language": "de"}
    assert after.cookies == {}


def test_what_was_taken_away_does_not_come_back_with_the_way_back() -> None:
    request = Request(HOME, headers={"Authorization": "t"}, cookies={"session": "1"})
    there = redirect(request, HOME, 302, "https://evil.test/")
    back = redirect(there, "https://evil.test/", 302, HOME)
    assert (back.url, back.headers, back.cookies) == (HOME, {}, {})


@pytest.mark.parametrize("location", ["b", "/b", "?q", "https://shop.test:443/b", "//shop.test/b"])
def test_the_same_origin_keeps_all(location: str) -> None:
    request = Request(HOME, headers={"Authorization": "t"}, cookies={"session": "1"})
    after = redirect(request, HOME, 302, location)
    assert after.headers == {"Authorization": "t"}
    assert after.cookies == {"session": "1"}


def test_a_password_in_a_redirect_is_not_used() -> None:
    after = redirect(Request(HOME), HOME, 302, "https://user:secret@shop.test/b")
    assert after == Request("https://shop.test/b")


def test_a_fragment_is_cut() -> None:
    assert redirect(Request(HOME), HOME, 302, "/b#top").url == "https://shop.test/b"


def test_what_the_crawl_knows_of_the_request_stays_with_it() -> None:
    request = Request(HOME, "parse_item", meta={"a": 1}, priority=4, unique=False).at_depth(3)
    after = redirect(request, HOME, 302, "/b")
    assert after.replace(url=HOME) == request


@pytest.mark.parametrize(
    "location", [None, "", "mailto:a@b.test", "ftp://x/", "http://[", "data:,x"]
)
def test_a_redirect_without_a_usable_target_is_an_error(location: str | None) -> None:
    with pytest.raises(RedirectError, match="status 302 leads to") as caught:
        redirect(Request(HOME), HOME, 302, location)
    assert caught.value.url == HOME
