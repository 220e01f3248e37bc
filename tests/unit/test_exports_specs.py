from __future__ import annotations

from pathlib import Path

import pytest

from scrapekit.errors import UsageError
from scrapekit.exports import check_distinct, open_spec


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("items.jsonl", "jsonl export to items.jsonl"),
        ("items.ndjson", "jsonl export to items.ndjson"),
        ("items.jl", "jsonl export to items.jl"),
        ("items.json", "json export to items.json"),
        ("items.csv", "csv export to items.csv"),
        ("ITEMS.CSV", "csv export to ITEMS.CSV"),
        ("out/2026.01.02.csv", "csv export to out/2026.01.02.csv"),
        ("items.txt:csv", "csv export to items.txt"),
        ("items.json:jsonl", "jsonl export to items.json"),
        ("items:CSV", "csv export to items"),
        ("/dev/stdout:json", "json export to /dev/stdout"),
        ("12:30.csv", "csv export to 12:30.csv"),
        ("a:b/items.csv", "csv export to a:b/items.csv"),
        ("a:b:csv", "csv export to a:b"),
        ("-", "jsonl export to -"),
        ("-:csv", "csv export to -"),
        (Path("items.csv"), "csv export to items.csv"),
    ],
)
def test_a_spec_names_file_and_format(spec: str | Path, shown: str) -> None:
    assert repr(open_spec(spec)) == f"<{shown}, not opened, 0 items>"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("items.xml", "the output items.xml has the unknown format 'xml'; known: csv, db, jl"),
        ("items.csv:xml", "the output items.csv:xml has the unknown format 'xml'; known: csv,"),
        ("items.csv.gz", "the output items.csv.gz has the unknown format 'gz'; known: csv,"),
        ("items", "the output items has no extension that names a format; known: csv, db, jl"),
        ("items:", "the output items: has no extension that names a format; known: csv, db,"),
        ("", "the output '' names no file"),
        (":csv", "the output ':csv' names no file"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_spec(spec)

    assert str(caught.value).startswith(message)


def test_a_spec_touches_no_file(tmp_path: Path) -> None:
    open_spec(str(tmp_path / "nowhere" / "items.csv"), mode="overwrite")

    assert list(tmp_path.iterdir()) == []


def test_different_files_are_distinct(tmp_path: Path) -> None:
    check_distinct([tmp_path / "items.csv", tmp_path / "items.jsonl", "-"])


def test_one_file_by_two_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)

    with pytest.raises(UsageError, match=r"link/items\.txt:csv are the same file; give each"):
        check_distinct([f"{tmp_path}/items.txt:jsonl", f"{tmp_path}/link/items.txt:csv"])


def test_standard_output_can_be_had_once() -> None:
    with pytest.raises(UsageError, match="the outputs - and -:csv are the same file"):
        check_distinct(["-", "-:csv"])
