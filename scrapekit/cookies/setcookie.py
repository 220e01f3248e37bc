"""One Set-Cookie line, taken apart as RFC 6265, 5.2 says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from scrapekit.cookies import dates

# RFC 6265bis, 5.6: such a line is ignored as a whole, a cookie of more octets than this as well,
# an attribute of more than that by itself.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MAX_BYTES: Final = 4096
_MAX_ATTRIBUTE_BYTES: Final = 1024
_BLANK: Final = " \t"
_LONGEST_AGE_S: Final = 400 * 86_400.0
"""RFC 6265bis, 5.5: no cookie outlives 400 days."""


class SetCookie(NamedTuple):
    """What a line asks for. What it leaves open is None, but for the flags."""

    name: str
    value: str
    expires: float | None = None
    """Seconds since the epoch; a past date deletes the cookie. None: at the end of the session."""
    domain: str | None = None
    """As it was sent, without the leading dot."""
    path: str | None = None
    secure: bool = False
    http_only: bool = False


def parse(line: str, now: float) -> SetCookie | None:
    """The cookie of a Set-Cookie header's value; None for a line to ignore. Never raises.

    SameSite isn't looked at: a crawler has no page that another site's request could come from.
    """
    if _CONTROLS.search(line):
        return None
    pair, *parts = line.split(";")
    name, equals, value = pair.partition("=")
    name, value = name.strip(_BLANK), value.strip(_BLANK)
    if not equals or not name or not _sendable(name + value):
        return None
    attributes: dict[str, str] = {}
    for part in parts:
        key, _, content = part.partition("=")
        content = content.strip(_BLANK)
        if len(content.encode("utf-8", "replace")) <= _MAX_ATTRIBUTE_BYTES:
            _note(attributes, key.strip(_BLANK).lower(), content)
    return SetCookie(
        name,
        value,
        _expires(attributes, now),
        attributes["domain"].removeprefix(".") if "domain" in attributes else None,
        attributes["path"] if attributes.get("path", "").startswith("/") else None,
        "secure" in attributes,
        "httponly" in attributes,
    )


# RFC 6265, 5.2: attributes with other values count as if they weren't there.
_VALID: Final[dict[str, Callable[[str], object]]] = {
    "domain": bool,
    "expires": lambda content: dates.parse(content) is not None,
    "max-age": re.compile(r"-?\d+", re.ASCII).fullmatch,
}


def _note(attributes: dict[str, str], key: str, content: str) -> None:
    """Keep an attribute: the last one that is valid counts (RFC 6265, 5.3)."""
    valid = _VALID.get(key)
    if valid is None or valid(content):
        attributes[key] = content


def _expires(attributes: dict[str, str], now: float) -> float | None:
    if "max-age" in attributes:
        # Cut, because Python reads no number of thousands of digits.
        age_s = int(attributes["max-age"][:12])
        return now + min(age_s, _LONGEST_AGE_S) if age_s > 0 else 0.0
    if "expires" in attributes:
        date = dates.parse(attributes["expires"])
        assert date is not None
        return min(date, now + _LONGEST_AGE_S)
    return None


def _sendable(text: str) -> bool:
    """Whether it is short enough, and text that can be sent back as it came."""
    try:
        return len(text.encode()) <= _MAX_BYTES
    except UnicodeEncodeError:
        # Bytes that are no UTF-8 arrive as lone surrogates.
        return False
