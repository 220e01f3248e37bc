"""The crawl of `handwritten`, with a spider of Scrapling.

python -m tests.benchmarks.peers.scrapling_site http://127.0.0.1:8000/ items.jsonl
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scrapling.fetchers import FetcherSession
from scrapling.spiders import Response, SessionManager, Spider

from tests.benchmarks.measure import CONCURRENCY, arguments, measured


class Site(Spider):
    """An item a page, every link followed."""

    name = "site"
    concurrent_requests = CONCURRENCY
    logging_level = logging.ERROR

    def configure_sessions(self, manager: SessionManager) -> None:
        manager.add("default", FetcherSession(stealthy_headers=False, retries=1))

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        kind = response.headers.get("content-type", "")
        if response.status == 200 and kind.startswith("text/html"):
            yield {"url": response.url, "title": response.css("title::text").get("").strip()}
            for href in response.css("a::attr(href)").getall():
                if not href.startswith(("#", "mailto:", "javascript:")):
                    yield response.follow(href)


def crawl(url: str, output: Path) -> None:
    Site.start_urls = [url]
    Site.allowed_domains = {urlsplit(url).netloc}
    Site().start().items.to_jsonl(output)


def main() -> None:
    url, _, output = arguments(__doc__)
    logging.disable(logging.WARNING)
    measured(lambda: crawl(url, output), output)


if __name__ == "__main__":
    main()
