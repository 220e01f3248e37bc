"""Exports: where items end up.

A spec says where and in which format: "FILE" takes the format from the extension, "FILE:format"
names it, and "-" is JSON Lines on standard output ("-:csv" another format).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import PurePath

from scrapekit.errors import UsageError
from scrapekit.exports.base import Export, FileExport, Format
from scrapekit.exports.csv import Csv
from scrapekit.exports.files import STDOUT, Mode
from scrapekit.exports.json import JsonArray
from scrapekit.exports.jsonl import JsonLines
from scrapekit.exports.projected_lines import LinesProjection
from scrapekit.exports.projected_sqlite import SqliteProjection
from scrapekit.exports.projected_whole import WholeProjection
from scrapekit.exports.projection import Place, Projection
from scrapekit.exports.sqlite import EXTENSIONS, SqliteExport

__all__ = [
    "FORMATS",
    "Export",
    "FileExport",
    "Format",
    "Mode",
    "Place",
    "Projection",
    "SqliteExport",
    "check_distinct",
    "escape_formulas",
    "open_spec",
    "project",
]

FORMATS: dict[str, Callable[[], Format]] = {
    "jsonl": JsonLines,
    "ndjson": JsonLines,
    "jl": JsonLines,
    "json": JsonArray,
    "csv": Csv,
}
"""The formats of text by name, which is also their file extension."""


def open_spec(spec: str | os.PathLike[str], *, mode: Mode = "new") -> Export:
    """The export that `spec` describes, not opened yet; no file is touched.

    Raises UsageError if the spec names no file or no format.
    """
    path, name = _parse(spec)
    if name in EXTENSIONS:
        if path == STDOUT:
            raise UsageError("a SQLite database can't go to standard output; name a file")
        return SqliteExport(path, mode=mode)
    return FileExport(path, FORMATS[name](), mode=mode)


def project(
    spec: str | os.PathLike[str], *, mode: Mode, mark: int, safe: bool = False
) -> Projection | None:
    """The file that `spec` describes, following a job; None for what no job can continue: pipes,
    terminals and other devices. `mark` tells databases of different jobs apart, `safe` has CSV
    written for spreadsheets.

    Raises UsageError if the spec names no file or no format.
    """
    path, name = _parse(spec)
    if path == STDOUT or (os.path.exists(path) and not os.path.isfile(path)):  # noqa: PTH110, PTH113
        return None
    if name in EXTENSIONS:
        return SqliteProjection(path, mode, mark)
    make = FORMATS[name]
    if make().appendable:
        safe = safe and name == Csv.name
        return LinesProjection(path, partial(_layout, name), mode, safe=safe)
    return WholeProjection(path, make, mode)


def check_distinct(specs: Iterable[str | os.PathLike[str]]) -> None:
    """Raise UsageError if two of `specs` lead to the same file, also by way of a link."""
    seen: dict[str, str] = {}
    for spec in specs:
        path, _ = _parse(spec)
        target = path if path == STDOUT else os.path.realpath(path)
        if target in seen:
            raise UsageError(
                f"the outputs {seen[target]} and {os.fspath(spec)} are the same file; "
                "give each export its own"
            )
        seen[target] = os.fspath(spec)


def escape_formulas(outputs: Iterable[Export]) -> None:
    """Have the CSV files among `outputs`, none of them opened yet, written for spreadsheets."""
    for output in outputs:
        if isinstance(output, FileExport) and isinstance(output.layout, Csv):
            output.layout.safe = True


def _layout(name: str, safe: bool) -> Format:
    layout = FORMATS[name]()
    if isinstance(layout, Csv):
        layout.safe = safe
    return layout


def _parse(spec: str | os.PathLike[str]) -> tuple[str, str]:
    text = os.fspath(spec)
    path, colon, name = text.rpartition(":")
    if not colon or "." in name or os.sep in name:
        path, name = text, _extension(text)
    if not path:
        raise UsageError(f"the output {text!r} names no file")
    if name.lower() not in (*FORMATS, *EXTENSIONS):
        raise UsageError(_unknown(text, name))
    return path, name.lower()


def _extension(path: str) -> str:
    return "jsonl" if path == STDOUT else PurePath(path).suffix.removeprefix(".")


def _unknown(spec: str, name: str) -> str:
    what = f"has the unknown format {name!r}" if name else "has no extension that names a format"
    known = ", ".join(sorted((*FORMATS, *EXTENSIONS)))
    return f"the output {spec} {what}; known: {known}, as in FILE:csv"
