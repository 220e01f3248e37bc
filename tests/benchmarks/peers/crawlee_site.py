"""The crawl of `handwritten`, with Crawlee's ParselCrawler and its storage in memory.

python -m tests.benchmarks.peers.crawlee_site http://127.0.0.1:8000/ items.jsonl
"""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from crawlee import ConcurrencySettings
from crawlee.crawlers import ParselCrawler, ParselCrawlingContext
from crawlee.storage_clients import MemoryStorageClient

from tests.benchmarks.measure import CONCURRENCY, arguments, measured


async def crawl(url: str, output: Path) -> None:
    crawler = ParselCrawler(
        storage_client=MemoryStorageClient(),
        concurrency_settings=ConcurrencySettings(
            min_concurrency=CONCURRENCY,
            max_concurrency=CONCURRENCY,
            desired_concurrency=CONCURRENCY,
        ),
        max_request_retries=0,
        use_session_pool=False,
        configure_logging=False,
    )

    @crawler.router.default_handler
    async def parse(context: ParselCrawlingContext) -> None:
        if context.http_response.headers.get("content-type", "").startswith("text/html"):
            title = (context.selector.css("title::text").get() or "").strip()
            await context.push_data({"url": context.request.url, "title": title})
            await context.enqueue_links()

    await crawler.run([url])
    found = await crawler.get_data()
    lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in found.items)
    output.write_text("".join(lines), encoding="utf-8")


def main() -> None:
    url, _, output = arguments(__doc__)
    logging.disable(logging.WARNING)
    measured(lambda: asyncio.run(crawl(url, output)), output)


if __name__ == "__main__":
    main()
