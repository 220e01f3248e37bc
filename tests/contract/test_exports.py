"""What every export keeps, whatever its format."""

from __future__ import annotations

import asyncio
import csv
import errno
import gc
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from scrapekit.errors import ItemError, OutputError
from scrapekit.exports import FORMATS, FileExport, Mode
from scrapekit.exports.sink import BUFFER_BYTES

# What a pipe holds before its writer has to wait (Linux).
PIPE_BYTES = 64 * 1024


def read_jsonl(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def read_csv(text: str) -> list[dict[str, Any]]:
    rows = csv.DictReader(text.splitlines(keepends=True))
    return [
        {name: int(cell) if cell.isdigit() else cell for name, cell in row.items()} for row in rows
    ]


READERS: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "jsonl": read_jsonl,
    "json": json.loads,
    "csv": read_csv,
}

appendable = pytest.mark.parametrize("layout", ["jsonl", "csv"])


@pytest.fixture(params=list(READERS))
def layout(request: pytest.FixtureRequest) -> str:
    """The name of a format, which is its extension."""
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path, layout: str) -> Path:
    return tmp_path / f"items.{layout}"


@pytest.fixture
def fifo(tmp_path: Path, layout: str) -> Path:
    made = tmp_path / f"pipe.{layout}"
    os.mkfifo(made)
    return made


def export_to(path: Path, mode: Mode = "new") -> FileExport:
    return FileExport(str(path), FORMATS[path.suffix[1:]](), mode=mode)


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return READERS[path.suffix[1:]](file.read())


def items(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"n": n, "text": f"caf\xe9 {n}"} for n in range(start, start + count)]


async def refusal(export: FileExport) -> str:
    """Both look alike: what `check` says beforehand, and `open` at last."""
    with pytest.raises(OutputError) as checked:
        await export.check()
    with pytest.raises(OutputError) as opened:
        await export.open()
    assert str(checked.value) == str(opened.value)
    assert checked.value.path == export.path
    assert "\n" not in str(checked.value)
    return str(checked.value)


def test_the_suite_knows_every_format() -> None:
    assert {make().name for make in FORMATS.values()} == set(READERS)


async def test_items_come_out_as_they_went_in(path: Path) -> None:
    async with export_to(path) as export:
        assert await export.write(items(2)) == []
        assert await export.write(items(1, start=2)) == []

    assert read(path) == items(3)
    assert export.count == 3


@pytest.mark.parametrize("mode", ["new", "overwrite"])
async def test_without_items_the_file_is_empty_but_valid(path: Path, mode: Mode) -> None:
    async with export_to(path, mode) as export:
        await export.write([])

    assert read(path) == []


async def test_the_repr_tells_state_and_count(path: Path) -> None:
    export = export_to(path)
    assert repr(export) == f"<{path.suffix[1:]} export to {path}, not opened, 0 items>"
    await export.open()
    await export.write(items(2))
    assert repr(export) == f"<{path.suffix[1:]} export to {path}, open, 2 items>"
    await export.aclose()
    assert repr(export) == f"<{path.suffix[1:]} export to {path}, closed, 2 items>"


async def test_closing_again_changes_nothing(path: Path) -> None:
    async with export_to(path) as export:
        await export.write(items(2))
        await export.aclose()
        await export.aclose()

    assert read(path) == items(2)


async def test_closing_what_was_never_opened_touches_nothing(path: Path) -> None:
    await export_to(path).aclose()

    assert not path.exists()


async def test_an_export_is_written_between_opening_and_closing_only(path: Path) -> None:
    export = export_to(path)
    with pytest.raises(OutputError, match="it is not opened yet"):
        await export.write(items(1))
    async with export:
        with pytest.raises(OutputError, match="it was opened before"):
            await export.open()
    with pytest.raises(OutputError, match="it is closed"):
        await export.write(items(1))
    with pytest.raises(OutputError, match="it was opened before"):
        await export.open()


@pytest.mark.parametrize("bad_at", [0, 1, 2])
async def test_an_item_that_cannot_be_written_costs_itself_alone(path: Path, bad_at: int) -> None:
    page = items(3)
    page[bad_at]["text"] = 1j

    async with export_to(path) as export:
        [error] = await export.write(page)

    assert read(path) == [item for item in items(3) if item["n"] != bad_at]
    assert export.count == 2
    assert (error.output, error.item_type) == (str(path), "dict")
    assert str(error) == (
        f"{path}: an item of type dict can't be written: "
        "field 'text': a value of type complex has no JSON form"
    )


async def test_a_lone_surrogate_costs_nothing(path: Path) -> None:
    async with export_to(path) as export:
        assert await export.write([{"n": 0, "text": "\udc80"}, *items(1, start=1)]) == []

    written = read(path)
    assert written[0]["text"] in ("\udc80", "\\udc80")
    assert written[1:] == items(1, start=1)


async def test_writes_of_many_tasks_keep_the_order_of_the_calls(path: Path) -> None:
    async def write(start: int) -> list[ItemError]:
        return await export.write(items(500, start))

    async with export_to(path) as export, asyncio.TaskGroup() as group:
        for page in range(40):
            group.create_task(write(page * 500))

    assert read(path) == items(20_000)


async def test_an_export_leaves_nothing_behind(
    path: Path, no_async_leaks: Callable[[], Any]
) -> None:
    async with no_async_leaks():
        export = export_to(path)
        await export.check()
        async with export:
            await export.write(items(10))


async def test_a_refused_export_leaves_nothing_behind(
    path: Path, no_async_leaks: Callable[[], Any]
) -> None:
    path.mkdir()
    async with no_async_leaks():
        await refusal(export_to(path))


async def test_an_export_that_is_never_closed_is_warned_about_and_still_written(
    path: Path,
) -> None:
    exports = [export_to(path)]
    await exports[0].open()
    await exports[0].write(items(2))
    thread = exports[0]._sink._thread  # type: ignore[union-attr]

    with pytest.warns(ResourceWarning, match="unclosed <"):
        forget(exports)

    thread.join()
    assert read(path) == items(2)


def forget(exports: list[FileExport]) -> None:
    exports.clear()
    gc.collect()


async def test_a_file_that_holds_data_is_refused_and_kept(path: Path) -> None:
    path.write_text("precious\n")

    message = await refusal(export_to(path))

    assert message.startswith(f"can't write {path}: the file holds data; overwrite it with -O")
    assert ("--append" in message) == FORMATS[path.suffix[1:]]().appendable
    assert path.read_text() == "precious\n"


async def test_an_empty_file_may_be_filled(path: Path) -> None:
    path.touch()

    async with export_to(path) as export:
        await export.write(items(1))

    assert read(path) == items(1)


@pytest.mark.parametrize("mode", ["new", "overwrite", "append"])
async def test_a_file_that_another_export_writes_is_left_alone(
    path: Path, mode: Mode, no_async_leaks: Callable[[], Any]
) -> None:
    async with no_async_leaks(), export_to(path) as first:
        second = export_to(path, mode)
        with pytest.raises(OutputError, match=r"another crawl is writing it|nothing can be added"):
            await second.open()
        await first.write(items(2))

    assert read(path) == items(2)


async def test_a_file_that_was_filled_after_it_was_checked_is_refused_and_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with export_to(path) as first:
        await first.write(items(2))
    second = export_to(path)
    monkeypatch.setattr(second, "_check", lambda: None)

    with pytest.raises(OutputError, match="the file holds data"):
        await second.open()

    assert read(path) == items(2)


async def test_overwriting_leaves_nothing_of_the_old_file(path: Path) -> None:
    path.write_text("old\n" * 1000)

    async with export_to(path, "overwrite") as export:
        await export.write(items(1))

    assert read(path) == items(1)


async def test_checking_touches_nothing(path: Path) -> None:
    export = export_to(path, "overwrite")
    await export.check()
    assert not path.exists()

    path.write_text("precious\n")
    await export.check()
    assert path.read_text() == "precious\n"


async def test_a_missing_directory_is_named(path: Path) -> None:
    nowhere = path.parent / "nowhere" / path.name

    assert await refusal(export_to(nowhere)) == (
        f"can't write {nowhere}: the directory {nowhere.parent} does not exist; create it first"
    )


async def test_a_file_in_place_of_the_directory_is_named(path: Path) -> None:
    path.touch()

    assert await refusal(export_to(path / path.name)) == (
        f"can't write {path / path.name}: the directory {path} is not a directory; create it first"
    )


async def test_a_directory_is_no_output(path: Path) -> None:
    path.mkdir()

    assert await refusal(export_to(path, "overwrite")) == (
        f"can't write {path}: this is a directory; name a file"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_missing_permissions_are_named(path: Path) -> None:
    path.touch(mode=0o400)
    assert "you may not write this file" in await refusal(export_to(path, "overwrite"))

    path.unlink()
    path.parent.chmod(0o500)
    assert "you may not create files in" in await refusal(export_to(path))


async def test_what_only_the_system_can_tell_is_told_too(path: Path) -> None:
    endless = path.with_stem("x" * 300)

    with pytest.raises(OutputError, match=r"can't write .*: File name too long") as caught:
        await export_to(endless).open()

    assert isinstance(caught.value.__cause__, OSError)


@appendable
async def test_appending_goes_on_where_the_file_ends(path: Path) -> None:
    for start in (0, 2):
        async with export_to(path, "append") as export:
            assert await export.write(items(2, start)) == []

    assert read(path) == items(4)


@appendable
async def test_nothing_is_appended_to_a_torn_line(path: Path) -> None:
    path.write_text("torn")

    with pytest.raises(OutputError) as caught:
        await export_to(path, "append").open()

    assert str(caught.value) == (
        f"can't append to {path}: its last line is not finished; complete or delete that line first"
    )
    assert path.read_text() == "torn"


@pytest.mark.parametrize("layout", ["json"])
async def test_nothing_is_appended_to_an_array(path: Path) -> None:
    assert await refusal(export_to(path, "append")) == (
        f"can't write {path}: nothing can be added to .json; use .jsonl instead"
    )


async def test_the_position_is_where_the_next_item_starts(path: Path) -> None:
    export = export_to(path)
    assert export.position == 0
    async with export:
        await export.write(items(2))
        before = export.position
        await export.write(items(1, start=2))

    assert export.position == path.stat().st_size
    assert b'"n":1' not in path.read_bytes()[before:]
    assert b"caf\xc3\xa9 2" in path.read_bytes()[before:]


@appendable
async def test_the_position_counts_what_the_file_held(path: Path) -> None:
    async with export_to(path) as export:
        await export.write(items(2))
    async with export_to(path, "append") as following:
        assert following.position == export.position
        await following.write(items(2))

    assert following.position == path.stat().st_size


@asynccontextmanager
async def full_disk(layout: str) -> AsyncIterator[FileExport]:
    export = FileExport("/dev/full", FORMATS[layout]())
    await export.open()
    try:
        yield export
    finally:
        with suppress(OutputError):
            await export.aclose()


async def test_a_full_disk_is_told_when_closing(layout: str) -> None:
    async with full_disk(layout) as export:
        export.write_nowait(items(1))
        with pytest.raises(OutputError, match="can't write /dev/full: the disk is full") as caught:
            await export.aclose()

        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.ENOSPC
        assert not caught.value.broken_pipe


async def test_a_full_disk_is_told_to_who_waits_and_to_every_later_write(layout: str) -> None:
    async with full_disk(layout) as export:
        export.write_nowait(items(BUFFER_BYTES // 10))
        for _ in range(2):
            with pytest.raises(OutputError, match="the disk is full"):
                await export.room()
            with pytest.raises(OutputError, match="the disk is full"):
                await export.write(items(1))


async def test_what_a_write_has_told_is_not_told_again_when_closing(layout: str) -> None:
    async with full_disk(layout) as export:
        export.write_nowait(items(BUFFER_BYTES // 10))
        with pytest.raises(OutputError):
            await export.room()

        await export.aclose()


class Reader:
    """The other end of a named pipe, which reads when it is told to."""

    def __init__(self, fifo: Path) -> None:
        self._fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(self._fd, True)

    async def some(self) -> bytes:
        return await asyncio.to_thread(os.read, self._fd, PIPE_BYTES)

    async def rest(self) -> bytes:
        return b"".join([part async for part in self._parts()])

    async def _parts(self) -> AsyncIterator[bytes]:
        while part := await self.some():
            yield part

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@pytest.fixture
def reader(fifo: Path) -> Any:
    made = Reader(fifo)
    yield made
    made.close()


# More than the pipe and the buffer hold, so that some of it stays unwritten till it is read.
FLOOD = items((PIPE_BYTES + BUFFER_BYTES) // 10)


async def rounds() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_items_stream_to_the_reader_before_the_end(fifo: Path, reader: Reader) -> None:
    async with export_to(fifo) as export:
        await export.write(items(1))
        seen = b""
        while b"caf\xc3\xa9 0" not in seen:
            seen += await reader.some()


async def test_a_writer_waits_while_too_much_is_unwritten(fifo: Path, reader: Reader) -> None:
    export = export_to(fifo)
    await export.open()
    writing = asyncio.create_task(export.write(FLOOD))
    await rounds()
    assert not writing.done()

    received, _ = await asyncio.gather(reader.rest(), close_after(writing, export))

    assert READERS[fifo.suffix[1:]](received.decode()) == FLOOD


async def close_after(writing: asyncio.Task[Any], export: FileExport) -> None:
    with suppress(asyncio.CancelledError):
        await writing
    await export.aclose()


async def test_a_cancelled_write_has_accepted_everything(fifo: Path, reader: Reader) -> None:
    export = export_to(fifo)
    await export.open()
    writing = asyncio.create_task(export.write(FLOOD))
    await rounds()
    writing.cancel()
    following = asyncio.create_task(export.write(items(1, start=len(FLOOD))))
    await rounds()

    received, _ = await asyncio.gather(reader.rest(), close_after(following, export))

    assert writing.cancelled()
    assert READERS[fifo.suffix[1:]](received.decode()) == items(len(FLOOD) + 1)


async def test_closing_waits_for_a_slow_reader(fifo: Path, reader: Reader) -> None:
    export = export_to(fifo)
    await export.open()
    export.write_nowait(FLOOD)
    closing = asyncio.create_task(export.aclose())
    await rounds()
    assert not closing.done()

    received, _ = await asyncio.gather(reader.rest(), closing)

    assert READERS[fifo.suffix[1:]](received.decode()) == FLOOD


async def test_cancelled_closing_ends_though_nobody_reads(
    fifo: Path, reader: Reader, no_async_leaks: Callable[[], Any]
) -> None:
    async with no_async_leaks():
        export = export_to(fifo)
        await export.open()
        export.write_nowait(FLOOD)
        closing = asyncio.create_task(export.aclose())
        await rounds()
        closing.cancel()

        with pytest.raises(asyncio.CancelledError):
            await closing

        with pytest.raises(OutputError, match="its reader took nothing"):
            await export.aclose()


async def test_closing_in_a_cancelled_scope_ends_though_nobody_reads(
    fifo: Path, reader: Reader
) -> None:
    export = export_to(fifo)
    await export.open()
    export.write_nowait(FLOOD)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await export.aclose()

    assert scope.cancelled_caught


async def test_cancelled_closing_still_completes_a_file(path: Path) -> None:
    export = export_to(path)
    await export.open()
    export.write_nowait(FLOOD)
    closing = asyncio.create_task(export.aclose())
    await asyncio.sleep(0)
    closing.cancel()

    await asyncio.wait({closing})

    assert read(path) == FLOOD


async def test_several_may_close_at_the_same_time(path: Path) -> None:
    export = export_to(path)
    await export.open()
    export.write_nowait(FLOOD)

    await asyncio.gather(export.aclose(), export.aclose())

    assert read(path) == FLOOD


async def test_a_reader_that_has_gone_is_a_broken_pipe(fifo: Path, reader: Reader) -> None:
    export = export_to(fifo)
    await export.open()
    reader.close()
    export.write_nowait(items(1))

    with pytest.raises(OutputError, match="its reader has gone") as caught:
        await export.aclose()

    assert caught.value.broken_pipe
    assert isinstance(caught.value.__cause__, BrokenPipeError)


async def test_a_pipe_that_nobody_reads_is_refused_at_once(fifo: Path) -> None:
    with pytest.raises(OutputError, match="it is a pipe that nobody reads; start its reader first"):
        await export_to(fifo).open()


async def test_standard_output_gets_the_items(
    layout: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with FileExport("-", FORMATS[layout]()) as export:
        await export.write(items(2))

    assert READERS[layout](capfd.readouterr().out) == items(2)


async def test_standard_output_that_is_no_file_is_refused(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", None)

    with pytest.raises(OutputError, match="can't write standard output: standard output is no"):
        await FileExport("-", FORMATS[layout]()).open()
