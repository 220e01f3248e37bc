"""What is sent: each request as bytes, by each kind of route."""

from __future__ import annotations

from typing import Any

import pytest

from scrapekit import urls
from scrapekit.errors import UsageError
from scrapekit.messages import Request
from scrapekit.settings import Settings
from scrapekit.transport.fast.request import encode
from scrapekit.transport.fast.route import Peer, Routes
from scrapekit.transport.fields import default_fields, encode_fields

PLAIN = Settings(user_agent="robot/1")


def sent(url: str, settings: Settings = PLAIN, proxy: str | None = None, **options: Any) -> bytes:
    request = Request(url, **options)
    route = Routes(default_fields(settings)).find(urls.origin(request.url), proxy)
    return encode(request, route)


def lines(text: bytes) -> list[str]:
    return text.partition(b"\r\n\r\n")[0].decode().split("\r\n")


def test_a_plain_page_takes_the_usual_header() -> None:
    text = sent("http://shop.test:81/a?b=%7E")
    assert lines(text)[:3] == ["GET /a?b=%7E HTTP/1.1", "Host: shop.test:81", "User-Agent: robot/1"]
    assert text.endswith(b"\r\n\r\n")


def test_own_headers_take_the_place_of_the_usual_ones() -> None:
    settings = Settings(headers={"X-One": "1", "Host": "other.test"})
    got = lines(sent("http://shop.test/", settings, headers={"x-one": "2", "ACCEPT": "*/*"}))
    assert got[1] == "Host: other.test"
    assert [line for line in got if line.lower().startswith(("x-one", "accept:"))] == [
        "x-one: 2",
        "ACCEPT: */*",
    ]
    assert lines(sent("http://shop.test/", headers={"host": "h.test"})).count("host: h.test") == 1


def test_a_body_has_its_length_and_so_has_its_lack() -> None:
    assert sent("http://a.test/", body="héllo").endswith(b"\r\n\r\nh\xc3\xa9llo")
    assert "Content-Length: 6" in lines(sent("http://a.test/", body="héllo"))
    assert "Content-Length: 0" in lines(sent("http://a.test/", method="POST"))
    assert "Content-Length" not in sent("http://a.test/", method="DELETE").decode()


@pytest.mark.parametrize(
    "headers", [{"Content-Length": "4"}, {"content-length": "x"}, {"Transfer-Encoding": "chunked"}]
)
def test_the_framing_is_not_the_requests_to_say(headers: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="can't be put into HTTP"):
        sent("http://a.test/", body="hello", headers=headers)


def test_expectations_are_sent_and_not_waited_for() -> None:
    # RFC 9110, 10.1.1: a client needn't wait for the 100.
    text = sent("http://a.test/", body="hello", headers={"Expect": "100-continue"})
    assert "Expect: 100-continue" in lines(text)
    assert text.endswith(b"hello")


@pytest.mark.parametrize("value", ["a\r\nX-B: c", "a\nb", "a\0b"])
def test_a_field_is_one_line(value: str) -> None:
    with pytest.raises(ValueError, match="isn't one line"):
        encode_fields({"X-A": value})


def test_a_proxy_is_told_the_whole_url_and_its_own_credentials() -> None:
    got = lines(sent("http://a.test/b", proxy="http://me:pass@proxy.test:3128"))
    assert got[:2] == ["GET http://a.test/b HTTP/1.1", "Host: a.test"]
    assert got.count("Proxy-Authorization: Basic bWU6cGFzcw==") == 1


def test_behind_a_tunnel_nothing_is_for_the_proxy() -> None:
    got = lines(sent("https://a.test/b", proxy="http://me:pass@proxy.test"))
    assert got[0] == "GET /b HTTP/1.1"
    assert not [line for line in got if line.startswith("Proxy-")]


@pytest.mark.parametrize(
    ("origin", "proxy", "secured", "is_tunnel"),
    [
        ("http://a.test", None, None, False),
        ("https://a.test", None, Peer("a.test", 443, True), False),
        ("http://a.test", "http://p.test", None, False),
        ("http://a.test", "https://p.test:1", Peer("p.test", 1, True), False),
        ("https://[::1]:8", "http://p.test", Peer("[::1]", 8, True), True),
    ],
)
def test_with_whom_tls_is_spoken(
    origin: str, proxy: str | None, secured: Peer | None, is_tunnel: bool
) -> None:
    route = Routes(default_fields(PLAIN)).find(origin, proxy)
    assert (route.secured, route.is_tunnel) == (secured, is_tunnel)


def test_tls_inside_of_tls_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match="use an http proxy, or transport = aiohttp"):
        sent("https://a.test/", proxy="https://p.test")


def test_a_route_shows_no_credentials() -> None:
    route = Routes(default_fields(PLAIN)).find("http://a.test", "http://me:secret@p.test")
    assert "p.test" in repr(route)
    assert "secret" not in repr(route)
    assert "bWU6" not in repr(route)


def test_routes_are_made_once_and_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrapekit.transport.fast.route._MAX_ROUTES", 2)
    routes = Routes(default_fields(PLAIN))
    assert routes.find("http://a.test", None) is routes.find("http://a.test", None)
    for number in range(9):
        routes.find(f"http://{number}.test", None)
    assert len(routes._routes) <= 2
