"""The crawl of `handwritten`, with Scrapy.

python -m tests.benchmarks.peers.scrapy_site http://127.0.0.1:8000/ items.jsonl
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import scrapy
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.http import HtmlResponse, Response
from scrapy.linkextractors import LinkExtractor

from tests.benchmarks.measure import CONCURRENCY, arguments, measured

_SETTINGS = {
    "CONCURRENT_REQUESTS": CONCURRENCY,
    "CONCURRENT_REQUESTS_PER_DOMAIN": CONCURRENCY,
    "DOWNLOAD_DELAY": 0,
    "ROBOTSTXT_OBEY": False,
    "COOKIES_ENABLED": False,
    "RETRY_ENABLED": False,
    "TELNETCONSOLE_ENABLED": False,
    "LOG_LEVEL": "ERROR",
    "TWISTED_REACTOR": "twisted.internet.asyncioreactor.AsyncioSelectorReactor",
}


class Site(scrapy.Spider):
    """An item a page, every link followed."""

    name = "site"

    def parse(self, response: Response) -> Iterator[Any]:
        if isinstance(response, HtmlResponse):
            yield {"url": response.url, "title": response.css("title::text").get("").strip()}
            for link in self.links.extract_links(response):
                yield scrapy.Request(link.url)

    links = LinkExtractor(deny_extensions=())


def crawl(url: str, output: Path) -> None:
    host = urlsplit(url).hostname
    process = AsyncCrawlerProcess(_SETTINGS | {"FEEDS": {str(output): {"format": "jsonlines"}}})
    process.crawl(Site, start_urls=[url], allowed_domains=[host])
    process.start()


def main() -> None:
    url, _, output = arguments(__doc__)
    measured(lambda: crawl(url, output), output)


if __name__ == "__main__":
    main()
