"""The crawl of `handwritten`, with scrapekit.

    python -m tests.benchmarks.crawl_site http://127.0.0.1:8000/ items.jsonl --variant def

`async`: the callback runs on the event loop. `def`: it runs in scrapekit's threads. `process`: in
its worker processes. With `-job` the crawl is one that survives being killed; with `-fast`, it has
the second transport.

The transports and anyio's loop are imported up front, which scrapekit does when a crawl starts:
neither program's imports are measured.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio

import scrapekit.transport.fast.transport
import scrapekit.transport.http  # noqa: F401
from scrapekit import Response, Settings, Spider, lane, run
from tests.benchmarks.measure import CONCURRENCY, arguments, measured


class OnTheLoop(Spider):
    """An item a page, every link followed."""

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        if is_page(response):
            yield {"url": response.url, "title": response.get("title", "")}
            yield response.follow_all()


class InThreads(Spider):
    """The same, as a plain def."""

    def parse(self, response: Response) -> Iterator[Any]:
        if is_page(response):
            yield {"url": response.url, "title": response.get("title", "")}
            yield from response.follow_all()


class InProcesses(Spider):
    """The same, in worker processes."""

    @lane("process")
    def parse(self, response: Response) -> Iterator[Any]:
        if is_page(response):
            yield {"url": response.url, "title": response.get("title", "")}
            yield from response.follow_all()


def is_page(response: Response) -> bool:
    return response.headers.get("Content-Type", "").startswith("text/html")


VARIANTS: dict[str, type[Spider]] = {
    "async": OnTheLoop,
    "def": InThreads,
    "process": InProcesses,
}
WAYS = ("job", "fast")


def crawl(url: str, variant: str, output: Path) -> None:
    name, _, way = variant.partition("-")
    spider = VARIANTS[name]()
    spider.start_urls = [url]
    settings = Settings(
        concurrency=CONCURRENCY,
        concurrency_per_origin=CONCURRENCY,
        transport="fast" if way == "fast" else "aiohttp",
    )
    folder = output.with_name("job") if way == "job" else None
    run(spider, settings=settings, output=str(output), overwrite=True, job=folder)


def main() -> None:
    url, variant, output = arguments(
        __doc__, [*VARIANTS, *(f"{name}-{way}" for name in VARIANTS for way in WAYS)]
    )
    anyio.run(anyio.sleep, 0)
    measured(lambda: crawl(url, variant, output), output)


if __name__ == "__main__":
    main()
