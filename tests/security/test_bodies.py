"""Nothing blows up: what never ends, drips or grows is given up, and memory is bounded."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest

import scrapekit
from scrapekit import Response, Spider
from scrapekit.budget import ByteBudget
from scrapekit.errors import (
    BodyTooLarge,
    BodyTruncated,
    BodyUndecodable,
    FetchTimeout,
    ProtocolError,
)
from scrapekit.messages import Request
from scrapekit.settings import Settings
from scrapekit.transport.body import read_body
from scrapekit.transport.pace import GRACE_S, Pace
from tests.functional.site import links
from tests.rawserver import Exchange, Reply, serve
from tests.security.measure import MEBIBYTE, memory
from tests.transports import make_transport

pytestmark = pytest.mark.usefixtures("each_transport")

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def endless(start: bytes, again: bytes, pause_s: float = 0.0) -> Reply:
    """Sends `start`, and then `again` for ever."""
    many = again if pause_s else again * max(1, 65_536 // len(again))

    async def reply(exchange: Exchange) -> None:
        await exchange.send(start)
        while True:
            await exchange.send(many)
            await asyncio.sleep(pause_s)

    return reply


async def fetch_from(reply: Reply | bytes, **settings: Any) -> Response:
    async with serve(reply) as server, make_transport(Settings(**settings)) as transport:
        with ByteBudget(10**8).account() as account:
            return await transport.fetch(Request(server.url()), account)


ENDLESS = {
    "interim answers": (b"", CONTINUE),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"),
    "headers": (OK, b"X-A: b\r\n"),
    "large headers": (OK, b"X-A: " + b"b" * 30_000 + b"\r\n"),
    "a status line": (b"HTTP/1.1 200 ", b"OK"),
    "a header's value": (OK + b"X-A: ", b"b"),
    "a chunk's length": (CHUNKED, b"0"),
    "a chunk's extensions": (CHUNKED + b"1;", b"a=b;"),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"X-A: b\r\n"),
    "a trailer": (CHUNKED + b"1\r\nx\r\n0\r\nX-A: ", b"b"),
    "no line at all": (b"", b"\r\n"),
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_what_never_ends_is_given_up(kind: str) -> None:
    start, again = ENDLESS[kind]
    async with memory() as peak:
        # Without a timeout, so that it is the bound that ends it.
        with pytest.raises(ProtocolError):
            await fetch_from(endless(start, again), timeout_s=1000, header_timeout_s=1000)
    assert peak.grown <= 16 * MEBIBYTE


async def test_what_never_ends_after_an_answer_without_a_body_is_cut_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cut_off = asyncio.Event()

    async def reply(exchange: Exchange) -> None:
        try:
            await endless(b"HTTP/1.1 204 No Content\r\n\r\n", b"\r\n")(exchange)
        except OSError:
            cut_off.set()

    async with serve(reply) as server, make_transport(Settings()) as transport:
        with ByteBudget(10).account() as account:
            assert (await transport.fetch(Request(server.url()), account)).status == 204
            await cut_off.wait()
    assert not caplog.records


@pytest.mark.parametrize("count", [1, 32])
async def test_some_interim_answers_are_skipped(count: int) -> None:
    reply = CONTINUE * count + OK + b"Content-Length: 5\r\n\r\nhello"
    assert (await fetch_from(reply)).body == b"hello"


def dripping(text: bytes, pause_s: float = 0.02) -> Reply:
    async def reply(exchange: Exchange) -> None:
        for byte in text:
            await exchange.send(bytes([byte]))
            await asyncio.sleep(pause_s)
        await asyncio.Event().wait()

    return reply


TIMEOUTS: list[tuple[Reply, dict[str, float], str]] = [
    (dripping(OK + b"X-A: " + b"b" * 500), {"header_timeout_s": 0.2}, "header"),
    (dripping(b""), {"header_timeout_s": 0.2}, "header"),
    (endless(b"", CONTINUE, 0.02), {"header_timeout_s": 0.2}, "header"),
    (dripping(CONTINUE, 0.0), {"read_timeout_s": 0.1}, "read"),
    (dripping(b""), {"first_byte_timeout_s": 0.1}, "first-byte"),
    (dripping(b""), {"read_timeout_s": 0.1}, "read"),
    (dripping(b"HTTP/1.1 2"), {"first_byte_timeout_s": 0.1, "read_timeout_s": 0.3}, "read"),
    (dripping(OK + b"Content-Length: 9\r\n\r\nab"), {"read_timeout_s": 0.3}, "read"),
    (dripping(OK + b"\r\n" + b"a" * 1000), {"timeout_s": 0.3}, "total"),
]


@pytest.mark.parametrize(("reply", "settings", "phase"), TIMEOUTS)
async def test_each_part_of_an_answer_has_its_deadline(
    reply: Reply, settings: dict[str, float], phase: str
) -> None:
    class Once(Spider):
        async def parse(self, response: Response) -> None: ...

        def on_error(self, failure: scrapekit.Failure) -> None:
            self.stats.add(getattr(failure.error, "phase", "none"))

    async with serve(reply) as server:
        spider = Once(start_urls=[server.url()])
        chosen = {"obey_robots": False, "retries": 0, **settings}
        async with scrapekit.crawl(spider, settings=chosen) as run:
            await run.wait()
    assert spider.stats.snapshot() == {phase: 1}


async def test_a_header_deadline_is_none_for_the_body() -> None:
    text = OK + b"Content-Length: 20\r\n\r\n"

    async def reply(exchange: Exchange) -> None:
        await exchange.send(text)
        await dripping(b"a" * 20)(exchange)

    # The body takes twice the header's time.
    assert (await fetch_from(reply, header_timeout_s=0.2)).body == b"a" * 20


# ---- pace


class Time:
    """A clock that each read moves."""

    def __init__(self, waits: list[float], size: int) -> None:
        self.now = 0.0
        self._waits = iter(waits)
        self._size = size

    async def read(self) -> bytes:
        wait = next(self._waits, None)
        self.now += wait or 0.0
        return b"x" * self._size if wait is not None else b""


async def all_of(read: Callable[[], Awaitable[bytes]]) -> int:
    size = 0
    while chunk := await read():
        size += len(chunk)
    return size


@pytest.mark.parametrize(
    ("waits", "size", "ok"),
    [
        ([0.5] * 100, 50, True),
        ([0.5] * 100, 49, True),
        ([0.5] * 100, 24, False),
        ([GRACE_S], 1, True),
        ([GRACE_S + 0.1], 1, False),
        ([GRACE_S / 2, GRACE_S / 2 + 0.1], 1, False),
        ([0.0] * 10_000, 1, True),
    ],
)
async def test_a_body_has_to_keep_the_pace_after_a_while(
    waits: list[float], size: int, ok: bool
) -> None:
    time = Time(waits, size)
    pace = Pace(time.read, 50, lambda: time.now)
    if ok:
        assert await all_of(pace.read) == len(waits) * size
        return
    with pytest.raises(FetchTimeout, match="min_bytes_per_s") as caught:
        await all_of(pace.read)
    assert caught.value.phase == "rate"
    assert caught.value.after_s > GRACE_S


async def test_a_slow_body_is_given_up_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrapekit.transport.pace.GRACE_S", 0.2)
    reply = dripping(OK + b"\r\n" + b"a" * 1000)
    with pytest.raises(FetchTimeout) as caught:
        await fetch_from(reply, min_bytes_per_s=1_000)
    assert caught.value.phase == "rate"
    assert caught.value.url.startswith("http://127.0.0.1")


# ---- bodies that grow


def source(data: bytes) -> Callable[[], Awaitable[bytes]]:
    pieces = iter([data[at : at + 1000] for at in range(0, len(data), 1000)])

    async def read() -> bytes:
        return next(pieces, b"")

    return read


@pytest.mark.parametrize("codings", ["br", "gzip, br", "br, gzip"])
async def test_a_body_that_grows_beyond_measure_is_refused(codings: str) -> None:
    data = bytes(8 * MEBIBYTE)
    for name in codings.split(", "):
        data = brotli.compress(data) if name == "br" else gzip.compress(data)
    limit = 16 * MEBIBYTE
    with ByteBudget(limit).account() as account, pytest.raises(BodyTooLarge, match="max_ratio"):
        await read_body(source(data), codings, account, limit, max_ratio=1_100)
    assert account.held == 0


async def test_a_page_of_one_letter_is_no_bomb() -> None:
    data = brotli.compress(b"a" * MEBIBYTE)
    with ByteBudget(2 * MEBIBYTE).account() as account:
        body = await read_body(source(data), "br", account, 2 * MEBIBYTE, max_ratio=10)
    assert len(body) == MEBIBYTE


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        (gzip.compress(b"hello", mtime=0)[:-4], b"Content-Encoding: gzip\r\n", BodyTruncated),
        (zlib.compress(b"hello" * 99)[:-9], b"Content-Encoding: deflate\r\n", BodyTruncated),
        (b"not compressed", b"Content-Encoding: gzip\r\n", BodyUndecodable),
        (b"hello", b"Content-Encoding: gzip, br, gzip\r\n", BodyUndecodable),
    ],
)
async def test_a_connection_is_not_used_again_after_an_anomaly(
    body: bytes, headers: bytes, error: type[Exception]
) -> None:
    reply = OK + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body
    async with serve(reply) as server, make_transport(Settings()) as transport:
        for connections in (1, 2):
            with ByteBudget(1000).account() as account, pytest.raises(error):
                await transport.fetch(Request(server.url()), account)
            assert server.connections == connections


# ---- all at once

BUDGET = 64 * MEBIBYTE
BOMBS = 16


def bomb() -> bytes:
    """256 MiB in 256 KB."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = [compressor.compress(bytes(MEBIBYTE)) for _ in range(256)]
    data = b"".join([*pieces, compressor.flush()])
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data)
    return head + data


class Sapper(Spider):
    async def parse(self, response: Response) -> AsyncIterator[Any]:
        yield {"url": response.url}
        for request in response.follow_all():
            yield request


@pytest.mark.parametrize("robots", [False, True])
async def test_sixteen_bombs_at_once_stay_within_the_budget(robots: bool) -> None:
    data = bomb()
    good = OK + b"Content-Length: 4\r\n\r\ngood"
    names = [f"bomb{number}" for number in range(BOMBS)]

    async def reply(exchange: Exchange) -> None:
        path = exchange.line.split(" ")[1]
        if path == "/" or (path == "/robots.txt" and not robots):
            page = links(*[f"/{name}" for name in names], "/good").encode()
            page = page if path == "/" else b""
            await exchange.send(OK + b"Content-Length: %d\r\n\r\n%s" % (len(page), page))
        else:
            await exchange.send(good if path == "/good" else data)

    settings = {
        "max_bytes_in_flight": BUDGET,
        "concurrency_per_origin": 32,
        "retries": 0,
        "obey_robots": robots,
    }
    async with serve(reply) as server, memory() as peak:
        spider = Sapper(start_urls=[server.url()])
        async with scrapekit.crawl(spider, settings=settings) as run:
            items = [item["url"] async for item in run]
    assert peak.grown <= BUDGET + 64 * MEBIBYTE
    # Of a robots.txt 500 KiB are read, whatever comes behind.
    assert items == [server.url("/"), server.url("/good")]
    (group,) = run.report.errors
    assert (group.error, group.count) == ("BodyTooLarge", BOMBS)
