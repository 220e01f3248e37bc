"""Ctrl-C and SIGTERM, sent to the command for real."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.functional.cli import PAGES, started
from tests.functional.site import Site, held, links

STUCK = """
import sys, threading
from pages import Pages

class Stuck(Pages):
    def parse(self, response):
        if "stuck" in response.url:
            print("stuck", file=sys.stderr)
            threading.Event().wait()
        return {"title": response.get("h1")}
"""
SPINNING = """
import sys
from pages import Pages

class Spinning(Pages):
    async def parse(self, response):
        yield {"title": response.get("h1")}
        if "spin" in response.url:
            print("spinning", file=sys.stderr)
            while True:
                pass
"""
OPENING = """
import asyncio, sys
from pages import Pages

class Opening(Pages):
    async def lifespan(self):
        print("opening", file=sys.stderr)
        try:
            await asyncio.Event().wait()
        finally:
            print("left", file=sys.stderr)
        yield
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "pages": PAGES,
        "stuck": STUCK,
        "opening": OPENING,
        "spinning": SPINNING,
    }.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    return tmp_path


def titles(file: Path) -> list[str]:
    return [json.loads(line)["title"] for line in file.read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_one_signal_lets_the_pages_in_flight_finish_and_fetches_no_more(
    folder: Path, number: signal.Signals
) -> None:
    gate = asyncio.Event()
    pages = {"/": f"<h1>Home</h1>{links('/slow')}", "/more": "<h1>More</h1>"}
    slow = held(gate, f"<h1>Slow</h1>{links('/more')}")
    async with (
        Site({**pages, "/slow": slow}) as site,
        started(
            folder, "crawl", "pages.py", "-o", "items.jsonl", "-a", f"start_urls={site.url()}"
        ) as program,
    ):
        await site.until(lambda: "/slow" in site.hits)
        program.send(number)
        line = await program.until("interrupted")
        gate.set()
        told = await program.end()
    assert "pages in flight (1) have up to 10 s to finish" in line
    assert told.code == 128 + number
    assert titles(folder / "items.jsonl") == ["Home", "Slow"]
    assert site.hits == ["/", "/slow"]
    assert "pages: interrupted after" in told.err
    assert "scrapekit: error:" not in told.err


async def test_a_second_signal_ends_at_once_and_keeps_what_was_committed(folder: Path) -> None:
    async with Site({"/": "<h1>Home</h1>", "/stuck": "<h1>Stuck</h1>"}) as site:
        starts = f"start_urls={site.url('/')},{site.url('/stuck')}"
        options = "-s", "drain_s=3600", "-s", "concurrency=1"
        async with started(
            folder, "crawl", "stuck.py", "-o", "items.jsonl", *options, "-a", starts
        ) as program:
            await program.until("stuck")
            program.send(signal.SIGINT)
            await program.until("interrupted")
            program.send(signal.SIGINT)
            told = await program.end()
    assert told.code == 130
    assert titles(folder / "items.jsonl") == ["Home"]
    assert "stuck: interrupted after" in told.err


async def test_signals_end_a_callback_that_never_returns_to_the_loop(folder: Path) -> None:
    async with Site({"/": "<h1>Home</h1>", "/spin": "<h1>Spin</h1>"}) as site:
        starts = f"start_urls={site.url('/')},{site.url('/spin')}"
        options = "-s", "concurrency=1", "-o", "items.jsonl", "-a", starts
        async with started(folder, "crawl", "spinning.py", *options) as program:
            await program.until("spinning")
            program.send(signal.SIGINT)
            await asyncio.sleep(1.2)
            program.send(signal.SIGINT)
            told = await program.end()
    assert told.code == 130
    assert titles(folder / "items.jsonl") == ["Home"]
    assert "Traceback" not in told.err


async def test_a_signal_while_the_crawl_is_being_opened_ends_it_at_once(folder: Path) -> None:
    (folder / "items.jsonl").write_text("precious\n")
    async with started(folder, "crawl", "opening.py", "-O", "items.jsonl") as program:
        await program.until("opening")
        program.send(signal.SIGTERM)
        told = await program.end()
    assert told.code == 143
    assert "left\n" in told.err
    assert "opening: interrupted after" in told.err
    assert (folder / "items.jsonl").read_text() == "precious\n"
