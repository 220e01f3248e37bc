"""SQLite: a table `items`, a column for each field, added when an item first has it.

Text, numbers and None are kept as what they are, true and false as 1 and 0, all else as its JSON.
A number that SQLite's integers can't hold becomes text. What arrives here is JSON Lines, written
in transactions, from one thread.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from scrapekit.errors import OutputError
from scrapekit.exports.base import FileExport
from scrapekit.exports.files import Mode, check, claim, look_for
from scrapekit.exports.jsonl import JsonLines
from scrapekit.items import decode_json

EXTENSIONS: Final = ("sqlite", "sqlite3", "db")
MAX_COLUMNS: Final = 1_000
"""SQLite takes 2,000, but items with made-up field names shouldn't come near."""

_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_ -]*")
_HARD: Final = re.compile(r"\d{19}|\\u(?:[dD][89a-fA-F]|0000)")
"""What SQLite's JSON functions would change: large integers, lone surrogates, NUL."""


class SqliteFile:
    """A database to put items into.

    "new" refuses one that holds data, "overwrite" deletes it, "append" continues it. `mark` and
    `page` are two numbers that it carries: whose it is, and up to where it follows.

    Raises OSError if it can't be opened or written, OutputError for what is no table of items.
    """

    def __init__(self, path: str, mode: Mode, *, durable: bool = False) -> None:
        self.path = path
        self.size = 0
        # Held until the database is closed: closing it earlier would take SQLite's own locks away.
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            claim(self._lock, path, mode)
            self._open("EXTRA" if durable else "OFF")
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self, synchronous: str) -> None:
        try:
            self._database = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=10
            )
            try:
                # Of a killed process it keeps all; after a power cut a job makes the file anew, or
                # finds it as it was after one of the last transactions.
                self._database.execute(f"PRAGMA synchronous = {synchronous}")
                self._database.execute("BEGIN IMMEDIATE")
                self._database.execute("CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY)")
                self._columns = self._read_columns()
                self._database.execute("COMMIT")
            except BaseException:
                self._database.close()
                raise
        except sqlite3.DatabaseError as error:
            raise _refused(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def mark(self) -> int:
        return int(self._database.execute("PRAGMA application_id").fetchone()[0])

    def adopt(self, mark: int) -> None:
        """Mark it, unless it is marked so: it follows from the first page on."""
        if self.mark == mark:
            return
        try:
            self._database.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {mark}; PRAGMA user_version = 0; COMMIT;"
            )
        except sqlite3.Error as error:
            raise _os_error(error) from error

    @property
    def page(self) -> int:
        return int(self._database.execute("PRAGMA user_version").fetchone()[0])

    @property
    def count(self) -> int:
        """How many items it holds."""
        return int(self._database.execute("SELECT count(*) FROM items").fetchone()[0])

    def write(self, data: bytes, page: int | None = None) -> None:
        """Put in the items of JSON Lines, all or none of them, and note the page."""
        lines = [line.decode() for line in data.split(b"\n") if line]
        try:
            self._database.execute("BEGIN")
            try:
                self._insert(lines)
                if page is not None:
                    self._database.execute(f"PRAGMA user_version = {page}")
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _os_error(error) from error

    def look_for(self, path: str) -> None:
        """Raise FileNotFoundError if it isn't at `path` any more: SQLite would write on."""
        look_for(self._lock, path)

    def interrupt(self) -> None:
        """Nobody reads it meanwhile, so there is nothing to wait for."""

    def release(self) -> None:
        """All is let go of when it is closed."""

    def close(self) -> None:
        """Close it; what was written is there."""
        self._database.close()
        os.close(self._lock)

    def _insert(self, lines: Sequence[str]) -> None:
        items = [decode_json(line) for line in lines]
        names = dict.fromkeys(name for item in items for name in item)
        found = {name: self._column(name) for name in names}
        columns = {name: column for name, column in found.items() if column is not None}
        if not columns:
            rows = [(None,)] * len(items)
            self._database.executemany("INSERT INTO items (id) VALUES (?)", rows)
            return
        into = f"INSERT INTO items ({', '.join(map(_quoted, columns.values()))})"
        plain = all(map(_PLAIN_NAME.fullmatch, columns)) and not any(map(_HARD.search, lines))
        if plain:
            # One statement for all of them: see scrapekit.frontier.store.
            cells = ", ".join(f"value->>'$.\"{name}\"'" for name in columns)
            array = f"[{','.join(lines)}]"
            sql = f"{into} SELECT {cells} FROM json_each(?)"  # noqa: S608  all names are quoted
            self._database.execute(sql, (array,))
            return
        marks = ", ".join("?" * len(columns))
        values = [[_value(item.get(name)) for name in columns] for item in items]
        self._database.executemany(f"{into} VALUES ({marks})", values)

    def _column(self, name: str) -> str | None:
        """The column of a field, made if it is new; None for one too many."""
        column, number = _text(name), 2
        while column not in self._columns and column.lower() in self._lower:
            # Names differ in SQLite only if they do so in more than case.
            column, number = f"{_text(name)}_{number}", number + 1
        if column in self._columns:
            return column
        if len(self._columns) >= MAX_COLUMNS:
            return None
        self._database.execute(f"ALTER TABLE items ADD COLUMN {_quoted(column)}")
        self._columns.add(column)
        self._lower.add(column.lower())
        return column

    def _read_columns(self) -> set[str]:
        columns = {str(row[1]) for row in self._database.execute("PRAGMA table_info(items)")}
        columns.discard("id")
        self._lower = {name.lower() for name in columns} | {"id"}
        return columns


class SqliteExport(FileExport):
    """An `Export` to a SQLite database."""

    def __init__(self, path: str, *, mode: Mode = "new") -> None:
        super().__init__(path, JsonLines(), mode=mode)

    def __repr__(self) -> str:
        return super().__repr__().replace("<jsonl", "<sqlite", 1)

    def _check(self) -> None:
        check(self.path, self._mode, appendable=True)
        refuse_foreign(self.path, self._mode)

    def _open(self) -> SqliteFile:
        self._check()
        return SqliteFile(self.path, self._mode)


def refuse_foreign(path: str, mode: Mode) -> None:
    """Raise OutputError if items are to be added to what is no database. Touches nothing."""
    file = Path(path)
    if mode != "append" or not file.is_file() or not file.stat().st_size:
        return
    with file.open("rb") as opened:
        if opened.read(16) != b"SQLite format 3\0":
            raise OutputError(f"can't append to {path}: it is no SQLite database", path=path)


def remove(path: str) -> None:
    """Delete a database and what SQLite may have left beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        Path(path + suffix).unlink(missing_ok=True)


def whose(path: str) -> tuple[int, int] | None:
    """The `mark` and `page` of a database; None if it can't be read as one."""
    try:
        # Quoted: a path may hold what a URI takes for its query.
        uri = f"{Path(path).absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=0)) as database:
            mark = database.execute("PRAGMA application_id").fetchone()[0]
            return int(mark), int(database.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error:
        return None


def rows_of(path: str) -> int:
    """How many items a database holds; 0 if it can't be read, or has no table of them yet."""
    uri = f"{Path(path).absolute().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as database:
            return int(database.execute("SELECT count(*) FROM items").fetchone()[0])
    except sqlite3.Error:
        return 0


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return value


def _refused(path: str, error: sqlite3.DatabaseError) -> Exception:
    if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
        return OutputError(f"can't write {path}: it is no SQLite database", path=path)
    return _os_error(error)


def _os_error(error: sqlite3.Error) -> OSError:
    """What happened to the disk, in the words that others use."""
    full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return OSError(28, os.strerror(28)) if full else OSError(5, str(error))
