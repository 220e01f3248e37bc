from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scrapekit.exports import base, open_spec
from scrapekit.exports.files import OutputFile
from scrapekit.exports.sink import Sink


async def opened(path: str, *, limit_bytes: int = 10) -> Sink:
    sink = Sink(partial(OutputFile, path, "new"), limit_bytes=limit_bytes)
    await sink.start()
    return sink


async def test_bytes_are_written_in_order(tmp_path: Path) -> None:
    sink = await opened(str(tmp_path / "out"))
    for number in range(1000):
        sink.push(b"%d\n" % number)
        await sink.room()

    await sink.aclose()

    written = (tmp_path / "out").read_bytes()
    assert written == b"".join(b"%d\n" % number for number in range(1000))


async def test_the_repr_tells_state_and_backlog() -> None:
    sink = await opened("/dev/null")
    assert repr(sink) == "<Sink open, 0 bytes to write>"
    sink.push(b"x" * 10)
    await sink.aclose()
    assert repr(sink) == "<Sink closed, 0 bytes to write>"

    sink = await opened("/dev/full")
    sink.push(b"x" * 10)
    await sink.aclose()
    assert repr(sink) == "<Sink failed, 10 bytes to write>"


async def test_nothing_pushed_is_no_end() -> None:
    sink = await opened("/dev/null")

    sink.push(b"")
    sink.push(b"x" * 20)

    await sink.room()
    assert sink.failure is None
    await sink.aclose()


async def test_cancelled_opening_leaves_nothing_open(
    tmp_path: Path, no_async_leaks: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    may_open = threading.Event()

    def slowly(*args: Any) -> OutputFile:
        may_open.wait()
        return OutputFile(*args)

    monkeypatch.setattr(base, "OutputFile", slowly)
    async with no_async_leaks():
        export = open_spec(tmp_path / "items.csv")
        opening = asyncio.create_task(export.open())
        await asyncio.sleep(0)
        opening.cancel()
        may_open.set()

        with pytest.raises(asyncio.CancelledError):
            await opening

        await export.aclose()


@pytest.mark.parametrize("waiters", [1, 5])
async def test_whoever_waits_for_room_learns_of_a_failure(waiters: int) -> None:
    sink = await opened("/dev/full")
    sink.push(b"x" * 100)

    await asyncio.gather(*[sink.room() for _ in range(waiters)])

    assert isinstance(sink.failure, OSError)
    await sink.aclose()
