"""Pages that are hard on a parser beside ordinary ones: what do the others feel?

    python -m tests.benchmarks.torture [--seconds 10]

One crawl fetches ordinary pages (15 KB) as fast as it can, alone and then beside a second crawl on
the same loop that meets the hostile and the harmless documents of tests/torture.py, over and over,
with `async def` and with plain `def` callbacks. Prints, for each, the ordinary pages' throughput,
and the longest and the 99.9th percentile of the loop's lag, sampled every 5 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import scrapekit
from scrapekit import Request, Response, Spider
from scrapekit.testing import FakeTransport, respond
from tests import torture
from tests.benchmarks.sites import page

SITE = "http://site.test/"
_TICK_S = 0.005


class Ordinary(Spider):
    """One page, without end."""

    allowed_domains = ("*",)

    async def start(self) -> AsyncIterator[Request]:
        while True:
            yield Request(SITE + "page", unique=False)

    async def parse(self, response: Response) -> dict[str, Any]:
        return {"title": response.get("title"), "links": len(response.links())}


class Hard(Spider):
    """All documents, without end; asks them what spiders ask."""

    allowed_domains = ("*",)
    callback_name = "on_loop"

    async def start(self) -> AsyncIterator[Request]:
        while True:
            for number in range(len(torture.DOCUMENTS)):
                yield Request(f"{SITE}{number}", self.callback_name, unique=False)

    async def on_loop(self, response: Response) -> dict[str, Any]:
        return _ask(response)

    def in_thread(self, response: Response) -> dict[str, Any]:
        return _ask(response)


def _ask(response: Response) -> dict[str, Any]:
    return {"title": response.get("title"), "links": len(response.links())}


SETTINGS = {"obey_robots": False, "concurrency_per_origin": 32, "stall_warning_s": 0}
DOCUMENTS = list(torture.DOCUMENTS.values())


def web() -> FakeTransport:
    pages = {f"{SITE}{n}": respond(make(torture.SIZE)) for n, make in enumerate(DOCUMENTS)}
    return FakeTransport({SITE + "page": page(5), **pages})


@asynccontextmanager
async def lags() -> AsyncIterator[list[float]]:
    """How late the loop was, in seconds, at every tick."""
    seen: list[float] = []

    async def watch() -> None:
        while True:
            due = time.perf_counter() + _TICK_S
            await asyncio.sleep(_TICK_S)
            seen.append(time.perf_counter() - due)

    task = asyncio.create_task(watch())
    yield seen
    task.cancel()


async def ordinary_pages(seconds: float, hard: Spider | None) -> tuple[float, list[float], str]:
    """Pages per second, lags, and how the hard ones fared."""
    transport = web()
    report = ""
    settings = {**SETTINGS, "max_seconds": seconds}
    async with asyncio.TaskGroup() as group:
        fared = group.create_task(_fare(hard, settings, transport)) if hard else None
        await asyncio.sleep(0.5)
        async with lags() as seen:
            began = time.perf_counter()
            items = await scrapekit.collect(
                Ordinary(), settings={**settings, "concurrency": 4}, transport=transport
            )
            rate = len(items) / (time.perf_counter() - began)
        if fared is not None:
            report = await fared
    return rate, seen, report


async def _fare(hard: Spider, settings: dict[str, Any], transport: FakeTransport) -> str:
    async with scrapekit.crawl(hard, settings=settings, transport=transport) as run:
        async for _ in run:
            pass
    report = run.report
    errors = ", ".join(f"{each.count} {each.error}" for each in report.errors)
    return f"{report.pages} hard pages: {report.items} items, {errors or 'no error'}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    print(f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
    # What happens to the hard pages is told below.
    logging.disable()
    alone = 0.0
    for name, hard in (
        ("alone", None),
        ("beside async def", Hard(callback_name="on_loop")),
        ("beside plain def", Hard(callback_name="in_thread")),
    ):
        rate, seen, report = asyncio.run(ordinary_pages(seconds, hard))
        alone = alone or rate
        seen.sort()
        print(
            f"{name:18}{rate:8.0f} pages/s {rate / alone:5.0%}   lag p99.9 "
            f"{1000 * seen[int(len(seen) * 0.999)]:5.1f} ms, longest {1000 * seen[-1]:5.1f} ms"
            f"   {report}",
            flush=True,
        )


if __name__ == "__main__":
    main()
