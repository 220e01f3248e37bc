"""The frontier of a job: it survives the process, with all that was committed.

The event loop's thread decides, from memory and by reading; a thread of its own writes. What is
told between two waits goes into one group, a group into one transaction. Leases are kept in memory
alone, so those of a dead process are free at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from scrapekit import urls
from scrapekit.cutting import seen_through
from scrapekit.errors import JobError
from scrapekit.failure import Failure
from scrapekit.frontier import folder as folders
from scrapekit.frontier import records
from scrapekit.frontier.base import Head, Lease, Outcome
from scrapekit.frontier.committer import Committer
from scrapekit.frontier.damage import sound
from scrapekit.frontier.folder import Folder
from scrapekit.frontier.group import Group
from scrapekit.frontier.pages import PAGE, encode, identity
from scrapekit.frontier.records import origin_key, signed
from scrapekit.frontier.seen import GENERATION, Seen
from scrapekit.frontier.store import Durability, Store
from scrapekit.frontier.window import Waiting
from scrapekit.frontier.windows import Windows
from scrapekit.frontier.writer import Follower
from scrapekit.messages import Request

_UNSAVED_ROWS: Final = 10_000
"""From so many rows on, whoever adds waits until they are on disk."""

JOB: Final = "job"
"""The kind of the notes on the job as a whole."""

LOST: Final = "lost"
"""The kind of the notes on items that were lost."""

_LOST_KEPT: Final = 100
"""So many are noted; the others are counted."""

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
        self.durability = durability
        self._max_window = window
        self._generation = generation
        self._now = now
        self._store: Store | None = None
        self._committer: Committer | None = None
        self._numbers = 0
        self._pages = 0
        self._leased = 0
        self._waiting = 0
        self._allows: Callable[[str], bool] = lambda _url: True
        self._left_out: Counter[str] = Counter()
        self._held: set[int] = set()
        self._notes: dict[tuple[str, str], str | None] = {}

    def __repr__(self) -> str:
        return (
            f"<SqliteFrontier {self.path} pending={self.pending} leased={self._leased} "
            f"windows={len(self._windows) if self._committer else 0}>"
        )

    async def open(self) -> None:
        """Lock the folder, open the database. Raises JobError."""
        if self._committer is None:
            store = await seen_through(asyncio.to_thread(self._open))
            self._committer = Committer(
                store,
                self.follower,
                is_last=lambda: self._waiting >= self._leased,
                notes=self._count_notes,
                saved=self._saved,
            )

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

    def leave_out(self, *, deepest: int | None, allows: Callable[[str], bool]) -> None:
        self._allows = allows
        if deepest is not None:
            self._leave("depth", self.store.leave_deeper_than(deepest))

    @property
    def left_out(self) -> Mapping[str, int]:
        return self._left_out

    def _leave(self, reason: str, count: int) -> None:
        if count:
            self._left_out[reason] += count
            self.counts["pending"] -= count

    def origins(self) -> Iterator[str]:
        return self._windows.origins(self._is_allowed)

    def _is_allowed(self, origin: str, key: int) -> bool:
        if self._allows(f"{origin}/"):
            return True
        self._leave("off-domain", self.store.count(key))
        return False

    def check(self, request: Request) -> None:
        records.check(request)

    def remember(self, kind: str, name: str, value: str | None) -> None:
        committer = self._committing
        self._notes[kind, name] = committer.group.notes[kind, name] = value
        committer.plan()

    def recall(self, kind: str, name: str) -> str | None:
        if (kind, name) in self._notes:
            return self._notes[kind, name]
        return self.store.note(kind, name)

    def recall_all(self, kind: str) -> Mapping[str, str]:
        found: dict[str, str | None] = dict(self.store.notes(kind))
        found |= {name: value for (its, name), value in self._notes.items() if its == kind}
        return {name: value for name, value in found.items() if value is not None}

    async def add(self, requests: Sequence[Request]) -> Sequence[Request]:
        committer = self._working()
        for request in requests:
            records.check(request)
        new = self._add(requests)
        committer.plan()
        if committer.unsaved_rows > _UNSAVED_ROWS:
            await committer.kept()
        return new

    def head(self, origin: str, now: float) -> Head | None:
        found = self._windows.head(origin, now, self._committing.group.number)
        return found and Head(-found[1].rank, max(found[0], now))

    def lease(self, origin: str, now: float) -> Lease | None:
        found = self._windows.head(origin, now, self._committing.group.number)
        if found is None or found[0] > now:
            return None
        waiting = self._windows.pop(origin)
        self.counts["pending"] -= 1
        self._leased += 1
        self._held.add(waiting.number)
        return KeptLease(waiting.request, origin, waiting.tries, number=waiting.number)

    def has_seen(self, url: str, session: str = "") -> bool:
        return signed(urls.fingerprint(url, session=session)) in self._seen

    def unseen(self, requests: Sequence[Request]) -> list[Request]:
        known = self._seen.at_hand
        return [r for r in requests if not r.unique or not known(signed(r.fingerprint))]

    async def commit(self, outcome: Outcome) -> Sequence[Request]:
        committer = self._working()
        lease, group = outcome.lease, committer.group
        session = lease.request.session
        prints = [urls.fingerprint(url, session=session) for url in outcome.aliases]
        self._mark_seen([signed(each) for each in prints])
        new = self._add(outcome.requests)
        self._keep_items(outcome.lines)
        if outcome.page is not None:
            outcome.page.p = self._pages if outcome.lines else 0
            self.remember(PAGE, identity(lease.request), encode(outcome.page))
        self.lose(outcome.troubles)
        if outcome.failure is None:
            self.counts["done"] += 1
        else:
            row = records.failure_row(lease, _number(lease), outcome.failure, self._now())
            group.failed.append(row)
        group.done.append(_number(lease))
        self._waiting += 1
        try:
            await committer.kept()
        finally:
            self._waiting -= 1
            self._leased -= 1
        return new

    def lose(self, troubles: Iterable[Failure]) -> None:
        """Count items that were lost, and note why; belongs to the next commit."""
        for trouble in troubles:
            item = records.lost(trouble, self._now())
            number = self.counts["troubles"]
            self.counts["troubles"] += 1
            if number < _LOST_KEPT:
                self.remember(LOST, f"{number:03}", msgspec.json.encode(item).decode())

    async def keep(self, lines: Sequence[bytes]) -> None:
        committer = self._working()
        self._keep_items(lines)
        await committer.kept()

    async def postpone(self, lease: Lease, due: float) -> None:
        # A date in the past is one all the same; 0 stands for none.
        self._working()
        self._file(lease.origin, lease.request, lease.tries + 1, max(due, 1e-9))
        await self.give_up(lease)

    async def give_up(self, lease: Lease) -> None:
        committer = self._working()
        self._leased -= 1
        committer.group.done.append(_number(lease))
        committer.plan()

    def drop(self, callback: str) -> None:
        """Forget the requests of earlier processes that wait for a callback. Before `origins`."""
        numbers = self.store.waiting_for(callback)
        self._held.update(numbers)
        self.counts["pending"] -= len(numbers)
        self._committing.group.done.extend(numbers)

    async def flush(self) -> None:
        """Wait until all that was told is kept. Raises JobError."""
        await self._working().kept()

    async def aclose(self) -> None:
        """Keep what was told, let go of the folder, also if cancelled. Idempotent."""
        await seen_through(self._close())

    async def _close(self) -> None:
        if self._committer is not None and self._store is not None:
            await self._committer.aclose()
        store, self._store = self._store, None
        if store is not None:
            await asyncio.to_thread(store.close)
        if self.folder is not None:
            self.folder.release()
            self.folder = None
        if self._committer is not None and self._committer.failure is None:
            closed = JobError(f"the job {self.path} is closed", path=str(self.path))
            self._committer.failure = closed

    def _open(self) -> Store:
        self.folder = folders.lock(self.path, create=True)
        (self.path / folders.NEXT).unlink(missing_ok=True)
        # Kept at once: if opening is cancelled, closing finds it.
        store = self._store = Store(self.folder.database, self.durability)
        kept = store.notes(JOB)
        with sound(self.path, "what it counted"):
            self.counts.update({name: int(kept.get(name, 0)) for name in COUNTS})
        # Counted, because a crawl would wait for ever for what isn't there.
        self.counts["pending"] = store.waiting()
        self._windows = Windows(
            store,
            size=self._max_window,
            any_kept=self.pending > 0,
            held=self._held,
            release=self._release,
        )
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

    def _release(self, number: int) -> None:
        self._committing.group.released.append(number)

    def _add(self, requests: Sequence[Request]) -> list[Request]:
        if not requests:
            return []
        prints = [signed(request.fingerprint) for request in requests]
        missing = self._seen.missing(prints)
        new = []
        for request, print_ in zip(requests, prints, strict=True):
            if print_ in missing:
                missing.discard(print_)
                self._mark_seen([print_], known_new=True)
            elif request.unique:
                continue
            self._file(urls.origin(request.url), request, 1, request.not_before_s)
            new.append(request)
        return new

    def _mark_seen(self, prints: Sequence[int], *, known_new: bool = False) -> None:
        new = prints if known_new or not prints else self._seen.missing(prints)
        self._seen.add(new)
        self._committing.group.seen.extend(new)

    def _file(self, origin: str, request: Request, tries: int, due: float) -> None:
        self._numbers += 1
        request = records.settled(request)
        waiting = Waiting(-request.priority, self._numbers, due, tries, request)
        committer, key = self._committing, origin_key(origin)
        committer.group.added.append(
            (waiting.number, key, waiting.rank, due, tries, records.record(request))
        )
        committer.unsaved_rows += 1
        self.counts["pending"] += 1
        self._windows.file(origin, waiting, committer.group.number)

    def _keep_items(self, lines: Sequence[bytes]) -> None:
        if not lines:
            return
        self._pages += 1
        text = b"\n".join(lines).decode() + "\n"
        self._committing.group.items.append((self._pages, len(lines), text))
        self.counts["items"] += len(lines)

    @property
    def _committing(self) -> Committer:
        assert self._committer is not None, "the job is not open"
        return self._committer

    def _working(self) -> Committer:
        """The committer. Raises JobError if it can't write any more."""
        committer = self._committing
        if committer.failure is not None:
            raise committer.failure
        return committer

    def _count_notes(self) -> dict[tuple[str, str], str]:
        # Leased requests have their rows until they are settled.
        rows = self.pending + self._leased - self._waiting + self._left_out.total()
        notes = {(JOB, name): str(self.counts[name]) for name in COUNTS}
        return notes | {(JOB, "pending"): str(rows)}

    def _saved(self, group: Group) -> None:
        self._seen.saved(group.seen)
        self._held.difference_update(group.done)
        for note, value in group.notes.items():
            if note in self._notes and self._notes[note] == value:
                del self._notes[note]
        self._windows.saved(group.number)


def _number(lease: Lease) -> int:
    assert isinstance(lease, KeptLease)
    return lease.number
