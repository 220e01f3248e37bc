"""The frontier of a job: it survives the process, with all that was committed.

The event loop's thread decides, from memory and by reading; a thread of its own writes. What is
told between two waits goes into one group, a group into one transaction. A group ends when nobody
is left who could add to it, when it is large, or after a moment. Leases are kept in memory alone,
so those of a dead process are free at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import xxhash

from scrapekit import urls
from scrapekit.errors import JobError
from scrapekit.failure import Failure, error_name
from scrapekit.frontier import folder as folders
from scrapekit.frontier import records
from scrapekit.frontier.base import Head, Lease, Outcome
from scrapekit.frontier.folder import Folder
from scrapekit.frontier.group import Group
from scrapekit.frontier.pages import PAGE, encode, identity
from scrapekit.frontier.seen import GENERATION, Seen
from scrapekit.frontier.store import Durability, Store
from scrapekit.frontier.window import Load, Waiting, Window
from scrapekit.frontier.writer import Follower, Writer
from scrapekit.messages import Request

_GROUP_S: Final = 0.005
"""How long a group stays open for others. A transaction costs about 0.2 ms of both threads."""

_GROUP_ROWS: Final = 2_000
"""A group of that size is written at once."""

_UNSAVED_ROWS: Final = 10_000
"""From so many rows on, whoever adds waits until they are on disk."""

_TOTAL: Final = 8_192
"""Requests in memory, of all origins together, and roughly."""

_MAX_TEXT: Final = 20_000

JOB: Final = "job"
"""The kind of the notes on the job as a whole."""

COUNTS: Final = ("pending", "done", "items", "troubles")
"""The notes of that kind that count: what waits, pages done, their items, and errors of user code
that cost items.
"""


@dataclass(slots=True, eq=False)
class KeptLease(Lease):
    """A lease that knows its row."""

    number: int = 0


class SqliteFrontier:
    """The frontier in the folder `path`, which is made if there is none.

    `durability`: "process" survives a killed process; "power" also the machine's sudden end, for
    a wait for the disk in each group. `window` is how many requests of an origin are in memory.
    """

    keeps = True

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability = "process",
        window: int = 256,
        generation: int = GENERATION,
        now: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.path = path
        self.follower: Follower | None = None
        """Who writes on what was committed; to be set before it is opened."""
        self.counts: Counter[str] = Counter()
        self.folder: Folder | None = None
        self._durability = durability
        self._max_window = window
        self._generation = generation
        self._now = now
        self._store: Store | None = None
        self._writer: Writer | None = None
        self._windows: dict[str, Window] = {}
        self._stale: set[str] = set()
        self._all_known = True
        self._numbers = 0
        self._pages = 0
        self._leased = 0
        self._waiting = 0
        self._held: set[int] = set()
        self._group = Group(0)
        self._writing = 0
        self._unsaved_rows = 0
        self._timer: asyncio.Handle | None = None
        self._is_ripe = False
        self._failure: Exception | None = None
        self._notes: dict[tuple[str, str], str | None] = {}

    def __repr__(self) -> str:
        return (
            f"<SqliteFrontier {self.path} pending={self.pending} leased={self._leased} "
            f"windows={len(self._windows)}>"
        )

    async def open(self) -> None:
        """Lock the folder, open the database. Raises JobError."""
        if self._store is not None:
            return
        self._store = await asyncio.to_thread(self._open)
        self._writer = Writer(self._store, self._settled, self.follower)

    @property
    def store(self) -> Store:
        """The database, once it is open."""
        assert self._store is not None, "the job is not open"
        return self._store

    @property
    def pending(self) -> int:
        return self.counts["pending"]

    @property
    def leased(self) -> int:
        return self._leased

    def origins(self) -> Iterator[str]:
        after = -(2**63)
        while not self._all_known:
            found = self.store.next_origin(after)
            if found is None:
                self._all_known = True
                return
            after, url = found
            origin = urls.origin(url)
            # Before they are all known: without a window it would pass for an empty one.
            self._window(origin)
            yield origin

    def check(self, request: Request) -> None:
        records.check(request)

    def remember(self, kind: str, name: str, value: str | None) -> None:
        self._notes[kind, name] = self._group.notes[kind, name] = value
        self._plan()

    def recall(self, kind: str, name: str) -> str | None:
        if (kind, name) in self._notes:
            return self._notes[kind, name]
        return self.store.note(kind, name)

    def recall_all(self, kind: str) -> Mapping[str, str]:
        found: dict[str, str | None] = dict(self.store.notes(kind))
        found |= {name: value for (its, name), value in self._notes.items() if its == kind}
        return {name: value for name, value in found.items() if value is not None}

    async def add(self, requests: Sequence[Request]) -> Sequence[Request]:
        self._check_working()
        for request in requests:
            records.check(request)
        new = self._add(requests)
        self._plan()
        if self._unsaved_rows > _UNSAVED_ROWS:
            await self._kept()
        return new

    def head(self, origin: str, now: float) -> Head | None:
        found = self._head(origin, now)
        return found and Head(-found[1].rank, max(found[0], now))

    def lease(self, origin: str, now: float) -> Lease | None:
        found = self._head(origin, now)
        if found is None or found[0] > now:
            return None
        window = self._windows[origin]
        waiting = window.ready.pop()
        if window.is_empty:
            del self._windows[origin]
        self.counts["pending"] -= 1
        self._leased += 1
        self._held.add(waiting.number)
        return KeptLease(waiting.request, origin, waiting.tries, waiting.number)

    def has_seen(self, url: str) -> bool:
        return _signed(urls.fingerprint(url)) in self._seen

    async def commit(self, outcome: Outcome) -> Sequence[Request]:
        self._check_working()
        lease, group = outcome.lease, self._group
        self._mark_seen([_signed(urls.fingerprint(url)) for url in outcome.aliases])
        new = self._add(outcome.requests)
        self._keep_items(outcome.lines)
        if outcome.page is not None:
            outcome.page.p = self._pages if outcome.lines else 0
            self.remember(PAGE, identity(lease.request), encode(outcome.page))
        self.counts["troubles"] += outcome.troubles
        if outcome.failure is None:
            self.counts["done"] += 1
        else:
            group.failed.append(_failed(lease, outcome.failure, self._now()))
        group.done.append(_number(lease))
        self._waiting += 1
        try:
            await self._kept()
        finally:
            self._waiting -= 1
            self._leased -= 1
        return new

    async def keep(self, lines: Sequence[bytes]) -> None:
        self._check_working()
        self._keep_items(lines)
        await self._kept()

    async def postpone(self, lease: Lease, due: float) -> None:
        self._check_working()
        self._leased -= 1
        # A date in the past is one all the same; 0 stands for none.
        self._file(lease.origin, lease.request, lease.tries + 1, max(due, 1e-9))
        self._group.done.append(_number(lease))
        self._plan()

    async def give_up(self, lease: Lease) -> None:
        self._check_working()
        self._leased -= 1
        self._group.done.append(_number(lease))
        self._plan()

    async def flush(self) -> None:
        """Wait until all that was told is kept. Raises JobError."""
        self._check_working()
        await self._kept()

    async def aclose(self) -> None:
        """Keep what was told, let go of the folder."""
        writer, self._writer = self._writer, None
        if writer is not None:
            if self._timer is not None:
                self._timer.cancel()
            if self._failure is None and self._group:
                self._hand_over(writer)
            await asyncio.to_thread(writer.finish)
            # What the writer told the loop last.
            await asyncio.sleep(0)
            await asyncio.to_thread(self.store.close)
        if self.folder is not None:
            self.folder.release()
            self.folder = None
        self._windows.clear()
        if self._failure is None:
            self._failure = JobError(f"the job {self.path} is closed", path=str(self.path))

    def _open(self) -> Store:
        self.folder = folders.lock(self.path, create=True)
        try:
            (self.path / folders.NEXT).unlink(missing_ok=True)
            store = Store(self.folder.database, self._durability)
        except BaseException:
            self.folder.release()
            self.folder = None
            raise
        kept = store.notes(JOB)
        self.counts.update({name: int(kept.get(name, 0)) for name in COUNTS})
        self._all_known = self.pending == 0
        self._numbers = store.last_number()
        self._pages = store.last_page()
        recent = store.latest_seen(self._generation + 1)
        complete = len(recent) <= self._generation
        self._seen = Seen(
            store.known,
            recent if complete else (),
            complete=complete,
            generation=self._generation,
        )
        return store

    def _head(self, origin: str, now: float) -> tuple[float, Waiting] | None:
        window = self._windows.get(origin)
        if window is None:
            if self._all_known:
                return None
            window = self._window(origin)
        found = window.head(now, self._group.number, self._limit)
        if found is None:
            del self._windows[origin]
        return found

    @property
    def _limit(self) -> int:
        return max(4, min(self._max_window, _TOTAL // (len(self._windows) or 1)))

    def _window(self, origin: str) -> Window:
        window = self._windows.get(origin)
        if window is None:
            key = _key(origin)
            window = self._windows[origin] = Window(
                _loader(self.store.load_ready, key),
                _loader(self.store.load_dated, key),
                on_disk=not self._all_known,
                held=lambda: self._held,
                release=self._release,
            )
        return window

    def _release(self, number: int) -> None:
        self._group.released.append(number)

    def _add(self, requests: Sequence[Request]) -> list[Request]:
        if not requests:
            return []
        prints = [_signed(urls.fingerprint(r.url, r.method, r.body)) for r in requests]
        missing = self._seen.missing(prints)
        new = []
        for request, print_ in zip(requests, prints, strict=True):
            if print_ in missing:
                missing.discard(print_)
                self._mark_seen([print_], known_new=True)
            elif request.unique:
                continue
            self._file(urls.origin(request.url), request, 1, 0.0)
            new.append(request)
        return new

    def _mark_seen(self, prints: Sequence[int], *, known_new: bool = False) -> None:
        new = prints if known_new or not prints else self._seen.missing(prints)
        self._seen.add(new)
        self._group.seen.extend(new)

    def _file(self, origin: str, request: Request, tries: int, due: float) -> None:
        self._numbers += 1
        request = records.settled(request)
        waiting = Waiting(-request.priority, self._numbers, due, tries, request)
        key = _key(origin)
        self._group.added.append(
            (waiting.number, key, waiting.rank, due, tries, records.record(request))
        )
        self.counts["pending"] += 1
        self._unsaved_rows += 1
        self._window(origin).add(waiting, self._group.number, self._limit)
        self._stale.add(origin)

    def _keep_items(self, lines: Sequence[bytes]) -> None:
        if not lines:
            return
        self._pages += 1
        text = b"\n".join(lines).decode() + "\n"
        self._group.items.append((self._pages, len(lines), text))
        self.counts["items"] += len(lines)

    def _check_working(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _kept(self) -> None:
        """Wait until what is in the open group is kept."""
        waiter = asyncio.get_running_loop().create_future()
        self._group.waiters.append(waiter)
        self._plan()
        await waiter

    def _plan(self) -> None:
        """See to it that the open group is written: soon, or after a moment.

        Never at once: what is told between two waits belongs together.
        """
        if self._is_ripe:
            return
        nobody_left = bool(self._group.waiters) and self._waiting >= self._leased
        if nobody_left or self._group.size >= _GROUP_ROWS:
            self._is_ripe = True
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_soon(self._write)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GROUP_S, self._write)

    def _write(self) -> None:
        self._timer, self._is_ripe = None, False
        if self._writer is not None and self._group and not self._writing:
            self._hand_over(self._writer)

    def _hand_over(self, writer: Writer) -> None:
        group, self._group = self._group, Group(self._group.number + 1)
        for name in COUNTS:
            group.notes[JOB, name] = str(self.counts[name])
        # Leased requests have their rows until they are settled.
        rows = self.pending + self._leased - self._waiting
        group.notes[JOB, "pending"] = str(rows)
        self._writing += 1
        writer.write(group)

    def _settled(self, group: Group, error: Exception | None) -> None:
        self._writing -= 1
        if error is not None:
            self._fail(group, error)
            return
        self._seen.saved(group.seen)
        self._held.difference_update(group.done)
        self._unsaved_rows -= len(group.added)
        for note, value in group.notes.items():
            if self._notes.get(note, "") == value:
                with suppress(KeyError):
                    del self._notes[note]
        self._tell_windows(group.number)
        for waiter in group.waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._group:
            self._write_or_plan()

    def _write_or_plan(self) -> None:
        # It was ripe while the one before was written, or it will be when its time has come.
        if self._timer is None:
            self._write()

    def _tell_windows(self, group: int) -> None:
        stale, self._stale = self._stale, set()
        for origin in stale:
            window = self._windows.get(origin)
            if window is not None:
                window.saved(group)
                if window.has_unsaved:
                    self._stale.add(origin)

    def _fail(self, group: Group, error: Exception) -> None:
        self._failure = self._failure or error
        for waiter in (*group.waiters, *self._group.waiters):
            if not waiter.done():
                waiter.set_exception(self._failure)
        self._group.waiters.clear()


def _loader(load: Callable[..., Sequence[Waiting]], origin: int) -> Load:
    return partial(load, origin)


def _signed(number: int) -> int:
    """64 bits as SQLite has them."""
    return number - 2**64 if number >= 2**63 else number


def _key(origin: str) -> int:
    """What stands for an origin in the database."""
    return _signed(xxhash.xxh3_64_intdigest(origin.encode()))


def _number(lease: Lease) -> int:
    assert isinstance(lease, KeptLease)
    return lease.number


def _failed(lease: Lease, failure: Failure, at: float) -> tuple[Any, ...]:
    """A row of the table of failures."""
    return (
        _number(lease),
        _key(lease.origin),
        at,
        lease.request.url,
        _text(error_name(failure.error)),
        failure.during,
        failure.callback,
        _text(failure.where),
        _text(failure.message),
        _text(failure.traceback),
        lease.tries,
        failure.of_user_code,
        records.record(lease.request),
    )


def _text(text: str) -> str:
    """Text as the database takes it: no NUL, no surrogate, not endless."""
    return text[:_MAX_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
