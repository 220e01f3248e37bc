"""FastTransport where it does by itself what HttpTransport leaves to aiohttp."""

from __future__ import annotations

import asyncio
import builtins
import errno
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

import scrapekit
from scrapekit import Spider
from scrapekit.budget import ByteBudget
from scrapekit.errors import (
    ConnectError,
    FetchTimeout,
    MissingExtra,
    OutOfFiles,
    ProtocolError,
    ProxyError,
    Refused,
    UsageError,
)
from scrapekit.messages import Request, Response
from scrapekit.settings import Settings
from scrapekit.transport.fast.transport import FastTransport
from tests.rawserver import Exchange, RawServer, Reply, serve
from tests.security.pretend import Names
from tests.transports import overhear

NoLeaks = Callable[[], AbstractAsyncContextManager[None]]

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"
ONE_METHOD = [("GET", True), ("HEAD", True), ("PUT", True), ("POST", False), ("PATCH", False)]


async def fetch(transport: FastTransport, url: str, **options: Any) -> Response:
    with ByteBudget(10**8).account() as account:
        return await transport.fetch(Request(url, **options), account)


@asynccontextmanager
async def serving(
    reply: Reply | bytes, **settings: Any
) -> AsyncIterator[tuple[RawServer, FastTransport]]:
    async with serve(reply) as server, FastTransport(Settings(**settings)) as transport:
        yield server, transport


# ---- connections that are used again


@pytest.mark.parametrize("extra", [HELLO, b"x", b"\r\n", b"\0" * 10, b"HTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_follows_an_answer_never_answers_the_next_request(
    method: str, extra: bytes
) -> None:
    async def reply(exchange: Exchange) -> None:
        body = b"" if method == "HEAD" else b"right"
        await exchange.send(OK + b"Content-Length: 5\r\n\r\n" + body + extra)

    async with serving(reply) as (server, transport):
        for _ in range(3):
            response = await fetch(transport, server.url(), method=method)
            assert response.body == (b"" if method == "HEAD" else b"right")
        assert server.connections == (1 if (method, extra) == ("GET", b"\r\n") else 3)


async def test_what_lies_in_the_socket_when_the_next_request_goes_out_answers_nothing() -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.send(HELLO if exchange.number else OK + b"Content-Length: 3\r\n\r\nold")

    async with serving(reply) as (server, transport):
        await fetch(transport, server.url())
        # Sent by the server's socket itself, so that the client's loop has had no turn yet.
        peer = server.requests[0].writer.get_extra_info("socket")
        os.write(peer.fileno(), OK + b"Content-Length: 6\r\n\r\nforged")
        assert (await fetch(transport, server.url())).body == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize(("method", "again"), ONE_METHOD)
async def test_a_stale_connection_is_replaced_once_for_what_may_be_repeated(
    method: str, again: bool
) -> None:
    async def reply(exchange: Exchange) -> None:
        if exchange.number == 0:
            await exchange.send(OK + b"Content-Length: 0\r\n\r\n")
        else:
            exchange.close()

    async with serving(reply) as (server, transport):
        await fetch(transport, server.url())
        with pytest.raises(ConnectError, match="hung up"):
            await fetch(transport, server.url(), method=method)
        # Once more on a fresh connection, and no more.
        assert (len(server.requests), server.connections) == ((3, 2) if again else (2, 1))


async def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.send(HELLO if exchange.number == 0 else b"H")
        if exchange.number:
            exchange.close()

    async with serving(reply) as (server, transport):
        await fetch(transport, server.url())
        with pytest.raises(ConnectError, match="hung up"):
            await fetch(transport, server.url())
        assert len(server.requests) == 2


async def test_an_answer_before_the_end_of_the_request_ends_the_connection() -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.send(HELLO)
        await asyncio.Event().wait()

    async with serving(reply) as (server, transport):
        large = bytes(30_000_000)
        assert (await fetch(transport, server.url(), method="POST", body=large)).body == b"hello"
        # The rest of the body would be taken for a request.
        await fetch(transport, server.url())
        assert server.connections == 2


async def test_a_switch_of_protocols_that_says_not_which_is_an_answer_too(
    no_async_leaks: NoLeaks,
) -> None:
    async with no_async_leaks(), serving(b"HTTP/1.1 101 X\r\n\r\nframes") as (server, transport):
        for _ in range(2):
            assert (await fetch(transport, server.url())).status == 101
        assert server.connections == 2


async def test_connections_that_nobody_uses_are_closed_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrapekit.transport.fast.transport._IDLE_S", 0.05)
    lost = asyncio.Event()
    async with serving(HELLO) as (server, transport):
        await fetch(transport, server.url())
        overhear(transport, losing=lost.set)
        await lost.wait()
        await fetch(transport, server.url())
        assert server.connections == 2


async def test_no_more_of_them_are_kept_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrapekit.transport.fast.transport._MIN_IDLE", 2)
    async with serving(HELLO, concurrency=1) as (server, transport):
        for session in "abcabc":
            await fetch(transport, server.url(), session=session)
        # The one unused for longest goes, which is the next one each time.
        assert server.connections == 6
        for session in "cbcb":
            await fetch(transport, server.url(), session=session)
        assert server.connections == 6


async def test_sessions_and_proxies_have_connections_of_their_own() -> None:
    async with serving(HELLO) as (server, transport):
        for _ in range(2):
            await fetch(transport, server.url(), session="a")
            await fetch(transport, server.url(), session="b")
            await fetch(transport, server.url(), proxy=server.url("").replace("//", "//me:x@"))
            await fetch(transport, server.url(), proxy=server.url("").replace("//", "//me:y@"))
        assert server.connections == 4


# ---- deadlines


async def test_a_large_request_that_nobody_takes_is_given_up() -> None:
    async def reply(exchange: Exchange) -> None:
        exchange.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with serving(reply, read_timeout_s=0.1) as (server, transport):
        with pytest.raises(FetchTimeout):
            await fetch(transport, server.url(), method="PUT", body=bytes(30_000_000))


# ---- ending


async def test_closing_ends_a_connection_in_the_making(no_async_leaks: NoLeaks) -> None:
    accepted = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()

    async with no_async_leaks():
        listener = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with FastTransport(Settings()) as transport:
            page = asyncio.create_task(fetch(transport, f"https://127.0.0.1:{port}/"))
            await accepted.wait()
            await transport.aclose()
            with pytest.raises(ConnectError, match="the transport was closed"):
                await page
        listener.close()


async def test_nothing_is_asked_again_once_it_is_closed() -> None:
    begun = asyncio.Event()

    async def reply(exchange: Exchange) -> None:
        if exchange.number == 0:
            await exchange.send(HELLO)
        else:
            begun.set()
            await asyncio.Event().wait()

    async with serving(reply) as (server, transport):
        await fetch(transport, server.url())
        page = asyncio.create_task(fetch(transport, server.url()))
        await begun.wait()
        await transport.aclose()
        with pytest.raises(ConnectError, match="the transport was closed"):
            await page
        assert server.connections == 1


# ---- connections that can't be made


async def test_too_many_open_files_are_not_the_sites_fault() -> None:
    def none_left(address: Any) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with FastTransport(Settings(), socket_factory=none_left) as transport:
        with pytest.raises(OutOfFiles, match="ulimit -n"):
            await fetch(transport, "http://127.0.0.1:9/")


async def test_a_name_is_looked_up_once_for_all_who_ask(no_async_leaks: NoLeaks) -> None:
    names = Names(lambda name: ["127.0.0.1"])
    async with (
        no_async_leaks(),
        serve(HELLO) as server,
        FastTransport(Settings(), resolver=names) as transport,
    ):
        url = f"http://somewhere.test:{server.port}/"
        await asyncio.gather(*(fetch(transport, url) for _ in range(5)))
        await fetch(transport, url, session="another")
    assert names.asked == ["somewhere.test"]


async def test_a_name_that_fails_is_looked_up_again() -> None:
    answers: list[list[str]] = [[], ["127.0.0.1"]]
    names = Names(lambda name: answers.pop(0))
    async with serve(HELLO) as server, FastTransport(Settings(), resolver=names) as transport:
        url = f"http://somewhere.test:{server.port}/"
        with pytest.raises(ConnectError, match="doesn't resolve: no address"):
            await fetch(transport, url)
        assert (await fetch(transport, url)).address == "127.0.0.1"


async def test_the_name_of_a_proxy_is_no_way_in_for_a_page() -> None:
    names = Names(lambda name: ["127.0.0.1", "8.8.8.8"])
    seen: list[str] = []

    def factory(address: Any) -> socket.socket:
        seen.append(address[4][0])
        raise Refused("address", url="")

    async with serve(HELLO) as proxy:
        settings = Settings(proxy=f"http://proxy.test:{proxy.port}")
        async with FastTransport(settings, resolver=names) as transport:
            assert (await fetch(transport, "http://a.test/")).address == ""
        async with FastTransport(Settings(), resolver=names, socket_factory=factory) as transport:
            with pytest.raises(Refused):
                await fetch(transport, f"http://proxy.test:{proxy.port}/")
    assert seen == ["8.8.8.8"]


async def test_the_systems_names_are_looked_up() -> None:
    async with serving(HELLO) as (server, transport):
        response = await fetch(transport, f"http://localhost:{server.port}/")
    assert (response.body, response.address) == (b"hello", "127.0.0.1")


# ---- tunnels


@asynccontextmanager
async def tunnel(answer: bytes) -> AsyncIterator[tuple[str, FastTransport]]:
    """A proxy that answers so to CONNECT."""
    async with serve(answer) as proxy:
        settings = Settings(proxy=proxy.url(""), connect_timeout_s=0.5)
        async with FastTransport(settings) as transport:
            yield "https://site.test/", transport


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n\x16\x03", "goes on behind its answer"),
        (b"SSH-2.0-x\r\n\r\n", "its answer has no status"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "its answer has no status"),
        (b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 70_000, "its header is too long"),
    ],
)
async def test_a_proxy_that_speaks_no_http_leads_nowhere(answer: bytes, what: str) -> None:
    async with tunnel(answer) as (url, transport):
        with pytest.raises(ProtocolError, match=what):
            await fetch(transport, url)


async def test_a_proxy_that_never_ends_its_answer_times_out() -> None:
    async with tunnel(b"HTTP/1.1 200 OK\r\n") as (url, transport):
        with pytest.raises(ProxyError, match=r"no connection by the proxy within 0\.5 s"):
            await fetch(transport, url)


async def test_a_proxy_that_hangs_up_says_so() -> None:
    async def reply(exchange: Exchange) -> None:
        exchange.close()

    async with serve(reply) as proxy, FastTransport(Settings(proxy=proxy.url(""))) as transport:
        with pytest.raises(ConnectError, match=r"hung up instead of leading to site\.test"):
            await fetch(transport, "https://site.test/")


async def test_a_secure_proxy_serves_plain_sites_alone(tls: ssl.SSLContext) -> None:
    async with serve(HELLO, tls=tls) as proxy:
        settings = Settings(proxy=proxy.url(""), verify_tls=False)
        async with FastTransport(settings) as transport:
            assert (await fetch(transport, "http://site.test/")).body == b"hello"
            with pytest.raises(UsageError, match="transport = aiohttp"):
                await fetch(transport, "https://site.test/")
        async with FastTransport(Settings(proxy=proxy.url(""))) as transport:
            with pytest.raises(ConnectError, match="the proxy can't be reached: TLS with it"):
                await fetch(transport, "http://site.test/")
    assert proxy.lines == ["GET http://site.test/ HTTP/1.1"]


# ---- the setting


class Title(Spider):
    async def parse(self, response: Response) -> AsyncIterator[Any]:
        yield {"body": response.text}


async def test_the_setting_chooses_it() -> None:
    settings = {"transport": "fast", "obey_robots": False}
    async with serve(HELLO) as server:
        items = await scrapekit.collect(Title(start_urls=[server.url()]), settings=settings)
    assert items == [{"body": "hello"}]


@pytest.mark.parametrize("missing", ["httptools", "aiohappyeyeballs"])
async def test_without_its_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("scrapekit.transport.fast.")]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == missing:
            raise ModuleNotFoundError(name, name=name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r'pip install "scrapekit\[fast\]"'):
        await scrapekit.collect(
            Title(start_urls=["http://a.test/"]), settings={"transport": "fast"}
        )
