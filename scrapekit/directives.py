"""What a page says to robots: `X-Robots-Tag` and `<meta name="robots">`. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_NO_LINKS: Final = frozenset({"nofollow", "none"})


def forbids_following(values: Iterable[str]) -> bool:
    """Whether one of these lists of directives says not to follow the page's links.

    Directives for a crawler that is named ("otherbot: nofollow") don't count, those for all do.
    """
    return any(_forbids(value) for value in values)


def _forbids(value: str) -> bool:
    agent = ""
    for part in value.lower().split(","):
        # A name holds for what follows it; dates have colons, too, but nothing we look for.
        name, colon, rest = part.partition(":")
        if colon:
            agent = name.strip()
        directive = (rest if colon else part).strip()
        if directive in _NO_LINKS and agent in ("", "*", "robots"):
            return True
    return False
