from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from multidict import CIMultiDict

from scrapekit import Request, Response, Spider, collect, lane
from scrapekit.errors import InvalidURL, NotAResult, UnknownCallback
from scrapekit.events import PageDone
from scrapekit.testing import FakeTransport, ManualClock, Recorder, call, respond

PAGE = '<h1>Tea</h1><a href="/next">next</a>'


@dataclass
class Title:
    text: str | None


def returns_nothing(response: Response) -> None:
    pass


def returns_one(response: Response) -> Title:
    return Title(response.get("h1"))


def returns_a_list(response: Response) -> list[Any]:
    return [Title(response.get("h1")), response.follow_all()]


def yields(response: Response) -> Iterator[Any]:
    yield Title(response.get("h1"))
    yield response.follow_all()


async def returns_later(response: Response) -> list[Any]:
    return [Title(response.get("h1")), *response.follow_all()]


async def yields_later(response: Response) -> AsyncIterator[Any]:
    yield Title(response.get("h1"))
    yield response.follow_all()


@lane("process")
def yields_elsewhere(response: Response) -> Iterator[Any]:
    yield from yields(response)


@lane("loop")
def yields_on_the_loop(response: Response) -> Iterator[Any]:
    yield from yields(response)


class Shop(Spider):
    start_urls = ("https://shop.example/",)
    rate: float = 1.0

    def parse(self, response: Response) -> Iterator[Any]:
        yield {"name": response.get("h1"), "price": 3 * self.rate}
        yield from response.follow_all("a", self.parse_detail)

    async def parse_detail(self, response: Response) -> dict[str, Any]:
        return {"detail": response.url}

    def parse_badly(self, response: Response) -> Request:
        return response.follow("/next", "parse_detial")

    def parse_to_elsewhere(self, response: Response) -> Request:
        return response.follow("/next", yields)


def test_respond_makes_a_page_out_of_text() -> None:
    response = respond("<h1>Café</h1>")
    assert response.status == 200
    assert response.url == "https://example.com/"
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.get("h1") == "Café"


def test_respond_leaves_the_encoding_of_bytes_to_be_found_out() -> None:
    response = respond('<meta charset="iso-8859-2"><h1>Łódź</h1>'.encode("iso-8859-2"))
    assert "Content-Type" not in response.headers
    assert response.get("h1") == "Łódź"


def test_respond_takes_the_page_as_bare_as_it_comes() -> None:
    assert respond(status=404).body == b""
    assert respond(status=404).status == 404


def test_headers_given_to_respond_win_whatever_their_case() -> None:
    response = respond('{"a": 1}', headers={"content-type": "application/json", "X-Page": "7"})
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["x-page"] == "7"
    assert response.json() == {"a": 1}


def test_headers_given_to_respond_leave_the_content_type_of_text_alone() -> None:
    response = respond("<p>", headers={"X-Page": "7"})
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"


def test_headers_of_respond_may_have_several_lines_of_one_name() -> None:
    lines = CIMultiDict([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    response = respond("<p>", headers=lines)
    assert isinstance(response.headers, CIMultiDict)
    assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Content-Type" not in lines


def test_links_are_relative_to_the_url_given_to_respond() -> None:
    response = respond(PAGE, url="https://shop.example/tea/")
    assert response.links() == ["https://shop.example/next"]
    assert response.request.url == "https://shop.example/tea/"


def test_respond_answers_the_request_it_is_given() -> None:
    request = Request("https://shop.example/tea", meta={"shelf": 3})
    response = respond(PAGE, request=request)
    assert response.url == request.url
    assert response.meta == {"shelf": 3}


def test_respond_can_answer_from_elsewhere_as_after_a_redirect() -> None:
    request = Request("https://shop.example/tea")
    response = respond(PAGE, url="https://shop.example/teas/1", request=request)
    assert response.url == "https://shop.example/teas/1"
    assert response.request is request


def test_respond_refuses_what_is_no_url() -> None:
    with pytest.raises(InvalidURL):
        respond(PAGE, url="/tea")


@pytest.mark.parametrize(
    "callback",
    [
        returns_a_list,
        yields,
        returns_later,
        yields_later,
        yields_elsewhere,
        yields_on_the_loop,
    ],
)
async def test_call_flattens_the_results_of_any_callback(callback: Callable[..., Any]) -> None:
    title, request = await call(callback, respond(PAGE))
    assert title == Title("Tea")
    assert isinstance(request, Request)
    assert request.url == "https://example.com/next"


async def test_call_makes_a_list_of_one_result_and_of_none() -> None:
    assert await call(returns_one, respond(PAGE)) == [Title("Tea")]
    assert await call(returns_nothing, respond(PAGE)) == []


async def test_call_runs_a_spiders_methods_with_its_arguments() -> None:
    item, request = await call(Shop(rate=2.0).parse, respond(PAGE))
    assert item == {"name": "Tea", "price": 6.0}
    assert request.callback == "parse_detail"


async def test_call_raises_what_the_callback_raises() -> None:
    def parse(response: Response) -> Iterator[Any]:
        yield {"a": 1}
        raise LookupError("no price")

    with pytest.raises(LookupError, match="no price"):
        await call(parse, respond(PAGE))


async def test_call_names_what_is_no_result() -> None:
    def parse(response: Response) -> Iterator[Any]:
        yield "tea"

    with pytest.raises(NotAResult, match="type str"):
        await call(parse, respond(PAGE))


async def test_call_refuses_a_coroutine_that_a_plain_callback_forgot_to_await() -> None:
    def parse(response: Response) -> Any:
        return returns_later(response)

    with pytest.raises(NotAResult, match="type coroutine"):
        await call(parse, respond(PAGE))


async def test_call_finds_a_misspelt_callback() -> None:
    with pytest.raises(UnknownCallback, match="did you mean 'parse_detail'"):
        await call(Shop().parse_badly, respond(PAGE))


async def test_call_knows_callbacks_that_are_functions() -> None:
    (request,) = await call(Shop().parse_to_elsewhere, respond(PAGE))
    assert request.callback == f"{__name__}:yields"


async def test_a_whole_crawl_needs_no_site() -> None:
    recorder = Recorder()
    web = FakeTransport({"https://shop.example/": PAGE, "https://shop.example/next": "<p>"})
    items = await collect(Shop(), transport=web, clock=ManualClock(), observers=[recorder])
    assert items == [{"name": "Tea", "price": 3.0}, {"detail": "https://shop.example/next"}]
    done = [event for event in recorder.events if isinstance(event, PageDone)]
    assert [event.request.url for event in done] == web.urls[1:]
