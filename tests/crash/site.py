"""A site of linked pages, served from a process of its own, which counts what is asked for.

    python -m tests.crash.site PAGES        prints its address; serves until its stdin is closed

`/hits` gives the counts by path as JSON and begins anew. `/kill/PID/HITS/SECONDS` kills a process
that many seconds after so many further pages were asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

LINKS: Final = 8
_BRANCHES: Final = 4


def page(number: int, pages: int) -> bytes:
    """A page: its children in a tree of all pages, and some links anywhere."""
    dice = random.Random(number)
    first = _BRANCHES * number + 1
    targets = [child for child in range(first, first + _BRANCHES) if child < pages]
    targets += [dice.randrange(pages) for _ in range(LINKS - len(targets))]
    links = "".join(f'<a href="/{target}">{target}</a>' for target in targets)
    facts = "".join(f"<li>fact {n} of {number}: \u00e9\u2028</li>" for n in range(number % 4))
    return f"<html><title>{number}</title><ul>{facts}</ul>{links}".encode()


class Site(asyncio.Protocol):
    """Answers GETs on one connection."""

    order: ClassVar[list[float]] = []
    """Whom to kill, after how many more pages, and how many seconds later."""

    def __init__(self, pages: dict[str, bytes], hits: Counter[str]) -> None:
        self._pages = pages
        self._hits = hits
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        path = data.split(b" ", 2)[1].decode()
        if path == "/hits":
            body = json.dumps(self._hits).encode()
            self._hits.clear()
        elif path.startswith("/kill/"):
            self.order[:] = map(float, path.split("/")[2:])
            body = b"it will be"
        else:
            self._hits[path] += 1
            self._obey()
            body = self._pages.get(path, b"")
        status = b"200 OK" if body else b"404 Not Found"
        head = (
            b"HTTP/1.1 %b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
        )
        self._transport.write(head % (status, len(body)) + body)

    def _obey(self) -> None:
        if not self.order:
            return
        self.order[1] -= 1
        if self.order[1] <= 0:
            victim, _, seconds = self.order
            self.order.clear()
            asyncio.get_running_loop().call_later(seconds, _kill, int(victim))


def _kill(victim: int) -> None:
    # It may be over already.
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)


async def _serve(pages: int) -> None:
    loop = asyncio.get_running_loop()
    known = {f"/{number}": page(number, pages) for number in range(pages)}
    hits: Counter[str] = Counter()
    server = await loop.create_server(lambda: Site(known, hits), "127.0.0.1", 0)
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def serving(pages: int) -> Iterator[str]:
    """The site in a process of its own; its address."""
    command = [sys.executable, "-m", "tests.crash.site", str(pages)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


def order_kill(address: str, victim: int, hits: int, seconds: float) -> None:
    """Have a process killed so long after so many further pages were asked for."""
    with urllib.request.urlopen(f"{address}/kill/{victim}/{hits}/{seconds:.6f}"):
        pass


def take_hits(address: str) -> Counter[str]:
    """How often each path was asked for since the last call."""
    with urllib.request.urlopen(f"{address}/hits") as answer:
        return Counter(json.load(answer))


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
