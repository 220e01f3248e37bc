"""urllib3's cases for Retry-After."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from scrapekit.retry import parse_retry_after


@pytest.fixture(scope="module")
def cases(vectors: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((vectors / "headers/retry_after_urllib3.json").read_bytes())
    return found


def test_seconds_and_dates_are_read_as_urllib3_does(cases: dict[str, Any]) -> None:
    now = parsedate_to_datetime(cases["now"]).timestamp()
    for case in cases["cases"]:
        # For urllib3 a date that has come is no wait, which is None there and 0 here.
        assert parse_retry_after(case["value"], now) == (case["sleep"] or 0), case


def test_what_is_neither_is_left_out_of_account(cases: dict[str, Any]) -> None:
    assert [parse_retry_after(value, 0.0) for value in cases["invalid"]] == [None] * 4
