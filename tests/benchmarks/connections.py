"""Ten thousand connections at once, to a server that answers after three seconds.

    python -m tests.benchmarks.connections --connections 10000 --seconds 3

Twice as many requests as connections: by a loop written by hand on aiohttp, and by scrapekit. The
server counts the most connections that were open at one time, and the most requests that were
waiting for their answers. Memory is what the client's grew by from its first request to its
largest, divided by the connections. Limits that adapt are off: the site is taken to be one's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import aiohttp

import scrapekit.transport.http  # noqa: F401
from scrapekit import Request, Response, Settings, Spider, run
from tests.benchmarks.measure import allow_files, rss_bytes
from tests.benchmarks.sites import pinned

CONTENDERS: Final = ("by hand", "scrapekit")

Run = dict[str, Any]


class Slow(asyncio.Protocol):
    """Answers after a while; /robots.txt, /count and the end at once."""

    opened = waiting = 0
    most_opened = most_waiting = 0
    delay_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        Slow.opened += 1
        Slow.most_opened = max(Slow.most_opened, Slow.opened)

    def connection_lost(self, exc: Exception | None) -> None:
        Slow.opened -= 1

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /robots.txt"):
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        Slow.waiting += 1
        Slow.most_waiting = max(Slow.most_waiting, Slow.waiting)
        asyncio.get_running_loop().call_later(Slow.delay_s, self.answer)

    def answer(self) -> None:
        Slow.waiting -= 1
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 12\r\n\r\n"
        self.transport.write(head + b"<h1>Tea</h1>")


async def serve(delay_s: float) -> None:
    """Say the port, serve until stdin ends, and say what was counted."""
    Slow.delay_s = delay_s
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Slow, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"open": Slow.most_opened, "waiting": Slow.most_waiting}), flush=True)
    server.close()


async def by_hand(url: str, connections: int, requests: int) -> int:
    """Fetch as a bare loop does; how many came."""
    left = iter(range(requests))
    came = 0
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def work() -> None:
            nonlocal came
            for number in left:
                async with session.get(f"{url}{number}") as response:
                    await response.read()
                came += response.status == 200

        await asyncio.gather(*(work() for _ in range(connections)))
    return came


class Many(Spider):
    """So many pages of one site."""

    allowed_domains = ("*",)
    url: str = ""
    requests: int = 0

    async def start(self) -> AsyncIterator[Request]:
        for number in range(self.requests):
            yield Request(f"{self.url}{number}")

    async def parse(self, response: Response) -> None:
        pass


def by_scrapekit(url: str, connections: int, requests: int) -> int:
    settings = Settings(
        concurrency=connections,
        concurrency_per_origin=connections,
        adaptive=False,
        timeout_s=120,
        connect_timeout_s=60,
        stall_warning_s=0,
    )
    return run(Many(url=url, requests=requests), settings=settings).pages


def one(contender: str, url: str, connections: int, requests: int) -> Run:
    """Fetch in this process."""
    allow_files()
    before = rss_bytes()
    began, cpu = time.perf_counter(), time.process_time()
    if contender == "scrapekit":
        came = by_scrapekit(url, connections, requests)
    else:
        came = asyncio.run(by_hand(url, connections, requests))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    kb = (peak - before) / connections / 1000
    return {"came": came, "seconds": seconds, "cpu": cpu, "kb": kb}


@contextmanager
def server(delay_s: float, core: int) -> Iterator[tuple[str, Run]]:
    """A server of its own; the mapping has its count once it has ended."""
    command = [sys.executable, "-m", "tests.benchmarks.connections", "--serve", str(delay_s)]
    pipe = subprocess.PIPE
    count: Run = {}
    with subprocess.Popen([*pinned(core), *command], stdin=pipe, stdout=pipe, text=True) as serving:
        assert serving.stdout is not None
        yield f"http://127.0.0.1:{int(serving.stdout.readline())}/", count
        count |= json.loads(serving.communicate("")[0])


def measure(contender: str, known: argparse.Namespace) -> Run:
    command = [sys.executable, "-m", "tests.benchmarks.connections", "--one", contender]
    with server(known.seconds, known.server_core) as (url, count):
        done = subprocess.run(
            [*pinned(known.client_core), *command, url, str(known.connections)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found: Run = json.loads(done.stdout.splitlines()[-1])
    return found | count


def table(runs: dict[str, list[Run]]) -> Iterator[str]:
    """Word the medians, a line at a time."""
    names = ("answers", "open at once", "waiting", "seconds", "CPU s", "KB/connection")
    yield "{:12}{:>9}{:>14}{:>9}{:>9}{:>8}{:>15}".format("", *names)
    for name, found in runs.items():
        counts = [min(run[key] for run in found) for key in ("came", "open", "waiting")]
        seconds, cpu, kb = (
            statistics.median(run[key] for run in found) for key in ("seconds", "cpu", "kb")
        )
        yield "{:12}{:9}{:14}{:9}".format(name, *counts) + f"{seconds:9.1f}{cpu:8.1f}{kb:15.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--client-core", type=int, default=0)
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.serve is not None:
        allow_files()
        asyncio.run(serve(known.serve))
    elif known.one:
        contender, url, connections = known.one
        print(json.dumps(one(contender, url, int(connections), 2 * int(connections))))
    else:
        print(f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
        runs: dict[str, list[Run]] = {name: [] for name in CONTENDERS}
        for _ in range(known.rounds):
            for name, found in runs.items():
                found.append(measure(name, known))
        print("\n".join(table(runs)))


if __name__ == "__main__":
    main()
