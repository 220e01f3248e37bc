from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.errors import ItemError, OutputError
from scrapekit.exports import FileExport
from scrapekit.exports.csv import MAX_COMPLAINTS, Csv, cell


@dataclass
class Product:
    name: str
    price: float | None = None


def rows(*items: object) -> str:
    """What is written of items that nothing is wrong with."""
    layout = Csv()
    return b"".join(layout.encode(item, n, pytest.fail) for n, item in enumerate(items, 1)).decode()


async def append(path: Path, *items: object) -> list[ItemError]:
    async with FileExport(str(path), Csv(), mode="append") as export:
        return await export.write(items)


def test_the_header_is_the_fields_of_the_first_item_in_their_order() -> None:
    assert rows({"z": 1, "a": 2}, {"a": 4, "z": 3}) == "z,a\n1,2\n3,4\n"


def test_items_of_any_kind_share_the_columns() -> None:
    assert rows(Product("a", 1.5), {"name": "b", "price": 2}) == "name,price\na,1.5\nb,2\n"


def test_missing_fields_and_none_are_empty_cells() -> None:
    assert rows({"a": 1, "b": None}, {"b": 2}) == "a,b\n1,\n,2\n"


def test_a_row_whose_only_cell_is_empty_is_no_empty_line() -> None:
    assert rows({"a": None}, {"a": 1}) == 'a\n""\n1\n'


class Text(str):
    __slots__ = ()


class Real(float):
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("", ""),
        ("plain", "plain"),
        ('"quoted"', '"quoted"'),
        (Text("sub"), "sub"),
        (True, "true"),
        (7, "7"),
        (10**30, str(10**30)),
        (0.1, "0.1"),
        (Real(0.5), "0.5"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (Decimal("1.10"), "1.10"),
        (date(2026, 1, 2), "2026-01-02"),
        (b"\xff", "/w=="),
        ([1, "a", None], '[1,"a",null]'),
        ({"k": [1]}, '{"k":[1]}'),
        (Product("a"), '{"name":"a","price":null}'),
    ],
)
def test_values_become_the_text_of_a_cell(value: object, text: str) -> None:
    assert cell(value) == text


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_any_text_makes_the_round_trip(cells: list[str]) -> None:
    item = {f"column {n}": text for n, text in enumerate(cells)}

    header, *read = csv.reader(io.StringIO(rows(item, item), newline=""))

    assert header == list(item)
    assert read == [cells, cells]


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(), min_size=1)
)
def test_any_field_names_make_the_round_trip(item: dict[str, int]) -> None:
    header, *_ = csv.reader(io.StringIO(rows(item), newline=""))

    assert header == list(item)


def test_a_carriage_return_is_quoted_because_most_readers_end_the_row_there() -> None:
    assert rows({"a": "x\ry", "b": "x\r\ny"}) == 'a,b\n"x\ry","x\r\ny"\n'


def test_a_lone_surrogate_is_escaped() -> None:
    assert rows({"a": "\udc80"}) == "a\n\\udc80\n"


def test_an_item_without_fields_cannot_give_the_header() -> None:
    with pytest.raises(TypeError, match="it has no fields, so it can't give the header"):
        rows({})


def test_an_item_without_fields_is_a_row_of_empty_cells_later() -> None:
    assert rows({"a": 1, "b": 2}, {}) == "a,b\n1,2\n,\n"


def test_what_is_no_item_is_refused() -> None:
    with pytest.raises(TypeError, match="a value of type int is not an item"):
        rows(5)


def test_a_field_without_a_text_form_is_named_and_leaves_the_header_to_the_next_item() -> None:
    layout = Csv()

    with pytest.raises(TypeError, match="field 'b': a value of type complex has no JSON form"):
        layout.encode({"a": 1, "b": 1j}, 1, pytest.fail)

    assert layout.encode({"c": 1}, 1, pytest.fail) == b"c\n1\n"


def test_a_new_field_is_complained_about_once_and_its_row_is_written() -> None:
    layout = Csv()
    complaints: list[str] = []
    layout.encode({"name": "a"}, 1, complaints.append)

    written = [
        layout.encode({"name": "b", "price": 1}, 812, complaints.append),
        layout.encode({"name": "c", "price": 2, "tax": 3}, 813, complaints.append),
    ]

    assert written == [b"b\n", b"c\n"]
    late = "after the header was written: its values are left out"
    advice = "write .jsonl, or yield all fields from the first item on"
    assert complaints == [
        f"field 'price' first appeared in item 812, {late}; {advice}",
        f"field 'tax' first appeared in item 813, {late}; {advice}",
    ]


def test_complaints_come_to_an_end() -> None:
    layout = Csv()
    complaints: list[str] = []
    layout.encode({"name": "a"}, 1, complaints.append)

    for n in range(MAX_COMPLAINTS * 2):
        assert layout.encode({"name": "b", f"field {n}": n}, n, complaints.append) == b"b\n"

    assert len(complaints) == MAX_COMPLAINTS + 1
    assert complaints[-1].startswith("still more fields that are no columns")


async def test_the_complaint_is_an_item_error_though_the_item_counts(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"

    async with FileExport(str(path), Csv()) as export:
        [error] = await export.write([{"name": "a"}, Product("b", 1.5)])

    assert export.count == 2
    assert str(error).startswith(f"{path}: field 'price' first appeared in item 2")
    assert error.item_type == f"{__name__}.Product"


async def test_appending_keeps_the_columns_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("price,name\n1,a\n")

    [error] = await append(path, {"name": "b", "price": 2}, {"name": "c", "tax": 3})

    assert path.read_text() == "price,name\n1,a\n2,b\n,c\n"
    assert "field 'tax' first appeared in item 2" in str(error)


@pytest.mark.parametrize(
    "held",
    [b'"a b","c\nd"\r\n1,2\r\n', b'\xef\xbb\xbf"a b","c\nd"\n', b'"a b","c\nd"\n"x\n",""\n'],
    ids=["crlf", "byte order mark", "header over two lines"],
)
async def test_appending_reads_headers_as_others_write_them(tmp_path: Path, held: bytes) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(held)

    assert await append(path, {"c\nd": 4, "a b": 3}) == []

    assert path.read_bytes() == held + b"3,4\n"


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (b"caf\xe9,b\n", "its header can't be read"),
        (b'"a" b,c\n', "its header can't be read"),
        (b'"never closed\n', "its header can't be read"),
        (b"\n1,2\n", "its first line is empty where the header should be"),
    ],
)
async def test_appending_refuses_what_has_no_header(tmp_path: Path, held: bytes, why: str) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(held)

    with pytest.raises(OutputError, match=why) as caught:
        await append(path, {"a": 1})

    assert str(caught.value).startswith(f"can't append to {path}: ")
    assert path.read_bytes() == held


async def test_appending_to_an_empty_file_writes_a_header(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.touch()

    await append(path, {"a": 1})

    assert path.read_text() == "a\n1\n"


def test_any_value_can_be_a_cell() -> None:
    nested: Any = {"deep": [{"deeper": (1, {2})}]}

    assert cell(nested) == '{"deep":[{"deeper":[1,[2]]}]}'
