from __future__ import annotations

import base64

import pytest

from scrapekit.authority import authorization_of, check_proxy, without_userinfo
from scrapekit.errors import UsageError
from scrapekit.guard import Credentials
from scrapekit.messages import Request

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("auth", "pair"),
    [
        (("me", "pass"), "me:pass"),
        ("me:pass", "me:pass"),
        ("me:", "me:"),
        (":pass", ":pass"),
        (("me", "pa:ss"), "me:pa:ss"),
        (("Bearer me", "x"), "Bearer me:x"),
        (("jürgen", "größe"), "jürgen:größe"),
    ],
)
def test_a_pair_is_basic_in_utf8(auth: str | tuple[str, str], pair: str) -> None:
    scheme, _, value = authorization_of(auth).partition(" ")
    assert (scheme, base64.b64decode(value).decode()) == ("Basic", pair)


@pytest.mark.parametrize("auth", ["Bearer abc.DEF-1==", "bearer  abc.DEF-1=="])
def test_a_token_is_bearer(auth: str) -> None:
    assert authorization_of(auth) == "Bearer abc.DEF-1=="


@pytest.mark.parametrize(
    "auth",
    [
        SECRET,
        "",
        "Bearer",
        f"Bearer {SECRET} x",
        ("me",),
        (1, 2),
        5,
        f"me:{SECRET}\n",
        ("a:b", "c"),
    ],
)
def test_nothing_else_is_and_no_error_shows_it(auth: str) -> None:
    with pytest.raises(UsageError) as caught:
        authorization_of(auth)
    assert SECRET not in str(caught.value)


def test_a_request_takes_it_as_a_header_of_its_own() -> None:
    request = Request("https://api.test/", auth="Bearer t")
    assert request.headers == {"Authorization": "Bearer t"}
    assert request.replace(auth="Bearer u").headers == {"Authorization": "Bearer u"}
    assert request.replace(url="https://api.test/2").headers == {"Authorization": "Bearer t"}
    assert Request("https://me:x@api.test/", auth="Bearer t").headers["Authorization"] == "Bearer t"


def test_each_origin_gets_its_own_and_no_other() -> None:
    credentials = Credentials(
        {"X-Key": "1"}, {}, {"https://API.test:443/": "Bearer t", "http://other.test": "a:b"}
    )
    credentials.add_start("https://start.test/")

    def headers(url: str, **own: str) -> dict[str, str]:
        return dict(credentials.dress(Request(url, headers=own)).headers)

    assert headers("https://api.test/v1") == {"Authorization": "Bearer t"}
    assert headers("http://api.test/") == {}
    assert headers("https://api.test:8443/") == {}
    assert headers("https://www.api.test/") == {}
    assert headers("http://other.test/") == {"Authorization": "Basic YTpi"}
    assert headers("https://start.test/") == {"X-Key": "1"}
    assert headers("https://api.test/", authorization="own") == {"authorization": "own"}


def test_a_proxy_is_checked_and_not_shown() -> None:
    Request("https://a.test/", proxy=f"http://me:{SECRET}@proxy:3128")
    for wrong in (f"me:{SECRET}@proxy", f"socks5://me:{SECRET}@proxy", ""):
        with pytest.raises(UsageError) as caught:
            check_proxy(wrong)
        assert SECRET not in str(caught.value)


def test_userinfo_is_cut() -> None:
    assert without_userinfo("http://me:p@ss@proxy:3128") == "http://proxy:3128"
    assert without_userinfo("http://proxy") == "http://proxy"
