"""The transports against real servers on loopback: what is sent, what comes back, what is left."""

from __future__ import annotations

import asyncio
import errno
import gzip
import pickle
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import brotli  # type: ignore[import-untyped]
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from aioresponses import aioresponses

from scrapekit import retry
from scrapekit.budget import Account, ByteBudget
from scrapekit.errors import (
    BodyTooLarge,
    BodyTruncated,
    BodyUndecodable,
    ConnectError,
    FetchTimeout,
    ProtocolError,
    ProxyError,
    Refused,
    SiteError,
    UsageError,
)
from scrapekit.messages import Request, Response
from scrapekit.settings import Settings
from scrapekit.transport.http import HttpTransport
from tests.rawserver import Exchange, Reply, serve
from tests.transports import AnyTransport, make_transport, overhear

OK = b"HTTP/1.1 200 OK\r\n"
OLD = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"
pytestmark = pytest.mark.usefixtures("each_transport")

NoLeaks = Callable[[], AbstractAsyncContextManager[None]]


def gzipped(data: bytes, level: int = 9) -> bytes:
    """Always the same for the same data: without the time of its making."""
    return gzip.compress(data, level, mtime=0)


def sized(body: bytes, *headers: bytes) -> bytes:
    """A whole response."""
    fields = [b"Content-Length: %d" % len(body), *headers]
    return OK + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def chunked(*chunks: bytes, headers: bytes = b"") -> bytes:
    """A response in chunks, without the last one."""
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return OK + headers + b"Transfer-Encoding: chunked\r\n\r\n" + framed


async def fetch(
    transport: AnyTransport, url: str, *, budget: ByteBudget | None = None, **options: Any
) -> Response:
    with (budget or ByteBudget(2**24)).account() as account:
        return await transport.fetch(Request(url, **options), account)


class Watched:
    """An account that tells when bytes are taken, and when they are waited for."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.enough: int | None = None
        self.taken = asyncio.Event()
        self.waiting = asyncio.Event()

    def try_take(self, size: int) -> bool:
        self.taken.set()
        return self._account.try_take(size)

    async def take(self, size: int) -> None:
        self.waiting.set()
        await self._account.take(size)


@asynccontextmanager
async def fetching(
    transport: AnyTransport, url: str, budget: ByteBudget | None = None
) -> AsyncIterator[tuple[asyncio.Task[Response], Watched]]:
    """A fetch under way, and the account it takes from. It must have ended when that is left."""
    with (budget or ByteBudget(2**24)).account() as account:
        watched = Watched(account)
        page = asyncio.create_task(transport.fetch(Request(url), cast("Account", watched)))
        yield page, watched
        assert page.done()


async def fetch_from(reply: Reply | bytes, **settings: Any) -> Response:
    """One page of a server that answers like that."""
    async with serve(reply) as server, make_transport(Settings(**settings)) as transport:
        return await fetch(transport, server.url())


async def head_of(request: Callable[[str], Request], **settings: Any) -> Exchange:
    """What a server sees of a request."""
    async with serve(HELLO) as server, make_transport(Settings(**settings)) as transport:
        with ByteBudget(100).account() as account:
            await transport.fetch(request(server.url("/")), account)
        return server.requests[0]


# ---- requests


async def test_a_page_comes_back_with_all_its_facts() -> None:
    reply = sized(b"<p>hi", b"Content-Type: text/html", b"X-A: 1", b"x-a: 2")
    async with serve(reply) as server, make_transport(Settings()) as transport:
        request = Request(server.url("/page?q=1"), "parse_page", meta={"n": 1})
        with ByteBudget(100).account() as account:
            response = await transport.fetch(request, account)
            assert account.held == 5
    assert (response.url, response.status, response.body) == (request.url, 200, b"<p>hi")
    assert response.headers["CONTENT-TYPE"] == "text/html"
    assert response.headers.getall("X-A") == ["1", "2"]  # type: ignore[attr-defined]
    assert response.request is request
    assert response.elapsed_s >= 0
    assert pickle.loads(pickle.dumps(response)).headers == response.headers


@pytest.mark.parametrize(
    "target",
    ["/a%2Fb%7Ec/%C3%A9?q=%7Ea&b=a%20b+c&d=%2B", "/a|b?x='%22'", "/?", "/%zz?%", "/a;b=c,d?e[f]=g"],
)
async def test_the_url_is_sent_as_it_was_fingerprinted(target: str) -> None:
    async with serve(HELLO) as server, make_transport(Settings()) as transport:
        request = Request(server.url(target))
        with ByteBudget(100).account() as account:
            await transport.fetch(request, account)
        assert server.lines == [f"GET {request.url.removeprefix(server.url('')) or '/'} HTTP/1.1"]


async def test_default_headers_say_who_we_are_and_what_we_can_read() -> None:
    seen = await head_of(Request, user_agent="robot/1")
    assert seen.header("User-Agent") == "robot/1"
    assert (seen.header("Accept") or "").startswith("text/html,application/xhtml+xml,")
    assert seen.header("Accept-Encoding") == "gzip, deflate, br, zstd"
    assert seen.header("Accept-Language") is None
    assert seen.header("Cookie") is None


async def test_headers_of_the_request_win_over_settings_which_win_over_defaults() -> None:
    seen = await head_of(
        lambda url: Request(url, headers={"x-two": "request", "ACCEPT": "text/plain"}),
        headers={"X-One": "settings", "X-Two": "settings", "user-agent": "robot/2", "accept": "*"},
    )
    assert seen.header("X-One") == "settings"
    assert seen.header("X-Two") == "request"
    assert seen.header("User-Agent") == "robot/2"
    assert seen.header("Accept") == "text/plain"
    assert seen.head.lower().count(b"accept:") == 1


async def test_cookies_of_the_request_are_sent_as_they_are() -> None:
    seen = await head_of(lambda url: Request(url, cookies={"a": '1"2', "b": "x=y"}))
    assert seen.header("Cookie") == 'a=1"2; b=x=y'


async def test_a_cookie_header_and_cookies_go_together() -> None:
    seen = await head_of(lambda url: Request(url, headers={"cookie": "z=0"}, cookies={"a": "1"}))
    assert seen.header("Cookie") == "z=0; a=1"
    assert seen.head.lower().count(b"cookie:") == 1


async def test_cookies_that_servers_set_are_not_kept() -> None:
    async with (
        serve(sized(b"hello", b"Set-Cookie: a=1")) as server,
        make_transport(Settings()) as transport,
    ):
        await fetch(transport, server.url())
        await fetch(transport, server.url())
        assert server.requests[1].header("Cookie") is None


async def test_credentials_in_the_url_become_a_header() -> None:
    seen = await head_of(lambda url: Request(url.replace("//127", "//me:pass@127")))
    assert seen.header("Authorization") == "Basic bWU6cGFzcw=="


@pytest.mark.parametrize("size", [3, 2_000_000])
async def test_method_and_body_are_passed_on(size: int) -> None:
    received = asyncio.get_running_loop().create_future()

    async def reply(exchange: Exchange) -> None:
        received.set_result(await exchange.reader.readexactly(size))
        await exchange.send(HELLO)

    async with serve(reply) as server, make_transport(Settings()) as transport:
        await fetch(transport, server.url(), method="PUT", body=b"x" * size)
        seen = server.requests[0]
    assert await received == b"x" * size
    assert seen.line.startswith("PUT ")
    assert seen.header("Content-Length") == str(size)
    assert seen.header("Content-Type") is None


async def test_a_form_says_that_it_is_one() -> None:
    async with serve(HELLO) as server, make_transport(Settings()) as transport:
        await fetch(transport, server.url(), data={"a": "1"})
        assert server.requests[0].header("Content-Type") == "application/x-www-form-urlencoded"
        assert server.requests[0].line.startswith("POST ")


async def test_a_request_that_cannot_be_put_into_http_is_the_users_error() -> None:
    async with serve(HELLO) as server, make_transport(Settings()) as transport:
        with pytest.raises(UsageError, match="can't be put into HTTP"):
            await fetch(transport, server.url(), body="a", headers={"Content-Length": "?"})
        assert (await fetch(transport, server.url())).body == b"hello"
        assert len(server.requests) == 1


async def test_it_is_used_inside_its_async_with_block_only() -> None:
    transport = make_transport(Settings())
    assert repr(transport) == f"<{type(transport).__name__} closed>"
    with pytest.raises(RuntimeError, match="async with"):
        await fetch(transport, "http://127.0.0.1:9/")
    async with serve(HELLO) as server:
        async with transport:
            await fetch(transport, server.url())
            assert repr(transport) == f"<{type(transport).__name__} connections=1>"
        assert repr(transport) == f"<{type(transport).__name__} closed>"
        await transport.aclose()


async def test_it_can_be_mocked_by_aioresponses() -> None:
    with aioresponses() as mocked:
        mocked.get("http://mocked.test/", status=503, body=b"later", headers={"Retry-After": "9"})
        async with HttpTransport(Settings()) as transport:
            response = await fetch(transport, "http://mocked.test/")
    assert (response.status, response.body) == (503, b"later")
    assert response.headers["retry-after"] == "9"


# ---- responses


@pytest.mark.parametrize("status", [200, 299, 404, 500, 999])
async def test_every_status_is_an_answer(status: int) -> None:
    response = await fetch_from(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status)
    assert (response.status, response.body) == (status, b"ok")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed_and_their_bodies_not_waited_for(status: int) -> None:
    head = b"HTTP/1.1 %d X\r\nLocation: /next\r\nContent-Encoding: gzip\r\n" % status
    async with (
        serve(head + b"Content-Length: 99999\r\n\r\nnever the rest") as server,
        make_transport(Settings()) as transport,
    ):
        response = await fetch(transport, server.url())
        assert (response.status, response.body) == (status, b"")
        assert response.headers["Location"] == "/next"
        await fetch(transport, server.url())
        assert server.connections == 2


async def test_a_redirect_that_has_arrived_whole_keeps_its_connection() -> None:
    redirect = b"HTTP/1.1 301 X\r\nLocation: /next\r\nContent-Length: 2\r\n\r\nto"
    async with serve(redirect) as server, make_transport(Settings()) as transport:
        for _ in range(3):
            await fetch(transport, server.url())
        assert server.connections == 1


async def test_a_redirect_status_without_location_has_a_body() -> None:
    assert (await fetch_from(b"HTTP/1.1 300 X\r\nContent-Length: 2\r\n\r\nok")).body == b"ok"
    assert (await fetch_from(b"HTTP/1.1 302 X\r\nContent-Length: 2\r\n\r\nok")).body == b"ok"


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("HEAD", OK + b"Content-Length: 99999999999\r\n\r\n"),
        ("HEAD", OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 X\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n"),
        ("GET", OK + b"Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"),
        ("GET", OK + b"Content-Encoding: br\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
async def test_no_body_where_there_is_none(method: str, reply: bytes) -> None:
    async with serve(reply) as server, make_transport(Settings()) as transport:
        response = await fetch(transport, server.url(), method=method)
        assert response.body == b""
        await fetch(transport, server.url(), method=method)
        assert server.connections == 1


async def test_a_switch_of_protocols_is_an_answer_and_leaves_nothing(
    no_async_leaks: NoLeaks,
) -> None:
    reply = b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframes"
    async with no_async_leaks():
        assert (await fetch_from(reply)).status == 101


async def test_provisional_answers_are_skipped() -> None:
    assert (await fetch_from(b"HTTP/1.1 103 X\r\nLink: </a>\r\n\r\n" * 3 + HELLO)).status == 200


async def test_a_body_without_length_ends_with_its_connection() -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.send(OK + b"\r\nhello")
        exchange.close()

    assert (await fetch_from(reply)).body == b"hello"


async def test_connections_are_used_again() -> None:
    async with serve(HELLO) as server, make_transport(Settings()) as transport:
        for _ in range(5):
            await fetch(transport, server.url())
        assert server.connections == 1


@pytest.mark.parametrize(
    "reply",
    [
        # RFC 9112, 6.1: whoever put the two together may not know where the body ends.
        OLD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
async def test_a_connection_is_not_used_again_where_an_answer_leaves_it_in_doubt(
    reply: bytes,
) -> None:
    async with serve(reply) as server, make_transport(Settings()) as transport:
        for connections in (1, 2, 3):
            response = await fetch(transport, server.url())
            assert response.body == (b"" if response.status == 101 else b"hello")
            assert server.connections == connections


async def test_a_thousand_pages_side_by_side() -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text=request.path)

    app = web.Application()
    app.router.add_get("/{name}", page)
    budget = ByteBudget(100)
    async with TestServer(app) as server, make_transport(Settings()) as transport:
        urls = [str(server.make_url(f"/{number}")) for number in range(1_000)]
        pages = await asyncio.gather(*(fetch(transport, url, budget=budget) for url in urls))
    assert [page.text for page in pages] == [f"/{number}" for number in range(1_000)]
    assert budget.used == 0


# ---- bodies


@pytest.mark.parametrize(
    ("codings", "encoded"),
    [
        (b"gzip", gzipped(b"hello")),
        (b"X-GZIP", gzipped(b"hello")),
        (b"deflate", zlib.compress(b"hello")),
        (b"deflate", zlib.compress(b"hello", wbits=-15)),
        (b"br", brotli.compress(b"hello")),
        (b"identity", b"hello"),
        (b"", b"hello"),
        (b"gzip, br", brotli.compress(gzipped(b"hello"))),
        (b"gzip", gzipped(b"hel") + gzipped(b"lo")),
    ],
)
async def test_bodies_are_decoded(codings: bytes, encoded: bytes) -> None:
    reply = sized(encoded, b"Content-Encoding: " + codings)
    async with serve(reply) as server, make_transport(Settings()) as transport:
        for _ in range(2):
            page = await fetch(transport, server.url())
            assert (page.body, page.anomalies) == (b"hello", ())
        assert server.connections == 1


@pytest.mark.parametrize(
    ("codings", "encoded"),
    [
        (b"gzip", gzipped(b"hello") + b"garbage"),
        (b"gzip", gzipped(b"hello") + b"\x1f"),
        (b"gzip", gzipped(b"hello") + bytes(1_000)),
        (b"deflate", zlib.compress(b"hello") + b"garbage"),
        (b"gzip, br", brotli.compress(gzipped(b"hello") + b"garbage")),
    ],
)
async def test_garbage_after_a_stream_keeps_the_page_flags_it_and_ends_the_connection(
    codings: bytes, encoded: bytes
) -> None:
    reply = sized(encoded, b"Content-Encoding: " + codings)
    async with serve(reply) as server, make_transport(Settings()) as transport:
        for _ in range(2):
            page = await fetch(transport, server.url())
            assert (page.body, page.anomalies) == (b"hello", ("trailing-garbage",))
        assert server.connections == 2


async def test_codings_in_several_headers_count_together() -> None:
    encoded = brotli.compress(gzipped(b"hello"))
    reply = sized(encoded, b"Content-Encoding: gzip", b"Content-Encoding: br")
    assert (await fetch_from(reply)).body == b"hello"


@pytest.mark.parametrize("codings", [b"foo", b"gzip, gzip, gzip", b"gzip"])
async def test_what_cannot_be_decoded_is_undecodable(codings: bytes) -> None:
    async with (
        serve(sized(b"hello hello hello", b"Content-Encoding: " + codings)) as server,
        make_transport(Settings()) as transport,
    ):
        with pytest.raises(BodyUndecodable) as caught:
            await fetch(transport, server.url())
        assert caught.value.url == server.url()


async def test_large_bodies_come_whole_at_any_coding() -> None:
    page = b"".join(b"line %d of a page\n" % number for number in range(200_000))
    for reply in (
        sized(page),
        chunked(page, page[:1]) + b"0\r\n\r\n",
        sized(gzipped(page, 1), b"Content-Encoding: gzip"),
        chunked(brotli.compress(page, quality=1), headers=b"Content-Encoding: br\r\n")
        + b"0\r\n\r\n",
    ):
        body = (await fetch_from(reply)).body
        assert body.removesuffix(b"l") == page


async def test_garbage_without_end_after_a_stream_is_not_read_to_its_end() -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.send(OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(b"hello"))
        while True:
            await exchange.send(b"x" * 65_536)

    assert (await fetch_from(reply)).body == b"hello"


@pytest.mark.parametrize(
    "start",
    [
        OK + b"Content-Length: 10\r\n\r\nhello",
        chunked(b"hello"),
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzipped(b"hello")[:-1],
        OK + b"Content-Encoding: br\r\n\r\n" + brotli.compress(b"hello")[:-2],
        chunked(gzipped(b"hello")[:-4], headers=b"Content-Encoding: gzip\r\n") + b"0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("end", [Exchange.close, Exchange.reset])
async def test_a_body_that_ends_early_is_truncated(
    start: bytes, end: Callable[[Exchange], None]
) -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.send(start)
        end(exchange)

    with pytest.raises(BodyTruncated):
        await fetch_from(reply)


async def test_a_reset_is_no_end_of_a_body_without_length() -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.send(OK + b"\r\nhello")
        exchange.reset()

    with pytest.raises(BodyTruncated, match="broke"):
        await fetch_from(reply)


async def test_a_reset_after_the_end_of_a_body_is_no_matter() -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.send(HELLO)
        exchange.reset()

    assert (await fetch_from(reply)).body == b"hello"


async def test_a_body_of_the_largest_size_is_read() -> None:
    assert len((await fetch_from(sized(b"x" * 1_000), max_body_bytes=1_000)).body) == 1_000


@pytest.mark.parametrize(
    "reply",
    [
        OK + b"Content-Length: 1001\r\n\r\n",
        OK + b"Content-Length: 1099511627776\r\n\r\nabc",
        OK + b"\r\n" + b"x" * 1_001,
        chunked(b"x" * 500, b"x" * 501),
        # These arrive whole before they turn out to be too large.
        sized(gzipped(b"x" * 1_001), b"Content-Encoding: gzip"),
        sized(brotli.compress(bytes(50_000_000)), b"Content-Encoding: br"),
    ],
)
async def test_a_larger_body_is_refused_and_its_connection_closed(reply: bytes) -> None:
    budget = ByteBudget(5_000)
    async with serve(reply) as server, make_transport(Settings(max_body_bytes=1_000)) as transport:
        with pytest.raises(BodyTooLarge, match="max_body_bytes") as caught:
            await fetch(transport, server.url(), budget=budget)
        assert (caught.value.limit_bytes, caught.value.url) == (1_000, server.url())
        assert budget.peak <= 1_000
        assert budget.used == 0
        with pytest.raises(BodyTooLarge):
            await fetch(transport, server.url())
        assert server.connections == 2


async def test_a_compressed_flood_that_decodes_to_nothing_is_refused() -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.send(OK + b"Content-Encoding: deflate\r\n\r\n\x78\x9c")
        while True:
            await exchange.send(b"\x00\x00\x00\xff\xff" * 10_000)

    with pytest.raises(BodyTooLarge):
        await fetch_from(reply, max_body_bytes=1_000)


async def test_the_loop_has_its_turn_while_a_large_body_is_decoded() -> None:
    reply = sized(gzipped(bytes(10_000_000)), b"Content-Encoding: gzip")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with serve(reply) as server, make_transport(Settings()) as transport:
        counting = asyncio.create_task(count())
        await fetch(transport, server.url())
        counting.cancel()
    assert turns >= 10_000_000 // 262_144


async def test_decoded_bytes_are_taken_and_waited_for() -> None:
    budget = ByteBudget(100)
    reply = sized(gzipped(bytes(1_000)), b"Content-Encoding: gzip")
    async with serve(reply) as server, make_transport(Settings()) as transport:
        with budget.account() as overdrawer:
            await overdrawer.take(200)
            async with fetching(transport, server.url(), budget) as (page, account):
                await account.waiting.wait()
                assert (budget.used, budget.waiting) == (200, 1)
                overdrawer.__exit__(None, None, None)
                assert len((await page).body) == 1_000
                assert budget.used == 1_000
    assert budget.used == 0


async def test_a_body_that_nobody_takes_fills_no_memory() -> None:
    sent = 0

    async def reply(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(OK + b"\r\n")
        while True:
            await exchange.send(bytes(65_536))
            sent += 65_536

    budget = ByteBudget(1)
    with budget.account() as full, budget.account() as overdrawer:
        assert full.try_take(1)
        await overdrawer.take(1)
        async with (
            serve(reply) as server,
            make_transport(Settings()) as transport,
            fetching(transport, server.url(), budget) as (page, account),
        ):
            await account.waiting.wait()
            before = -1
            while before < sent:  # until the server has to wait as well
                before = sent
                await asyncio.sleep(0.05)
            page.cancel()
            with pytest.raises(asyncio.CancelledError):
                await page
    # What the kernel holds for both, and what may lie unread.
    assert sent < 20_000_000


# ---- servers that speak no HTTP


@pytest.mark.parametrize(
    "reply",
    [
        b"<html>hello</html>",
        b"HTTP/1.1 -200 OK\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        OK + b"Content-Length: 5.0\r\n\r\nhello",
        OK + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"X-A: b\r\n" * 257 + b"\r\n",
        OK + b"X-A: " + b"b" * 40_000 + b"\r\n\r\n",
        OK + b"b" * 40_000 + b": c\r\n\r\n",
        b"HTTP/1.1 200 " + b"b" * 40_000 + b"\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        OK + b"\x1b[2J\0: x\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 099 X\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
async def test_nonsense_is_a_protocol_error_in_one_printable_line(reply: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"127.0.0.1 sent no valid HTTP: ") as caught:
        await fetch_from(reply)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400
    assert caught.value.__cause__ is not None


async def test_headers_as_long_as_real_sites_send_them_are_read() -> None:
    reply = sized(b"hello", b"Content-Security-Policy: " + b"x" * 30_000, *[b"X-A: b"] * 200)
    assert (await fetch_from(reply)).body == b"hello"


async def test_a_chunk_that_breaks_the_framing_later_ends_the_wait() -> None:
    begun = asyncio.Event()

    async def reply(exchange: Exchange) -> None:
        await exchange.send(chunked(b"hello"))
        await begun.wait()
        await exchange.send(b"zz\r\nhello\r\n")

    async with (
        serve(reply) as server,
        make_transport(Settings()) as transport,
        fetching(transport, server.url()) as (page, account),
    ):
        await account.taken.wait()
        begun.set()
        with pytest.raises(ProtocolError, match="framing") as caught:
            await page
    assert caught.value.url == server.url()


async def test_reading_on_while_broken_framing_closes_the_connection_is_no_crash() -> None:
    begun = asyncio.Event()

    async def reply(exchange: Exchange) -> None:
        await exchange.send(chunked(b"hello"))
        await begun.wait()
        await exchange.send(b"zz\r\nhello\r\n")

    budget = ByteBudget(1)
    async with serve(reply) as server, make_transport(Settings()) as transport:
        with budget.account() as full, budget.account() as overdrawer:
            assert full.try_take(1)
            await overdrawer.take(1)
            async with fetching(transport, server.url(), budget) as (page, account):
                await account.waiting.wait()
                overhear(transport, losing=lambda: overdrawer.__exit__(None, None, None))
                begun.set()
                with pytest.raises(ProtocolError, match="framing"):
                    await page


async def test_an_error_of_the_account_stays_what_it_is() -> None:
    async with serve(HELLO) as server, make_transport(Settings()) as transport:
        account = ByteBudget(100).account()
        with pytest.raises(RuntimeError, match="inside its `with` block"):
            await transport.fetch(Request(server.url()), account)


# ---- connections that fail


async def test_a_response_that_nobody_asked_for_answers_no_request() -> None:
    async def reply(exchange: Exchange) -> None:
        if exchange.number == 0:
            await exchange.send(HELLO)
        else:
            await exchange.send(sized(b"right"))

    async with serve(reply) as server, make_transport(Settings()) as transport:
        await fetch(transport, server.url())
        arrived = asyncio.Event()
        overhear(transport, arrived=arrived.set)
        await server.requests[0].send(sized(b"forged"))
        await arrived.wait()
        assert (await fetch(transport, server.url())).body == b"right"
        assert server.connections == 2


async def test_a_kept_connection_that_the_server_closes_is_replaced() -> None:
    async def reply(exchange: Exchange) -> None:
        if exchange.number == 1:
            exchange.close()
        else:
            await exchange.send(HELLO)

    async with serve(reply) as server, make_transport(Settings()) as transport:
        for _ in range(2):
            assert (await fetch(transport, server.url())).body == b"hello"
        assert (len(server.requests), server.connections) == (3, 2)


async def test_a_kept_connection_is_not_replaced_for_what_may_not_be_repeated() -> None:
    async def reply(exchange: Exchange) -> None:
        if exchange.number == 1:
            exchange.close()
        else:
            await exchange.send(HELLO)

    async with serve(reply) as server, make_transport(Settings()) as transport:
        await fetch(transport, server.url())
        with pytest.raises(ConnectError, match="hung up"):
            await fetch(transport, server.url(), method="POST")
        assert len(server.requests) == 2


@pytest.mark.parametrize("end", [Exchange.close, Exchange.reset])
@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nConte"])
async def test_a_server_that_hangs_up_is_asked_once(
    start: bytes, end: Callable[[Exchange], None]
) -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.send(start)
        end(exchange)

    async with serve(reply) as server, make_transport(Settings()) as transport:
        with pytest.raises(ConnectError, match=r"127.0.0.1 hung up instead of answering") as caught:
            await fetch(transport, server.url())
        assert caught.value.url == server.url()
        assert len(server.requests) == 1


async def test_a_refused_connection_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with make_transport(Settings()) as transport:
        with pytest.raises(ConnectError, match=r"127.0.0.1 can't be reached: .*refused") as caught:
            await fetch(transport, f"http://me:secret@127.0.0.1:{port}/")
    assert "secret" not in str(caught.value)
    assert caught.value.url == f"http://127.0.0.1:{port}/"
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), ConnectError)


class Names(AbstractResolver):
    """Resolves by calling a function."""

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self._answer = answer

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = self._answer(host)
        if asyncio.isfuture(found):
            await found
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0
            )
            for address in found
        ]

    async def close(self) -> None:
        pass


async def test_a_name_that_does_not_resolve_says_so() -> None:
    def unknown(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with make_transport(Settings(), resolver=Names(unknown)) as transport:
        with pytest.raises(ConnectError, match=r"name nowhere.test doesn't resolve: Name or"):
            await fetch(transport, "http://nowhere.test/")


async def test_a_resolver_can_be_given() -> None:
    async with (
        serve(HELLO) as server,
        make_transport(Settings(), resolver=Names(lambda host: ["127.0.0.1"])) as transport,
    ):
        response = await fetch(transport, f"http://somewhere.test:{server.port}/")
        assert response.body == b"hello"
        assert server.requests[0].header("Host") == f"somewhere.test:{server.port}"


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
async def test_a_socket_factory_sees_every_address_and_may_refuse_it(addresses: list[str]) -> None:
    seen = []

    def factory(address: Any) -> socket.socket:
        seen.append(address[4][0])
        raise Refused("address", url=f"http://{address[4][0]}/")

    async with (
        serve(HELLO) as server,
        make_transport(
            Settings(), resolver=Names(lambda host: addresses), socket_factory=factory
        ) as transport,
    ):
        with pytest.raises(Refused, match="address"):
            await fetch(transport, f"http://inside.test:{server.port}/")
        assert set(seen) == set(addresses)
        assert server.connections == 0


async def test_a_socket_factory_may_make_the_socket() -> None:
    def factory(address: Any) -> socket.socket:
        return socket.socket(*address[:3])

    transport = make_transport(Settings(), socket_factory=factory)
    async with serve(HELLO) as server, transport:
        assert (await fetch(transport, server.url())).body == b"hello"


async def test_a_connection_that_takes_too_long_times_out() -> None:
    never = asyncio.get_running_loop().create_future()
    settings = Settings(connect_timeout_s=0.02)
    async with make_transport(settings, resolver=Names(lambda host: never)) as transport:
        with pytest.raises(FetchTimeout, match=r"slow.test within 0.02 s") as caught:
            await fetch(transport, "http://slow.test/")
    assert (caught.value.phase, caught.value.after_s) == ("connect", 0.02)
    assert retry.overload_sign(caught.value) is None
    never.cancel()


async def test_a_proxy_that_takes_too_long_is_told_as_such() -> None:
    never = asyncio.get_running_loop().create_future()
    settings = Settings(connect_timeout_s=0.02, proxy="http://proxy.test:3128")
    async with HttpTransport(settings, resolver=Names(lambda host: never)) as transport:
        with pytest.raises(ProxyError, match=r"by the proxy within 0.02 s") as caught:
            await fetch(transport, "http://shop.test/")
    assert retry.overload_sign(caught.value) is None
    never.cancel()


@pytest.mark.parametrize(
    ("error", "stage", "sign"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "name", None),
        (OSError(errno.ENETUNREACH, "no network"), "way", None),
        (OSError(errno.EADDRNOTAVAIL, "no port left"), "way", None),
        (OSError(errno.ECONNREFUSED, "refused"), "", "a broken connection"),
    ],
)
async def test_only_what_may_come_of_the_site_counts_against_it(
    error: OSError, stage: str, sign: str | None
) -> None:
    def resolve(_host: str) -> list[str]:
        if isinstance(error, socket.gaierror):
            raise error
        return ["127.0.0.1"]

    def factory(_address: object) -> socket.socket:
        raise error

    names = Names(resolve)
    async with HttpTransport(Settings(), resolver=names, socket_factory=factory) as transport:
        with pytest.raises(ConnectError) as caught:
            await fetch(transport, "http://shop.test/")
    assert (caught.value.stage, retry.overload_sign(caught.value)) == (stage, sign)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200", OK + b"Content-Length: 9\r\n\r\nhello"])
async def test_a_silent_server_times_out(start: bytes) -> None:
    with pytest.raises(FetchTimeout, match=r"127.0.0.1 was silent for 0.05 s") as caught:
        await fetch_from(start, read_timeout_s=0.05)
    assert (caught.value.phase, caught.value.after_s) == ("read", 0.05)


async def test_a_cancelled_fetch_leaves_no_connection(no_async_leaks: NoLeaks) -> None:
    async with (
        serve(OK + b"Content-Length: 9\r\n\r\nhello") as server,
        make_transport(Settings()) as transport,
    ):
        async with no_async_leaks(), fetching(transport, server.url()) as (page, account):
            await account.taken.wait()
            page.cancel()
            with pytest.raises(asyncio.CancelledError):
                await page
        assert repr(transport) == f"<{type(transport).__name__} connections=0>"


async def test_closing_ends_what_is_under_way(no_async_leaks: NoLeaks) -> None:
    transport = make_transport(Settings())
    async with (
        no_async_leaks(),
        serve(OK + b"Content-Length: 9\r\n\r\nhello") as server,
        transport,
        fetching(transport, server.url()) as (page, account),
    ):
        await account.taken.wait()
        await transport.aclose()
        with pytest.raises(SiteError):
            await page


async def test_closing_does_not_wait_for_an_upload_that_nobody_reads(
    no_async_leaks: NoLeaks,
) -> None:
    begun = asyncio.Event()

    async def reply(exchange: Exchange) -> None:
        exchange.writer.transport.pause_reading()  # type: ignore[attr-defined]
        begun.set()
        await asyncio.Event().wait()

    transport = make_transport(Settings())
    async with no_async_leaks(), serve(reply) as server, transport:
        upload = asyncio.create_task(
            fetch(transport, server.url(), method="POST", body=bytes(30_000_000))
        )
        await begun.wait()
        await transport.aclose()
        with pytest.raises(SiteError):
            await upload


async def test_an_answer_before_the_end_of_the_upload_is_taken(no_async_leaks: NoLeaks) -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 413 X\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.Event().wait()

    async with no_async_leaks(), serve(reply) as server, make_transport(Settings()) as transport:
        response = await fetch(transport, server.url(), method="POST", body=bytes(30_000_000))
        assert (response.status, response.body) == (413, b"no")


# ---- TLS and proxies


@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
async def test_tls_connections_are_closed_and_waited_for(
    tls: ssl.SSLContext, no_async_leaks: NoLeaks, connection: bytes
) -> None:
    reply = sized(b"hello", b"Connection: " + connection)
    transport = make_transport(Settings(verify_tls=False))
    async with no_async_leaks(), serve(reply, tls=tls) as server, transport:
        pages = [fetch(transport, server.url()) for _ in range(5)]
        assert {page.body for page in await asyncio.gather(*pages)} == {b"hello"}


async def test_an_invalid_certificate_is_refused(tls: ssl.SSLContext) -> None:
    async with serve(HELLO, tls=tls) as server, make_transport(Settings()) as transport:
        with pytest.raises(
            ConnectError, match=r"certificate of 127.0.0.1 isn't valid: self"
        ) as caught:
            await fetch(transport, server.url())
        assert server.requests == []
    assert retry.overload_sign(caught.value) is None


async def test_a_server_without_tls_is_no_tls_server() -> None:
    left = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with make_transport(Settings()) as transport:
            with pytest.raises(
                ConnectError, match=r"TLS with 127.0.0.1 fails: .*wrong version"
            ) as caught:
                await fetch(transport, f"https://127.0.0.1:{port}/")
        await left.wait()
    assert retry.overload_sign(caught.value) is None


async def test_a_handshake_that_is_cancelled_leaves_no_connection(no_async_leaks: NoLeaks) -> None:
    accepted = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()

    async with no_async_leaks():
        listener = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with make_transport(Settings()) as transport:
            page = asyncio.create_task(fetch(transport, f"https://127.0.0.1:{port}/"))
            await accepted.wait()
            page.cancel()
            with pytest.raises(asyncio.CancelledError):
                await page
        listener.close()


async def test_a_proxy_is_asked_instead_with_its_credentials() -> None:
    async with serve(HELLO) as proxy:
        settings = Settings(proxy=proxy.url("").replace("//127", "//me:pass@127"))
        async with make_transport(settings) as transport:
            await fetch(transport, "http://site.test/a?b=%7E")
        assert proxy.lines == ["GET http://site.test/a?b=%7E HTTP/1.1"]
        assert proxy.requests[0].header("Proxy-Authorization") == "Basic bWU6cGFzcw=="


async def test_a_proxy_that_refuses_says_so() -> None:
    async with serve(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n") as proxy:
        settings = Settings(proxy=proxy.url("").replace("//127", "//me:secret@127"))
        async with make_transport(settings) as transport:
            with pytest.raises(
                ConnectError, match=r"won't lead to site.test: status 403"
            ) as caught:
                await fetch(transport, "https://site.test/")
    assert "secret" not in str(caught.value)
    assert proxy.lines == ["CONNECT site.test:443 HTTP/1.1"]


async def test_a_proxy_that_cannot_be_reached_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with make_transport(Settings(proxy=f"http://me:secret@127.0.0.1:{port}")) as transport:
        with pytest.raises(ConnectError, match="the proxy can't be reached") as caught:
            await fetch(transport, "http://site.test/")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("end", [Exchange.close, Exchange.reset])
async def test_bodies_come_whole_through_tls_or_are_truncated(
    tls: ssl.SSLContext, end: Callable[[Exchange], None]
) -> None:
    page = bytes(range(256)) * 4_000

    async def reply(exchange: Exchange) -> None:
        path = exchange.line.split(" ")[1]
        if path == "/sized":
            await exchange.send(sized(page))
        elif path == "/chunked":
            await exchange.send(chunked(page, page) + b"0\r\n\r\n")
        else:
            await exchange.send(OK + b"Content-Length: 1024000\r\n\r\n" + page[:-1])
            end(exchange)

    settings = Settings(verify_tls=False)
    async with serve(reply, tls=tls) as server, make_transport(settings) as transport:
        assert (await fetch(transport, server.url("/sized"))).body == page
        assert (await fetch(transport, server.url("/chunked"))).body == page + page
        assert server.connections == 1
        with pytest.raises(BodyTruncated):
            await fetch(transport, server.url("/cut"))
        assert (await fetch(transport, server.url("/sized"))).body == page
        assert server.connections == 2
