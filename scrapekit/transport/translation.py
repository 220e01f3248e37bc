"""What goes wrong in aiohttp, in our words: one table, used at one place."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final, NamedTuple

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from scrapekit import urls
from scrapekit.errors import (
    BodyTruncated,
    ConnectError,
    FetchTimeout,
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

FOREIGN: Final = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What `translate` knows."""

_MAX_REASON: Final = 300
_NO_WAY: Final = frozenset(
    {
        errno.EACCES,
        errno.EADDRNOTAVAIL,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOBUFS,
        errno.EPERM,
    }
)
"""What our own machine or network says, whatever the site does."""
_OWN_NUMBERS: Final = (ssl.SSLError, socket.gaierror)
"""OSErrors whose errno isn't the system's."""


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
    if getattr(refused or error, "errno", None) in (errno.EMFILE, errno.ENFILE):
        advice = "raise the limit (ulimit -n) or lower the setting concurrency"
        return OutOfFiles(f"too many open files: {advice}", url=url)
    failure = _Failure(error, url, settings, proxied, unresolved)
    return next(make(failure) for kind, make in _RULES if isinstance(error, kind))


def _says(kind: type[SiteError], message: str) -> Callable[[_Failure], SiteError]:
    def make(failure: _Failure) -> SiteError:
        host, reason = urls.host(failure.url), _reason(failure.error)
        return kind(message.format(host=host, reason=reason), url=failure.url)

    return make


def _no_connection(message: str, stage: str = "") -> Callable[[_Failure], SiteError]:
    def make(failure: _Failure) -> SiteError:
        host, reason = urls.host(failure.url), _reason(failure.error)
        text = message.format(host=host, reason=reason)
        return ConnectError(text, url=failure.url, stage=stage or _stage(failure.error))

    return make


def _stage(error: BaseException) -> str:
    number = getattr(getattr(error, "os_error", None) or error, "errno", None)
    return "way" if number in _NO_WAY else ""


def _connect_timeout(failure: _Failure) -> SiteError:
    after_s = failure.settings.connect_timeout_s
    if failure.proxied:
        message = f"no connection by the proxy within {after_s:g} s"
        return ProxyError(message, url=failure.url)
    message = f"no connection to {urls.host(failure.url)} within {after_s:g} s"
    stage = "name" if failure.unresolved else ""
    if stage:
        message = f"{message}: its name didn't resolve"
    return FetchTimeout(message, url=failure.url, phase="connect", after_s=after_s, stage=stage)


def _first_byte_timeout(failure: _Failure) -> SiteError:
    after_s = failure.settings.first_byte_timeout_s or 0.0
    message = f"{urls.host(failure.url)} sent nothing for {after_s:g} s"
    return FetchTimeout(message, url=failure.url, phase="first-byte", after_s=after_s)


def _header_timeout(failure: _Failure) -> SiteError:
    after_s = failure.settings.header_timeout_s
    message = f"{urls.host(failure.url)} sent no whole header within {after_s:g} s"
    return FetchTimeout(message, url=failure.url, phase="header", after_s=after_s)


def _read_timeout(failure: _Failure) -> SiteError:
    after_s = failure.settings.read_timeout_s
    message = f"{urls.host(failure.url)} was silent for {after_s:g} s"
    return FetchTimeout(message, url=failure.url, phase="read", after_s=after_s)


def _proxy_refuses(failure: _Failure) -> SiteError:
    status = getattr(failure.error, "status", None)
    return proxy_refuses(failure.url, status)


def proxy_refuses(url: str, status: int | None) -> ProxyError:
    """The error for a proxy that answers with `status` instead of leading to the site."""
    message = f"the proxy won't lead to {urls.host(url)}: status {status}"
    return ProxyError(message, url=url, status=status)


# The first that fits counts: classes stand before their bases.
_RULES: Final[tuple[_Rule, ...]] = (
    (aiohttp.ConnectionTimeoutError, _connect_timeout),
    (FirstByteTimeout, _first_byte_timeout),
    (HeaderTimeout, _header_timeout),
    (aiohttp.ServerTimeoutError, _read_timeout),
    (
        aiohttp.ClientConnectorDNSError,
        _no_connection("the name {host} doesn't resolve: {reason}", "name"),
    ),
    (
        aiohttp.ClientConnectorCertificateError,
        _no_connection("the TLS certificate of {host} isn't valid: {reason}", "tls"),
    ),
    (aiohttp.ClientSSLError, _no_connection("TLS with {host} fails: {reason}", "tls")),
    (
        aiohttp.ClientProxyConnectionError,
        _says(ProxyError, "the proxy can't be reached: {reason}"),
    ),
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


def _reason(error: BaseException) -> str:
    """The cause in one printable line. What servers send may show up in it, and may be hostile."""
    text = " ".join(str(_words(error)).split()).rstrip(" ^")
    printable = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return printable if len(printable) <= _MAX_REASON else printable[: _MAX_REASON - 3] + "..."


def _words(error: BaseException) -> object:
    if isinstance(error, aiohttp.ClientPayloadError) and error.__cause__ is not None:
        error = error.__cause__
    error = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(error, OSError) and error.errno and not isinstance(error, _OWN_NUMBERS):
        return os.strerror(error.errno)
    return (
        getattr(error, "verify_message", None)
        or getattr(error, "message", None)
        or getattr(error, "strerror", None)
        or error
    )
