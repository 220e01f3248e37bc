"""Spiders that several tests send out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from scrapekit import Request, Response, Spider

TITLE: Final = {"title": "Tea"}


class Titles(Spider):
    """An item a page, always the same."""

    async def parse(self, response: Response) -> dict[str, Any]:
        return TITLE


class Following(Spider):
    """An item a page that names its path; follows every link."""

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        yield {"path": response.url.removeprefix(self.start_urls[0].rstrip("/"))}
        yield response.follow_all()


class Raising(Spider):
    """Fails on every page."""

    async def parse(self, response: Response) -> None:
        raise LookupError("no price")


class Given(Spider):
    """An item a page, with its URL, heading and request, for the requests that it is given."""

    def __init__(self, requests: list[Request]) -> None:
        super().__init__()
        self.requests = requests

    async def start(self) -> AsyncIterator[Request]:
        for request in self.requests:
            yield request

    async def parse(self, response: Response) -> Any:
        yield {
            "url": response.url,
            "user": response.get("h1"),
            "proxy": response.request.proxy,
        }
