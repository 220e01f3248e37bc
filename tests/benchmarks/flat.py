"""Does a page cost the same when there is more of everything? Curves of flat cost.

    python -m tests.benchmarks.flat --kind frontier       1,000 to 1,000,000 URLs known
    python -m tests.benchmarks.flat --kind job            the same, kept in a job on disk
    python -m tests.benchmarks.flat --kind origins        1 to 100,000 origins
    python -m tests.benchmarks.flat --kind concurrency    1 to 10,000 requests at a time

Frontier, job and origins are whole crawls, but for the network: a transport in memory answers at
once, so that nothing hides what the rest costs. Each page of `frontier` and `job` brings 20 new
links; the rate is that of the pages since the size before. Each run of `origins` fetches the same
number of pages, or one of each origin. `concurrency` fetches small pages from nginx for real, and
a bare aiohttp loop does the same beside it. Every point is a process of its own but for the
frontier's, which grows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import scrapekit
from scrapekit import Request, Response, Settings, Spider
from scrapekit.budget import Account
from scrapekit.testing import FakeTransport
from tests.benchmarks.connections import Many, by_hand
from tests.benchmarks.measure import allow_files, rss_bytes
from tests.benchmarks.sites import pinned, serve

SIZES: Final = {
    "frontier": (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
    "job": (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
    "origins": (1, 10, 100, 1_000, 10_000, 100_000),
    "concurrency": (1, 10, 100, 1_000, 10_000),
}
LINKS: Final = 20
PAGES_OF_ORIGINS: Final = 20_000
PAGES_OF_CONCURRENCY: Final = 10_000
WARM_UP: Final = 500
"""Links that are known before the first measurement begins; a small crawl comes before all."""

Point = dict[str, Any]
"""`size`, `rate` (pages per second), `cpu_us` (a page) and `rss_mb`, of `who`."""


class Meter:
    """What was used since it was last asked."""

    def __init__(self) -> None:
        self._at = time.perf_counter(), time.process_time()

    def point(self, size: int, pages: int, who: str = "scrapekit") -> Point:
        before, self._at = self._at, (time.perf_counter(), time.process_time())
        seconds, cpu = (now - then for now, then in zip(self._at, before, strict=True))
        return {
            "who": who,
            "size": size,
            "rate": round(pages / seconds, 1),
            "cpu_us": round(cpu / pages * 1e6, 1),
            "rss_mb": round(rss_bytes() / 1e6, 1),
        }


class InMemory(FakeTransport):
    """An empty page for every request, in the loop's next turn; keeps no list of them."""

    def __init__(self) -> None:
        super().__init__({}, default_status=200)

    async def fetch(self, request: Request, account: Account) -> Response:
        await asyncio.sleep(0)
        self.requests.clear()
        return await super().fetch(request, account)


class Growing(Spider):
    """Each page brings new links, until as many are known as the largest size."""

    start_urls = ("http://site.test/",)
    sizes: tuple[int, ...] = ()

    async def parse(self, response: Response) -> list[Request]:
        self.pages += 1
        self.since += 1
        known = self.pages * LINKS
        if known == WARM_UP:
            self.meter, self.since = Meter(), 0
        if self.left and known >= self.left[0]:
            self.points.append(self.meter.point(self.left.pop(0), self.since))
            self.since = 0
            if not self.left:
                self.done.set()
        links = [f"http://site.test/{_name(next(self.numbers))}" for _ in range(LINKS)]
        return [Request(link) for link in links]

    pages = 0
    since = 0

    def begin(self, sizes: tuple[int, ...]) -> None:
        self.left = list(sizes)
        self.points: list[Point] = []
        self.numbers = count()
        self.done = asyncio.Event()
        self.meter = Meter()


def _name(number: int) -> str:
    """A path as sites have them, of letters: numbers would look like an endless calendar."""
    return "/".join(f"{number:07}".translate(_LETTERS)[at : at + 3] for at in (0, 3, 6))


_LETTERS = str.maketrans("0123456789", "abcdefghij")


async def grow(sizes: tuple[int, ...], job: Path | None) -> list[Point]:
    """Crawl until the largest size is known; a point for each."""
    spider = Growing()
    spider.begin(sizes)
    settings = Settings(obey_robots=False, concurrency_per_origin=32, adaptive=False)
    async with scrapekit.crawl(spider, settings=settings, transport=InMemory(), job=job) as run:
        await spider.done.wait()
        run.stop()
    return spider.points


class Broad(Spider):
    """Pages of many origins."""

    allowed_domains = ("*",)
    origins: int = 1
    pages: int = 1

    async def start(self) -> AsyncIterator[Request]:
        for number in range(self.pages):
            yield Request(f"http://o{number % self.origins}.test/{number // self.origins}")

    async def parse(self, response: Response) -> None:
        pass


async def broad(origins: int) -> list[Point]:
    pages = max(origins, PAGES_OF_ORIGINS)
    settings = Settings(obey_robots=False, concurrency_per_origin=32, adaptive=False)
    meter = Meter()
    spider = Broad(origins=origins, pages=pages)
    async with scrapekit.crawl(spider, settings=settings, transport=InMemory()) as run:
        report = await run.wait()
    assert report.pages == pages
    return [meter.point(origins, pages)]


async def at_once(url: str, connections: int, who: str) -> list[Point]:
    pages = max(PAGES_OF_CONCURRENCY if connections > 10 else 3_000, 2 * connections)
    meter = Meter()
    if who == "by hand":
        came = await by_hand(f"{url}?", connections, pages)
    else:
        settings = Settings(
            concurrency=connections,
            concurrency_per_origin=connections,
            adaptive=False,
            connect_timeout_s=60,
            stall_warning_s=0,
        )
        spider = Many(url=f"{url}?", requests=pages)
        async with scrapekit.crawl(spider, settings=settings) as run:
            came = (await run.wait()).pages
    assert came == pages, f"{came} of {pages} pages came"
    return [meter.point(connections, pages, who)]


def child(core: int, *arguments: str) -> list[Point]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.flat", "--kind", *arguments]
    done = subprocess.run([*pinned(core), *command], stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def curve(kind: str, known: argparse.Namespace) -> Iterator[Point]:
    """The points of one curve, or two."""
    sizes = [size for size in SIZES[kind] if size <= known.up_to]
    if kind in {"frontier", "job"}:
        yield from child(known.client_core, kind, "--one", str(sizes[-1]))
    elif kind == "origins":
        for size in sizes:
            yield from child(known.client_core, kind, "--one", str(size))
    else:
        yield from _concurrency(sizes, known)


def _concurrency(sizes: list[int], known: argparse.Namespace) -> Iterator[Point]:
    with tempfile.TemporaryDirectory(prefix="scrapekit-flat-") as folder:
        page = "<!doctype html><title>Tea</title><h1>Tea</h1>"
        (Path(folder) / "index.html").write_text(page, encoding="utf-8")
        with serve(Path(folder), known.server_core) as url:
            for size in sizes:
                for who in ("by hand", "scrapekit"):
                    where = ["--one", str(size), "--url", url, "--who", who]
                    yield from child(known.client_core, "concurrency", *where)


def one(known: argparse.Namespace) -> list[Point]:
    """Measure in this process."""
    allow_files()
    if known.kind == "origins":
        return asyncio.run(broad(known.one))
    if known.kind == "concurrency":
        return asyncio.run(at_once(known.url, known.one, known.who))
    sizes = tuple(size for size in SIZES[known.kind] if size <= known.one)
    asyncio.run(grow(sizes[:1], None))
    with tempfile.TemporaryDirectory(prefix="scrapekit-flat-") as folder:
        return asyncio.run(grow(sizes, Path(folder) / "job" if known.kind == "job" else None))


def table(kind: str, points: list[Point]) -> Iterator[str]:
    """Word the points, a line at a time; the last column is the cost, by the first point's."""
    first: dict[str, float] = {}
    yield f"{kind:>12}  {'':10}{'pages/s':>9}{'CPU us/page':>13}{'RSS MB':>9}{'cost':>7}"
    for point in points:
        base = first.setdefault(point["who"], point["cpu_us"])
        yield (
            f"{point['size']:12,}  {point['who']:10}{point['rate']:9.0f}{point['cpu_us']:13.0f}"
            f"{point['rss_mb']:9.0f}{point['cpu_us'] / base:7.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=SIZES, nargs="+", default=list(SIZES))
    parser.add_argument("--up-to", type=int, default=1_000_000)
    parser.add_argument("--client-core", type=int, default=0)
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--who", default="scrapekit", help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.one:
        known.kind = known.kind[0]
        for point in one(known):
            print(json.dumps(point))
        return
    print(f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
    for kind in known.kind:
        print()
        print("\n".join(table(kind, list(curve(kind, known)))), flush=True)


if __name__ == "__main__":
    main()
