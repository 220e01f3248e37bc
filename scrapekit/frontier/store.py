"""Store: the database of a job. Every call may block.

A group of changes is applied by one statement: an insert into a view, whose trigger takes the
group apart. So a group is one transaction, and costs Python's lock two changes of hands instead of
two a row, which matters: a thread that lets go of it while the event loop computes waits up to
5 ms to get it back. Answers of many rows come as one JSON text for the same reason.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from scrapekit.errors import JobError
from scrapekit.frontier.damage import sound
from scrapekit.frontier.group import Group
from scrapekit.frontier.records import Record, request
from scrapekit.frontier.window import Key, Waiting

Durability = Literal["process", "power"]

FORMAT: Final = 2
"""The version of the schema; a job of another one is refused."""

APPLICATION: Final = 0x73637270
"""Marks the file as ours (SQLite's application_id): "scrp"."""

_SCHEMA: Final = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE seen (fingerprint INTEGER PRIMARY KEY);
CREATE TABLE pending (
  number INTEGER PRIMARY KEY, origin INTEGER NOT NULL, rank INTEGER NOT NULL,
  due REAL NOT NULL, tries INTEGER NOT NULL, request TEXT NOT NULL);
CREATE INDEX ready ON pending (origin, rank, number) WHERE due = 0;
CREATE INDEX dated ON pending (origin, due, number) WHERE due > 0;
CREATE TABLE items (page INTEGER PRIMARY KEY, count INTEGER NOT NULL, lines TEXT NOT NULL);
CREATE TABLE failures (
  number INTEGER PRIMARY KEY, origin INTEGER NOT NULL, at REAL NOT NULL, url TEXT NOT NULL,
  reason TEXT NOT NULL, during TEXT NOT NULL, callback TEXT, place TEXT NOT NULL,
  message TEXT NOT NULL, traceback TEXT NOT NULL, tries INTEGER NOT NULL,
  of_user_code INTEGER NOT NULL, request TEXT NOT NULL);
CREATE TABLE notes (
  kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
"""

_APPLY: Final = """
CREATE TEMP VIEW groups AS SELECT NULL AS seen, NULL AS added, NULL AS released, NULL AS done,
  NULL AS items, NULL AS failed, NULL AS notes;
CREATE TEMP TRIGGER apply INSTEAD OF INSERT ON groups BEGIN
  INSERT OR IGNORE INTO seen SELECT value FROM json_each(NEW.seen) ORDER BY value;
  INSERT INTO pending SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5
    FROM json_each(NEW.added);
  UPDATE pending SET due = 0 WHERE number IN (SELECT value FROM json_each(NEW.released));
  DELETE FROM pending WHERE number IN (SELECT value FROM json_each(NEW.done));
  INSERT INTO items SELECT value->>0, value->>1, value->>2 FROM json_each(NEW.items);
  INSERT OR REPLACE INTO failures SELECT value->>0, value->>1, value->>2, value->>3, value->>4,
    value->>5, value->>6, value->>7, value->>8, value->>9, value->>10, value->>11, value->>12
    FROM json_each(NEW.failed);
  DELETE FROM notes WHERE (kind, name) IN
    (SELECT value->>0, value->>1 FROM json_each(NEW.notes) WHERE value->>2 IS NULL);
  INSERT OR REPLACE INTO notes SELECT value->>0, value->>1, value->>2
    FROM json_each(NEW.notes) WHERE value->>2 IS NOT NULL;
END;
"""

# Two parts, because a comparison of pairs would use the index for its first half only, and read
# a long queue of equal ranks from its beginning.
_LOAD: Final = """
SELECT '[' || group_concat(json_array({order}, number, due, tries, json(request))) || ']' FROM (
  SELECT * FROM (SELECT * FROM pending
    WHERE {which} AND origin = :origin AND {order} = :first AND number > :number
      AND (:deepest IS NULL OR coalesce(request->>'d', 0) <= :deepest)
      AND number NOT IN (SELECT value FROM json_each(:held))
    ORDER BY number LIMIT :limit)
  UNION ALL
  SELECT * FROM (SELECT * FROM pending
    WHERE {which} AND origin = :origin AND {order} > :first
      AND (:deepest IS NULL OR coalesce(request->>'d', 0) <= :deepest)
      AND number NOT IN (SELECT value FROM json_each(:held))
    ORDER BY {order}, number LIMIT :limit)
  LIMIT :limit)
"""
_LOAD_READY: Final = _LOAD.format(order="rank", which="due = 0")
_LOAD_DATED: Final = _LOAD.format(order="due", which="due > 0").replace(
    "json_array(due,", "json_array(rank,"
)

# A step through an index for each origin, however many requests it has.
_NEXT_ORIGIN: Final = """
SELECT min(coalesce((SELECT min(origin) FROM pending WHERE due = 0 AND origin > :after), :never),
           coalesce((SELECT min(origin) FROM pending WHERE due > 0 AND origin > :after), :never))
"""
_NEVER: Final = 2**63 - 1


class _Row(msgspec.Struct, array_like=True):
    rank: int
    number: int
    due: float
    tries: int
    request: Record


_rows = msgspec.json.Decoder(list[_Row])
_numbers = msgspec.json.Decoder(list[int])


class Page(NamedTuple):
    """How many items a page gave, and they themselves, as JSON Lines."""

    number: int
    items: int
    lines: str


class Store:
    """The database file of a job, opened, and made if there is none.

    One thread may `apply` while another one asks. Raises JobError if it can't be used.
    """

    def __init__(self, path: Path, durability: Durability = "process") -> None:
        self.path = path
        self._durability = durability
        self._make()
        self._writing = self._connect(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}", _APPLY)
        try:
            self._reading = self._connect("PRAGMA query_only = ON")
        except JobError:
            self._writing.close()
            raise
        self._inode = path.stat().st_ino
        self._deepest: int | None = None

    def __repr__(self) -> str:
        return f"<Store {self.path}>"

    def apply(self, group: Group) -> None:
        """Keep a group of changes, as a whole. Raises JobError if that can't be done."""
        try:
            self._apply(group)
        except (sqlite3.Error, OSError) as error:
            raise broken(self.path, error) from error

    def look_for_file(self) -> None:
        """Raise JobError if the database isn't where it was: SQLite writes on happily into a file
        that was deleted.
        """
        try:
            if self.path.stat().st_ino != self._inode:
                raise FileNotFoundError(2, "the file was replaced by another one")
        except OSError as error:
            raise broken(self.path, error) from error

    def known(self, fingerprints: Sequence[int]) -> list[int]:
        """Those of `fingerprints` that were seen."""
        return self._numbers(
            "SELECT json_group_array(fingerprint) FROM seen "
            "WHERE fingerprint IN (SELECT value FROM json_each(?))",
            (_json(fingerprints),),
        )

    def latest_seen(self, limit: int) -> list[int]:
        """All fingerprints if there are no more than `limit`, else some."""
        sql = "SELECT json_group_array(fingerprint) FROM (SELECT fingerprint FROM seen LIMIT ?)"
        return self._numbers(sql, (limit,))

    def load_ready(self, origin: int, after: Key, held: Iterable[int], limit: int) -> list[Waiting]:
        """Requests of an origin that may go at once, from a (rank, number) on."""
        return self._load(_LOAD_READY, origin, after, held, limit)

    def load_dated(self, origin: int, after: Key, held: Iterable[int], limit: int) -> list[Waiting]:
        """Requests of an origin that wait for a date, from a (due, number) on."""
        return self._load(_LOAD_DATED, origin, after, held, limit)

    def next_origin(self, after: int) -> tuple[int, str] | None:
        """The pending origin after that one, and the URL of one of its requests."""
        origin = self._ask(_NEXT_ORIGIN, {"after": after, "never": _NEVER})
        if origin is None or origin == _NEVER:
            return None
        url = self._ask(
            "SELECT coalesce((SELECT request FROM pending WHERE due = 0 AND origin = :o LIMIT 1),"
            " (SELECT request FROM pending WHERE due > 0 AND origin = :o LIMIT 1))->>'u'",
            {"o": origin},
        )
        return origin, url

    def leave_deeper_than(self, deepest: int) -> int:
        """Load no requests from now on that are deeper; how many that leaves. Reads all that is
        pending.
        """
        sql = "SELECT count(*) FROM pending WHERE coalesce(request->>'d', 0) > ?"
        count = int(self._ask(sql, (deepest,)))
        self._deepest = deepest if count else None
        return count

    def count(self, origin: int) -> int:
        """The pending requests of an origin that are loaded if it is asked for."""
        sql = (
            "SELECT count(*) FROM pending WHERE origin = :origin AND {which}"
            " AND (:deepest IS NULL OR coalesce(request->>'d', 0) <= :deepest)"
        )
        values = {"origin": origin, "deepest": self._deepest}
        # One for each index.
        return sum(
            int(self._ask(sql.format(which=which), values)) for which in ("due = 0", "due > 0")
        )

    def waits_for(self, callback: str) -> int:
        """How many pending requests name a callback. Reads all that is pending."""
        sql = "SELECT count(*) FROM pending WHERE request->>'c' = ?"
        with sound(self.path.parent, "a request that waits"):
            return int(self._ask(sql, (callback,)))

    def waiting(self) -> int:
        """How many requests are pending. Reads the indexes alone."""
        return int(
            self._ask(
                "SELECT (SELECT count(*) FROM pending WHERE due = 0)"
                " + (SELECT count(*) FROM pending WHERE due > 0)"
            )
        )

    def waiting_for(self, callback: str) -> list[int]:
        """The numbers of the pending requests that name a callback. Reads all that is pending."""
        sql = "SELECT json_group_array(number) FROM pending WHERE request->>'c' = ?"
        return self._numbers(sql, (callback,))

    def last_number(self) -> int:
        """The highest number that was given to a request."""
        sql = (
            "SELECT max(coalesce((SELECT max(number) FROM pending), 0),"
            " coalesce((SELECT max(number) FROM failures), 0))"
        )
        with sound(self.path.parent, "a request's number"):
            return int(self._ask(sql))

    def last_page(self) -> int:
        """The highest number that was given to the items of a page; 0 if there are none."""
        return int(self._ask("SELECT coalesce(max(page), 0) FROM items"))

    def pages(self, after: int, limit: int) -> list[Page]:
        """The items of pages, in the order of their commits."""
        sql = "SELECT page, count, lines FROM items WHERE page > ? ORDER BY page LIMIT ?"
        rows = self.rows(sql, (after, limit))
        with sound(self.path.parent, "an item"):
            return msgspec.convert(rows, list[Page])

    def notes(self, kind: str) -> dict[str, str]:
        """All notes of a kind, by name."""
        return dict(self.rows("SELECT name, value FROM notes WHERE kind = ?", (kind,)))

    def note(self, kind: str, name: str) -> str | None:
        """One note."""
        value = self._ask("SELECT value FROM notes WHERE kind = ? AND name = ?", (kind, name))
        return None if value is None else str(value)

    def rows(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """The answer to a question."""
        try:
            return self._reading.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise broken(self.path, error) from error

    def change(self, *statements: tuple[str, Any]) -> None:
        """Make changes in one transaction, outside of a crawl."""
        try:
            with closing(self._writing.cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                for sql, values in statements:
                    cursor.execute(sql, values)
                cursor.execute("COMMIT")
        except sqlite3.Error as error:
            raise broken(self.path, error) from error

    def close(self) -> None:
        """Close it. What was applied is kept."""
        self._reading.close()
        self._writing.close()

    def _apply(self, group: Group) -> None:
        first, *more = group.parts()
        if not more:
            self._insert(first)
            return
        self._writing.execute("BEGIN IMMEDIATE")
        try:
            for part in (first, *more):
                self._insert(part)
            self._writing.execute("COMMIT")
        except BaseException:
            if self._writing.in_transaction:
                self._writing.execute("ROLLBACK")
            raise

    def _insert(self, columns: Sequence[str | None]) -> None:
        self._writing.execute("INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?, ?)", columns)

    def _load(
        self, sql: str, origin: int, after: Key, held: Iterable[int], limit: int
    ) -> list[Waiting]:
        first, number = after
        values: Mapping[str, Any] = {
            "origin": origin,
            "first": -1e300 if first == float("-inf") else first,
            "number": number,
            "held": _json(list(held)),
            "deepest": self._deepest,
            "limit": limit,
        }
        text = self._ask(sql, values)
        if text is None:
            return []
        with sound(self.path.parent, "a request that waits"):
            return [
                Waiting(row.rank, row.number, row.due, row.tries, request(row.request))
                for row in _rows.decode(text)
            ]

    def _numbers(self, sql: str, values: Sequence[Any]) -> list[int]:
        with sound(self.path.parent, "what was seen"):
            return _numbers.decode(self._ask(sql, values))

    def _ask(self, sql: str, values: Any = ()) -> Any:
        rows = self.rows(sql, values)
        return rows[0][0] if rows else None

    def _make(self) -> None:
        """Make the tables, all or none of them, if there are none."""
        try:
            _create(self.path)
            with closing(sqlite3.connect(self.path, isolation_level=None, timeout=10)) as database:
                refuse_foreign(database, self.path)
                # In the folder's own journal first: what identifies the file is then in the file.
                if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    database.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
                database.execute("PRAGMA journal_mode = WAL")
        except (sqlite3.Error, OSError) as error:
            raise broken(self.path, error) from error

    def _connect(self, *scripts: str) -> sqlite3.Connection:
        try:
            database = sqlite3.connect(
                self.path, isolation_level=None, timeout=10, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise broken(self.path, error) from error
        try:
            database.executescript("PRAGMA cache_size = -2000; PRAGMA temp_store = MEMORY;")
            for script in scripts:
                database.executescript(script)
        except sqlite3.Error as error:
            database.close()
            raise broken(self.path, error) from error
        return database


_SYNCHRONOUS: Final[Mapping[Durability, str]] = {"process": "NORMAL", "power": "FULL"}


def _create(path: Path) -> None:
    """Create the file, if there is none, for its owner alone; what SQLite puts beside it gets the
    same permissions.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def refuse_foreign(database: sqlite3.Connection, path: Path) -> None:
    """Raise JobError if the opened file is no job of this format. Changes nothing.

    Asks SQLite, and never opens the file itself: to close it again would take away all locks that
    this process has on it (POSIX, fcntl), and another process would fold a journal still in use.
    """
    try:
        mark = int(database.execute("PRAGMA application_id").fetchone()[0])
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_NOTADB:
            raise
        raise JobError(
            f"{path} is no job of scrapekit; choose another folder", path=str(path)
        ) from error
    if mark == 0 and version == 0:
        return
    if mark != APPLICATION:
        raise JobError(f"{path} is no job of scrapekit; choose another folder", path=str(path))
    if version != FORMAT:
        raise JobError(
            f"the job {path.parent} has format {version}, and this scrapekit knows format "
            f"{FORMAT}: continue it with the version that made it; nothing was changed",
            path=str(path.parent),
        )


def mark_of(path: Path) -> int | None:
    """The application's mark of a database; None if it can't be read as one. Blocks."""
    try:
        with closing(sqlite3.connect(path, timeout=10)) as database:
            return int(database.execute("PRAGMA application_id").fetchone()[0])
    except sqlite3.Error:
        return None


def broken(path: Path, error: Exception) -> JobError:
    """What went wrong with a job's files, in one line that says what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = getattr(error, "errno", None)
    what = str(error) if not isinstance(error, OSError) else error.strerror or str(error)
    if code == sqlite3.SQLITE_FULL or number == 28:
        what = "the disk is full; make room, and run the same command again"
    elif isinstance(error, FileNotFoundError):
        what = f"its files are gone or were replaced ({what})"
    elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "malformed JSON" in what:
        what = f"its database is damaged ({what}); --fresh starts it anew"
    elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        what = f"{what}; see that the folder can be written"
    return JobError(f"can't use the job {path.parent}: {what}", path=str(path.parent))


def _json(values: object) -> str:
    return msgspec.json.encode(values).decode()
