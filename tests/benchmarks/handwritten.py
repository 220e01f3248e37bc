"""The crawl as a good engineer writes it by hand for one site, with aiohttp and selectolax.

    python -m tests.benchmarks.handwritten http://127.0.0.1:8000/ items.jsonl

The same work as `crawl_site`: every page of the site that links lead to, 32 at a time, one item a
page appended to a file of JSON lines. It does what such loops do (`urldefrag(urljoin())`, a set of
what was seen, a queue with workers) and leaves out what they leave out: robots, retries, limits.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TextIO
from urllib.parse import urldefrag, urljoin

import aiohttp
from selectolax.lexbor import LexborHTMLParser

from tests.benchmarks.measure import CONCURRENCY, arguments, measured


class Crawl:
    """Follows the links of one site and writes an item for each page."""

    def __init__(self, start: str, session: aiohttp.ClientSession, output: TextIO) -> None:
        self.site = urljoin(start, "/")
        self.session = session
        self.output = output
        self.seen = {start}
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        self.queue.put_nowait(start)

    async def run(self) -> None:
        workers = [asyncio.create_task(self.work()) for _ in range(CONCURRENCY)]
        await self.queue.join()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def work(self) -> None:
        while True:
            url = await self.queue.get()
            try:
                await self.visit(url)
            except (aiohttp.ClientError, TimeoutError) as exc:
                print(f"{url}: {exc!r}")
            finally:
                self.queue.task_done()

    async def visit(self, url: str) -> None:
        async with self.session.get(url) as response:
            if response.status != 200 or response.content_type != "text/html":
                return
            body = await response.read()
        tree = LexborHTMLParser(body)
        self.write({"url": url, "title": title(tree)})
        for link in tree.css("a[href]"):
            self.follow(url, link.attrs["href"] or "")

    def write(self, item: dict[str, str]) -> None:
        self.output.write(json.dumps(item, ensure_ascii=False) + "\n")

    def follow(self, base: str, href: str) -> None:
        url = urldefrag(urljoin(base, href)).url
        if url.startswith(self.site) and url not in self.seen:
            self.seen.add(url)
            self.queue.put_nowait(url)


def title(tree: LexborHTMLParser) -> str:
    node = tree.css_first("title")
    return node.text(strip=True) if node else ""


async def crawl(url: str, output: Path) -> None:
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    with output.open("w", encoding="utf-8") as lines:
        async with aiohttp.ClientSession(connector=connector) as session:
            await Crawl(url, session, lines).run()


def main() -> None:
    url, _, output = arguments(__doc__)
    measured(lambda: asyncio.run(crawl(url, output)), output)


if __name__ == "__main__":
    main()
