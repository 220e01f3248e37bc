"""JSON: one array, an item a line, written as the items come."""

from __future__ import annotations

from typing import BinaryIO, ClassVar

from scrapekit.exports.base import Warn
from scrapekit.items import encode_json


class JsonArray:
    """A JSON array (RFC 8259). It is valid JSON only once it is closed, so nothing can be added."""

    name: ClassVar[str] = "json"
    appendable: ClassVar[bool] = False

    def __init__(self) -> None:
        self._before_item = b"[\n"

    def resume(self, _file: BinaryIO) -> None:
        raise ValueError("a JSON array can't be continued; use .jsonl instead")

    def encode(self, item: object, _number: int, _warn: Warn) -> bytes:
        data = self._before_item + encode_json(item)
        self._before_item = b",\n"
        return data

    def tail(self) -> bytes:
        return b"[\n]\n" if self._before_item == b"[\n" else b"\n]\n"
