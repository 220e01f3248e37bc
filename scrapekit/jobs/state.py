"""State: what there is in a job, for those who look at it. Works while the job runs as well."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from scrapekit.errors import JobError
from scrapekit.frontier.damage import sound
from scrapekit.frontier.folder import DATABASE, is_job
from scrapekit.frontier.records import Lost
from scrapekit.frontier.sqlite import JOB, LOST
from scrapekit.frontier.store import broken, refuse_foreign
from scrapekit.items import decode_json


class State(msgspec.Struct, kw_only=True):
    """What a job has come to. Times are in seconds since the epoch."""

    spider: str
    version: str
    """The scrapekit that ran it last."""
    done: int
    pending: int
    failed: dict[str, int]
    """Given-up requests by reason, most frequent first."""
    items: int
    lost: int
    """Items that errors of stages and outputs have cost; their pages are done."""
    runs: int
    first_started: float
    last_started: float
    last_ended: float | None
    """None if it runs, or was killed."""
    last_pages: int
    """Pages done in the last run."""

    @property
    def pages_per_s(self) -> float:
        """The speed of the last run; 0 if its end isn't known."""
        span = (self.last_ended or 0.0) - self.last_started
        return self.last_pages / span if span > 0 else 0.0


class FailedRequest(Lost, kw_only=True):
    """A request that was given up."""

    tries: int


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """The database of a job, to be read. Raises JobError if there is none, or it can't be read."""
    path = folder / DATABASE
    if not is_job(folder):
        raise JobError(f"there is no job in {folder}", path=str(folder))
    try:
        with closing(sqlite3.connect(path, timeout=10)) as database:
            refuse_foreign(database, path)
            database.execute("PRAGMA query_only = ON")
            yield database
    except sqlite3.Error as error:
        raise broken(path, error) from error


def state(folder: Path) -> State:
    """What a job has come to. Blocks. Raises JobError."""
    with reading(folder) as database:
        notes = dict(database.execute("SELECT name, value FROM notes WHERE kind = ?", (JOB,)))
        sql = "SELECT reason, count(*) AS n FROM failures GROUP BY reason ORDER BY n DESC, reason"
        failed = dict(database.execute(sql))
    with sound(folder, "a note on its runs"):
        return _state(notes, failed)


def _state(notes: Mapping[str, str], failed: dict[str, int]) -> State:
    ended = notes.get("ended")
    return State(
        spider=notes.get("spider", ""),
        version=notes.get("version", ""),
        done=int(notes.get("done", 0)),
        pending=int(notes.get("pending", 0)),
        failed=failed,
        items=int(notes.get("items", 0)),
        lost=int(notes.get("troubles", 0)),
        runs=int(notes.get("runs", 0)),
        first_started=float(notes.get("first_started", 0)),
        last_started=float(notes.get("started", 0)),
        last_ended=float(ended) if ended else None,
        last_pages=int(notes.get("done", 0)) - int(notes.get("done_before", 0)),
    )


def failed_requests(folder: Path) -> Iterator[FailedRequest]:
    """The given-up requests of a job, in the order in which they were filed. Blocks."""
    sql = (
        "SELECT url, reason, during, callback, place, message, traceback, at, tries "
        "FROM failures ORDER BY number"
    )
    with reading(folder) as database:
        for row in database.execute(sql):
            values: dict[str, Any] = dict(zip(FailedRequest.__struct_fields__, row, strict=True))
            with sound(folder, "a failure that it noted"):
                failed = msgspec.convert(values, FailedRequest)
            yield failed


def lost_items(folder: Path) -> Iterator[Lost]:
    """What has cost items of a job: the first hundred. Blocks."""
    sql = "SELECT value FROM notes WHERE kind = ? ORDER BY name"
    with reading(folder) as database:
        for (value,) in database.execute(sql, (LOST,)):
            yield msgspec.json.decode(value, type=Lost)


def items_of(folder: Path) -> Iterator[list[Any]]:
    """The items of a job as plain values, a page's at a time. Blocks.

    Of a running job those that were committed when it began.
    """
    with reading(folder) as database:
        for (lines,) in database.execute("SELECT lines FROM items ORDER BY page"):
            with sound(folder, "an item"):
                # No other line break than this one ends a line of JSON.
                items = [decode_json(line) for line in lines.split("\n") if line]
            yield items
