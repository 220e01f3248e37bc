"""The spider whose crawls are killed: several items a page, or none; every link followed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scrapekit import Request, Response, Settings, Spider


class Facts(Spider):
    """Items that tell which page they are from."""

    settings = Settings(obey_robots=False, concurrency=8, concurrency_per_origin=8, retries=0)
    site: str

    def start(self) -> Any:
        yield Request(f"{self.site}/0")

    def parse(self, response: Response) -> Iterator[Any]:
        page = int(response.get("title") or "-1")
        for number, fact in enumerate(response.css("li")):
            yield {"page": page, "number": number, "text": fact.text}
        yield from response.follow_all()
