"""Naughty strings and spreadsheet formulas through every export."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrapekit.exports import FORMATS, FileExport, escape_formulas
from scrapekit.exports.csv import Csv

FORMULA = ("=", "+", "-", "@", "\t", "\r")


@pytest.fixture(scope="module")
def naughty(vectors: Path) -> list[str]:
    loaded: list[str] = json.loads((vectors / "fuzz" / "blns.json").read_text("utf-8"))
    return loaded


@pytest.fixture(scope="module")
def formulas(vectors: Path) -> list[str]:
    return (vectors / "fuzz" / "csv_injection_payloads.txt").read_text("utf-8").splitlines()


async def written(tmp_path: Path, name: str, items: list[dict[str, Any]], *, safe: bool) -> str:
    path = tmp_path / f"items.{name}"
    export = FileExport(str(path), FORMATS[name](), mode="new")
    if safe:
        escape_formulas([export])
    async with export:
        assert await export.write(items) == []
    return path.read_bytes().decode("utf-8")


def read_csv(text: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


READERS: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "jsonl": lambda text: [json.loads(line) for line in text.split("\n")[:-1]],
    "json": json.loads,
    "csv": read_csv,
}


def test_every_format_is_read_back() -> None:
    assert {make().name for make in FORMATS.values()} == set(READERS)


@pytest.mark.parametrize("name", READERS)
async def test_naughty_strings_make_the_round_trip(
    tmp_path: Path, naughty: list[str], formulas: list[str], name: str
) -> None:
    texts = [*naughty, *formulas]
    assert len(texts) > 500
    items = [{"n": str(number), "text": text} for number, text in enumerate(texts)]
    text = await written(tmp_path, name, items, safe=False)
    assert READERS[name](text) == items


@pytest.mark.parametrize("name", ["jsonl", "json"])
async def test_naughty_strings_are_names_of_fields_too(
    tmp_path: Path, naughty: list[str], name: str
) -> None:
    items = [{text: text} for text in naughty]
    assert READERS[name](await written(tmp_path, name, items, safe=False)) == items


async def test_no_cell_of_a_safe_csv_file_is_a_formula(
    tmp_path: Path, naughty: list[str], formulas: list[str]
) -> None:
    texts = [*naughty, *formulas]
    items = [{"=cmd()": text, "n": -1} for text in texts]
    text = await written(tmp_path, "csv", items, safe=True)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == ["'=cmd()", "n"]
    assert not any(row[0].lstrip(" ").startswith(FORMULA) for row in rows)
    assert {row[1] for row in rows[1:]} == {"-1"}
    # An apostrophe is all that is added.
    assert [row[0].removeprefix("'") for row in rows[1:]] == [t.removeprefix("'") for t in texts]


async def test_every_formula_is_escaped(tmp_path: Path, formulas: list[str]) -> None:
    starting = [formula for formula in formulas if formula.startswith(FORMULA)]
    assert len(starting) >= 4
    text = await written(tmp_path, "csv", [{"a": formula} for formula in starting], safe=True)
    assert [row["a"] for row in read_csv(text)] == [f"'{formula}" for formula in starting]


async def test_a_safe_csv_file_can_be_continued(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    for number in range(2):
        layout = Csv()
        layout.safe = True
        async with FileExport(str(path), layout, mode="append") as export:
            assert await export.write([{"=a": f"=x{number}", "b": "2;=3"}]) == []
    expected = '"\'=a","b"\n"\'=x0","2;=3"\n"\'=x1","2;=3"\n'
    assert path.read_text() == expected
