from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from scrapekit import Response, Spider, collect
from scrapekit.document import Document
from scrapekit.testing import FakeTransport, respond

LARGE = "<p>tea</p>" * 10_000
URL = "http://site.test/"


class Titles(Spider):
    start_urls = (URL,)

    async def parse(self, response: Response) -> AsyncIterator[dict[str, Any]]:
        yield {"p": response.get("p")}


@pytest.mark.parametrize(("html", "on_loop"), [(LARGE, False), ("<p>tea</p>", True)])
async def test_a_large_page_is_parsed_off_the_loop(
    monkeypatch: pytest.MonkeyPatch, html: str, *, on_loop: bool
) -> None:
    parsed_by: list[bool] = []
    real = Document.parser.func  # type: ignore[attr-defined]

    def parser(document: Document) -> Any:
        parsed_by.append(threading.current_thread() is threading.main_thread())
        return real(document)

    monkeypatch.setattr(Document.parser, "func", parser)
    assert await collect(Titles(), transport=FakeTransport({URL: html})) == [{"p": "tea"}]
    assert parsed_by == [on_loop]


def test_only_html_that_is_not_parsed_yet_is_parsed_ahead() -> None:
    assert respond(LARGE).is_large_html
    assert not respond(LARGE, headers={"Content-Type": "application/json"}).is_large_html
    parsed = respond(LARGE)
    parsed.parse_ahead()
    assert not parsed.is_large_html


def test_options_without_end_take_no_seconds() -> None:
    document = Document("<select>" + "<option selected>" * 40_000)
    assert len(document.css("option")) == 40_000
