"""Claims: redirects that lead to the same page give it once. Sans-IO.

A page has a claim on each URL that it is redirected to, until its visit is over. Whoever is
redirected there as well has to wait for that: which of them comes to its end isn't known before.
What is filed already comes by itself, so that a redirect there is a duplicate; and once a page is
with its callback, whoever would file it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from scrapekit.errors import Refused
from scrapekit.frontier.base import Hop, Lease
from scrapekit.messages import Request

_Name: TypeAlias = tuple[str, str]
"""A page: the session in which it is fetched, and its URL."""


class Claims:
    """Those of one crawl. `seen(url, session)` tells whether the crawl has filed a URL."""

    def __init__(self, seen: Callable[[str, str], bool]) -> None:
        self._seen = seen
        self._holders: dict[_Name, _Name] = {}
        """Targets of redirects under way, and the pages that were redirected there."""
        self._claimed: dict[_Name, list[_Name]] = {}
        """The same the other way round."""
        self._landed: set[_Name] = set()
        """Targets whose pages are with their callbacks."""
        self._waiting: dict[_Name, dict[_Name, Lease]] = {}
        """Pages under way, and who waits for the end of their visits."""

    def __repr__(self) -> str:
        return f"<Claims on={len(self._holders)} waited_for={len(self._waiting)}>"

    def claim(self, lease: Lease, url: str) -> None:
        """A redirect leads to that page. Raises Refused if it is filed, or if those that are on
        their way there wait for this one.
        """
        first = lease.request
        if not _is_page(url, first):
            return
        target, by = (first.session, url), _name(first)
        holder = self._holders.get(target)
        if self._seen(url, first.session) or (holder and self._waits_for(holder, by)):
            raise Refused("duplicate", url=url)
        if holder is None:
            self._holders[target] = by
            self._claimed.setdefault(by, []).append(target)

    def must_wait(self, lease: Lease, hop: Hop) -> bool:
        """Whether another page has a claim on where a redirect leads."""
        return bool(self._holders) and self._other_holder(lease, hop) is not None

    def wait(self, lease: Lease) -> None:
        """A lease that must wait does so: `settled` gives it back when the other page is done."""
        assert lease.hop is not None, "it was redirected"
        holder = self._other_holder(lease, lease.hop)
        assert holder is not None, "it must wait"
        self._waiting.setdefault(holder, {})[_name(lease.request)] = lease

    def landed(self, lease: Lease, url: str, *, accepted: bool) -> None:
        """A page has come by way of redirects; if it is accepted, it goes to its callback. Raises
        Refused if another page has filed it meanwhile.
        """
        first = lease.request
        if not _is_page(url, first):
            return
        if self._seen(url, first.session):
            raise Refused("duplicate", url=url)
        if accepted:
            self._landed.add((first.session, url))

    def is_landed(self, request: Request) -> bool:
        """Whether a redirect has led to that page, which is with its callback just now."""
        if not self._landed or request.method != "GET" or not request.unique:
            return False
        return _name(request) in self._landed

    @property
    def any_landed(self) -> bool:
        """Whether there is any such page."""
        return bool(self._landed)

    def settled(self, lease: Lease) -> Iterable[Lease]:
        """The visit of a lease is over, and so are its claims. Those that had to wait for that."""
        if not self._claimed:
            return ()
        by = _name(lease.request)
        for target in self._claimed.pop(by, ()):
            del self._holders[target]
            self._landed.discard(target)
        return self._waiting.pop(by, {}).values()

    def _other_holder(self, lease: Lease, hop: Hop) -> _Name | None:
        if not _is_page(hop.request.url, lease.request):
            return None
        by = _name(lease.request)
        holder = self._holders.get((lease.request.session, hop.request.url), by)
        return None if holder == by else holder

    def _waits_for(self, page: _Name, other: _Name) -> bool:
        """Whether a page waits for another one, or for one that does: redirects in a circle."""
        waiting = [*self._waiting.get(other, ())]
        while waiting:
            name = waiting.pop()
            if name == page:
                return True
            waiting += self._waiting.get(name, ())
        return False


def _name(request: Request) -> _Name:
    return request.session, request.url


def _is_page(url: str, first: Request) -> bool:
    """Whether what a request is redirected to is a page like those that links lead to."""
    return url != first.url and first.method == "GET" and first.unique
