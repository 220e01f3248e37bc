"""HttpTransport: requests over HTTP/1.1 by aiohttp, which nothing outside of this package uses.

aiohttp speaks the protocol. Bodies are decoded here, so that their size is bounded and their end
is checked; `connections` mends the pool, `translation` the errors.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, cast

import aiohttp
from yarl import URL

from scrapekit import urls
from scrapekit.clock import Clock, SystemClock
from scrapekit.errors import SiteError, UsageError
from scrapekit.messages import Request, Response
from scrapekit.reach import Asking, Reach, asking
from scrapekit.settings import Settings
from scrapekit.transport.body import Read, read_body, too_large, whole_body
from scrapekit.transport.bounds import MAX_FIELD_BYTES, MAX_FIELDS
from scrapekit.transport.connections import (
    Answer,
    Connector,
    SessionRequest,
    broken_framing,
    current_session,
)
from scrapekit.transport.decoding import check_codings
from scrapekit.transport.dialling import guarded, refusing
from scrapekit.transport.fields import default_fields, own_fields
from scrapekit.transport.pace import Pace
from scrapekit.transport.resolver import Resolver
from scrapekit.transport.translation import FOREIGN, translate
from scrapekit.transport.wire import Limits
from scrapekit.transport.wording import proxy_refuses

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

    from scrapekit.budget import Account
    from scrapekit.transport.dialling import SocketFactory

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# What may lie unread in one connection is twice this. Times 10,000 connections it counts.
_READ_BUFFER_BYTES: Final = 65_536
_DNS_TTL_S: Final = 300
_DNS_CACHE_SIZE: Final = 10_000
# aiohttp warns about larger bodies given as bytes, because it would send them in one go.
_MAX_BYTES_IN_ONE_GO: Final = 1_048_576


class HttpTransport:
    """The real Transport. Open it with `async with`, inside the loop that will use it.

    `settings.headers` go with every request to whatever origin, so they must hold nothing
    private; a request's own headers win over them. `settings.cookies` aren't looked at.
    `resolver` and `socket_factory` are aiohttp's; the factory sees every address before it is
    dialled, and may raise Refused. `settings.guard` is heeded whatever they say, but with a proxy
    it is the proxy that dials.
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
        self._socket_factory = socket_factory
        self._clock = clock or SystemClock()
        self._reach = None if settings.guard == "off" else Reach(settings)
        self._session: aiohttp.ClientSession | None = None
        self._connector: Connector | None = None
        self._names: Resolver | None = None

    def __repr__(self) -> str:
        state = "closed" if self._connector is None else f"connections={len(self._connector.lines)}"
        return f"<HttpTransport {state}>"

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._names = Resolver(self._resolver) if self._reach else None
        self._connector = Connector(
            reach=self._reach,
            limits=Limits(settings.first_byte_timeout_s, settings.header_timeout_s),
            limit=0,
            ttl_dns_cache=_DNS_TTL_S,
            dns_cache_max_size=_DNS_CACHE_SIZE,
            ssl=settings.verify_tls,
            resolver=self._names or self._resolver,
            socket_factory=self._make_socket(),
        )
        answer = partial(Answer, self._connector.lines)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            response_class=cast("type[aiohttp.ClientResponse]", answer),
            headers=default_fields(settings),
            request_class=SessionRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            proxy=settings.proxy,
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_FIELDS,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=settings.connect_timeout_s, sock_read=settings.read_timeout_s
            ),
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _make_socket(self) -> SocketFactory | None:
        factory = guarded(self._reach, self._socket_factory) if self._reach else None
        factory = factory or self._socket_factory
        return refusing(factory) if factory else None

    async def aclose(self) -> None:
        session, self._session = self._session, None
        connector, self._connector = self._connector, None
        if session is not None and connector is not None:
            closing = connector.abort()
            await session.close()
            await asyncio.gather(*closing, return_exceptions=True)
        if self._names is not None:
            await self._names.close()

    async def fetch(self, request: Request, account: Account) -> Response:
        started = self._clock.now()
        asking.set(Asking(request.url, request.reach, self._proxied(request)))
        flags: list[str] = []
        try:
            answer = await self._send(request)
            try:
                self._check_proxy(request, answer.status)
                body = await self._body(answer, account, flags.append)
            except BaseException:
                _condemn(answer)
                raise
            finally:
                if not answer.closed:
                    answer.close()
        except SiteError as exc:
            exc.url = request.url
            raise
        except FOREIGN as exc:
            raise self._translated(exc, request) from exc
        elapsed_s = self._clock.now() - started
        if flags:
            _condemn(answer)
        return Response(
            request.url,
            answer.status,
            answer.headers,
            body,
            request,
            elapsed_s=elapsed_s,
            address=answer.address if isinstance(answer, Answer) else "",
            anomalies=tuple(flags),
        )

    def _translated(self, error: BaseException, request: Request) -> Exception:
        proxied = self._proxied(request)
        host = urls.host(request.url)
        unresolved = self._names is not None and host in self._names.under_way
        return translate(error, request.url, self._settings, proxied=proxied, unresolved=unresolved)

    def _proxied(self, request: Request) -> bool:
        return (request.proxy or self._settings.proxy) is not None

    def _check_proxy(self, request: Request, status: int) -> None:
        # Of https, what comes through the tunnel is the site's: that has its own status.
        if status == 407 and self._proxied(request) and request.url.startswith("http:"):
            raise proxy_refuses(request.url, status)

    async def _send(self, request: Request) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("HttpTransport fetches only inside its `async with` block")
        try:
            current_session.set(request.session)
            return await self._session.request(
                request.method,
                URL(request.url, encoded=True),
                headers=own_fields(request),
                data=_payload(request.body),
                # aiohttp would call every body without a type application/octet-stream.
                skip_auto_headers=None if request.method == "GET" else ("Content-Type",),
                allow_redirects=False,
                proxy=request.proxy,
            )
        except aiohttp.ClientError:  # some of them are ValueErrors too
            raise
        except ValueError as exc:
            raise UsageError(f"{request!r} can't be put into HTTP: {exc}") from exc

    async def _body(
        self, answer: aiohttp.ClientResponse, account: Account, flag: Callable[[str], None]
    ) -> bytes:
        """The body, decoded. Of a redirect nobody reads it, so it isn't waited for."""
        content = answer.content
        codings = ", ".join(answer.headers.getall("Content-Encoding", ()))
        check_codings(codings)
        if content.at_eof() or (answer.status in _REDIRECTS and "Location" in answer.headers):
            return b""
        limit = self._settings.max_body_bytes
        is_long = not codings and (answer.content_length or 0) > limit
        if is_long and account.enough is None:
            raise too_large(limit)
        is_whole = content.is_eof() and content.exception() is None
        if is_whole and not codings and account.enough is None:
            body = await whole_body(content.read_nowait(), account, limit)
        else:
            body = await self._read(answer, codings, account, flag)
        if isinstance(answer, Answer):
            answer.check_end()
        return body

    async def _read(
        self,
        answer: aiohttp.ClientResponse,
        codings: str,
        account: Account,
        flag: Callable[[str], None],
    ) -> bytes:
        limit, max_ratio = self._settings.max_body_bytes, self._settings.max_ratio
        read = self._paced(answer.content)
        try:
            return await read_body(read, codings, account, limit, max_ratio=max_ratio, flag=flag)
        except RuntimeError as exc:
            # aiohttp's word for reading on after broken framing, before `Line.lost` is called.
            if answer.connection is None or not answer.connection.closed:
                raise
            raise broken_framing() from exc

    def _paced(self, content: aiohttp.StreamReader) -> Read:
        """What reads the body; what has arrived as a whole needs no clock."""
        least = self._settings.min_bytes_per_s
        if not least or content.is_eof():
            return content.readany
        return Pace(content.readany, least, asyncio.get_running_loop().time).read


def _condemn(answer: aiohttp.ClientResponse) -> None:
    if isinstance(answer, Answer):
        answer.condemn()


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    if len(body) > _MAX_BYTES_IN_ONE_GO:
        return io.BytesIO(body)
    return body or None
