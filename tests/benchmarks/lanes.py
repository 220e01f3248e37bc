"""What the lanes are for, and what they cost.

    python -m tests.benchmarks.lanes --rounds 5

Computing callbacks on the loop, in threads and in processes, with the latency of other pages of
the same loop meanwhile; blocking callbacks in threads beside the ideal; a single hop beside bare
executors; the cost of measuring. Contenders take turns, so that a slow minute of the machine is
everybody's; figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import NamedTuple

import scrapekit
from scrapekit.settings import Settings
from scrapekit.testing import FakeTransport
from tests.benchmarks.hops import hops_table, metering_table
from tests.benchmarks.lane_work import Light, Work, compute

CALLBACK_S = 0.02
PAGES = 400
SLEEP_S = 0.05
THREADS = 64
SLEEPING_PAGES = 64 * 20


def steps_of(seconds: float) -> int:
    """How many steps this machine computes in so long a time when it is in a good mood."""
    steps = 100_000
    best = min(_time(steps) for _ in range(20))
    return round(steps * seconds / best)


def _time(steps: int) -> float:
    began = time.thread_time()
    compute(steps)
    return time.thread_time() - began


class Outcome(NamedTuple):
    """Of a crawl: pages per second in all and after the first, and the others' latency."""

    rate: float
    steady_rate: float
    p99_s: float = float("nan")


def bare(processes: int, steps: int) -> Outcome:
    """The same work without a crawl: what the machine can give just now."""
    share = PAGES // processes
    command = [sys.executable, "-m", "tests.benchmarks.lane_work", str(steps), str(share)]
    with ExitStack() as stack:
        running = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            for _ in range(processes)
        ]
        spans = [json.loads(process.communicate()[0]) for process in running]
    rate = processes * share / (max(end for _, end in spans) - min(start for start, _ in spans))
    return Outcome(rate, rate)


@asynccontextmanager
async def others(url: str) -> AsyncIterator[list[float]]:
    """A second crawl on this loop; the latencies of its pages, from request to callback."""
    # Not above: worker processes import this module, as they do every script.
    from tests.benchmarks.timed_transport import Timed

    latencies: list[float] = []
    settings = Settings(obey_robots=False, concurrency=1, delay_s=0.02)
    transport = Timed(settings)

    async def follow() -> None:
        async with scrapekit.crawl(Light(url=url), settings=settings, transport=transport) as run:
            async for _ in run:
                latencies.append(time.perf_counter() - transport.began)  # noqa: PERF401 -- as they come

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.3)
    latencies.clear()
    yield latencies
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def compute_pages(callback: str, steps: int, url: str) -> Outcome:
    spider = Work(pages=PAGES, steps=steps, callback_name=callback)
    settings = {"obey_robots": False, "concurrency_per_origin": 32, "stall_warning_s": 0}
    transport = FakeTransport({}, default_status=200)
    ends: list[float] = []
    async with others(url) as latencies:
        began = time.perf_counter()
        async with scrapekit.crawl(spider, settings=settings, transport=transport) as run:
            async for _ in run:
                ends.append(time.perf_counter())  # noqa: PERF401 -- the same
        seconds = time.perf_counter() - began
        slow = list(latencies)
    assert len(ends) == PAGES
    steady = (PAGES - 1) / (ends[-1] - ends[0])
    return Outcome(PAGES / seconds, steady, statistics.quantiles(slow, n=100)[98])


async def sleep_pages() -> float:
    """Pages per second."""
    spider = Work(pages=SLEEPING_PAGES, sleep_s=SLEEP_S, callback_name="sleeping")
    settings = {"obey_robots": False, "threads": THREADS, "concurrency": 3 * THREADS // 2}
    settings |= {"concurrency_per_origin": settings["concurrency"], "stall_warning_s": 0}
    transport = FakeTransport({}, default_status=200)
    began = time.perf_counter()
    items = await scrapekit.collect(spider, settings=settings, transport=transport)
    assert len(items) == SLEEPING_PAGES
    return SLEEPING_PAGES / (time.perf_counter() - began)


def computing_table(rounds: int) -> Iterator[str]:
    steps = steps_of(CALLBACK_S)
    with page_server() as url:
        contenders: dict[str, Callable[[], Outcome]] = {
            "on the loop": lambda: asyncio.run(compute_pages("on_loop", steps, url)),
            "in threads": lambda: asyncio.run(compute_pages("in_thread", steps, url)),
            "in processes": lambda: asyncio.run(compute_pages("in_process", steps, url)),
            "1 bare process": lambda: bare(1, steps),
            "2 bare processes": lambda: bare(2, steps),
        }
        results: dict[str, list[Outcome]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, contender in contenders.items():
                results[name].append(contender())
    yield (
        f"{PAGES} pages whose callback computes {1000 * CALLBACK_S:g} ms, {os.cpu_count()} CPUs\n"
        f"  {'':18}{'pages/s':>9}{'ratio':>7}{'once started':>14}{'others p99 ms':>15}"
    )
    base = statistics.median(outcome.rate for outcome in results["on the loop"])
    for name, outcomes in results.items():
        rate, steady, p99 = (statistics.median(column) for column in zip(*outcomes, strict=True))
        yield f"  {name:18}{rate:9.1f}{rate / base:7.2f}{steady / base:14.2f}{1000 * p99:15.1f}"


def sleeping_table(rounds: int) -> Iterator[str]:
    rates = [asyncio.run(sleep_pages()) for _ in range(rounds)]
    ideal = THREADS / SLEEP_S
    yield (
        f"{SLEEPING_PAGES} pages whose callback sleeps {1000 * SLEEP_S:g} ms, {THREADS} threads: "
        f"{statistics.median(rates):.0f} pages/s, {statistics.median(rates) / ideal:.1%} of the "
        f"ideal {ideal:.0f} (best {max(rates):.0f})"
    )


@contextmanager
def page_server() -> Iterator[str]:
    """A small page, served by a process of its own; its address."""
    command = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/"
        finally:
            server.terminate()


_SERVER = """
import asyncio

HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/html\\r\\nContent-Length: 12\\r\\n\\r\\n"
PAGE = HEAD + b"<h1>Tea</h1>"

class Page(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if data.endswith(b"\\r\\n\\r\\n"):
            self.transport.write(PAGE)

async def main():
    server = await asyncio.get_running_loop().create_server(Page, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"Python {sys.version.split()[0]}, {rounds} rounds, load {os.getloadavg()[0]:.1f}")
    for table in (computing_table, sleeping_table, hops_table):
        print()
        for line in table(rounds):
            print(line, flush=True)
    print()
    print("\n".join(metering_table()))


if __name__ == "__main__":
    main()
