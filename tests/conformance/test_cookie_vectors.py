"""The http-state working group's cookies, and the Public Suffix List's own tests."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from scrapekit import urls
from scrapekit.cookies import dates
from scrapekit.cookies.jar import Jar

NOW = datetime(2015, 1, 1, tzinfo=UTC).timestamp()

OTHERWISE = {
    "DISABLED_CHROMIUM0022": "A NUL makes a line invalid as a whole (RFC 6265bis, 5.6).",
    "DISABLED_CHROMIUM0023": "So does a CR; it would split the header that sends it back.",
    "DISABLED_PATH0029": (
        "Paths are compared as they are written (RFC 6265, 5.1.4): %6F isn't an o here."
    ),
}
"""Cases that we judge otherwise, and why. All are ones that the suite itself has switched off."""


@pytest.fixture(scope="module")
def cases(vectors: Path) -> list[dict[str, Any]]:
    path = vectors / "cookies/http_state_parser.json"
    found: list[dict[str, Any]] = json.loads(path.read_bytes())
    return found


def sent(case: dict[str, Any]) -> list[tuple[str, str]]:
    name = case["test"].lower()
    page = f"http://home.example.org:8888/cookie-parser?{name}"
    target = urljoin(page, case.get("sent-to", f"/cookie-parser-result?{name}"))
    jar = Jar()
    for line in case["received"]:
        jar.take(page, line, NOW)
    return jar.pairs(urls.normalize(target), NOW)


def test_cookies_come_back_as_the_suite_says_but_for_those_explained_here(
    cases: list[dict[str, Any]],
) -> None:
    assert len(cases) == 222
    others = {
        case["test"]
        for case in cases
        if sent(case) != [(cookie["name"], cookie["value"]) for cookie in case["sent"]]
    }
    assert others == OTHERWISE.keys()


@pytest.mark.parametrize("name", ["examples", "bsd-examples"])
def test_dates_are_read_as_the_suite_says(vectors: Path, name: str) -> None:
    cases = json.loads((vectors / f"cookies/http_state_dates_{name}.json").read_bytes())
    assert cases
    for case in cases:
        expected = case["expected"]
        date = None if expected is None else parsedate_to_datetime(expected).timestamp()
        assert dates.parse(case["test"]) == date, case["test"]


CHECK = re.compile(r"^checkPublicSuffix\((null|'(.*?)'), (null|'(.*?)')\);", re.MULTILINE)


def test_no_cookie_is_scoped_to_a_public_suffix(vectors: Path) -> None:
    text = (vectors / "cookies/psl_tests/test_psl.txt").read_text("utf-8")
    hosts = [match[2] for match in CHECK.finditer(text) if match[2]]
    assert len(hosts) > 70
    for host in hosts:
        if host.startswith("."):
            continue
        page = urls.normalize(f"https://deep.below.{host}/")
        labels = urls.host(page).split(".")
        for start in range(len(labels)):
            domain = ".".join(labels[start:])
            jar = Jar()
            taken = jar.take(page, f"a=b; Domain={domain}", NOW)
            assert taken is not urls.is_public_suffix(domain), domain


def test_what_is_registrable_agrees_with_the_lists_own_tests(vectors: Path) -> None:
    text = (vectors / "cookies/psl_tests/test_psl.txt").read_text("utf-8")
    checked = 0
    for match in CHECK.finditer(text):
        if not match[2] or match[2].startswith("."):
            continue
        host = urls.host(urls.normalize(f"https://{match[2]}/"))
        expected = match[4] and urls.host(urls.normalize(f"https://{match[4]}/"))
        assert urls.is_public_suffix(host) is (expected is None), host
        if expected:
            assert urls.registrable_domain(host) == expected
        checked += 1
    assert checked > 70


def test_every_rule_of_the_list_is_a_suffix_that_takes_no_cookie(vectors: Path) -> None:
    """The list in the vectors is older or newer than ours, so a few rules may differ."""
    lines = (vectors / "cookies/public_suffix_list.dat").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith(("//", "!", "*"))]
    refused = 0
    for rule in rules:
        host = urls.host(urls.normalize(f"http://{rule}/"))
        jar = Jar()
        refused += not jar.take(f"https://www.shop.{host}/", f"a=b; Domain={host}", NOW)
    assert len(rules) > 9_000
    assert refused / len(rules) > 0.99
