"""A robots.txt taken apart: what it says to one agent (RFC 9309, 2.2). Text in, facts out.

As generous as sites are careless: fields may lack their colon, or be misspelt as they often are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

_Kind = Literal["agent", "allow", "disallow", "delay", "rate", "sitemap", "host", "unknown"]

_KINDS: Final[dict[str, _Kind]] = {
    **dict.fromkeys(("user-agent", "useragent", "user agent"), "agent"),
    "allow": "allow",
    **dict.fromkeys(
        ("disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"), "disallow"
    ),
    **dict.fromkeys(("crawl-delay", "crawl delay"), "delay"),
    **dict.fromkeys(("request-rate", "request rate"), "rate"),
    **dict.fromkeys(("sitemap", "sitemaps", "site-map"), "sitemap"),
    **dict.fromkeys(("visit-time", "visit time"), "unknown"),
    "host": "host",
}
_OF_THE_WHOLE_SITE: Final = frozenset({"sitemap", "host"})
"""They belong to no group, and end none."""

MAX_SITEMAPS: Final = 1_000
"""Of one file; what lists more of them is an index."""

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(slots=True)
class RobotsFile:
    """What concerns one agent."""

    rules: list[tuple[str, bool]] = field(default_factory=list)
    """Patterns as they were written, and whether they allow."""
    delay_s: float | None = None
    rate: tuple[int, int] | None = None
    """So many requests in so many seconds."""
    sitemaps: list[str] = field(default_factory=list)
    """For every agent; MAX_SITEMAPS at most."""


def read(text: str, agent: str) -> RobotsFile:
    """What a robots.txt says to `agent`, a product token in any case: the groups of the name that
    is most of it, else those of "*". Takes time that grows with the text, and no faster.
    """
    directives = [found for line in text.splitlines() if (found := _directive(line))]
    ours = _our_name(directives, agent.lower())
    file = RobotsFile()
    is_ours = among_names = False
    for kind, value in directives:
        if kind == "agent":
            is_ours = (is_ours and among_names) or (ours != "" and _name(value) == ours)
            among_names = True
        elif kind == "sitemap":
            if value and len(file.sitemaps) < MAX_SITEMAPS:
                file.sitemaps.append(value)
        elif kind not in _OF_THE_WHOLE_SITE:
            among_names = False
            if is_ours and value:
                _note(file, kind, value)
    return file


def _note(file: RobotsFile, kind: _Kind, value: str) -> None:
    if kind in ("allow", "disallow"):
        file.rules.append((value, kind == "allow"))
    elif kind == "delay":
        file.delay_s = _delay(value, file.delay_s)
    elif kind == "rate":
        file.rate = _rate(value) or file.rate


def _directive(line: str) -> tuple[_Kind, str] | None:
    """A line as its kind and its value; None for one that says nothing."""
    line = line.partition("#")[0].strip()
    name, colon, value = line.partition(":")
    if colon:
        kind = _KINDS.get(name.strip().lower())
        if kind is not None:
            return kind, value.strip()
        if not value[:1].strip():
            return "unknown", ""
    words = line.split(maxsplit=2)
    for count in (1, 2):
        kind = _KINDS.get(" ".join(words[:count]).lower())
        if kind is not None:
            return kind, " ".join(words[count:])
    return ("unknown", "") if colon else None


def _our_name(directives: list[tuple[_Kind, str]], agent: str) -> str:
    """The name in the file that counts for the agent; "" if none does."""
    names = dict.fromkeys(_names(directives))
    best = max(names, key=lambda name: _likeness(name, agent), default="")
    return best if _likeness(best, agent) else ""


def _names(directives: list[tuple[_Kind, str]]) -> Iterator[str]:
    return (_name(value) for kind, value in directives if kind == "agent")


def _name(value: str) -> str:
    """Wildcards in a name are no part of the standard, but met."""
    name = value.lower()
    return name if name == "*" else name.replace("*", "")


def _likeness(name: str, agent: str) -> int:
    """How much of the agent a name is; 0 if it isn't meant. One that begins within a word of it
    is another's: "bot" is no name of "mybot".
    """
    if name in ("", "*"):
        return len(name)
    at = agent.find(name)
    while at > 0 and (agent[at - 1].isalnum() or agent[at - 1] in "-_"):
        at = agent.find(name, at + 1)
    return len(name) + 1 if at >= 0 else 0


def _delay(value: str, before: float | None) -> float | None:
    try:
        delay_s = float(value)
    except ValueError:
        return before
    return delay_s if math.isfinite(delay_s) and delay_s >= 0 else before


def _rate(value: str) -> tuple[int, int] | None:
    """`1/10` or `30/1m`, maybe with a time of the day behind."""
    count, slash, period = (value.split() or [""])[0].partition("/")
    unit = _SECONDS.get(period[-1:].lower())
    number = period if unit is None else period[:-1]
    if not slash or not _is_number(count) or not _is_number(number):
        return None
    rate = int(count), int(number) * (unit or 1)
    return rate if min(rate) > 0 else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
