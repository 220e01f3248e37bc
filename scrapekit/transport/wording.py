"""Wording: what goes wrong on the way, in our words, whichever client has met it."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Final, Literal, TypeAlias

from scrapekit import urls
from scrapekit.errors import FetchTimeout, OutOfFiles, ProxyError, SiteError
from scrapekit.settings import Settings

Phase: TypeAlias = Literal["connect", "first-byte", "header", "read"]

Stage: TypeAlias = Literal["", "name", "tls", "way"]

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


def late(
    phase: Phase, url: str, settings: Settings, *, by_proxy: bool = False, unresolved: bool = False
) -> SiteError:
    """The error for a part of an answer that takes longer than the settings let it. `by_proxy`: it
    is a proxy that doesn't answer; `unresolved`: it is the look-up of the name that takes so long.
    """
    name, words = _LATE[phase]
    after_s = getattr(settings, name) or 0.0
    if by_proxy:
        return ProxyError(f"no connection by the proxy within {after_s:g} s", url=url)
    message = words.format(host=urls.host(url), after_s=after_s)
    stage = "name" if unresolved else ""
    if unresolved:
        message = f"{message}: its name didn't resolve"
    return FetchTimeout(message, url=url, phase=phase, after_s=after_s, stage=stage)


_LATE: Final = {
    "connect": ("connect_timeout_s", "no connection to {host} within {after_s:g} s"),
    "first-byte": ("first_byte_timeout_s", "{host} sent nothing for {after_s:g} s"),
    "header": ("header_timeout_s", "{host} sent no whole header within {after_s:g} s"),
    "read": ("read_timeout_s", "{host} was silent for {after_s:g} s"),
}


def proxy_refuses(url: str, status: int | None) -> ProxyError:
    """The error for a proxy that answers with `status` instead of leading to the site."""
    message = f"the proxy won't lead to {urls.host(url)}: status {status}"
    return ProxyError(message, url=url, status=status)


def is_out_of_files(error: BaseException) -> bool:
    """Whether the system allows no more open files."""
    return getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE)


def out_of_files(url: str) -> OutOfFiles:
    """The error for that."""
    advice = "raise the limit (ulimit -n) or lower the setting concurrency"
    return OutOfFiles(f"too many open files: {advice}", url=url)


def stage_of(error: BaseException) -> Stage:
    """Where a connection failed that didn't come about, if the error tells; see ConnectError."""
    if isinstance(error, socket.gaierror):
        return "name"
    if isinstance(error, (ssl.SSLError, ssl.CertificateError)):
        return "tls"
    return "way" if getattr(error, "errno", None) in _NO_WAY else ""


def reason_of(error: BaseException) -> str:
    """The cause in one printable line. What servers send may show up in it, and may be hostile."""
    text = " ".join(str(_words(error)).split()).rstrip(" ^")
    printable = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return printable if len(printable) <= _MAX_REASON else printable[: _MAX_REASON - 3] + "..."


def _words(error: BaseException) -> object:
    if isinstance(error, OSError) and error.errno and not isinstance(error, _OWN_NUMBERS):
        return os.strerror(error.errno)
    return (
        getattr(error, "verify_message", None)
        or getattr(error, "message", None)
        or getattr(error, "strerror", None)
        or error
    )
