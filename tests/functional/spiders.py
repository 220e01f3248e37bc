"""Spiders that several tests send out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from scrapekit import Response, Spider

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
