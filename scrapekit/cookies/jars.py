"""Jars: the cookie jars of a crawl, one for each named session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from scrapekit.cookies.jar import Cookie, Jar
from scrapekit.errors import UsageError
from scrapekit.messages import Request, Response

State = Mapping[str, Sequence[Mapping[str, Any]]]
"""The cookies of each session by its name ("" is the crawl's own), as plain tables: the fields of
`Cookie`. Can be stored as JSON."""


class Jars:
    """Made empty, and false while no cookie was ever set: then there is nothing to look for.

    `enabled` False: whatever sites set is forgotten.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._jars: dict[str, Jar] = {}
        self.changes = 0
        """How often cookies were set or deleted: whoever keeps the `state` sees if it is old."""
        self.changed: set[str] = set()
        """The sessions whose cookies have changed; to be cleared by whoever keeps them."""

    def __repr__(self) -> str:
        return f"<Jars sessions={len(self._jars)} cookies={sum(map(len, self._jars.values()))}>"

    def __bool__(self) -> bool:
        return bool(self._jars)

    def take(self, session: str, response: Response, now: float) -> None:
        """Keep the cookies that one hop's response sets. Lines that break a rule are ignored."""
        if not self.enabled:
            return
        jar = self._jars.get(session) or Jar()
        # getall, because a Set-Cookie line may hold commas: they can't be joined.
        taken = [jar.take(response.url, line, now) for line in _lines(response)]
        if any(taken):
            self._jars[session] = jar
            self.changes += 1
            self.changed.add(session)

    def dress(self, request: Request, own: Request, now: float) -> Request:
        """The request with the cookies that belong to its URL.

        Those of `own`, the request as the user made it, win over the jar's, and those over what
        else the request has.
        """
        jar = self._jars.get(request.session)
        pairs = jar.pairs(request.url, now) if jar is not None else []
        if not pairs:
            return request
        others = {n: v for n, v in request.headers.items() if n.lower() != "cookie"}
        written = [v for n, v in request.headers.items() if n.lower() == "cookie"]
        fixed = {*own.cookies, *_names(written)}
        pairs = [(name, value) for name, value in pairs if name not in fixed]
        found = {name for name, _ in pairs}
        header = "; ".join([*written, *(f"{name}={value}" for name, value in pairs)])
        rest = {n: v for n, v in request.cookies.items() if n not in found or n in fixed}
        return request.replace(headers={**others, "Cookie": header}, cookies=rest)

    def state(self) -> dict[str, list[dict[str, Any]]]:
        """All cookies as a plain value; `restore(checked(...))` takes it back."""
        return {name: msgspec.to_builtins(list(jar)) for name, jar in self._jars.items()}

    def take_changes(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """What has changed since the last call, as notes: each with a name, and the cookies of one
        site in one session; none if there are none any more.
        """
        for session in self.changed:
            jar = self._jars[session]
            for site in jar.changed:
                yield f"{site} {session}", msgspec.to_builtins(jar.of(site))
            jar.changed.clear()
        self.changed.clear()

    def restore_notes(self, notes: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Take back the notes that `take_changes` gave, the latest of each name. Raises UsageError
        for what is none.
        """
        state: dict[str, list[Mapping[str, Any]]] = {}
        for name, cookies in notes.items():
            state.setdefault(name.partition(" ")[2], []).extend(cookies)
        self.restore(self.checked(state))

    @staticmethod
    def checked(state: State) -> dict[str, list[Cookie]]:
        """The cookies of a `state`. Raises UsageError for what is none."""
        try:
            return msgspec.convert(state, dict[str, list[Cookie]])
        except msgspec.ValidationError as exc:
            raise UsageError(f"these are no cookies that a crawl has exported: {exc}") from exc

    def restore(self, cookies: Mapping[str, Sequence[Cookie]]) -> None:
        """Take these cookies in place of those there are."""
        self._jars = {name: Jar(kept) for name, kept in cookies.items() if kept}


def _lines(response: Response) -> list[str]:
    getall = getattr(response.headers, "getall", None)
    return list(getall("Set-Cookie", [])) if getall else []


def _names(headers: list[str]) -> set[str]:
    pairs = (pair for header in headers for pair in header.split(";"))
    return {pair.partition("=")[0].strip() for pair in pairs}
