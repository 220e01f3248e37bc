"""CSV (RFC 4180): a header, then a row an item, in UTF-8 with plain newlines.

The columns are the fields of the first item that is written, or the header of the file that is
continued. A later item may lack some: their cells are empty. Fields that it has on top can't be
written any more; its row is, and each such field is complained about once.

A cell says what the item says, also if a spreadsheet takes that for a formula: most readers of CSV
are programs, and "-1" is no attack. `Csv.safe` writes for spreadsheets instead.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import BinaryIO, ClassVar, Final, Literal

from scrapekit.exports.base import Warn
from scrapekit.items import as_dict, encode_value

# Items with made-up field names would fill the report, and memory, without end.
MAX_COMPLAINTS = 100


# What spreadsheets take for the beginning of a formula (OWASP, CSV Injection), and what they skip
# or translate on the way there.
_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Csv:
    """Rows under the columns of the first item.

    With `safe`, texts that a spreadsheet would run get an apostrophe in front, and all cells get
    quotes, so that a separator of another country doesn't make two of one. Numbers stay as they
    are.
    """

    name: ClassVar[str] = "csv"
    appendable: ClassVar[bool] = True

    def __init__(self) -> None:
        self.safe = False
        self._columns: list[str] = []
        self._known: set[str] = set()
        self._complaints = 0

    def resume(self, file: BinaryIO) -> None:
        try:
            text = io.TextIOWrapper(file, "utf-8-sig", newline="")
            columns = next(csv.reader(text, strict=True))
            text.detach()
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"its header can't be read ({error})") from error
        if not columns:
            raise ValueError("its first line is empty where the header should be")
        self._set_columns([_unescaped(name) for name in columns] if self.safe else columns)

    def encode(self, item: object, number: int, warn: Warn) -> bytes:
        fields = _fields(item)
        columns = self._columns or list(fields)
        if not columns:
            raise TypeError("it has no fields, so it can't give the header its columns")
        data = self._row([_cell(name, fields.get(name), safe=self.safe) for name in columns])
        if not self._columns:
            self._set_columns(columns)
            return self._row([_escaped(name) for name in columns] if self.safe else columns) + data
        if not self._known.issuperset(fields):
            self._complain(fields, number, warn)
        return data

    def tail(self) -> bytes:
        return b""

    def _row(self, cells: list[str]) -> bytes:
        return _row(cells, csv.QUOTE_ALL if self.safe else csv.QUOTE_MINIMAL)

    def _set_columns(self, columns: list[str]) -> None:
        self._columns = columns
        self._known = set(columns)

    def _complain(self, names: Iterable[str], number: int, warn: Warn) -> None:
        for name in names:
            if name in self._known or self._complaints > MAX_COMPLAINTS:
                continue
            self._complaints += 1
            if self._complaints > MAX_COMPLAINTS:
                warn("still more fields that are no columns; they are not listed any longer")
                return
            self._known.add(name)
            warn(
                f"field {name!r} first appeared in item {number}, after the header was written: "
                "its values are left out; write .jsonl, or yield all fields from the first item on"
            )


def cell(value: object) -> str:
    """The text of one cell: JSON's text for what is no text, "" for None, floats as they are.

    Raises TypeError if `value` has no JSON form.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    text = encode_value(value).decode()
    # Dates, Decimals, UUIDs and the like are JSON strings; the quotes are not part of them.
    return str(json.loads(text)) if text.startswith('"') else text


def _fields(item: object) -> dict[str, object]:
    try:
        return as_dict(item)
    except Exception as error:
        raise TypeError(str(error) or type(error).__name__) from error


def _cell(name: str, value: object, *, safe: bool) -> str:
    try:
        text = cell(value)
    except TypeError as error:
        raise TypeError(f"field {name!r}: {error}") from error
    return _escaped(text) if safe and not isinstance(value, (int, float, Decimal)) else text


def _escaped(text: str) -> str:
    return f"'{text}" if text.lstrip(" ").startswith(_STARTS) else text


def _unescaped(text: str) -> str:
    return text[1:] if text.startswith("'") and _escaped(text[1:]) == text else text


def _row(cells: list[str], quoting: Literal[0, 1]) -> bytes:
    line = io.StringIO()
    # The writer quotes the characters of its own line ending only; a bare "\r" in a cell would
    # end the row for most readers.
    csv.writer(line, lineterminator="\r\n", quoting=quoting).writerow(cells)
    return line.getvalue()[:-2].encode("utf-8", "backslashreplace") + b"\n"
