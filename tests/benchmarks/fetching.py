"""What a fetch costs: the transports beside bare aiohttp, without parsing, links or a crawl.

    python -m tests.benchmarks.fetching --rounds 5

One program fetches the 1,000 pages of the link-light site several times over, 32 at a time, on one
core; the server is on the other. The table has the pages per second and the CPU time a page, the
median of all passes; on the asyncio loop and, where it is installed, on uvloop. All programs take
turns.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp

from scrapekit.budget import ByteBudget
from scrapekit.messages import Request
from scrapekit.settings import Settings
from scrapekit.transport.fast.transport import FastTransport
from scrapekit.transport.http import HttpTransport
from tests.benchmarks.measure import CONCURRENCY, Measurement
from tests.benchmarks.sites import PAGES, link_light_site, pinned

PASSES = 8

Fetch = Callable[[Request], Awaitable[bytes]]


@asynccontextmanager
async def bare() -> AsyncIterator[Fetch]:
    """aiohttp as a good engineer would use it for fetching alone."""
    options: dict[str, Any] = {
        "connector": aiohttp.TCPConnector(limit=0),
        "cookie_jar": aiohttp.DummyCookieJar(),
    }
    async with aiohttp.ClientSession(**options) as session:

        async def fetch(request: Request) -> bytes:
            async with session.get(request.url) as response:
                return await response.read()

        yield fetch


@asynccontextmanager
async def by(kind: type[HttpTransport | FastTransport]) -> AsyncIterator[Fetch]:
    budget = ByteBudget(2**28)
    async with kind(Settings()) as transport:

        async def fetch(request: Request) -> bytes:
            with budget.account() as account:
                return (await transport.fetch(request, account)).body

        yield fetch


CONTENDERS: dict[str, Callable[[], AbstractAsyncContextManager[Fetch]]] = {
    "bare aiohttp": bare,
    "HttpTransport": lambda: by(HttpTransport),
    "FastTransport": lambda: by(FastTransport),
}


async def fetch_all(fetch: Fetch, requests: list[Request]) -> None:
    waiting = iter(requests)

    async def work() -> None:
        for request in waiting:
            assert await fetch(request)

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


async def passes(name: str, url: str) -> Iterator[Measurement]:
    """Fetch all pages again and again; the first pass opens the connections and doesn't count."""
    requests = [Request(f"{url}page-{number:04}.html") for number in range(1, PAGES)]
    done = []
    async with CONTENDERS[name]() as fetch:
        for _ in range(PASSES + 1):
            start, cpu = time.perf_counter(), time.process_time()
            await fetch_all(fetch, requests)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            done.append(Measurement(len(requests), seconds, cpu))
    return iter(done[1:])


def run_here(name: str, url: str, loop: str) -> None:
    """Measure one contender in this process, and print each pass as a line of JSON."""
    if loop == "uvloop":
        import uvloop

        measured = uvloop.run(passes(name, url))
    else:
        measured = asyncio.run(passes(name, url))
    for measurement in measured:
        print(measurement.to_json())


def run_apart(name: str, url: str, loop: str, core: int) -> list[Measurement]:
    command = [sys.executable, "-m", "tests.benchmarks.fetching", "--run", name, url, loop]
    done = subprocess.run([*pinned(core), *command], stdout=subprocess.PIPE, text=True, check=True)
    return [Measurement.from_json(line) for line in done.stdout.splitlines()]


def table(results: dict[tuple[str, str], list[Measurement]]) -> Iterator[str]:
    yield f"{'':16}{'loop':>9}{'pages/s':>10}{'CPU us/page':>13}{'least':>8}"
    for (name, loop), runs in results.items():
        rate = statistics.median(run.rate for run in runs)
        cpu = [run.cpu_seconds / run.pages * 1e6 for run in runs]
        yield f"{name:16}{loop:>9}{rate:10.0f}{statistics.median(cpu):13.0f}{min(cpu):8.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--client-core", type=int, default=0)
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--run", nargs=3, metavar=("NAME", "URL", "LOOP"), help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.run:
        run_here(*known.run)
        return
    loops = ["asyncio", "uvloop"] if importlib.util.find_spec("uvloop") else ["asyncio"]
    results: dict[tuple[str, str], list[Measurement]] = {
        (name, loop): [] for name in CONTENDERS for loop in loops
    }
    with link_light_site(known.server_core) as url:
        for _ in range(known.rounds):
            for (name, loop), runs in results.items():
                runs.extend(run_apart(name, url, loop, known.client_core))
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
