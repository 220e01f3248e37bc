"""WPT's URL tests and crawler-commons' normaliser tests; only http and https can be fetched."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scrapekit.errors import InvalidURL
from scrapekit.urls import Base, encode_query, normalize
from tests import bindings

HTTP = ("http://", "https://")
URL_FILES = (
    "urltestdata.json",
    "urltestdata-javascript-only.json",
    "ada_extra_urltestdata.json",
    "ada_long_urltestdata.json",
)


@pytest.fixture(scope="module", params=bindings.BINDINGS, autouse=True)
def binding(request: pytest.FixtureRequest) -> Iterator[str]:
    with bindings.use(request.param):
        yield request.param


@pytest.fixture
def folder(vectors: Path) -> Path:
    return vectors / "url"


def cases(file: Path) -> list[dict[str, Any]]:
    return [row for row in json.loads(file.read_bytes()) if isinstance(row, dict)]


def canonical(url: str, base: str | None = None) -> str | None:
    try:
        return normalize(url) if base is None else Base(base).join(url)
    except InvalidURL:
        return None


def expected(row: dict[str, Any]) -> str | None:
    href: str = row.get("href", "")
    if row.get("failure") or not href.startswith(HTTP):
        return None
    href = href.partition("#")[0]
    return href[:-1] if href.find("?") == len(href) - 1 else href


def is_fetchable_base(base: str | None) -> bool:
    return base is None or canonical(base) is not None


# Characters whose IDNA mapping changed with Unicode 15.1 and 16.
REMAPPED = frozenset("\u04c0\u180e\u1e9e\u206b\u2183\U0002f868")


def is_newer_than_the_parser(row: dict[str, Any]) -> bool:
    """Can the binding's Ada be too old for this row?

    Since 2024 the standard lets labels of broken punycode pass, which an older Ada refuses.
    """
    return "xn--" in row["input"].lower() or not REMAPPED.isdisjoint(row["input"])


@pytest.mark.parametrize("name", URL_FILES)
def test_http_urls_resolve_as_in_a_browser_and_nothing_else_is_fetched(
    folder: Path, name: str
) -> None:
    rows = [row for row in cases(folder / name) if is_fetchable_base(row.get("base"))]
    wrong = [
        (row["input"], row.get("base"), got, expected(row))
        for row in rows
        if (got := canonical(row["input"], row.get("base"))) != expected(row)
        and not (got is None and is_newer_than_the_parser(row))
    ]
    assert wrong == []


def test_a_large_share_of_the_vectors_is_about_http(folder: Path) -> None:
    rows = cases(folder / "urltestdata.json")
    assert sum(is_fetchable_base(row.get("base")) for row in rows) > 600
    assert sum(expected(row) is not None for row in rows) > 240


def test_a_base_that_cannot_be_fetched_is_refused(folder: Path) -> None:
    bases = {row["base"] for row in cases(folder / "urltestdata.json") if row.get("base")}
    refused = [base for base in bases if not is_fetchable_base(base)]
    assert refused
    assert not [base for base in refused if base.startswith(HTTP)]


def test_hosts_become_ascii_as_in_a_browser(folder: Path) -> None:
    wrong = [
        (row["input"], got, row["output"])
        for row in cases(folder / "toascii.json")
        if (got := canonical(f"https://{row['input']}/x")) != _at_host(row["output"])
        and not (row["output"] and is_newer_than_the_parser(row))
    ]
    assert wrong == []


def _at_host(name: str | None) -> str | None:
    return f"https://{name}/x" if name else None


@pytest.mark.parametrize("name", ["toascii.json", "IdnaTestV2.json"])
def test_no_host_crashes_the_parser_and_its_canonical_form_is_final(
    folder: Path, name: str
) -> None:
    for row in cases(folder / name):
        href = canonical(f"https://{row['input']}/x")
        assert href is None or normalize(href) == href


def test_queries_are_encoded_as_in_a_browser(folder: Path) -> None:
    codecs = {"big5": "big5hkscs", "euc-kr": "cp949", "windows-1252": "cp1252", "utf-8": "utf-8"}
    wrong = [
        (row["input"], label, got)
        for row in cases(folder / "percent-encoding.json")
        for label, output in row["output"].items()
        if (codec := codecs.get(label))
        and (got := normalize(encode_query(f"http://h/?{row['input']}", codec)))
        != f"http://h/?{output}"
    ]
    assert wrong == []


def rows_of(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        uncommented = (line for line in lines if line.strip() and not line.startswith("#"))
        return [row for row in csv.reader(uncommented, skipinitialspace=True) if row]


def test_the_canonical_form_of_weird_urls_is_final(folder: Path) -> None:
    rows = rows_of(folder / "crawler-commons" / "weirdToNormalizedUrls.csv")
    hrefs = [href for row in rows for url in row[:2] if (href := canonical(url)) is not None]
    assert len(hrefs) > 150
    assert [href for href in hrefs if normalize(href) != href] == []


def test_weird_urls_normalise_alike_where_the_policy_is_the_same(folder: Path) -> None:
    # crawler-commons also decodes, re-encodes, sorts and drops; a browser requests what it's given.
    rows = rows_of(folder / "crawler-commons" / "weirdToNormalizedUrls.csv")
    equal = [row for row in rows if canonical(row[0]) == row[1].strip()]
    assert len(equal) >= 60


def test_references_resolve_as_crawler_commons_resolves_them(folder: Path) -> None:
    rows = rows_of(folder / "crawler-commons" / "url-resolve.csv")
    wrong = [
        (spec, base, got)
        for spec, base, resolved in rows
        if (got := canonical(spec, base or None)) != expected({"href": resolved.strip()})
    ]
    assert wrong == []


def test_invalid_urls_are_refused(folder: Path) -> None:
    rows = rows_of(folder / "crawler-commons" / "invalidUrls.csv")
    assert rows
    assert [row for row in rows if canonical(row[0]) is not None] == []
