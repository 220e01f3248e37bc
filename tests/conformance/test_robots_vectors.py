"""Google's own tests of its robots.txt parser, and what of them we do otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scrapekit.robots import Robots

_AGENT_WITH_A_SPACE = (
    "The agent asked for is 'Foo Bar', which is no product token. For us it is a User-Agent header "
    "whose token is 'Foo', and that is meant by the line 'Foo Bar'."
)
_NOT_ENCODED = (
    "The URL isn't percent-encoded, which for Google is another path. All URLs are encoded here "
    "before they are asked about."
)
_NEEDLESSLY_ENCODED = (
    "%62 is a needlessly encoded b. For us both spellings are the same path (RFC 9309, 2.2.2), "
    "for Google only equal ones are."
)
_LINE_TOO_LONG = "Google cuts lines after 16 KB; we read them whole."

OTHERWISE = {
    247: _AGENT_WITH_A_SPACE,
    419: _NOT_ENCODED,
    430: _NOT_ENCODED,
    441: _NEEDLESSLY_ENCODED,
    539: _LINE_TOO_LONG,
    565: _LINE_TOO_LONG,
}
"""Lines of Google's robots_test.cc with another verdict than ours, and why."""


@pytest.fixture(scope="module")
def cases(vectors: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((vectors / "robots/google_robots.json").read_bytes())
    return found


def verdict(case: dict[str, Any]) -> bool:
    return Robots(case["robots"], case["agent"]).allows(case["url"])


def test_verdicts_are_googles_but_for_those_explained_here(cases: list[dict[str, Any]]) -> None:
    assert len(cases) == 145
    others = {case["line"] for case in cases if verdict(case) != case["allowed"]}
    assert others == OTHERWISE.keys()


def test_no_explained_case_hides_another_of_the_same_line(cases: list[dict[str, Any]]) -> None:
    lines = [case["line"] for case in cases if case["line"] in OTHERWISE]
    assert sorted(lines) == sorted(OTHERWISE)
