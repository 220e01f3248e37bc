"""Standard error, as people see it; and what to do when nobody reads any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

_RED: Final = "\x1b[31m"
_PLAIN: Final = "\x1b[0m"


class Screen:
    """Lines for people. They appear above a live line while there is one.

    `stream` is None in a process that was started without standard error.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.is_terminal = _is_terminal(stream)
        """Whether lines can be drawn anew, and not only added."""
        # no-color.org: any value but the empty one means no colour.
        self.has_colour = self.is_terminal and not os.environ.get("NO_COLOR")
        self._write: Callable[[str], None] = self._print

    def __repr__(self) -> str:
        return f"<Screen terminal={self.is_terminal} colour={self.has_colour}>"

    def write(self, text: str) -> None:
        """Add lines. A reader that has gone is no error: they are lost then."""
        try:
            self._write(text)
        except BrokenPipeError:
            _silence(self.stream)

    def error(self, message: str) -> None:
        """Say in one line what went wrong and what to do about it."""
        from scrapekit.report import printable

        tag = f"{_RED}error:{_PLAIN}" if self.has_colour else "error:"
        self.write(f"scrapekit: {tag} {printable(message, 2000)}")

    @contextmanager
    def written_by(self, write: Callable[[str], None]) -> Iterator[None]:
        """Hand lines to `write` instead, for as long as something else draws on the screen."""
        self._write = write
        try:
            yield
        finally:
            self._write = self._print

    def _print(self, text: str) -> None:
        if self.stream is not None:
            print(text, file=self.stream, flush=True)


@contextmanager
def closed_pipes_are_fine() -> Iterator[None]:
    """Let what is printed inside end quietly if its reader has gone, as in `... | head`."""
    try:
        with suppress(BrokenPipeError):
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)


def _flush(stream: TextIO | None) -> None:
    try:
        if stream is not None:
            stream.flush()
    except BrokenPipeError:
        _silence(stream)


def _silence(stream: TextIO | None) -> None:
    """Send to nowhere what is still in a stream's buffer: the interpreter flushes it at its end,
    and would complain there.
    """
    if stream is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
