"""Folder: where a job lives, and the lock that gives it to one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from scrapekit import forks
from scrapekit.errors import JobError
from scrapekit.frontier.store import broken

DATABASE: Final = "job.sqlite"
LOCK: Final = "lock"
_OWN: Final = (LOCK, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal")
NEXT: Final = f"{DATABASE}.next"
"""What is to take the database's place when a job starts anew."""


class Folder:
    """The locked folder of a job. The lock is the process's: it ends with it, however it ends."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        forks.hold(lock)

    @property
    def database(self) -> Path:
        return self.path / DATABASE

    def release(self) -> None:
        """Let others have it. Idempotent."""
        if self._lock >= 0:
            forks.let_go(self._lock)
            os.close(self._lock)
            self._lock = -1


def is_job(path: Path) -> bool:
    """Whether a folder has a job in it."""
    file = path / DATABASE
    return file.is_file() and file.stat().st_size > 0


def lock(path: Path, *, create: bool) -> Folder:
    """Lock the folder of a job for this process; makes it, for its owner alone. Blocks briefly.

    Raises JobError if another process has it, and if it is no job's folder.
    """
    try:
        if create:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_others(path)
        elif not is_job(path):
            raise JobError(f"there is no job in {path}", path=str(path))
        return Folder(path, _locked(path))
    except OSError as error:
        raise _unusable(path, error) from error


def _refuse_others(path: Path) -> None:
    if not path.is_dir():
        raise JobError(f"{path} is a file; a job needs a folder", path=str(path))
    names = {entry.name for entry in path.iterdir()}
    if DATABASE not in names and names - {*_OWN, NEXT}:
        raise JobError(
            f"the folder {path} holds other files and no job; choose another one", path=str(path)
        )


def _locked(path: Path) -> int:
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise JobError(
            f"another process (pid {owner}) has the job {path}; wait for its end", path=str(path)
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _unusable(path: Path, error: OSError) -> JobError:
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return JobError(f"{path} is a file; a job needs a folder", path=str(path))
    return broken(path / DATABASE, error)
