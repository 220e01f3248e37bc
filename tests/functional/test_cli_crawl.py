"""`scrapekit crawl` beside a real site: what goes where, and how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from scrapekit.cli import progress
from scrapekit.engine import Engine
from tests.functional.cli import Called, scrapekit, started
from tests.functional.site import Site, held, links

__all__ = ["scrapekit"]

HOSTILE = "<h1>bad</h1>\x1b[2J\x07\nsecond line"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    pages = {"/": f"<h1>Home</h1>{links('/two', '/three')}", "/two": "<h1>Two</h1>"}
    async with Site({**pages, "/three": "<h1>Three</h1>"}) as site:
        yield site


def start(site: Site, path: str = "/") -> tuple[str, ...]:
    return "crawl", "pages.py", "-a", f"start_urls={site.url(path)}"


def titles(lines: str) -> list[str]:
    return sorted(json.loads(line)["title"] for line in lines.splitlines())


async def test_items_alone_go_to_stdout_and_all_else_to_stderr(
    scrapekit: Called, site: Site
) -> None:
    async with started(scrapekit.folder, *start(site), "-o", "-") as program:
        told = await program.end()
    assert told.code == 0
    assert titles(told.out) == ["Home", "Three", "Two"]
    assert re.match(r"pages: finished after .*: 3 pages \(.*\), 3 items, 0 errors\n", told.err)


async def test_items_go_into_every_file_in_its_own_way(scrapekit: Called, site: Site) -> None:
    scrapekit.write("table.csv", "old")
    scrapekit.write("more.jsonl", '{"title": "Before"}\n')
    told = await scrapekit.beside(
        *start(site), "-o", "more.jsonl", "-O", "table.csv", "-o", "odd.txt:json", "--append"
    )
    assert told.code == 3
    assert "can't write odd.txt" in told.error
    told = await scrapekit.beside(
        *start(site), "-o", "more.jsonl", "-O", "table.csv", "-O", "odd.txt:json", "--append"
    )
    assert (told.code, told.out) == (0, "")
    assert titles(scrapekit.read("more.jsonl")) == ["Before", "Home", "Three", "Two"]
    assert sorted(scrapekit.read("table.csv").split()) == ["Home", "Three", "Two", "title"]
    assert len(json.loads(scrapekit.read("odd.txt"))) == 3
    assert "written    table.csv: 3 items" in told.err


async def test_csv_on_stdout(scrapekit: Called, site: Site) -> None:
    told = await scrapekit.beside(*start(site), "-q", "-o", "-:csv")
    assert (told.code, told.err) == (0, "")
    assert sorted(told.out.split()) == ["Home", "Three", "Two", "title"]


async def test_the_report_as_json_goes_to_stdout_and_into_a_file(
    scrapekit: Called, site: Site
) -> None:
    told = await scrapekit.beside(*start(site), "-q", "--json", "--report", "report.json")
    assert (told.code, told.err) == (0, "")
    report = json.loads(told.out)
    assert report == json.loads(scrapekit.read("report.json"))
    assert (report["spider"], report["pages"], report["ok"]) == ("pages", 3, True)
    assert report["statuses"] == {"200": 3}


async def test_a_report_that_cannot_be_written_in_the_end_exits_with_1(
    scrapekit: Called, site: Site
) -> None:
    # /dev/full takes no byte, and nothing tells so before.
    told = await scrapekit.beside(*start(site), "-q", "--report", "/dev/full")
    assert (told.code, told.error) == (1, "can't write /dev/full: No space left on device")


async def test_arguments_and_settings_reach_the_spider_and_settings_win(
    scrapekit: Called, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    scrapekit.write("scrapekit.toml", 'max_pages = 1\nuser_agent = "file"\n')
    monkeypatch.setenv("SCRAPEKIT_USER_AGENT", "environment")
    told = await scrapekit.beside(*start(site), "-s", "max_pages=2", "-s", "max_depth = 1")
    assert told.code == 0
    assert "pages: max_pages after" in told.err
    assert {request.headers["User-Agent"] for request in site.requests} == {"environment"}
    assert len(site.hits) == 2


async def test_a_name_is_a_target_too(scrapekit: Called, site: Site) -> None:
    told = await scrapekit.beside("crawl", "pages", *start(site)[2:], "-O", "items.jsonl")
    assert told.code == 0
    assert titles(scrapekit.read("items.jsonl")) == ["Home", "Three", "Two"]


async def test_a_callback_that_fails_costs_its_page_and_the_exit_code(
    scrapekit: Called, site: Site
) -> None:
    told = await scrapekit.beside(*start(site), "-a", "fail_on=Two", "-o", "items.jsonl")
    assert told.code == 1
    assert titles(scrapekit.read("items.jsonl")) == ["Home", "Three"]
    assert "error      1 x ValueError (callback in parse at" in told.err
    last = told.err.splitlines()[-1]
    assert last.startswith("scrapekit: error: 1 error in callbacks, stages or exports; ValueError")
    assert site.url("/two") in last


async def test_an_export_that_fails_exits_with_1(scrapekit: Called, site: Site) -> None:
    told = await scrapekit.beside(*start(site), "-O", "/dev/full:jsonl")
    assert told.code == 1
    assert "the disk is full" in told.err.splitlines()[-1]


async def test_a_crawl_without_a_page_exits_with_1(scrapekit: Called, site: Site) -> None:
    told = await scrapekit.beside(*start(site, "/absent"), "-q", "-L", "error")
    assert told.code == 1
    assert told.error.startswith("no page was fetched; BadStatus 404: status 404 (for example")


async def test_an_error_of_scrapekit_itself_asks_to_be_reported(
    scrapekit: Called, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def visit(self: Engine, lease: Any) -> None:
        raise RuntimeError("lost")

    monkeypatch.setattr(Engine, "visit", visit)
    told = await scrapekit.beside(*start(site))
    assert told.code == 1
    assert "RuntimeError: lost\n" in told.err
    assert "this is a mistake in scrapekit; please report it" in told.err
    assert "pages: failed after" in told.err


async def test_nothing_from_the_web_reaches_the_terminal_raw(scrapekit: Called, site: Site) -> None:
    site.pages["/"] = HOSTILE
    told = await scrapekit.beside(*start(site), "-a", "fail_on=bad")
    assert told.code == 1
    assert "\x1b" not in told.err
    assert "\x07" not in told.err
    assert "\\x1b[2J\\x07" in told.err


async def test_profile_tells_what_each_callback_cost(scrapekit: Called, site: Site) -> None:
    told = await scrapekit.beside(*start(site), "--quiet", "--profile")
    head, row = told.err.splitlines()
    assert head.split()[:3] == ["callback", "lane", "calls"]
    assert row.split()[:2] == ["parse", "loop"]


async def test_quiet_leaves_errors_alone(scrapekit: Called, site: Site) -> None:
    assert await scrapekit.beside(*start(site), "--quiet") == (0, "", "")
    told = await scrapekit.beside(*start(site), "--quiet", "-a", "fail_on=Two")
    assert "ERROR" in told.err
    assert "finished after" not in told.err


async def test_the_log_can_go_into_a_file_that_is_added_to(scrapekit: Called, site: Site) -> None:
    scrapekit.write("crawl.log", "before\n")
    scrapekit.write(
        "chatty.py",
        "import logging, warnings\nfrom pages import *\nclass Chatty(Pages):\n"
        "    def parse(self, response):\n        logging.getLogger('mine').info('hello')\n"
        "        warnings.simplefilter('always')\n        warnings.warn('rusty')\n"
        "        logging.getLogger('mine').debug('whisper')\n",
    )
    told = await scrapekit.beside("crawl", "chatty.py", *start(site)[2:], "--log-file", "crawl.log")
    log = scrapekit.read("crawl.log")
    assert told.code == 0
    assert told.err.startswith("chatty: finished")
    assert log.startswith("before\n")
    assert re.search(r"^[\d-]+ [\d:,]+ INFO     mine: hello$", log, re.MULTILINE)
    assert re.search(r"WARNING  py.warnings: .*UserWarning: rusty$", log, re.MULTILINE)
    assert "whisper" not in log


async def test_logging_is_afterwards_as_it_was(scrapekit: Called, site: Site) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    await scrapekit.beside(*start(site), "-L", "debug")
    assert (root.handlers, root.level) == before


async def test_without_a_terminal_progress_is_a_line_in_the_log(
    scrapekit: Called, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, loop = asyncio.Event(), asyncio.get_running_loop()
    site.pages["/two"] = held(gate)
    seen: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            if " 2 pages" in seen[-1]:
                loop.call_soon_threadsafe(gate.set)

    listener = Listener()
    logging.getLogger("scrapekit.progress").addHandler(listener)
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.001)
    try:
        told = await scrapekit.beside(*start(site))
    finally:
        logging.getLogger("scrapekit.progress").removeHandler(listener)
    assert told.code == 0
    (line,) = {re.sub(r"[\d.]+/s", "R/s", line) for line in seen if " 2 pages" in line}
    assert line == "pages: 2 pages, R/s, 0 queued, 1 in flight, 2 items, 0 errors"
    assert f"INFO     scrapekit.progress: {seen[0]}\n" in told.err


async def test_a_reader_of_items_that_has_had_enough_ends_the_crawl_quietly(
    scrapekit: Called, site: Site
) -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        number = int(request.path.strip("/") or 0)
        return web.Response(text=links(f"/{number + 1}"), content_type="text/html")

    site.pages = {"*": endless}
    async with started(scrapekit.folder, *start(site), "-o", "-", "-o", "b.jsonl") as program:
        assert await program.line() == '{"title":""}\n'
        program.close_output()
        told = await program.end()
    assert told.code == 0
    assert told.err.startswith("pages: stopped after")
    assert "rror:" not in told.err
    assert scrapekit.read("b.jsonl").endswith("}\n")


async def test_a_report_that_its_reader_did_not_wait_for_is_no_error(
    scrapekit: Called, site: Site
) -> None:
    told_in = "--json", "--report", "report.json"
    async with started(scrapekit.folder, *start(site, "/absent"), "-q", *told_in) as program:
        program.close_output()
        told = await program.end()
    assert told.code == 1
    assert "Traceback" not in told.err
    assert not json.loads(scrapekit.read("report.json"))["ok"]
