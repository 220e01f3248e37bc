"""JSON Lines: an item a line, in UTF-8."""

from __future__ import annotations

from typing import BinaryIO, ClassVar

from scrapekit.exports.base import Warn
from scrapekit.items import encode_json


class JsonLines:
    """JSON Lines (jsonlines.org): what was written is usable at any moment, and can be added to."""

    name: ClassVar[str] = "jsonl"
    appendable: ClassVar[bool] = True

    def resume(self, _file: BinaryIO) -> None:
        """Any complete line will do; the ones before are not read."""

    def encode(self, item: object, _number: int, _warn: Warn) -> bytes:
        return encode_json(item) + b"\n"

    def tail(self) -> bytes:
        return b""
