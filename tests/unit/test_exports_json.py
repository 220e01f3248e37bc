from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest

from scrapekit.exports import FileExport
from scrapekit.exports.json import JsonArray
from scrapekit.exports.jsonl import JsonLines


def whole(*items: object) -> bytes:
    layout = JsonArray()
    parts = [layout.encode(item, n, pytest.fail) for n, item in enumerate(items, 1)]
    return b"".join(parts) + layout.tail()


def test_an_array_has_an_item_a_line() -> None:
    assert whole({"a": 1}, {"a": 2}) == b'[\n{"a":1},\n{"a":2}\n]\n'


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_an_array_is_valid_whatever_its_length(count: int) -> None:
    assert json.loads(whole(*[{}] * count)) == [{}] * count


def test_an_item_that_cannot_be_written_leaves_no_comma() -> None:
    layout = JsonArray()
    with pytest.raises(TypeError):
        layout.encode({"a": 1j}, 1, pytest.fail)

    assert layout.encode({}, 1, pytest.fail) + layout.tail() == b"[\n{}\n]\n"


def test_a_line_of_json_lines_is_complete() -> None:
    assert JsonLines().encode({"a": "x\ny"}, 1, pytest.fail) == b'{"a":"x\\ny"}\n'


@pytest.mark.parametrize("failing", [ValueError, asyncio.CancelledError])
async def test_an_array_is_closed_though_the_crawl_failed(
    tmp_path: Path, failing: type[BaseException]
) -> None:
    path = tmp_path / "items.json"

    with suppress(failing):
        async with FileExport(str(path), JsonArray()) as export:
            await export.write([{"a": 1}])
            raise failing

    assert json.loads(path.read_bytes()) == [{"a": 1}]
