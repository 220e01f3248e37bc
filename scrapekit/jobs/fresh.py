"""Fresh: throw a job away and start anew, so that a kill in the middle leaves the one or the other.

A new database is made beside the old one and takes its place by a rename. It knows the files that
the old job wrote: they are the new job's to overwrite.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from scrapekit.errors import JobError
from scrapekit.exports import Place
from scrapekit.frontier import folder as folders
from scrapekit.frontier.store import APPLICATION, Store, broken, mark_of, refuse_foreign
from scrapekit.jobs.outputs import OUTPUT
from scrapekit.jobs.state import reading, state


class Waste(NamedTuple):
    """What is thrown away with a job."""

    done: int
    pending: int
    failed: int
    items: int
    outputs: list[str]
    readable: bool = True

    def __str__(self) -> str:
        if not self.readable:
            return "a job that can't be read"
        files = f", and what it wrote to {', '.join(self.outputs)}" if self.outputs else ""
        return (
            f"{self.done:,} pages done, {self.pending:,} pending, {self.failed:,} failed, "
            f"{self.items:,} items{files}"
        )


def waste(path: Path) -> Waste | None:
    """What would be lost with the job of a folder; None if there is none. Blocks.

    Raises JobError if what can't be read may be somebody else's.
    """
    if not folders.is_job(path):
        return None
    try:
        known = state(path)
    except JobError:
        if not _is_ours(path):
            raise
        return Waste(0, 0, 0, 0, [], readable=False)
    outputs = [name.partition(":")[2] for name in _outputs(path)]
    failed = sum(known.failed.values())
    return Waste(known.done, known.pending, failed, known.items, outputs)


def _is_ours(path: Path) -> bool:
    """Whether a folder whose database can't be read is a job's: by the mark that is still there,
    or because it holds what a job does, and nothing else.
    """
    mark = mark_of(path / folders.DATABASE)
    if not folders.is_job(path):
        # It was killed while it was made, and to look at it has undone what there was.
        return True
    if mark is not None:
        return mark == APPLICATION
    names = {entry.name for entry in path.iterdir()}
    others = {name for name in names if not name.startswith(folders.DATABASE)}
    return others == {folders.LOCK}


def start_anew(path: Path) -> None:
    """Throw the job of a folder away. Blocks.

    Raises JobError if another process has it, if it is somebody else's, or it can't be done.
    """
    waste(path)
    folder = folders.lock(path, create=True)
    try:
        _replace(folder.database)
    except (OSError, sqlite3.Error) as error:
        raise broken(folder.database, error) from error
    finally:
        folder.release()


def _replace(database: Path) -> None:
    following = database.with_name(folders.NEXT)
    _remove(following)
    if not folders.is_job(database.parent):
        return
    outputs = _outputs(database.parent)
    _make(following, outputs)
    _fold_journal(database)
    # From here on it is the new job.
    following.replace(database)


def _outputs(folder: Path) -> dict[str, str]:
    """The notes on the files that a job wrote; none if it can't be read."""
    try:
        with reading(folder) as database:
            sql = "SELECT name, value FROM notes WHERE kind = ?"
            notes = dict(database.execute(sql, (OUTPUT,)))
    except JobError:
        return {}
    return {name: discarded for name, note in notes.items() if (discarded := _to_discard(note))}


def _make(database: Path, outputs: dict[str, str]) -> None:
    store = Store(database)
    try:
        store.change(
            *(
                ("INSERT INTO notes VALUES (?, ?, ?)", (OUTPUT, name, note))
                for name, note in outputs.items()
            )
        )
    finally:
        store.close()
    _fold_journal(database)
    descriptor = os.open(database, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _to_discard(note: str) -> str:
    """The note on a file whose content is to be thrown away; "" for one that is damaged: the file
    counts as somebody else's then.
    """
    try:
        place = msgspec.json.decode(note, type=Place)
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
        return ""
    fresh = Place(format=place.format, base=place.base, position=place.base, discard=True)
    return msgspec.json.encode(fresh).decode()


def _fold_journal(database: Path) -> None:
    """Leave all of it in the one file: another file's journal would be taken for its own."""
    try:
        with closing(sqlite3.connect(database, isolation_level=None, timeout=10)) as opened:
            refuse_foreign(opened, database)
            opened.execute("PRAGMA journal_mode = DELETE")
    except (JobError, sqlite3.Error):
        # It can't be read, and is thrown away.
        _remove(database)
    for suffix in ("-wal", "-shm", "-journal"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
