"""Links: the Requests for the links of pages, which are made once for all pages that share them."""

from __future__ import annotations

from typing import Any, Final

from scrapekit import urls
from scrapekit.request import Request

_TABLES: Final = 8
_LINKS: Final = 4096
"""How many links are kept as Requests, in how many tables: some 10 MB."""


class _Links(dict[str, Request]):
    """The Requests for links, by canonical URL. The pages of a site share most of their links, and
    looking one up takes a twentieth of the time of making it.
    """

    def __init__(self, *facts: Any) -> None:
        self._facts: tuple[str | None, int, str, int] = facts

    def __missing__(self, href: str) -> Request:
        callback, depth, session, reach = self._facts
        if "@" in href:
            # User name and password have to go, which the constructor sees to.
            request = Request(href, callback, session=session).at_depth(depth, reach)
        else:
            request = Request.link(href, callback, depth, session, reach)
        if len(self) < _LINKS and len(href) <= urls.LONGEST_KEPT:
            self[href] = request
        return request


_links: dict[tuple[str | None, int, str, int], _Links] = {}


def links_like(callback: str | None, depth: int, session: str, reach: int) -> _Links:
    """The Requests for links that are alike in all but their URL, by that; it makes what it hasn't.
    Any thread may ask.
    """
    facts = callback, depth, session, reach
    table = _links.get(facts)
    if table is None or len(table) >= _LINKS:
        if len(_links) >= _TABLES:
            _links.clear()
        table = _links[facts] = _Links(*facts)
    return table
