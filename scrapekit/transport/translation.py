"""What goes wrong in aiohttp, in our words: one table, used at one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from scrapekit import urls
from scrapekit.errors import (
    BodyTruncated,
    ConnectError,
    OutOfFiles,
    ProtocolError,
    ProxyError,
    Refused,
    SiteError,
)
from scrapekit.settings import Settings
from scrapekit.transport.connections import HungUp
from scrapekit.transport.dialling import AddressRefused
from scrapekit.transport.wire import FirstByteTimeout, HeaderTimeout
from scrapekit.transport.wording import (
    Phase,
    Stage,
    is_out_of_files,
    late,
    out_of_files,
    proxy_refuses,
    reason_of,
    stage_of,
)

FOREIGN: Final = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What `translate` knows."""


class _Failure(NamedTuple):
    error: BaseException
    url: str
    settings: Settings
    proxied: bool
    unresolved: bool


_Rule = tuple[type[BaseException], Callable[[_Failure], SiteError]]


def translate(
    error: BaseException,
    url: str,
    settings: Settings,
    *,
    proxied: bool = False,
    unresolved: bool = False,
) -> SiteError | Refused | OutOfFiles:
    """Our error for one of aiohttp's; to be raised `from` it. `proxied`: by a proxy, which is
    what can't be reached then; `unresolved`: its name is still being looked up.
    """
    refused = getattr(error, "os_error", None)
    if isinstance(refused, AddressRefused):
        return refused.refused
    if is_out_of_files(refused or error):
        return out_of_files(url)
    failure = _Failure(error, url, settings, proxied, unresolved)
    return next(make(failure) for kind, make in _RULES if isinstance(error, kind))


def _says(kind: type[SiteError], message: str) -> Callable[[_Failure], SiteError]:
    def make(failure: _Failure) -> SiteError:
        host, reason = urls.host(failure.url), reason_of(_cause(failure.error))
        return kind(message.format(host=host, reason=reason), url=failure.url)

    return make


def _late(phase: Phase) -> Callable[[_Failure], SiteError]:
    return lambda failure: late(phase, failure.url, failure.settings)


def _late_connection(failure: _Failure) -> SiteError:
    proxied, unresolved = failure.proxied, failure.unresolved
    return late("connect", failure.url, failure.settings, by_proxy=proxied, unresolved=unresolved)


def _no_connection(message: str, stage: Stage = "") -> Callable[[_Failure], SiteError]:
    def make(failure: _Failure) -> SiteError:
        cause = _cause(failure.error)
        text = message.format(host=urls.host(failure.url), reason=reason_of(cause))
        return ConnectError(text, url=failure.url, stage=stage or stage_of(cause))

    return make


def _no_name(failure: _Failure) -> SiteError:
    # By a proxy, it is the proxy's name that is looked up here: the site's is the proxy's affair.
    return (_NO_PROXY if failure.proxied else _NO_SITE)(failure)


def _proxy_refuses(failure: _Failure) -> SiteError:
    status = getattr(failure.error, "status", None)
    return proxy_refuses(failure.url, status)


_NO_PROXY: Final = _says(ProxyError, "the proxy can't be reached: {reason}")
_NO_SITE: Final = _no_connection("the name {host} doesn't resolve: {reason}", "name")

# The first that fits counts: classes stand before their bases.
_RULES: Final[tuple[_Rule, ...]] = (
    (aiohttp.ConnectionTimeoutError, _late_connection),
    (FirstByteTimeout, _late("first-byte")),
    (HeaderTimeout, _late("header")),
    (aiohttp.ServerTimeoutError, _late("read")),
    (aiohttp.ClientConnectorDNSError, _no_name),
    (
        aiohttp.ClientConnectorCertificateError,
        _no_connection("the TLS certificate of {host} isn't valid: {reason}", "tls"),
    ),
    (aiohttp.ClientSSLError, _no_connection("TLS with {host} fails: {reason}", "tls")),
    (aiohttp.ClientProxyConnectionError, _NO_PROXY),
    (aiohttp.ClientConnectorError, _no_connection("{host} can't be reached: {reason}")),
    (aiohttp.ClientHttpProxyError, _proxy_refuses),
    (HungUp, _no_connection("{host} hung up instead of answering")),
    (aiohttp.ServerDisconnectedError, _no_connection("{host} hung up instead of answering")),
    (aiohttp.InvalidURL, _no_connection("{host} is no address that can be dialled", "name")),
    (aiohttp.ClientPayloadError, _says(BodyTruncated, "the body ends early: {reason}")),
    (aiohttp.ClientResponseError, _says(ProtocolError, "{host} sent no valid HTTP: {reason}")),
    (HttpProcessingError, _says(ProtocolError, "{host} sent no valid HTTP: {reason}")),
    (aiohttp.ClientError, _no_connection("the connection to {host} broke: {reason}")),
    (OSError, _no_connection("the connection to {host} broke: {reason}")),
)


def _cause(error: BaseException) -> BaseException:
    """What lies behind an error that only wraps it."""
    if isinstance(error, aiohttp.ClientPayloadError) and error.__cause__ is not None:
        error = error.__cause__
    return getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
