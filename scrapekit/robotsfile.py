"""A robots.txt taken apart: what it says to one agent (RFC 9309, 2.2). Text in, facts out.

As generous as sites are careless: fields may lack their colon, or be misspelt as they often are.
But who is meant, and by what, is taken as the RFC has it: a looser reading would let us in where
others are, or hand us their rules.
"""

from __future__ import annotations

import math
import string
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
_RULES: Final = frozenset({"allow", "disallow"})
_OF_A_TOKEN: Final = string.ascii_lowercase + "_-"

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
    """What a robots.txt says to `agent`, a product token in any case: all groups of that name
    together, or else those of "*" (RFC 9309, 2.2.1). Takes time that grows with the text, and no
    faster.

    Only rules end the names of a group. A delay or a rate, of which the RFC knows nothing, is for
    the names right above it, or one slow agent's would be for all those named after it.
    """
    directives = [found for line in text.splitlines() if (found := _directive(line))]
    names = {value for kind, value in directives if kind == "agent"}
    ours = {name for name in names if _is_of(name, agent.lower())} or names & {"*"}
    file = RobotsFile()
    rules, others = _Names(), _Names()
    for kind, value in directives:
        if kind == "agent":
            rules.add(is_ours=value in ours)
            others.add(is_ours=value in ours)
        elif kind == "sitemap":
            if value and len(file.sitemaps) < MAX_SITEMAPS:
                file.sitemaps.append(value)
        elif kind not in _OF_THE_WHOLE_SITE:
            others.are_open = False
            if kind in _RULES:
                rules.are_open = False
            above = rules if kind in _RULES else others
            if above.have_ours and value:
                _note(file, kind, value)
    return file


@dataclass(slots=True)
class _Names:
    """The agents that what follows is for."""

    have_ours: bool = False
    are_open: bool = False
    """Whether one more belongs to them, or begins anew."""

    def add(self, *, is_ours: bool) -> None:
        self.have_ours = is_ours or (self.have_ours and self.are_open)
        self.are_open = True


def _note(file: RobotsFile, kind: _Kind, value: str) -> None:
    if kind in _RULES:
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


def _is_of(name: str, agent: str) -> bool:
    """Whether the agent is meant: by its whole product token, whatever follows that (RFC 9309,
    2.2.1). Wildcards in a name are no part of the standard, but met. An agent whose name has
    digits, which no token has, is meant by that name.
    """
    name = name.lower().replace("*", "")
    token = name[: len(name) - len(name.lstrip(_OF_A_TOKEN))]
    product = (name.split(maxsplit=1) or [""])[0].partition("/")[0]
    return agent in (token, product)


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
