"""The file under an export. Every call in here may block, so it belongs in a thread.

`OSError` is raised as it comes; whoever speaks to users turns it into an OutputError.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import sys
from pathlib import Path
from types import TracebackType
from typing import Literal, NoReturn, Self

from scrapekit.errors import OutputError

Mode = Literal["new", "overwrite", "append"]

STDOUT = "-"


def check(path: str, mode: Mode, *, appendable: bool) -> None:
    """Raise OutputError if an export to `path` is bound to fail or would destroy data.

    Touches nothing.
    """
    if path == STDOUT:
        return
    file = Path(path)
    if mode == "append" and not appendable:
        _refuse(path, f"nothing can be added to {file.suffix or 'this format'}; use .jsonl instead")
    if not file.parent.is_dir():
        there = "is not a directory" if file.parent.exists() else "does not exist"
        _refuse(path, f"the directory {file.parent} {there}; create it first")
    if file.is_dir():
        _refuse(path, "this is a directory; name a file")
    if not file.exists():
        if not os.access(file.parent, os.W_OK | os.X_OK):
            _refuse(path, f"you may not create files in {file.parent}; choose another directory")
        return
    if not os.access(file, os.W_OK):
        _refuse(path, "you may not write this file; change its permissions or choose another")
    if mode == "new" and file.stat().st_size > 0:
        add = ", add to it with --append" if appendable else ""
        _refuse(path, f"the file holds data; overwrite it with -O{add}, or choose another name")


def _refuse(path: str, why: str) -> NoReturn:
    raise OutputError(f"can't write {path}: {why}", path=path)


class OutputFile:
    """A file, pipe or terminal opened for writing, or standard output for the path "-".

    What it holds is cut off if `mode` is "overwrite". `size` is what it held before, in bytes,
    or 0 if it has no size. Raises OSError if it can't be opened, and OutputError if another one
    has it open, in whatever process.

    One thread may write and close it; only `interrupt` is for others.
    """

    def __init__(self, path: str, mode: Mode) -> None:
        self._fd = _open_stdout() if path == STDOUT else _open(path, mode)
        try:
            self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
            if self._regular and path != STDOUT:
                claim(self._fd, path, mode)
            self.size = os.fstat(self._fd).st_size if self._regular else 0
            self._stop_reader, self._stop_writer = os.pipe()
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it. Raises OSError if the system reports only now that it could not write."""
        os.close(self._fd)

    def write(self, data: bytes) -> None:
        """Write all of `data`, waiting for the reader of a pipe.

        Raises InterruptedError if it would wait after a call of `interrupt`.
        """
        view = memoryview(data)
        while view:
            if not self._regular:
                self._wait_for_reader()
            # A pipe that is ready takes so much without waiting, so that only poll() waits.
            size = len(view) if self._regular else select.PIPE_BUF
            try:
                view = view[os.write(self._fd, view[:size]) :]
            except BlockingIOError:
                continue

    def _wait_for_reader(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.register(self._stop_reader, select.POLLIN)
        if not any(fd == self._fd for fd, _ in poll.poll()):
            raise InterruptedError(errno.EINTR, "interrupted while its reader took nothing")

    def cut(self, size: int) -> None:
        """Cut a regular file off at `size` bytes."""
        os.ftruncate(self._fd, size)

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        os.fsync(self._fd)

    def look_for(self, path: str) -> None:
        """Raise FileNotFoundError if the file isn't at `path` any more: it would be written in
        vain.
        """
        look_for(self._fd, path)

    def interrupt(self) -> None:
        """Don't wait for the reader of a pipe any longer, now or later. For any thread."""
        os.write(self._stop_writer, b"x")

    def release(self) -> None:
        """Let go of what `interrupt` needs, when it is closed and nobody will call that again."""
        os.close(self._stop_reader)
        os.close(self._stop_writer)


def sync_folder(path: str | Path) -> None:
    """Wait until it is on the disk that there is a file of that name."""
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def look_for(fd: int, path: str) -> None:
    """Raise FileNotFoundError if the opened file isn't at `path` any more."""
    there, here = os.stat(path), os.fstat(fd)  # noqa: PTH116  beside that of a descriptor
    if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
        raise FileNotFoundError(errno.ENOENT, "it was replaced by another file")


def _open(path: str, mode: Mode) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOCTTY
    if mode == "append":
        flags |= os.O_APPEND
    # Opening a named pipe would wait for its reader, and nothing could end that.
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def claim(fd: int, path: str, mode: Mode) -> None:
    """Keep other crawls off the file, and cut it off if it is to be overwritten."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _refuse(path, "another crawl is writing it; choose another name")
    except OSError:
        # Some network file systems know no locks.
        pass
    if mode == "new" and os.fstat(fd).st_size > 0:
        # Another crawl has come and gone since `check`.
        check(path, mode, appendable=False)
    if mode == "overwrite":
        os.ftruncate(fd, 0)


def _open_stdout() -> int:
    try:
        sys.stdout.flush()
        return os.dup(sys.stdout.fileno())
    except (AttributeError, ValueError) as error:
        raise OSError(errno.EBADF, "standard output is no file here") from error
