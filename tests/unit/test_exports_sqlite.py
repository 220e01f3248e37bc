from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from scrapekit.errors import OutputError, UsageError
from scrapekit.exports import Mode, SqliteExport, open_spec
from scrapekit.exports.sqlite import MAX_COLUMNS, SqliteFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "items.sqlite"


async def write(path: Path, *items: object, mode: Mode = "new") -> SqliteExport:
    export = SqliteExport(str(path), mode=mode)
    async with export:
        assert await export.write(items) == []
    return export


def rows(path: Path, columns: str = "*") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(f"SELECT {columns} FROM items").fetchall()


@dataclasses.dataclass
class Product:
    name: str
    price: float
    seen: date


async def test_the_columns_are_the_fields(path: Path) -> None:
    export = await write(path, Product("tea", 1.5, date(2026, 1, 2)), {"name": "jam", "stock": 3})

    assert rows(path, "name, price, seen, stock") == [
        ("tea", 1.5, "2026-01-02", None),
        ("jam", None, None, 3),
    ]
    assert export.count == 2
    assert repr(export) == f"<sqlite export to {path}, closed, 2 items>"


VALUES = [
    ("text", "text"),
    ("", ""),
    ("a \u2028 b \x85 \x0b \n \r\n", "a \u2028 b \x85 \x0b \n \r\n"),
    ("nul \0 inside", "nul \0 inside"),
    ("\udc80", "\\udc80"),
    (1, 1),
    (2**62, 2**62),
    (2**63 - 1, 2**63 - 1),
    (-(2**63), -(2**63)),
    (10**30, str(10**30)),
    (1.5, 1.5),
    (float("nan"), None),
    (True, 1),
    (False, 0),
    (None, None),
    ([1, "a", None], '[1,"a",null]'),
    ({"a": {"b": 1}}, '{"a":{"b":1}}'),
]


@pytest.mark.parametrize(("value", "kept"), VALUES)
async def test_values_are_kept_as_what_they_are(path: Path, value: object, kept: object) -> None:
    await write(path, {"a": value})

    assert rows(path, "a") == [(kept,)]


NAMES = ["a b", "Ä", 'quo"te', "semi;colon", "$.x", "a.b", "[0]", "select", "", "\udc80", "nul\0"]


@pytest.mark.parametrize("name", NAMES)
async def test_any_field_name_will_do(path: Path, name: str) -> None:
    await write(path, {name: 1, "b": 2}, {name: 3})

    assert [(row[1], row[2]) for row in rows(path)] == [(1, 2), (3, None)]


async def test_names_that_differ_in_case_alone_are_told_apart(path: Path) -> None:
    await write(path, {"name": 1, "Name": 2, "ID": 3, "id": 4})
    await write(path, {"Name": 5, "name": 6, "id": 7}, mode="append")

    assert rows(path, "name, Name_2, ID_2, id_3") == [(1, 2, 3, 4), (6, 5, None, 7)]


async def test_items_without_fields_are_rows(path: Path) -> None:
    await write(path, {}, {})

    assert rows(path) == [(1,), (2,)]


async def test_made_up_fields_come_to_an_end(path: Path) -> None:
    await write(path, *({f"f{n}": n} for n in range(MAX_COLUMNS + 5)))

    assert len(rows(path)) == MAX_COLUMNS + 5
    assert len(rows(path)[0]) == MAX_COLUMNS + 1


async def test_nothing_written_is_an_empty_table(path: Path) -> None:
    await write(path)

    assert rows(path) == []


async def test_a_file_that_holds_data_is_refused_overwritten_or_added_to(path: Path) -> None:
    await write(path, {"a": 1})
    with pytest.raises(OutputError, match="the file holds data"):
        await write(path, {"a": 2})
    await write(path, {"a": 2}, mode="append")
    assert rows(path, "a") == [(1,), (2,)]

    await write(path, {"a": 3}, mode="overwrite")

    assert rows(path, "a") == [(3,)]


async def test_nothing_is_added_to_what_is_no_database(path: Path) -> None:
    path.write_text("precious" * 10)

    with pytest.raises(OutputError, match="it is no SQLite database"):
        await write(path, {"a": 2}, mode="append")

    assert path.read_text() == "precious" * 10


async def test_a_database_that_another_crawl_writes_is_left_alone(path: Path) -> None:
    async with SqliteExport(str(path)) as first:
        await first.write([{"a": 1}])
        with pytest.raises(OutputError, match="another crawl is writing it"):
            await SqliteExport(str(path), mode="append").open()

    assert rows(path, "a") == [(1,)]


async def test_it_can_be_read_while_it_is_written(path: Path) -> None:
    with SqliteFile(str(path), "new") as file:
        file.write(b'{"a":1}\n{"a":2}\n', page=7)

        assert rows(path, "a") == [(1,), (2,)]
        assert (file.page, file.count) == (7, 2)


def test_a_write_that_fails_leaves_nothing(path: Path) -> None:
    with SqliteFile(str(path), "new") as file:
        file.write(b'{"a":1}\n', page=1)
        with pytest.raises(ValueError, match=r"JSON|Expecting"):
            file.write(b'{"a":2}\n{"a":\n', page=2)

        assert (file.page, file.count) == (1, 1)


def test_a_database_cant_go_to_a_pipe() -> None:
    with pytest.raises(UsageError, match="can't go to standard output"):
        open_spec("-:sqlite")
    assert isinstance(open_spec("x.db"), SqliteExport)
