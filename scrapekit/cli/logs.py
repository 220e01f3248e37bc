"""Where the log of a crawl goes: to the screen or into a file, and from what level on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from scrapekit.cli.screen import Screen
from scrapekit.errors import OutputError
from scrapekit.exports import files
from scrapekit.report import printable

LEVELS: Final = ("debug", "info", "warning", "error", "critical")

_FORMAT: Final = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"


class _Formatter(logging.Formatter):
    """One that leaves nothing in a line that a terminal would obey: much of it is from the web."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).expandtabs().split("\n")
        return "\n".join(printable(line, len(line)) for line in lines)


class _ScreenHandler(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._screen.write(self.format(record))
        except Exception:
            self.handleError(record)


@contextmanager
def logging_to(screen: Screen, file: str | None, level: str) -> Iterator[None]:
    """Log to `file`, which is added to, or else to the screen; all of the process, from `level` on.

    Warnings are logged as well. Raises OutputError for a file that can't be written. Everything is
    as it was afterwards.
    """
    handler = _file_handler(file) if file else _ScreenHandler(screen)
    handler.setFormatter(_Formatter(_FORMAT))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.setLevel(before)
        root.removeHandler(handler)
        handler.close()


def _file_handler(path: str) -> logging.Handler:
    files.check(path, "append", appendable=True)
    try:
        return logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror}", path=path) from error
