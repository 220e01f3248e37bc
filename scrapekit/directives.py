"""What a page says to robots: `X-Robots-Tag` and `<meta name="robots">`. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_NO_LINKS: Final = frozenset({"nofollow", "none"})
_FOR_US: Final = frozenset({"", "*", "robots", "scrapekit"})
_VALUED: Final = frozenset(
    {"max-image-preview", "max-snippet", "max-video-preview", "unavailable_after"}
)
"""Directives that are written with a colon themselves, and so are no crawlers' names."""


def forbids_following(values: Iterable[str]) -> bool:
    """Whether one of these lists of directives says not to follow the page's links.

    Directives for another crawler that is named ("otherbot: nofollow") don't count, those for all
    do, and those for "scrapekit".
    """
    return any(_forbids(value) for value in values)


def _forbids(value: str) -> bool:
    agent = ""
    for part in value.lower().split(","):
        # A name holds for what follows it.
        name, colon, rest = (piece.strip() for piece in part.partition(":"))
        if colon and _is_agent(name):
            agent, name = name, rest
        if name in _NO_LINKS and agent in _FOR_US:
            return True
    return False


def _is_agent(name: str) -> bool:
    """Whether that is a crawler's name: no directive, and no piece of a date with its time."""
    is_word = len(name.split()) == 1 and (name == "*" or any(map(str.isalpha, name)))
    return is_word and name not in _VALUED
