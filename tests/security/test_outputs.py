"""What comes out: nothing from the web commands a terminal, or chooses where it is written."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import scrapekit
from scrapekit import Response, Spider
from scrapekit.cli.progress import ProgressLine
from scrapekit.exports import FORMATS, FileExport
from scrapekit.failure import failure
from scrapekit.messages import Request
from scrapekit.quarantine import keep
from scrapekit.testing import FakeTransport, respond
from tests.rawserver import Exchange, serve

ESCAPES = "\x1b[2J\x1b]0;pwn\x07\x9b31m\x7f\r\x08\u202e\u2028\x00"
"""Clear the screen, set the title, colour by a C1 control, delete, go back, turn round, end."""

SPIDER = """
from scrapekit import DropItem, Spider


def refuse(item):
    raise DropItem(item["text"])


class Shouting(Spider):
    name = "shouting"
    pipeline = [refuse]
    settings = {"obey_robots": False, "retries": 1, "retry_delay_s": 0}

    def parse(self, response):
        self.stats.add(response.text)
        yield {"text": response.text}
        yield from response.follow_all()
        if "raise" in response.url:
            raise ValueError(response.text, response.headers.get("X-Loud"))
"""


def is_tame(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


async def shout(exchange: Exchange) -> None:
    """Escapes in every part of an answer that HTTP lets through."""
    path = exchange.line.split(" ")[1]
    loud = ESCAPES.replace("\r", "").replace("\x00", "").encode()
    if path.startswith("/head"):
        await exchange.send(b"HTTP/1.1 200 OK\r\n\x1b[31m" + loud + b": x\r\n\r\n")
    elif path.startswith("/status"):
        await exchange.send(b"HTTP/1.1 500 " + loud + b"\r\nContent-Length: 0\r\n\r\n")
    elif path.startswith("/away"):
        where = b"Location: http://[" + loud + b"\r\nContent-Length: 0\r\n\r\n"
        await exchange.send(b"HTTP/1.1 302 Found\r\n" + where)
    elif path.startswith("/coding"):
        await exchange.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Encoding: " + loud + b"\r\n\r\nx"
        )
    else:
        hrefs = ("/raise", "/head", "/status", "/away", "/coding", f"/{ESCAPES}")
        body = ESCAPES + "".join(f'<a href="{href}">a</a>' for href in hrefs)
        data = body.encode()
        head = b"HTTP/1.1 200 OK\r\nX-Loud: %s\r\nContent-Type: text/html; charset=utf-8\r\n" % loud
        await exchange.send(head + b"Content-Length: %d\r\n\r\n" % len(data) + data)


@pytest.mark.parametrize("options", [["-L", "debug"], ["--quiet"], ["-L", "debug", "--profile"]])
async def test_no_byte_from_the_web_commands_a_terminal(tmp_path: Path, options: list[str]) -> None:
    file = tmp_path / "shouting.py"
    file.write_text(SPIDER)
    async with serve(shout) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scrapekit", "crawl", str(file), *options),
            *("-a", f"start_urls={server.url()}", "--json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    assert process.returncode == 1
    assert is_tame(out.decode())
    assert is_tame(err.decode())
    report = json.loads(out)
    kinds = {group["error"] for group in report["errors"]}
    assert {"ValueError", "ProtocolError", "BadStatus 500", "RedirectError"} <= kinds
    assert "BodyUndecodable" in kinds


async def test_an_embedded_crawl_logs_nothing_raw(caplog: pytest.LogCaptureFixture) -> None:
    class Shouting(Spider):
        def parse(self, response: Response) -> Any:
            self.stats.add(response.text)
            raise ValueError(response.text)

    caplog.set_level("DEBUG")
    web = FakeTransport({"https://shop.test/": ESCAPES})
    spider = Shouting(start_urls=["https://shop.test/"])
    async with scrapekit.crawl(spider, transport=web) as run:
        await run.wait()
    assert "ValueError" in caplog.text
    assert is_tame(caplog.text)
    assert is_tame(str(run.report))


def test_the_progress_line_is_one_line_of_text() -> None:
    class Crawl:
        pending = in_flight = 1
        report = scrapekit.Report(spider=ESCAPES)

    assert ProgressLine(cast("Any", Crawl()))().isprintable()


# ---- items that are hard to write

LARGE = "x" * 100_000_000
HARD: dict[str, Any] = {
    "lone surrogate": "\ud800 and \udfff",
    "NUL": "a\x00b",
    "huge integer": 10**4000,
    "integer beyond measure": 1 << 100_000,
    "line separators": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg",
    "escapes": ESCAPES,
    "deeply nested": json.loads("[" * 90 + "]" * 90),
    "not a number": float("nan"),
    "no text": object(),
}


@pytest.fixture(params=["jsonl", "json", "csv"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"items.{request.param}"


def read(path: Path) -> list[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            return list(csv.DictReader(file))
        if path.suffix == ".json":
            return cast("list[dict[str, Any]]", json.load(file))
        return [json.loads(line) for line in file.read().split("\n")[:-1]]


@pytest.mark.parametrize("kind", HARD)
async def test_an_item_that_is_hard_to_write_costs_no_other(path: Path, kind: str) -> None:
    """It makes the round trip, or is told about; its batch is there in either case."""
    before, after = {"n": "1", "value": "a"}, {"n": "2", "value": "b"}
    async with FileExport(str(path), FORMATS[path.suffix[1:]]()) as export:
        errors = await export.write([before, {"n": "hard", "value": HARD[kind]}, after])
    # Python itself doesn't read integers of more digits, unless it is told to.
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        rows = read(path)
    finally:
        sys.set_int_max_str_digits(limit)
    assert [row for row in rows if row["n"] != "hard"] == [before, after]
    hard = [row["value"] for row in rows if row["n"] == "hard"]
    if errors:
        assert hard == []
        assert kind in ("no text", "integer beyond measure")
    elif isinstance(HARD[kind], str) and path.suffix != ".csv":
        assert hard == [HARD[kind]]
    else:
        assert len(hard) == 1


async def test_a_field_of_a_hundred_megabytes_makes_the_round_trip(path: Path) -> None:
    async with FileExport(str(path), FORMATS[path.suffix[1:]]()) as export:
        assert await export.write([{"n": "1", "value": "a"}, {"n": "2", "value": LARGE}]) == []
        assert await export.write([{"n": "3", "value": "b"}]) == []
    assert [row["n"] for row in read(path)] == ["1", "2", "3"]
    assert path.stat().st_size > len(LARGE)


# ---- files

NAMES = (
    "../../../../tmp/scrapekit-pwned",
    "/etc/passwd",
    "..%2f..%2fpwned",
    "a/../../b",
    "con",
    "page.html%00.body",
    "\\\\server\\share",
    "x" * 5_000,
)


@pytest.mark.parametrize("name", NAMES)
def test_no_name_from_the_web_is_a_name_of_a_file(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "kept"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    page = respond(b"x", url=f"https://shop.test/{name}", headers=headers)
    failed = failure(ValueError(name), "callback", request=page.request, response=page)
    keep(str(folder), failed)
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {folder}
    stems = {path.stem for path in folder.iterdir()}
    assert all(len(stem) == 16 and set(stem) <= set("0123456789abcdef") for stem in stems)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".body"}


@pytest.mark.parametrize("suffix", ["json", "body"])
def test_no_link_is_followed_when_a_page_is_kept(tmp_path: Path, suffix: str) -> None:
    page = respond(b"from the web", url="https://shop.test/")
    failed = failure(ValueError(), "callback", request=page.request, response=page)
    body = keep(str(tmp_path / "kept"), failed)
    assert body is not None
    target = tmp_path / "precious"
    target.write_text("mine")
    place = body.with_suffix(f".{suffix}")
    place.unlink()
    place.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        keep(str(tmp_path / "kept"), failed)
    assert target.read_text() == "mine"


def everything(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


async def test_a_crawl_writes_nothing_but_what_it_was_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = '<a href="/download.exe" download="../pwned">a</a>'
    headers = {"Content-Disposition": "attachment; filename=pwned", "Set-Cookie": "a=b"}
    web = FakeTransport({"https://shop.test/": respond(page, headers=headers)})

    class Plain(Spider):
        def parse(self, response: Response) -> Any:
            yield {"url": response.url}

    spider = Plain(start_urls=["https://shop.test/"])
    async with scrapekit.crawl(spider, transport=web, output="items.jsonl") as run:
        await run.wait()
    assert [path.name for path in everything(tmp_path)] == ["items.jsonl"]


def test_a_request_carries_no_name_of_a_file() -> None:
    names = dir(Request)
    assert not any("file" in name.split("_") or "path" in name for name in names)
