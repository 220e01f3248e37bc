"""How many of the http-state suite's cases each cookie jar gets right, at a frozen clock.

python -m tests.benchmarks.cookies      needs the third-party vectors (SCRAPEKIT_VECTORS)
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from email.message import Message
from http.cookiejar import CookieJar
from typing import Any
from unittest import mock
from urllib.parse import urljoin
from urllib.request import Request

import aiohttp
from aiohttp._cookie_helpers import parse_set_cookie_headers
from yarl import URL

from scrapekit import urls
from scrapekit.cookies.jar import Jar
from tests.vectors import ABSENT, root

NOW = 1_420_070_400.0  # 2015, when the suite's dates are past or to come as it expects

Pairs = list[tuple[str, str]]


class Reply:
    """As much of a response as http.cookiejar asks for."""

    def __init__(self, lines: list[str]) -> None:
        self._message = Message()
        for line in lines:
            self._message.add_header("Set-Cookie", line)

    def info(self) -> Message:
        return self._message


def ours(lines: list[str], page: str, target: str) -> Pairs:
    jar = Jar()
    for line in lines:
        jar.take(page, line, NOW)
    return jar.pairs(urls.normalize(target), NOW)


def standard_library(lines: list[str], page: str, target: str) -> Pairs:
    jar, request = CookieJar(), Request(target)
    jar.extract_cookies(Reply(lines), Request(page))  # type: ignore[arg-type]
    jar.add_cookie_header(request)
    pairs = (request.get_header("Cookie") or "").split("; ")
    return [(name, value) for name, _, value in (pair.partition("=") for pair in pairs) if name]


def aiohttps(lines: list[str], page: str, target: str) -> Pairs:
    async def ask() -> Pairs:
        jar = aiohttp.CookieJar()
        jar.update_cookies(parse_set_cookie_headers(lines), URL(page))
        return [(name, morsel.value) for name, morsel in jar.filter_cookies(URL(target)).items()]

    return asyncio.run(ask())


def is_right(jar: Callable[[list[str], str, str], Pairs], case: dict[str, Any]) -> bool:
    name = case["test"].lower()
    page = f"http://home.example.org:8888/cookie-parser?{name}"
    target = urljoin(page, case.get("sent-to", f"/cookie-parser-result?{name}"))
    expected = [(cookie["name"], cookie["value"]) for cookie in case["sent"]]
    with mock.patch("time.time", return_value=NOW):
        try:
            return jar(case["received"], page, target) == expected
        except ValueError:  # a name or value that the jar refuses loudly
            return False


def main() -> None:
    folder = root()
    if folder is None:
        sys.exit(ABSENT)
    cases = json.loads((folder / "cookies/http_state_parser.json").read_bytes())
    for jar in (ours, aiohttps, standard_library):
        right = sum(is_right(jar, case) for case in cases)
        print(f"{jar.__name__:20} {right} of {len(cases)}")


if __name__ == "__main__":
    main()
