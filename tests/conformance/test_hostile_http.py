"""Byte-precise hostile servers: each ends in a page or a typed error, in time, within bounds of
memory, and leaves the next request on its origin unharmed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import struct
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import scrapekit
from scrapekit import Failure, Response, Spider
from scrapekit.errors import SiteError
from scrapekit.report import Report
from tests import vectors as vector_files
from tests.security.measure import MEBIBYTE, memory
from tests.security.pretend import Canary, listening

pytestmark = pytest.mark.usefixtures("each_transport")

CAP = 8 * MEBIBYTE
DEADLINE_S = 5.0
SPARE_S = 0.5
SPARE_BYTES = 32 * MEBIBYTE

Recipe = dict[str, Any]


def recipes() -> list[Recipe]:
    root = vector_files.root()
    if root is None:
        return []
    found: list[Recipe] = json.loads((root / "recipes" / "hostile_http.json").read_text())
    return found


# What must come of each: the page's text, or the class of the error.
PAGES = {
    "chunk_1byte_flood": "x" * 200_000,
    "hdr_space_colon": "ok",
    "poison_queue": "ok",
    "gz_trailing": "hello",
    "gz_empty": "",
    "df_raw": "hello",
    "df_trailing_chunked": "a" * 200_000,
    "cookie_flood": "ok",
    "redir_bs": "alive",
    "redir_bomb_body": "alive",
    "charset_zip": "hello",
    "charset_hex": "hello",
    "charset_uniesc": "hello",
    "charset_puny": "hello",
    "charset_utf7": "hello",
    "charset_long": "hello",
}
ERRORS = {
    **dict.fromkeys(("hdr_many", "hdr_one_huge", "http09", "status_neg"), "ProtocolError"),
    **dict.fromkeys(("chunk_line_endless", "chunk_ext_flood"), "ProtocolError"),
    **dict.fromkeys(("chunk_bad_neg", "chunk_bad_plus", "chunk_bad_huge"), "ProtocolError"),
    **dict.fromkeys(("chunk_bad_nonhex", "cl_dup", "cl_float"), "ProtocolError"),
    **dict.fromkeys(("cl_huge", "cl_list", "cl_unicode"), "ProtocolError"),
    "slow_head": "FetchTimeout",
    "empty_close": "ConnectError",
    "rst_mid": "BodyTruncated",
    "unlimited_body": "BodyTooLarge",
    "cl_lie_huge": "BodyTooLarge",
    "gz_bomb": "BodyTooLarge",
    "df_bomb": "BodyTooLarge",
    "zstd_bomb": "BodyTooLarge",
    "gz_chain": "BodyUndecodable",
    "gz_truncated": "BodyTruncated",
    "gz_badcrc": "BodyUndecodable",
    "ce_unknown": "BodyUndecodable",
    "redir_self": "RedirectError",
    "redir_gopher": "RedirectError",
    "redir_ftp": "RedirectError",
    "redir_unix": "RedirectError",
    "redir_empty": "RedirectError",
    "redir_port": "RedirectError",
    "reason_esc": "BadStatus",
    **dict.fromkeys(("retry_after_neg", "retry_after_huge", "retry_after_nan"), "BadStatus"),
    **dict.fromkeys(("retry_after_float", "retry_after_bad"), "BadStatus"),
}
DROPPED = {"redir_denied": "off-domain"}


class Server:
    """Sends a recipe at its first path, and "alive" at any other."""

    def __init__(self, recipe: Recipe, canary: Canary) -> None:
        self.port = 0
        self.requests: list[str] = []
        self._recipe = recipe
        self._canary = canary
        self._tasks: set[asyncio.Task[Any]] = set()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                await self._reply(head.split(" ", 2)[1], reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has seen enough
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _reply(
        self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.requests.append(path)
        if path != "/hostile":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalive")
            return
        for step in self._recipe["steps"]:
            for data in _bytes_of(step, self._fill):
                writer.write(data)
                await writer.drain()
            if step[0] == "s":
                await asyncio.sleep(step[1])
        if self._recipe["end"] == "rst":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        elif self._recipe["end"] == "fin":
            writer.close()

    def _fill(self, text: str) -> bytes:
        deny = f"127.0.0.77:{self._canary.port}"
        filled = text.replace("{port}", str(self.port)).replace("{deny}", deny)
        return filled.replace("{self}", "/hostile").encode("latin-1")

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _bytes_of(step: list[Any], fill: Any) -> Iterator[bytes]:
    """A step's bytes, piece by piece: no server needs to hold what it sends."""
    match step:
        case ["t", text]:
            yield fill(text)
        case ["r", text, count]:
            data = fill(text)
            at_once = max(1, MEBIBYTE // max(1, len(data)))
            while count > 0:
                yield data * min(at_once, count)
                count -= at_once
        case ["b64", data]:
            yield base64.b64decode(data)
        case ["gz" | "df" as kind, size]:
            yield bomb(kind, size)
        case ["gzm", count]:
            empty = zlib.compressobj(9, zlib.DEFLATED, 31).flush()
            yield from _bytes_of(["r", empty.decode("latin-1"), count], _latin)
        case ["scrapy", name]:
            root = vector_files.root()
            assert root is not None
            yield (root / "compression" / "scrapy" / name).read_bytes()


@cache
def bomb(kind: str, size: int) -> bytes:
    """So many zeros in a thousandth of the size. Takes seconds, which no crawl should wait for."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31 if kind == "gz" else 15)
    pieces = [compressor.compress(bytes(MEBIBYTE)) for _ in range(size // MEBIBYTE)]
    return b"".join([*pieces, compressor.flush()])


def _latin(text: str) -> bytes:
    return text.encode("latin-1")


@asynccontextmanager
async def serving(recipe: Recipe) -> AsyncIterator[tuple[Server, Canary]]:
    async with listening() as canary:
        server = Server(recipe, canary)
        for kind, *facts in recipe["steps"]:
            if kind in {"gz", "df"}:
                bomb(kind, *facts)
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listener.sockets[0].getsockname()[1]
        try:
            yield server, canary
        finally:
            listener.close()
            await server.stop()


class Visitor(Spider):
    """Fetches the hostile page, and then, whatever became of it, a good one."""

    followup = ""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.failures: list[Failure] = []
        self.next: list[str] = []

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        yield {"text": response.text, "encoding": response.encoding}
        yield scrapekit.Request(self.followup, self.parse_next, unique=False)

    async def parse_next(self, response: Response) -> None:
        self.next.append(response.text)

    def on_error(self, failure: Failure) -> Any:
        self.failures.append(failure)
        if failure.url != self.followup:
            return scrapekit.Request(self.followup, self.parse_next, unique=False)
        return None


SETTINGS = {
    "obey_robots": False,
    "retries": 0,
    "max_retry_delay_s": 0.1,
    "max_body_bytes": CAP,
    "timeout_s": DEADLINE_S,
    "header_timeout_s": 1.0,
    "read_timeout_s": 2.0,
}


async def visit(server: Server, recipe: Recipe) -> tuple[Visitor, list[Any], Report, float]:
    followup = server.url(recipe.get("followup", "/alive"))
    spider = Visitor(start_urls=[server.url("/hostile")], followup=followup)
    began = time.monotonic()
    async with scrapekit.crawl(spider, settings=SETTINGS) as run:
        items = [item async for item in run]
    return spider, items, run.report, time.monotonic() - began


def test_every_recipe_is_here(vectors: Path) -> None:
    assert vectors.is_dir()
    names = {recipe["id"] for recipe in recipes()}
    assert len(names) == 56
    assert names == PAGES.keys() | ERRORS.keys() | DROPPED.keys()


NONE = pytest.param({"id": "none"}, marks=pytest.mark.skip(reason=vector_files.ABSENT))


@pytest.mark.parametrize("recipe", recipes() or [NONE], ids=lambda recipe: recipe["id"])
async def test_a_hostile_server_harms_nothing(
    recipe: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    name = recipe["id"]
    caplog.set_level(logging.DEBUG)
    async with serving(recipe) as (server, canary), memory() as peak:
        spider, items, report, wall_s = await visit(server, recipe)
    errors = [type(failure.error).__name__ for failure in spider.failures]
    if name in PAGES:
        assert ([item["text"] for item in items], errors) == ([PAGES[name]], [])
    elif name in ERRORS:
        assert (items, errors) == ([], [ERRORS[name]])
        assert isinstance(spider.failures[0].error, SiteError)
    else:
        assert (items, errors, report.dropped) == ([], [], {DROPPED[name]: 1})
    assert canary.connections == 0
    # The next request on the origin is answered, and by its own answer.
    assert spider.next == ["alive"] or report.dropped
    assert wall_s <= DEADLINE_S + SPARE_S
    assert peak.grown <= CAP + SPARE_BYTES
    assert all(line.isprintable() for line in caplog.text.splitlines())
    assert all(line.isprintable() for line in str(report).splitlines())
