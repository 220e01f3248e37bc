"""The adaptive limit beside the best fixed one, on real servers that can bear so much and no more.

    python -m tests.benchmarks.adaptive --pages 1000

A server in a process of its own answers a request in 50 ms and measures how many it has at a time:

    queues     works on so many at a time, and lets others wait
    slows      the more there are beyond that, the slower it is for all
    refuses    answers 429 beyond that
    closes     the same with Retry-After: 1, and counts requests that come before that date

Each is crawled with several fixed limits and then adaptively under a ceiling (32). The last two
columns are what it is about: adaptive / best fixed, all in all and for the second half of the
pages, when the limit has been found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from aiohttp.test_utils import RawTestServer
from aiohttp.web import BaseRequest, Response

import scrapekit
from scrapekit import Spider

TAKES_S = 0.05
GRACE_S = 0.1
"""Requests that were on their way when the date was set aren't early."""

KINDS = ("queues", "slows", "refuses", "closes")


class Server:
    """Answers as its kind does; `most` at a time is what it can bear."""

    def __init__(self, kind: str, most: int) -> None:
        self.kind = kind
        self.most = most
        self.places = asyncio.Semaphore(most)
        self.now = self.peak = self.refused = self.early = 0
        self.closed_at = self.closed_until = 0.0

    async def __call__(self, request: BaseRequest) -> Response:
        if request.path == "/seen":
            seen = {"peak": self.peak, "refused": self.refused, "early": self.early}
            return Response(text=json.dumps(seen))
        now = time.monotonic()
        self.early += self.closed_at + GRACE_S < now < self.closed_until
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            return await self._answer(request)
        finally:
            self.now -= 1

    async def _answer(self, request: BaseRequest) -> Response:
        if self.kind == "queues":
            async with self.places:
                await asyncio.sleep(TAKES_S)
        elif self.kind == "slows":
            beyond = max(0, self.now - self.most)
            await asyncio.sleep(TAKES_S * (1 + beyond**2 / self.most))
        elif self.now > self.most:
            return self._refuse()
        else:
            await asyncio.sleep(TAKES_S)
        return Response(text=f"<title>{request.path}</title>", content_type="text/html")

    def _refuse(self) -> Response:
        self.refused += 1
        if self.kind == "refuses":
            return Response(status=429)
        self.closed_at = time.monotonic()
        self.closed_until = self.closed_at + 1
        return Response(status=429, headers={"Retry-After": "1"})


async def serve(kind: str, most: int) -> None:
    """Answer until stdin ends; say the port first."""
    server = RawTestServer(Server(kind, most), host="127.0.0.1")
    await server.start_server()
    print(server.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.close()


@contextmanager
def serving(kind: str, most: int) -> Iterator[str]:
    """Run a server, and give its address."""
    command = [sys.executable, "-m", "tests.benchmarks.adaptive", "--serve", kind, str(most)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.communicate("")


class Pages(Spider):
    """So many pages, and in the end what the server has seen."""

    allowed_domains = ("*",)

    async def parse(self, response: scrapekit.Response) -> Any:
        yield {"url": response.url}


class Seen(Spider):
    async def parse(self, response: scrapekit.Response) -> Any:
        yield response.json()


async def crawl(origin: str, pages: int, limit: int, *, adaptive: bool) -> dict[str, Any]:
    """Crawl; pages per second, pages lost, what the server has seen, and the limit in the end."""
    settings = {
        "obey_robots": False,
        "concurrency": 2 * limit,
        "concurrency_per_origin": limit,
        "adaptive": adaptive,
        "retries": 20,
    }
    spider = Pages(start_urls=[f"{origin}/{number}" for number in range(pages)])
    times = [time.perf_counter()]
    async with scrapekit.crawl(spider, settings=settings) as run:
        times.extend([time.perf_counter() async for _ in run])
    got, half = len(times) - 1, len(times) // 2
    rate, late = got / (times[-1] - times[0]), (got - half) / (times[-1] - times[half])
    (seen,) = await scrapekit.collect(Seen(start_urls=[f"{origin}/seen"]))
    (found,) = run.report.origins
    return {"rate": rate, "late": late, "lost": pages - got, "limit": found.concurrency, **seen}


def one(kind: str, most: int, pages: int, limit: int, *, adaptive: bool) -> dict[str, Any]:
    """One crawl, of a server of its own."""
    with serving(kind, most) as origin:
        return asyncio.run(crawl(origin, pages, limit, adaptive=adaptive))


def measure(kind: str, most: int, pages: int, ceiling: int, rounds: int, fixed: list[int]) -> str:
    """One line of the table: medians of rounds, in each of which all have their turn."""
    turns = [
        (
            {limit: one(kind, most, pages, limit, adaptive=False)["rate"] for limit in fixed},
            one(kind, most, pages, ceiling, adaptive=True),
        )
        for _ in range(rounds)
    ]
    rates = {limit: median(rates[limit] for rates, _ in turns) for limit in fixed}
    best = max(rates, key=lambda limit: rates[limit])
    found = {name: median(each[name] for _, each in turns) for name in turns[0][1]}
    all_in_all, once_found = found["rate"] / rates[best], found["late"] / rates[best]
    found |= {name: int(found[name]) for name in ("limit", "peak", "refused", "early", "lost")}
    return (
        f"{kind:10}{most:5}{best:9}{rates[best]:9.1f}{found['rate']:10.1f}{found['limit']:7}"
        f"{found['peak']:6}{found['refused']:9}{found['early']:7}{found['lost']:6}"
        f"{all_in_all:8.2f}{once_found:8.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=int, default=1_000)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--most", type=int, nargs="*", default=[4, 12])
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--ceiling", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=1)
    known = parser.parse_args()
    if known.serve:
        asyncio.run(serve(known.serve[0], int(known.serve[1])))
        return
    names = ("bears", "fixed", "pages/s", "adaptive", "limit", "peak", "refused", "early", "lost")
    print("{:10}{:>5}{:>9}{:>9}{:>10}{:>7}{:>6}{:>9}{:>7}{:>6}".format("", *names), end="")
    print(f"{'ratio':>8}{'found':>8}")
    for kind in known.kinds:
        for most in known.most:
            # A server that refuses is best asked for just what it bears.
            fixed = [most] if kind in ("refuses", "closes") else [most, most + 2, 2 * most]
            fixed = [limit for limit in fixed if limit <= known.ceiling]
            line = measure(kind, most, known.pages, known.ceiling, known.rounds, fixed)
            print(line, flush=True)


if __name__ == "__main__":
    main()
