"""html5lib's encoding tests and the labels of the WHATWG Encoding standard."""

from __future__ import annotations

import codecs
import encodings.aliases
import json
from pathlib import Path
from typing import Any

import pytest

from scrapekit.charset import decode, detect, from_content_type, lookup, prescan

# The browsers' last resort; ours asks first whether the body is UTF-8.
FALLBACK = "cp1252"


@pytest.fixture
def folder(vectors: Path) -> Path:
    return vectors / "encoding"


def encodings_of(folder: Path) -> dict[str, list[str]]:
    groups = json.loads((folder / "whatwg_encodings.json").read_bytes())
    return {entry["name"]: entry["labels"] for group in groups for entry in group["encodings"]}


def sniffed(body: bytes) -> str:
    bom = body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return detect(body) if bom or prescan(body) else FALLBACK


def test_each_document_is_read_in_the_encoding_that_a_browser_picks(folder: Path) -> None:
    cases: list[dict[str, Any]] = json.loads((folder / "html5lib_encoding.json").read_bytes())
    wrong = [
        (case["file"], case["n"], got, case["encoding"])
        for case in cases
        if (got := sniffed(case["data_latin1"].encode("latin-1"))) != lookup(case["encoding"])
    ]
    assert wrong == []
    assert len(cases) == 82


def test_every_label_selects_the_encoding_of_its_name(folder: Path) -> None:
    for name, labels in encodings_of(folder).items():
        if name != "replacement":
            codec = lookup(name)
            assert codec is not None, name
            assert {lookup(label) for label in labels} == {codec}, name


def test_labels_count_in_any_case_and_between_white_space(folder: Path) -> None:
    for labels in encodings_of(folder).values():
        for label in labels:
            assert lookup(f"\t{label.upper()}\r\n ") == lookup(label)
            assert from_content_type(f'text/html; charset="{label}"') == lookup(label)


def test_every_encoding_decodes_every_byte(folder: Path) -> None:
    every_byte = bytes(range(256))
    for name, labels in encodings_of(folder).items():
        codec = lookup(labels[0])
        assert codec is not None
        text = decode(every_byte, codec)
        assert text.encode(), name
        if name not in {"UTF-16LE", "UTF-16BE", "replacement", "ISO-2022-JP"}:
            assert decode(b"<a href='/'>", codec) == "<a href='/'>", name


def test_what_could_mislead_becomes_one_replacement_character(folder: Path) -> None:
    for label in encodings_of(folder)["replacement"]:
        codec = lookup(label)
        assert codec is not None
        assert decode(b"\x1b$)A<script>", codec) == "\ufffd"


def test_no_other_name_that_python_knows_selects_a_codec(folder: Path) -> None:
    legal = {label for labels in encodings_of(folder).values() for label in labels}
    known = set(encodings.aliases.aliases) | set(encodings.aliases.aliases.values())
    spellings = {name.replace("_", mark) for name in known for mark in ("_", "-", "")}
    others = spellings - legal
    assert len(others) > 300
    assert [name for name in others if lookup(name) is not None] == []
    for name in others:
        assert prescan(f"<meta charset='{name}'>".encode()) is None
        assert from_content_type(f"text/html; charset={name}") is None
