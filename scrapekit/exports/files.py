"""The file under an export: every call in here may block, so it belongs in a thread.

`OSError` is raised as it comes; whoever speaks to users turns it into an OutputError.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import threading
from pathlib import Path
from typing import Literal, NoReturn

from scrapekit.errors import OutputError

Mode = Literal["new", "overwrite", "append"]

STDOUT = "-"


def check(path: str, mode: Mode, *, appendable: bool) -> None:
    """Raise OutputError if an export to `path` is bound to fail or would destroy data.

    Touches nothing.
    """
    if path == STDOUT:
        return
    if mode == "append" and not appendable:
        _refuse(path, "nothing can be added to this format; use .jsonl instead")
    file = Path(path)
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
        instead = "overwrite it with -O"
        if appendable:
            instead += ", add to it with --append"
        _refuse(path, f"the file holds data; {instead}, or choose another name")


def _refuse(path: str, why: str) -> NoReturn:
    raise OutputError(f"can't write {path}: {why}", path=path)


class OutputFile:
    """A file, pipe or terminal opened for writing, or standard output for the path "-".

    What it holds is cut off if `mode` is "overwrite". Raises OSError if it can't be opened.
    """

    def __init__(self, path: str, mode: Mode) -> None:
        self._fd = _open_stdout() if path == STDOUT else _open(path, mode)
        status = os.fstat(self._fd)
        self._regular = stat.S_ISREG(status.st_mode)
        if mode == "overwrite" and self._regular and path != STDOUT:
            os.ftruncate(self._fd, 0)
        self.size = os.fstat(self._fd).st_size if self._regular else 0
        # A number that is closed under a running write may already mean somebody else's file.
        self._lock = threading.Lock()
        self._stop_reader, self._stop_writer = os.pipe()

    def write(self, data: bytes) -> None:
        """Write all of `data`. A pipe may keep it waiting, until `interrupt` is called."""
        with self._lock:
            self._write(memoryview(data))

    def _write(self, view: memoryview) -> None:
        while view:
            if not self._regular and not self._wait_writable():
                return
            try:
                # A pipe that is ready takes this much at once, so that only _wait_writable waits.
                size = len(view) if self._regular else select.PIPE_BUF
                view = view[os.write(self._fd, view[:size]) :]
            except BlockingIOError:
                continue

    def _wait_writable(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.register(self._stop_reader, select.POLLIN)
        return all(fd != self._stop_reader for fd, _ in poll.poll())

    def interrupt(self) -> None:
        """Make `write` give up where it would wait for the reader of a pipe. Doesn't block."""
        os.write(self._stop_writer, b"x")

    def close(self) -> None:
        """Close it. Raises OSError if the system reports a late failure to write."""
        with self._lock:
            os.close(self._stop_reader)
            os.close(self._stop_writer)
            os.close(self._fd)


def _open(path: str, mode: Mode) -> int:
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOCTTY", 0)
    if mode == "append":
        flags |= os.O_APPEND
    # Opening a named pipe would wait for its reader, and nothing could wake the thread.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


def _open_stdout() -> int:
    try:
        sys.stdout.flush()
        return os.dup(sys.stdout.fileno())
    except (AttributeError, ValueError) as error:
        raise OSError(errno.EBADF, "standard output is no file here") from error
