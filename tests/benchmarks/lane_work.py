"""What the lanes' benchmark has done: in a module that imports little, for worker processes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from scrapekit import Request, Response, Spider, lane

SITE: Final = "https://site.example/"


def compute(steps: int) -> int:
    """Pure Python, in C code nowhere for long."""
    total = 0
    for step in range(steps):
        total += step % 7
    return total


class Work(Spider):
    """`pages` pages, each with the same callback."""

    pages: int = 0
    steps: int = 0
    sleep_s: float = 0.0
    callback_name: str = "parse"
    allowed_domains = ("*",)

    async def start(self) -> AsyncIterator[Request]:
        for number in range(self.pages):
            yield Request(f"{SITE}{number}", self.callback_name)

    async def on_loop(self, response: Response) -> dict[str, Any]:
        return {"total": compute(self.steps)}

    def in_thread(self, response: Response) -> dict[str, Any]:
        return {"total": compute(self.steps)}

    @lane("process")
    def in_process(self, response: Response) -> dict[str, Any]:
        return {"total": compute(self.steps)}

    def sleeping(self, response: Response) -> dict[str, Any]:
        time.sleep(self.sleep_s)
        return {}


class Light(Spider):
    """The other pages of the same loop: fetched one by one, without end."""

    url: str = ""
    allowed_domains = ("*",)

    async def start(self) -> AsyncIterator[Request]:
        while True:
            yield Request(self.url, unique=False)

    async def parse(self, response: Response) -> dict[str, Any]:
        return {"title": response.get("h1")}


class Trivial(Spider):
    """The small page's callback, as a lane calls it."""

    @lane("process")
    def parse(self, response: Response) -> list[dict[str, Any]]:
        return trivial(response)


def trivial(response: Response) -> list[dict[str, Any]]:
    """The same, as a bare executor calls it."""
    return [{"size": len(response.body)}]


def main() -> None:
    """Compute without a crawl: `steps`, so many times. Prints when it began and when it ended."""
    steps, times = map(int, sys.argv[1:])
    compute(steps)
    began = time.monotonic()
    for _ in range(times):
        compute(steps)
    print(json.dumps([began, time.monotonic()]))


if __name__ == "__main__":
    main()
