"""What the framework adds to fetching, and what fetching and parsing alone cost.

    python -m tests.benchmarks.overhead --rounds 5

The pages of a site, known beforehand, are fetched 32 at a time, each several times: by a bare
aiohttp loop, by one that parses them as well, by scrapekit with a callback that does nothing, and
by scrapekit with a callback that has the page parsed. "Fetch and parse" is the physical cost: no
crawler on aiohttp and selectolax is faster than that on one core.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import cycle, islice
from pathlib import Path

import aiohttp
from selectolax.lexbor import LexborHTMLParser

import scrapekit.transport.http  # noqa: F401
from scrapekit import Request, Response, Settings, Spider, run
from tests.benchmarks.handwritten import crawl
from tests.benchmarks.measure import CONCURRENCY, Measurement, measured, pages_in
from tests.benchmarks.sites import named_sites, pinned

VARIANTS = {
    "aiohttp, fetch": "fetch",
    "scrapekit, empty callback": "empty",
    "aiohttp, fetch and parse": "parse",
    "scrapekit, parse": "document",
}
TIMES = {"link-light site": 3, "link-heavy site": 2}

Runs = dict[str, list[Measurement]]


async def fetch_all(urls: list[str], *, parse: bool) -> None:
    """Fetch the pages as a bare loop does."""
    left = iter(urls)
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work() -> None:
            for url in left:
                async with session.get(url) as response:
                    body = await response.read()
                if parse:
                    LexborHTMLParser(body)

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


class Listed(Spider):
    """Fetches the pages of a list."""

    allowed_domains = ("*",)
    urls: tuple[str, ...] = ()

    async def start(self) -> AsyncIterator[Request]:
        for url in self.urls:
            yield Request(url, self.callback_name, unique=False)

    callback_name = "empty"

    async def empty(self, response: Response) -> None:
        pass

    async def document(self, response: Response) -> None:
        assert response.document.parser is not None


def fetch_by_scrapekit(urls: list[str], callback: str) -> None:
    spider = Listed(urls=tuple(urls))
    spider.callback_name = callback
    settings = Settings(concurrency=CONCURRENCY, concurrency_per_origin=CONCURRENCY)
    report = run(spider, settings=settings)
    assert report.pages == len(urls), report


def one(pages: Path, variant: str, times: int) -> None:
    """Fetch the pages listed in a file of items so many times, and print what that took."""
    known = pages_in(pages)
    urls = list(islice(cycle(known), times * len(known)))

    def fetch() -> None:
        if variant in {"fetch", "parse"}:
            asyncio.run(fetch_all(urls, parse=variant == "parse"))
        else:
            fetch_by_scrapekit(urls, variant)

    measured(fetch, pages)


def take_turns(url: str, rounds: int, times: int, core: int) -> Runs:
    runs: Runs = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory(prefix="scrapekit-overhead-") as scratch:
        pages = Path(scratch) / "items.jsonl"
        asyncio.run(crawl(url, pages))
        for _ in range(rounds):
            for name, variant in VARIANTS.items():
                runs[name].append(_measure(pages, variant, times, core))
    return runs


def _measure(pages: Path, variant: str, times: int, core: int) -> Measurement:
    command = [sys.executable, "-m", "tests.benchmarks.overhead", "--one", str(pages), variant]
    done = subprocess.run(
        [*pinned(core), *command, "--times", str(times)], capture_output=True, text=True, check=True
    )
    found = Measurement.from_json(done.stdout.splitlines()[-1])
    return Measurement(found.pages * times, found.seconds, found.cpu_seconds)


def table(runs: Runs) -> Iterator[str]:
    """Word the runs, a line at a time."""
    yield f"{'':28}{'pages/s':>9}{'CPU us/page':>13}{'share of the bare loop':>25}"
    base = base_cpu = 0.0
    for name, found in runs.items():
        rate = statistics.median(run.rate for run in found)
        cpu = statistics.median(run.cpu_seconds / run.pages for run in found) * 1e6
        share = ""
        if name.startswith("aiohttp"):
            base, base_cpu = rate, cpu
        else:
            share = f"{rate / base:.0%} (CPU {base_cpu / cpu:.0%})"
        yield f"{name:28}{rate:9.0f}{cpu:13.0f}{share:>25}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--site", choices=("light", "heavy"), help="default: both")
    parser.add_argument("--client-core", type=int, default=0)
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.one:
        one(Path(known.one[0]), known.one[1], known.times)
        return
    print(f"Python {sys.version.split()[0]}, {known.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    for name, site in named_sites(known.server_core, known.site):
        with site as url:
            runs = take_turns(url, known.rounds, TIMES[name], known.client_core)
            print(f"\n{name}")
            print("\n".join(table(runs)), flush=True)


if __name__ == "__main__":
    main()
