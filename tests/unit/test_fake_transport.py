"""FakeTransport: a web made of a dict."""

from __future__ import annotations

import pytest

from scrapekit.budget import ByteBudget
from scrapekit.errors import ConnectError, InvalidURL
from scrapekit.messages import Request, Response
from scrapekit.transport.base import Transport
from scrapekit.transport.fake import FakeTransport, Script
from scrapekit.transport.http import HttpTransport

URL = "http://site.test/page"


async def fetch(transport: Transport, url: str = URL) -> Response:
    with ByteBudget(1_000).account() as account:
        return await transport.fetch(Request(url), account)


async def bodies(script: Script, count: int) -> list[bytes]:
    transport = FakeTransport({URL: script})
    return [(await fetch(transport)).body for _ in range(count)]


async def test_text_is_an_html_page() -> None:
    response = await fetch(FakeTransport({URL: "<p>é"}))
    assert (response.status, response.url, response.body) == (200, URL, "<p>é".encode())
    assert response.headers["content-type"] == "text/html; charset=utf-8"


async def test_bytes_are_a_page_of_no_type() -> None:
    response = await fetch(FakeTransport({URL: b"\x89PNG"}))
    assert (response.status, response.body) == (200, b"\x89PNG")
    assert "content-type" not in response.headers


async def test_a_response_is_given_for_the_request_made() -> None:
    page = Response(URL, 503, {"Retry-After": "9"}, b"later")
    transport = FakeTransport({URL: page})
    response = await fetch(transport)
    assert (response.status, response.body, response.headers["retry-after"]) == (503, b"later", "9")
    assert response.request is transport.requests[0]


async def test_an_exception_is_raised() -> None:
    with pytest.raises(ConnectError):
        await fetch(FakeTransport({URL: ConnectError("down", url=URL)}))


async def test_a_list_answers_one_call_each_and_its_last_for_ever_after() -> None:
    assert await bodies([b"one", b"two"], 4) == [b"one", b"two", b"two", b"two"]


async def test_a_list_may_hold_exceptions() -> None:
    transport = FakeTransport({URL: [ConnectError("down"), "<p>up"]})
    with pytest.raises(ConnectError):
        await fetch(transport)
    assert (await fetch(transport)).body == b"<p>up"


async def test_a_list_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FakeTransport({URL: []})


async def test_a_callable_makes_the_answer_from_the_request() -> None:
    transport = FakeTransport({URL: lambda request: f"<p>{request.method}"})
    assert (await fetch(transport)).body == b"<p>GET"


@pytest.mark.parametrize("url", ["http://site.test/other", "http://site.test/robots.txt"])
async def test_a_url_that_is_not_there_is_not_found(url: str) -> None:
    response = await fetch(FakeTransport({URL: ""}), url)
    assert (response.status, response.body) == (404, b"")


async def test_the_status_of_what_is_not_there_can_be_chosen() -> None:
    assert (await fetch(FakeTransport({}, default_status=500))).status == 500


async def test_urls_are_compared_in_canonical_form() -> None:
    transport = FakeTransport({"HTTP://Site.Test:80/a/../page#top": "<p>hi"})
    assert (await fetch(transport)).status == 200
    with pytest.raises(InvalidURL):
        FakeTransport({"/page": ""})


async def test_requests_are_recorded() -> None:
    transport = FakeTransport({URL: "<p>hi"})
    await fetch(transport)
    await fetch(transport, "http://site.test/other")
    assert transport.urls == [URL, "http://site.test/other"]
    assert repr(transport) == "<FakeTransport pages=1 requests=2>"


async def test_bodies_are_taken_from_the_account() -> None:
    with ByteBudget(1_000).account() as account:
        await FakeTransport({URL: "12345"}).fetch(Request(URL), account)
        assert account.held == 5


async def test_it_is_opened_and_closed_like_the_real_one() -> None:
    async with FakeTransport({URL: "<p>hi"}) as transport:
        await fetch(transport)
    kinds: list[type[Transport]] = [FakeTransport, HttpTransport]
    assert all(hasattr(kind, "__aenter__") for kind in kinds)
