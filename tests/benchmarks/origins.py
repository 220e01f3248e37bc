"""What many origins cost: one page each, from 1,000 origins to 100,000.

    python -m tests.benchmarks.origins              the scheduler alone
    python -m tests.benchmarks.origins --crawl      whole crawls, against one server on loopback

The first files a page for every origin at once, and measures a page's way through the scheduler:
leased, arrived, committed. What counts is that a page costs the same however many origins there
are: the last column. The origins take turns at being the first, so that a slow minute of the
machine is everybody's.

The second crawls as many origins for real, robots.txt included; a resolver of its own leads all
of their names to this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import RawTestServer
from aiohttp.web import BaseRequest, Response

import scrapekit
from scrapekit import Request, Spider
from scrapekit.clock import SystemClock
from scrapekit.frontier.base import Lease, Outcome
from scrapekit.frontier.memory import MemoryFrontier
from scrapekit.limits import LimitsTable
from scrapekit.politeness import Politeness
from scrapekit.scheduler import Scheduler
from scrapekit.settings import Settings
from scrapekit.transport.http import HttpTransport

SIZES = (1_000, 10_000, 100_000)
BATCH = 1_000


async def scheduler_cost(origins: int, pages: int, delay_s: float) -> float:
    """Microseconds of a page in the scheduler while so many origins wait, median of batches."""
    politeness = Politeness(LimitsTable(Settings(delay_s=delay_s)).of)
    scheduler = Scheduler(
        MemoryFrontier(), politeness, SystemClock(), grow=lambda _: None, backlog=10**9
    )
    await scheduler.add([Request.link(f"http://o{n}.test/", None, 0) for n in range(origins)])
    gc.collect()
    gc.freeze()
    costs = []
    for _ in range(pages // BATCH):
        began = time.perf_counter()
        for _ in range(BATCH):
            lease = await scheduler.next()
            assert isinstance(lease, Lease)
            lease.sent = True
            scheduler.arrived(lease)
            await scheduler.commit(Outcome(lease))
        costs.append((time.perf_counter() - began) / BATCH * 1e6)
        # As many as before wait again.
        await scheduler.add(
            [Request.link(f"http://n{time.time_ns()}-{n}.test/", None, 0) for n in range(BATCH)]
        )
    scheduler.close()
    gc.unfreeze()
    return statistics.median(costs)


def compare_schedulers(rounds: int) -> None:
    """Print what a page costs at each size."""
    for delay_s in (0.0, 5.0):
        costs: dict[int, list[float]] = {size: [] for size in SIZES}
        for _ in range(rounds):
            for size in SIZES:
                costs[size].append(asyncio.run(scheduler_cost(size, 10 * BATCH, delay_s)))
        base = statistics.median(costs[SIZES[0]])
        print(f"\ndelay_s={delay_s:g}\n{'origins':>10}{'us/page':>10}{'ratio':>8}")
        for size, found in costs.items():
            usual = statistics.median(found)
            print(f"{size:10,}{usual:10.2f}{usual / base:8.2f}")


class Here(AbstractResolver):
    """Every name is this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=port,
                family=socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Nothing to close."""


class Broad(Spider):
    """A page of each origin."""

    port = 0
    origins = 0
    allowed_domains = ("*",)

    async def start(self) -> AsyncIterator[Request]:
        for number in range(self.origins):
            yield Request(f"http://o{number}.test:{self.port}/")

    async def parse(self, response: scrapekit.Response) -> None:
        pass


async def serve() -> None:
    """Answer until stdin ends; say the port first."""

    async def page(request: BaseRequest) -> Response:
        status = 404 if request.path == "/robots.txt" else 200
        return Response(status=status, headers={"Connection": "close"})

    server = RawTestServer(page, host="127.0.0.1")
    await server.start_server()
    print(server.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.close()


async def crawl(port: int, origins: int) -> str:
    settings = Settings(concurrency=64)
    transport = HttpTransport(settings, resolver=Here())
    began, cpu = time.perf_counter(), time.process_time()
    spider = Broad(port=port, origins=origins)
    async with scrapekit.crawl(spider, settings=settings, transport=transport) as run:
        report = await run.wait()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return (
        f"{origins:10,}{report.pages:10,}{report.error_count:8}{seconds:10.1f}"
        f"{origins / seconds:10.0f}{cpu / origins * 1e6:12.0f}"
    )


def compare_crawls(sizes: list[int]) -> None:
    """Print how fast each size is crawled, in a process of its own each."""
    command = [sys.executable, "-m", "tests.benchmarks.origins"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, "--serve"], stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        names = ("origins", "pages", "errors", "seconds", "pages/s", "CPU us/page")
        print("{:>10}{:>10}{:>8}{:>10}{:>10}{:>12}".format(*names))
        for size in sizes:
            subprocess.run([*command, "--one", port, str(size)], check=True)
        server.communicate("")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crawl", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.serve:
        asyncio.run(serve())
    elif known.one:
        print(asyncio.run(crawl(*known.one)), flush=True)
    elif known.crawl:
        compare_crawls(known.sizes)
    else:
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {known.rounds} rounds")
        compare_schedulers(known.rounds)


if __name__ == "__main__":
    main()
