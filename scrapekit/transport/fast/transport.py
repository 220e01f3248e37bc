"""FastTransport: requests over HTTP/1.1 on connections of our own, for less CPU time a page."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from scrapekit import urls
from scrapekit.clock import Clock, SystemClock
from scrapekit.errors import ConnectError, ProtocolError, SiteError
from scrapekit.messages import Request, Response
from scrapekit.reach import Asking, Reach
from scrapekit.settings import Settings
from scrapekit.transport.body import read_body, too_large, whole_body
from scrapekit.transport.decoding import check_codings
from scrapekit.transport.dialling import guarded, refusing
from scrapekit.transport.fast.answer import COMPLETE, Malformed
from scrapekit.transport.fast.dialler import Dialler
from scrapekit.transport.fast.line import HungUp, Late, Line
from scrapekit.transport.fast.names import Names
from scrapekit.transport.fast.pool import Key, Pool
from scrapekit.transport.fast.request import encode
from scrapekit.transport.fast.route import Route, Routes
from scrapekit.transport.fast.times import Times
from scrapekit.transport.fields import default_fields
from scrapekit.transport.pace import Pace
from scrapekit.transport.wording import late, proxy_refuses, reason_of

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

    from scrapekit.budget import Account
    from scrapekit.transport.dialling import SocketFactory

# Read in one go, and parsed before the loop goes on.
_BUFFER_BYTES: Final = 131_072
_IDLE_S: Final = 15.0
# A broad crawl leaves an open connection behind at every origin.
_MIN_IDLE: Final = 100
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# RFC 9110, 9.2.2.
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


class FastTransport:
    """A Transport for `transport = "fast"`. Open it with `async with`, inside its loop.

    It takes what HttpTransport takes, and promises the same. It speaks HTTP/1.1 alone, and
    reaches https sites by proxies that are plain http.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        resolver: AbstractResolver | None = None,
        socket_factory: SocketFactory | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._resolver = resolver
        self._clock = clock or SystemClock()
        self._reach = None if settings.guard == "off" else Reach(settings)
        factory = guarded(self._reach, socket_factory) if self._reach else socket_factory
        self._factory = refusing(factory) if factory else None
        self._routes = Routes(default_fields(settings))
        self._times = Times(
            settings.first_byte_timeout_s,
            settings.header_timeout_s,
            settings.read_timeout_s,
            _IDLE_S,
        )
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._pool: Pool | None = None
        self._names: Names | None = None
        self._dialler: Dialler | None = None

    def __repr__(self) -> str:
        state = "closed" if self._pool is None else f"connections={len(self._pool.lines)}"
        return f"<FastTransport {state}>"

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._pool = Pool(max(_MIN_IDLE, settings.concurrency))
        self._names = Names(self._resolver, is_guarded=self._reach is not None)
        self._dialler = Dialler(
            self._names, self._factory, self._make_line, verify=settings.verify_tls
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()
        if self._names is not None:
            await self._names.aclose()

    def _make_line(self, sock: socket.socket, address: str) -> Line:
        pool = self._pool
        if pool is None:
            raise OSError("the transport is closed")
        return Line(sock, address, self._buffer, self._times, pool.lines.add, pool.lost)

    async def fetch(self, request: Request, account: Account) -> Response:
        pool = self._pool
        if pool is None:
            raise RuntimeError("FastTransport fetches only inside its `async with` block")
        started = self._clock.now()
        proxy = request.proxy or self._settings.proxy
        key = (urls.origin(request.url), request.session, proxy)
        flags: list[str] = []
        try:
            line = await self._ask(pool, key, request)
            try:
                body = await self._body(line, request, account, flags.append)
            except BaseException:
                line.cut()
                raise
        except SiteError as exc:
            exc.url = request.url
            raise
        except (HungUp, Late, Malformed) as exc:
            raise _translate(exc, request.url, self._settings) from exc
        elapsed_s = self._clock.now() - started
        answer = line.answer
        status, headers = answer.status, answer.headers
        if flags:
            line.cut()
        pool.put(key, line)
        return Response(
            request.url,
            status,
            headers,
            body,
            request,
            elapsed_s=elapsed_s,
            address=line.address,
            anomalies=tuple(flags),
        )

    async def _ask(self, pool: Pool, key: Key, request: Request) -> Line:
        """Send the request; the connection that its answer's header has come on."""
        origin, _, proxy = key
        route = self._routes.find(origin, proxy)
        data = encode(request, route)
        line = pool.take(key)
        if line is not None:
            self._check_reach(pool, key, line, request)
            try:
                return await _exchange(line, data, request)
            except HungUp:
                # It was closed while nobody used it: RFC 9112, 9.3.1.
                if line.answer.received or request.method not in _IDEMPOTENT:
                    raise
        line = await self._dial(pool, route, request)
        self._check_reach(pool, key, line, request)
        return await _exchange(line, data, request)

    def _check_reach(self, pool: Pool, key: Key, line: Line, request: Request) -> None:
        """An address that one request may talk to isn't for every other one."""
        if self._reach is None or line.allowed == request.reach:
            return
        try:
            self._reach.check_address(
                line.address, Asking(request.url, request.reach, key[2] is not None)
            )
        except BaseException:
            pool.put(key, line)
            raise
        line.allowed = request.reach

    async def _dial(self, pool: Pool, route: Route, request: Request) -> Line:
        asked = Asking(request.url, request.reach, proxied=route.proxy is not None)
        assert self._dialler is not None
        if self._pool is not pool:
            raise _closed(asked.url)
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s) as deadline:
                with pool.dialling(deadline):
                    return await self._dialler.dial(route, asked)
        except TimeoutError as exc:
            if self._pool is not pool:
                raise _closed(asked.url) from exc
            unresolved = self._names is not None and self._names.is_asking(urls.host(asked.url))
            raise late(
                "connect", asked.url, self._settings, by_proxy=asked.proxied, unresolved=unresolved
            ) from exc

    async def _body(
        self, line: Line, request: Request, account: Account, flag: Callable[[str], None]
    ) -> bytes:
        """The body, decoded. Of a redirect nobody reads it, so it isn't waited for."""
        answer = line.answer
        headers = answer.headers
        if answer.status == 407:
            self._check_proxy(request)
        codings = ", ".join(headers.getall("Content-Encoding", ()))
        if codings:
            check_codings(codings)
        is_whole = answer.stage == COMPLETE
        if is_whole and not answer.pieces:
            return b""
        if answer.status in _REDIRECTS and "Location" in headers:
            return b""
        if is_whole and not codings and account.enough is None:
            return await whole_body(answer.take(), account, self._settings.max_body_bytes)
        return await self._read(line, codings, account, flag)

    async def _read(
        self, line: Line, codings: str, account: Account, flag: Callable[[str], None]
    ) -> bytes:
        settings, answer, read = self._settings, line.answer, line.read
        limit = settings.max_body_bytes
        is_long = not codings and int(answer.headers.get("Content-Length", 0)) > limit
        if is_long and account.enough is None:
            raise too_large(limit)
        if settings.min_bytes_per_s and answer.stage != COMPLETE:
            read = Pace(read, settings.min_bytes_per_s, asyncio.get_running_loop().time).read
        return await read_body(
            read, codings, account, limit, max_ratio=settings.max_ratio, flag=flag
        )

    def _check_proxy(self, request: Request) -> None:
        # Of https, what comes through the tunnel is the site's: that has its own status.
        proxied = (request.proxy or self._settings.proxy) is not None
        if proxied and request.url.startswith("http:"):
            raise proxy_refuses(request.url, 407)


async def _exchange(line: Line, data: bytes, request: Request) -> Line:
    """Send a request, and wait for its answer's header."""
    try:
        line.ask(data, is_bodiless=request.method == "HEAD")
        await line.head()
    except BaseException:
        line.cut()
        raise
    return line


def _closed(url: str) -> ConnectError:
    return ConnectError(f"the transport was closed before {urls.host(url)} answered", url=url)


def _translate(error: HungUp | Late | Malformed, url: str, settings: Settings) -> SiteError:
    """What went wrong on a connection, told of the page."""
    host = urls.host(url)
    if isinstance(error, Late):
        return late(error.phase, url, settings)
    if isinstance(error, Malformed):
        return ProtocolError(f"{host} sent no valid HTTP: {reason_of(error)}", url=url)
    return ConnectError(f"{host} hung up instead of answering", url=url)
