"""Who may ask: values of Authorization headers, and the addresses of proxies."""

from __future__ import annotations

import base64
import re
from typing import Final

from scrapekit.errors import UsageError

PROXY_PATTERN: Final = (
    r"\A(?i:https?)://([^\s/?#@]*@)?([^\s/?#@:\[\]]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?/?\Z"
)
AUTH_PATTERN: Final = (
    r"\A(?:(?i:bearer) +[!-~]+|[^\x00-\x1f\x7f:\ud800-\udfff]*:[^\x00-\x1f\x7f\ud800-\udfff]*)\Z"
)
AUTH_TITLE: Final = "'name:password' or 'Bearer TOKEN'"

PUBLIC_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "dnt",
        "pragma",
        "range",
        "user-agent",
        "upgrade-insecure-requests",
    }
)
"""Headers that say nothing about who asks. All others may be secret: a list of known secrets would
miss the next one (X-Api-Key, X-Token, ...).
"""

_PROXY: Final = re.compile(PROXY_PATTERN)
_AUTH: Final = re.compile(AUTH_PATTERN)
_BEARER: Final = re.compile(r"bearer +([!-~]+)\Z", re.IGNORECASE)


def authorization_of(auth: str | tuple[str, str]) -> str:
    """The Authorization header for ("name", "password"), "name:password" or "Bearer TOKEN".

    RFC 7617, in UTF-8, and RFC 6750. Raises UsageError, which doesn't show the value.
    """
    if isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(a, str) for a in auth):
        if ":" in auth[0]:
            raise UsageError("a user name for basic authentication has no ':' (RFC 7617, 2)")
        auth = ":".join(auth)
        bearer = None
    else:
        bearer = _BEARER.match(auth) if isinstance(auth, str) else None
    if not isinstance(auth, str) or not _AUTH.match(auth):
        raise UsageError(f"auth is ('name', 'password'), {AUTH_TITLE}, each on one line")
    if bearer:
        return f"Bearer {bearer[1]}"
    return f"Basic {base64.b64encode(auth.encode()).decode()}"


def check_proxy(url: str) -> None:
    """Raises UsageError for what is no proxy's URL; it shows no credentials."""
    if not isinstance(url, str) or not _PROXY.match(url):
        raise UsageError("a proxy is a URL like http://user:password@host:port")
