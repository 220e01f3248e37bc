"""When a kept response may be used again: RFC 9111, for the cache of one user. Sans-IO.

What a cache may leave out is left out: nothing stale is ever served, parts of bodies aren't put
together, and `no-cache` and `private` with field names count as without.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NamedTuple

from multidict import CIMultiDict, CIMultiDictProxy

Verdict = Literal["fresh", "stale", "unusable"]
"""Of a kept response: use it as it is; ask the site whether it still holds; fetch anew."""

Fields = CIMultiDict[str] | CIMultiDictProxy[str]
Directives = Mapping[str, str]

# RFC 9110, 15.1: what may be kept without a word on it. 206 isn't understood here.
_HEURISTIC: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
_NOT_UNDERSTOOD: Final = frozenset({206, 304})
_TRY_AGAIN: Final = frozenset({408, 425, 429})
_HEURISTIC_SHARE: Final = 0.1
"""RFC 9111, 4.2.2, names 10 % of the time since the last change as usual."""
_LONGEST_HEURISTIC_S: Final = 86_400.0
_LONGEST_S: Final = 2.0**31
"""RFC 9111, 1.2.2: larger numbers of seconds count as this one."""

# RFC 9111, 3.1: what belongs to one connection. And a Set-Cookie is for the time when it was sent:
# used again, it would undo what the site has set since.
_NOT_KEPT: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "set-cookie",
        "set-cookie2",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)
# RFC 9111, 3.2: what tells of a body as it was sent, which is kept.
_NOT_UPDATED: Final = frozenset(
    {"content-encoding", "content-length", "content-range", "content-type"}
)
# RFC 9110, 13.1 and 14.2: the answer to these is for whoever asked so.
_OWN_BUSINESS: Final = frozenset(
    {"if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"}
)


class Times(NamedTuple):
    """When a response was asked for, and when it had come; seconds since the epoch."""

    asked_at: float
    came_at: float


def may_look_up(asked: Fields) -> bool:
    """Whether a kept response could answer a GET with these fields, and its answer be kept."""
    if "no-store" in directives(asked):  # RFC 9111, 5.2.1.5
        return False
    return not any(name.lower() in _OWN_BUSINESS for name in asked)


def asks_to_try_again(status: int) -> bool:
    """Whether a status tells of a passing trouble: nothing that one would want to keep."""
    return status >= 500 or status in _TRY_AGAIN


def may_keep(status: int, headers: Fields) -> bool:
    """RFC 9111, 3, of the answer to a GET that `may_look_up`."""
    found = directives(headers)
    if status in _NOT_UNDERSTOOD or asks_to_try_again(status):
        return False
    # 5.2.2.3: who understands `must-understand` and the status passes over `no-store`.
    if "no-store" in found and not ("must-understand" in found and status in _HEURISTIC):
        return False
    if "*" in vary(headers):  # 4.1: it could never be used
        return False
    explicit = "Expires" in headers or not {"max-age", "public", "private"}.isdisjoint(found)
    return explicit or status in _HEURISTIC


def verdict(status: int, headers: Fields, asked: Fields, times: Times, now: float) -> Verdict:
    """What may be done with a kept response (RFC 9111, 4), for a request with fields `asked`."""
    wish, found = directives(asked), directives(headers)
    # 5.4: Pragma counts where there is no Cache-Control.
    pragma = "Cache-Control" not in asked and "no-cache" in asked.get("Pragma", "").lower()
    if not pragma and "no-cache" not in wish and "no-cache" not in found:
        aged = age_s(headers, times, now)
        longest = _seconds(wish["max-age"]) if "max-age" in wish else _LONGEST_S  # 5.2.1.1
        left = lifetime_s(status, headers, times) - aged
        if aged <= longest and left > 0 and left >= _seconds(wish.get("min-fresh", "0")):
            return "fresh"
    return "stale" if validators(headers) else "unusable"


def lifetime_s(status: int, headers: Fields, times: Times) -> float:
    """RFC 9111, 4.2.1: how long a response is fresh, counted from its origin."""
    found = directives(headers)
    date = _date(headers.get("Date", ""))
    date = times.came_at if date is None else date
    if "max-age" in found:
        return _seconds(found["max-age"])
    if "Expires" in headers:
        # 5.3: what is no date, "0" above all, is past.
        expires = _date(headers["Expires"])
        return max(0.0, expires - date) if expires is not None else 0.0
    modified = _date(headers.get("Last-Modified", ""))
    if modified is None or not (status in _HEURISTIC or "public" in found):
        return 0.0
    return min(_HEURISTIC_SHARE * max(0.0, date - modified), _LONGEST_HEURISTIC_S)


def age_s(headers: Fields, times: Times, now: float) -> float:
    """RFC 9111, 4.2.3: the time since the origin made or confirmed a response."""
    date = _date(headers.get("Date", ""))
    apparent = max(0.0, times.came_at - date) if date is not None else 0.0
    passed_on = _seconds(headers.get("Age", "0")) + (times.came_at - times.asked_at)
    return max(apparent, passed_on) + max(0.0, now - times.came_at)


def validators(headers: Fields) -> dict[str, str]:
    """RFC 9111, 4.3.1: the fields that ask whether a response still holds; empty if it has nothing
    to ask by. What isn't plain ASCII can't be sent back as it came.
    """
    sources = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}
    found = {name: headers.get(source, "") for name, source in sources.items()}
    return {
        n: value for n, value in found.items() if value.isascii() and value.isprintable() and value
    }


def confirms(kept: Fields, answer: Fields) -> bool:
    """RFC 9111, 4.3.4: whether a 304 speaks of the kept response, and not of another one."""
    tag, known = answer.get("ETag"), kept.get("ETag")
    if tag and known:
        return tag.removeprefix("W/") == known.removeprefix("W/")
    date, known = answer.get("Last-Modified"), kept.get("Last-Modified")
    return not (date and known) or date == known


def worth_keeping(headers: Fields) -> CIMultiDict[str]:
    """RFC 9111, 3.1: the fields that are kept with a response."""
    left_out = _NOT_KEPT.union(name.lower() for name in _members(headers, "Connection"))
    return _without(headers, left_out)


def updated(kept: Fields, answer: Fields) -> CIMultiDict[str]:
    """RFC 9111, 3.2: the fields of a kept response that a 304 has confirmed."""
    news = _without(worth_keeping(answer), _NOT_UPDATED)
    # An Age that isn't told anew was that of the former answer, and so was a Date: without one, the
    # time of arrival counts (RFC 9110, 6.6.1).
    replaced = {"age", "date", *(name.lower() for name in news)}
    return CIMultiDict([*_without(kept, replaced).items(), *news.items()])


def vary(headers: Fields) -> list[str]:
    """RFC 9110, 12.5.5: on which fields the choice of a response depended; lower case, sorted."""
    return sorted({name.lower() for name in _members(headers, "Vary")})


def directives(headers: Fields) -> Directives:
    """RFC 9111, 5.2: the members of Cache-Control by name in lower case; the first one counts."""
    found: dict[str, str] = {}
    for member in _members(headers, "Cache-Control"):
        name, _, value = member.partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found


def _without(headers: Fields, names: frozenset[str] | set[str]) -> CIMultiDict[str]:
    return CIMultiDict((n, v) for n, v in headers.items() if n.lower() not in names)


def _members(headers: Fields, name: str) -> list[str]:
    """The members of a list, in one line or several (RFC 9110, 5.6.1 and 5.3)."""
    lines = headers.getall(name, ())
    return [part for line in lines for part in map(str.strip, _split(line)) if part]


def _split(line: str) -> list[str]:
    """Part at commas, but not at those between quotes (RFC 9110, 5.6.4)."""
    if '"' not in line:
        return line.split(",")
    parts, start, quoted, escaped = [], 0, False, False
    for position, char in enumerate(line):
        if escaped:
            escaped = False
        elif char == "\\" and quoted:
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            parts.append(line[start:position])
            start = position + 1
    return [*parts, line[start:]]


def _seconds(value: str) -> float:
    """RFC 9111, 1.2.2; what is no number makes a response stale (4.2.1)."""
    if not (value.isascii() and value.isdigit()):
        return 0.0
    return min(float(value[:20]), _LONGEST_S)


def _date(value: str) -> float | None:
    """RFC 9110, 5.6.7, read more leniently than it is to be written."""
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
