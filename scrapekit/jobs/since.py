"""Since: a crawl that comes after an earlier one, and says what has changed.

A page that is still the same isn't parsed again: its callback would make the same of it. That
holds as long as callback and request are the same too; if the spider's code or arguments have
changed, every page is fetched and parsed anew, and only the items are compared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from scrapekit import urls
from scrapekit.errors import BadStatus, JobError
from scrapekit.failure import Failure
from scrapekit.frontier import pages
from scrapekit.frontier.base import Lease, Outcome
from scrapekit.frontier.damage import sound
from scrapekit.frontier.folder import is_job
from scrapekit.frontier.pages import Page
from scrapekit.frontier.records import Record
from scrapekit.frontier.records import request as request_of
from scrapekit.frontier.sqlite import JOB
from scrapekit.items import encode_json
from scrapekit.jobs.changes import Item, Match, OldItems, marked
from scrapekit.jobs.code import code_of
from scrapekit.jobs.earlier import Earlier, decoded
from scrapekit.jobs.state import state
from scrapekit.messages import Request, Response
from scrapekit.report import ChangeCounts
from scrapekit.spider import Spider

GONE: Final = "gone"
"""The note of a job on how far it has told of the items that are gone."""

LEFT_OUT: Final = "left out"
"""The kind of the notes on pages of the earlier job that weren't asked for; by `pages.identity`."""

_GONE_STATUSES: Final = frozenset({404, 410})
# RFC 9110, 13.1 and 14.2: the answer to these is for whoever asked so.
_OWN_BUSINESS: Final = frozenset(
    {"if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"}
)

logger = logging.getLogger("scrapekit")


class LeftOut(msgspec.Struct):
    """A page that a rule kept from being asked for, so that nobody knows what has become of it."""

    url: str = ""
    session: str = ""
    asked: bool = False
    """It came to its turn, but wasn't had; or else some link to it was left out, and another one
    may have been followed."""


class Unchanged(NamedTuple):
    """A page that is as it was, and what its callback made of it then."""

    page: Page
    requests: list[Request]
    items: list[Item]


class Since:
    """The finished job in the folder `path`, for a crawl of the same spider.

    `key` names the fields that tell which item is which. `job` is the folder of the crawl's own
    job, if it has one, which may have been interrupted. `counts` tells what was found. To be
    opened before it is asked; asking reads a row or two of the database on the spot.
    """

    def __init__(
        self, path: Path, spider: Spider, *, key: Sequence[str] = (), job: Path | None = None
    ) -> None:
        self.counts = ChangeCounts()
        self._earlier = Earlier(path)
        self._spider = spider
        self._job = job
        self._items = OldItems(self._earlier.items, key)
        self._trusted = True
        self._told = -1
        self._unknown: set[int] = set()
        self._left_out: dict[str, LeftOut] = {}
        self._looked_up: dict[str, Page | None] = {}

    def __repr__(self) -> str:
        return f"<Since {self._earlier.path} {self._items!r}>"

    def open(self) -> None:
        """Read what there is. Blocks, for as long as reading all items takes.

        Raises JobError if the job isn't finished, is another spider's, or can't be read.
        """
        _check(self._earlier.path, self._spider, self._job)
        self._earlier.open()
        for number, items in self._earlier.all_items():
            self._items.add(number, items)
        code = self._earlier.code
        self._trusted = code != "" and code == code_of(self._spider)
        if not self._trusted:
            logger.info(
                "the spider's code or arguments aren't those of the job %s: all pages are fetched "
                "and parsed anew, and their items compared",
                self._earlier.path,
            )
        if self._job is not None and is_job(self._job):
            self._resume(Earlier(self._job))

    def close(self) -> None:
        """Let go of the files. Idempotent."""
        self._earlier.close()

    def conditions(self, request: Request) -> Mapping[str, str]:
        """The headers that ask the site whether a page is as it was; none if it isn't known."""
        known = self._known(request) if self._trusted and request.method == "GET" else None
        own = (name.lower() for name in request.headers)
        if known is None or known.u != request.url or not _OWN_BUSINESS.isdisjoint(own):
            return {}
        asked = {"If-None-Match": known.e, "If-Modified-Since": known.l}
        return {name: value for name, value in asked.items() if value}

    def unchanged(self, request: Request, response: Response) -> Unchanged | None:
        """What is known of a page, if it is as it was."""
        known = self._known(request) if self._trusted else None
        if known is None or known.u != response.url:
            return None
        if response.status != 304 and known.h != pages.body_hash(response):
            return None
        tag = pages.validator(response, "ETag") or known.e
        date = pages.validator(response, "Last-Modified") or known.l
        page = msgspec.structs.replace(known, e=tag, l=date)
        return Unchanged(page, self._requests(known), self._earlier.items(known.p))

    def mark(self, outcome: Outcome, kept: Unchanged | None) -> None:
        """Mark the items of an outcome, which is committed next; those of an unchanged page are
        put into it.
        """
        known = self._known(outcome.lease.request)
        self._forget(outcome.lease.request)
        items: Sequence[Item]
        if kept is not None:
            items, numbers = kept.items, list(self._items.of_page(kept.page.p))
            self._items.take(numbers)
            matches = [Match("same", number) for number in numbers]
            self.counts.pages += 1
        else:
            items = [item for line in outcome.lines for item in decoded(line.decode())]
            matches = self._items.match(items, known.p if known else 0)
        pairs = list(zip(items, matches, strict=True))
        outcome.items = [marked(item, match.change) for item, match in pairs]
        outcome.lines = [encode_json(item) for item in outcome.items]
        if outcome.page is not None:
            outcome.page.t = [match.old for match in matches if match.old >= 0]
        for match in matches:
            setattr(self.counts, match.change, getattr(self.counts, match.change) + 1)

    def missed(self, request: Request, failed: Failure) -> list[Request]:
        """A page could not be had, or not be parsed: where it led to, so that what is behind it
        isn't lost with it. Nothing if the site says that it is gone.
        """
        known = self._known(request)
        self._forget(request)
        error = failed.error
        if known is None or (isinstance(error, BadStatus) and error.status in _GONE_STATUSES):
            return []
        self._doubt(known)
        return self._requests(known)

    def leave_out(self, request: Request, *, asked: bool = False) -> tuple[str, str] | None:
        """A rule of the crawl keeps a page from being asked for, or an item of it was lost: what
        to note on it as `LEFT_OUT`, by which name; None if it isn't known, or was noted before.
        """
        name = pages.identity(request)
        self._looked_up.pop(name, None)
        before = self._left_out.get(name)
        if before is not None and (before.asked or not asked):
            return None
        known = self._earlier.page(name)
        if known is None:
            return None
        if asked:
            self._doubt(known)
        self._left_out[name] = LeftOut(request.url, request.session, asked)
        return name, msgspec.json.encode(self._left_out[name]).decode()

    def has_asked(self, request: Request) -> bool:
        """Whether the earlier job has asked for that."""
        return self._earlier.has_seen(request.fingerprint)

    def incomplete(self, why: str) -> None:
        """Not everything was looked at, and nobody can say what was missed: nothing is gone."""
        self.counts.why = self.counts.why or why

    def look_behind(self, seen: Callable[[str, str], bool]) -> Iterator[None]:
        """Find out, step by step, what is unknown because it lies behind pages that were left out.
        `seen` tells whether a URL was asked for in a session.
        """
        waiting = [name for name, page in self._left_out.items() if self._is_unseen(page, seen)]
        met = set(waiting)
        while waiting:
            known = self._earlier.page(waiting.pop())
            if known is not None:
                self._doubt(known)
                behind = {
                    pages.identity(request)
                    for request in self._requests(known)
                    if not seen(request.url, request.session)
                }
                waiting += behind - met
                met |= behind
            yield

    def gone(self) -> Iterator[tuple[Outcome, str]]:
        """The items that weren't met again, a page's at a time, and what to note with them as
        `GONE`. Only for a crawl that has come to its end.
        """
        self.counts.complete = True
        self.counts.unknown = 0
        left: dict[int, list[int]] = {}
        for number in self._items.left():
            if number in self._unknown:
                self.counts.unknown += 1
            elif number > self._told:
                left.setdefault(self._items.page_of(number), []).append(number)
        where = self._earlier.urls(left) if left else {}
        for page, numbers in sorted(left.items()):
            items, first = self._earlier.items(page), self._items.of_page(page).start
            told = [marked(items[number - first], "gone") for number in numbers]
            self.counts.gone += len(told)
            request = Request(where.get(page, "http://unknown.invalid/"))
            lease = Lease(request, urls.origin(request.url), 1)
            lines = [encode_json(item) for item in told]
            yield Outcome(lease, items=told, lines=lines), str(numbers[-1])

    def _resume(self, own: Earlier) -> None:
        """Take up what the crawl had found before it was interrupted."""
        own.open()
        try:
            self._items.take(own.recognised())
            with sound(own.path, "a note on its runs"):
                self._told = int(own.note(JOB, GONE) or -1)
            for reason, record in own.failures():
                if reason not in {f"BadStatus {status}" for status in _GONE_STATUSES}:
                    with sound(own.path, "a failure that it noted"):
                        request = request_of(msgspec.json.decode(record, type=Record))
                    known = self._known(request)
                    self._unknown.update(self._items.of_page(known.p) if known else ())
            for name, value in own.notes(LEFT_OUT):
                with sound(own.path, "a note on a page that it left out"):
                    page = self._left_out[name] = msgspec.json.decode(value, type=LeftOut)
                known = self._earlier.page(name) if page.asked else None
                self._unknown.update(self._items.of_page(known.p) if known else ())
        finally:
            self._looked_up.clear()
            own.close()

    def _doubt(self, known: Page) -> None:
        self._unknown.update(self._items.of_page(known.p))
        self.counts.unknown = len(self._unknown)

    def _is_unseen(self, page: LeftOut, seen: Callable[[str, str], bool]) -> bool:
        return page.asked or not seen(page.url, page.session)

    def _requests(self, known: Page) -> list[Request]:
        with sound(self._earlier.path, "what it knows of a page"):
            return known.requests

    def _known(self, request: Request) -> Page | None:
        name = pages.identity(request)
        if name not in self._looked_up:
            self._looked_up[name] = self._earlier.page(name)
        return self._looked_up[name]

    def _forget(self, request: Request) -> None:
        self._looked_up.pop(pages.identity(request), None)


def _check(path: Path, spider: Spider, job: Path | None) -> None:
    if job is not None and path.resolve() == job.resolve():
        message = f"the job {path} can't be compared with itself; choose another folder for --job"
        raise JobError(message, path=str(path))
    found = state(path)
    if found.spider != spider.name:
        raise JobError(
            f"the job {path} is that of the spider {found.spider!r}, not of {spider.name!r}",
            path=str(path),
        )
    if found.pending or found.last_ended is None:
        raise JobError(
            f"the job {path} isn't finished: {found.pending:,} requests are pending; run it to "
            "its end first",
            path=str(path),
        )
