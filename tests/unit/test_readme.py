"""README.md is true: its blocks run, its tables are those of the code, its links lead somewhere."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import scrapekit
from scrapekit.cli import crawl, exits
from scrapekit.importing import import_file
from scrapekit.messages import Request, Response
from scrapekit.testing import FakeTransport
from tests import readme
from tests.programs import EXAMPLES, ROOT, run

FIRST = """
<div class="quote"><q class="text">So it goes.</q><b class="author">Vonnegut</b></div>
<li class="next"><a href="/page/2/">next</a></li>
"""
SECOND = """
<div class="quote"><q class="text">Reader, I married him.</q><b class="author">Brontë</b></div>
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a reader would be who has saved each Python block under its name."""
    for block in readme.blocks("python"):
        name = block.note.removeprefix("file: ")
        (tmp_path / name).write_text(block.text, encoding="utf-8")
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
async def quotes_url() -> AsyncIterator[str]:
    """A site like quotes.toscrape.com, on this machine."""

    async def page(request: web.Request) -> web.Response:
        html = SECOND if "2" in request.path else FIRST
        return web.Response(text=html, content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/", page), web.get("/page/2/", page)])
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


def command(note: str) -> list[str]:
    """The arguments of the scrapekit command in the console block with that note."""
    (block,) = [block for block in readme.blocks("console") if block.note == note]
    (line,) = [part.strip() for part in block.text.split("&&") if "scrapekit crawl" in part]
    return line.split()[1:]


def first_cells(heading: str) -> str:
    return "".join(row.split("|")[1] for row in readme.rows(heading))


def test_every_block_is_tested_here() -> None:
    notes = [block.note for block in readme.blocks("python")]
    names = ("quotes", "embedded", "lanes", "orders", "catalogue", "test_quotes")
    assert notes == [f"file: {name}.py" for name in names]
    assert [block.note for block in readme.blocks("console")] == [
        "run",
        "not run: it is what runs this",
        "run with a start URL on this machine",
        "run twice with a start URL on this machine",
        "run after a job with a start URL on this machine",
        "run with a start URL on this machine, twice",
    ]


def test_the_first_command_crawls_the_demo_shop(folder: Path) -> None:
    program = run("-m", "scrapekit", *command("run"), cwd=folder)
    assert program.returncode == 0, program.stderr
    assert len((folder / "products.jsonl").read_text().splitlines()) == 39
    (report,) = [block.text for block in readme.blocks("text") if block.note == "report"]
    assert _without_measures(report) in _without_measures(program.stderr)


def test_the_second_command_is_the_one_that_ci_runs() -> None:
    (block,) = [block for block in readme.blocks("console") if block.note.startswith("not run")]
    install, test = block.text.rsplit("&&", 1)
    ci = (ROOT / ".ci" / "run").read_text()
    assert test.strip() == "python -m pytest"
    assert "\ncheck python -m pytest\n" in ci
    assert "pip install -e . --group test" in install


def test_the_first_spider_is_the_example() -> None:
    (spider,) = [b.text for b in readme.blocks("python") if b.note == "file: quotes.py"]
    assert (EXAMPLES / "quotes.py").read_text().endswith(spider)


async def test_the_first_spider_runs_by_the_command_that_is_given(
    folder: Path, quotes_url: str
) -> None:
    here = ["-a", f'start_urls=["{quotes_url}"]']
    arguments = command("run with a start URL on this machine")
    program = await asyncio.to_thread(run, "-m", "scrapekit", *arguments, *here, cwd=folder)
    assert program.returncode == 0, program.stderr
    lines = (folder / "quotes.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"text": "So it goes.", "author": "Vonnegut"},
        {"text": "Reader, I married him.", "author": "Brontë"},
    ]


async def test_the_next_crawl_says_what_changed(folder: Path, quotes_url: str) -> None:
    here = ["-a", f'start_urls=["{quotes_url}"]']
    earlier = command("run twice with a start URL on this machine")
    later = command("run after a job with a start URL on this machine")
    await asyncio.to_thread(run, "-m", "scrapekit", *earlier, *here, cwd=folder)
    program = await asyncio.to_thread(run, "-m", "scrapekit", *later, *here, cwd=folder)
    assert program.returncode == 0, program.stderr
    assert "2 pages unchanged; items: 0 new, 0 changed, 2 same, 0 gone" in program.stderr
    lines = (folder / "tuesday.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["_change"] for line in lines] == ["same", "same"]
    program = await asyncio.to_thread(
        run, "-m", "scrapekit", "diff", "quotes.job", "tuesday.job", cwd=folder
    )
    assert (program.stdout, program.stderr) == ("", "0 new, 0 changed, 2 same, 0 gone\n")


async def test_the_cache_replays_the_first_spider(folder: Path, quotes_url: str) -> None:
    here = ["-a", f'start_urls=["{quotes_url}"]']
    arguments = command("run with a start URL on this machine, twice")
    for told in ("0 hits, 0 revalidated, 3 missed, 3 kept", "3 hits, 0 revalidated, 0 missed"):
        program = await asyncio.to_thread(run, "-m", "scrapekit", *arguments, *here, cwd=folder)
        assert program.returncode == 0, program.stderr
        assert told in program.stderr
    assert (folder / "kept").is_dir()
    assert (folder / "quotes.jsonl").read_text(encoding="utf-8").count("\n") == 2


async def test_the_job_is_continued_by_the_command_that_is_given(
    folder: Path, quotes_url: str
) -> None:
    here = ["-a", f'start_urls=["{quotes_url}"]']
    arguments = command("run twice with a start URL on this machine")
    words = ("-m", "scrapekit", *arguments, *here)
    stopped = await asyncio.to_thread(run, *words, "-s", "max_pages=1", cwd=folder)
    program = await asyncio.to_thread(run, *words, cwd=folder)
    assert (stopped.returncode, program.returncode) == (0, 0), program.stderr
    assert "resuming: 1 done, " in program.stderr
    lines = (folder / "quotes.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["text,author", "So it goes.,Vonnegut", '"Reader, I married him.",Brontë']


async def test_the_embedded_crawl_gives_its_items_and_a_report(
    folder: Path,
    quotes_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    embedded = import_file(folder / "embedded.py")
    monkeypatch.setattr(embedded.Quotes, "start_urls", [quotes_url])
    assert await embedded.authors() == {"Vonnegut", "Brontë"}
    assert "quotes: finished after" in capsys.readouterr().out


async def test_callbacks_run_in_the_lanes_that_their_comments_name(folder: Path) -> None:
    shop = "https://shop.example"
    web = FakeTransport(
        {
            f"{shop}/": '<a class="product" href="/tea">tea</a>',
            f"{shop}/tea": '<h1>Tea</h1><a class="reviews" href="/tea/reviews">all</a>',
            f"{shop}/tea/reviews": "<article>rather good tea</article>",
        }
    )
    spider = import_file(folder / "lanes.py").Reviews()
    async with scrapekit.crawl(spider, transport=web, settings={"processes": 1}) as run_:
        items: list[Any] = [item async for item in run_]
    assert items == [{"name": "Tea"}, {"words": 3}]
    assert spider.stats.get("pages") == 3
    assert {cost.callback: cost.lane for cost in run_.report.callbacks} == {
        "parse": "loop",
        "parse_product": "thread",
        "parse_reviews": "process",
    }


async def test_the_login_keeps_two_people_apart(folder: Path) -> None:
    def log_in(request: Request) -> Response:
        user = dict(parse_qsl(request.body.decode()))["user"]
        headers = {"Location": "/orders", "Set-Cookie": f"user={user}; Path=/"}
        return Response(request.url, 303, headers)

    def orders(request: Request) -> str:
        return f"<li class=order>{request.headers['Cookie']}</li>"

    shop = "https://shop.example"
    form = '<form id="login" method="post" action="/in"><input name="user"><input name="password">'
    web = FakeTransport(
        {f"{shop}/login": form, f"{shop}/in": log_in, f"{shop}/orders": orders},
    )
    items = await scrapekit.collect(import_file(folder / "orders.py").Orders(), transport=web)
    assert {item["who"]: item["orders"] for item in items} == {
        "ann": ["user=ann"],
        "bob": ["user=bob"],
    }


async def test_the_catalogue_follows_its_sitemaps(folder: Path) -> None:
    shop = "https://shop.example"
    old = "<lastmod>2025-12-31</lastmod>"
    urls = "".join(
        f"<url><loc>{shop}{path}</loc>{lastmod}</url>"
        for path, lastmod in (("/products/1", ""), ("/products/2", old), ("/about", ""))
    )
    web = FakeTransport(
        {
            f"{shop}/robots.txt": f"Sitemap: {shop}/map.xml".encode(),
            f"{shop}/map.xml": f"<urlset>{urls}</urlset>".encode(),
            f"{shop}/products/1": "<h1>Tea</h1>",
        }
    )
    spider = import_file(folder / "catalogue.py").Catalogue()
    assert await scrapekit.collect(spider, transport=web) == [{"product": "Tea"}]


async def test_the_tests_of_the_spider_pass(folder: Path) -> None:
    tests = import_file(folder / "test_quotes.py")
    await tests.test_a_quote_has_text_and_author()
    await tests.test_the_next_page_is_followed()


def test_the_table_of_settings_is_that_of_the_code() -> None:
    assert readme.settings_table() == readme.made_settings_table(), (
        "run `python -m tests.readme`, which writes the table anew"
    )


def test_the_table_of_speeds_is_that_of_the_results() -> None:
    assert readme.speed_table() == readme.made_speed_table(), (
        "run `python -m tests.readme`, which writes the table anew"
    )


def test_the_threat_model_names_tests_that_there_are() -> None:
    named = {cell for row in readme.rows("threat") for cell in re.findall(r"`(test_\w+)`", row)}
    assert len(named) >= 20
    assert all("`test_" in row for row in readme.rows("threat"))
    files = (ROOT / "tests").rglob("test_*.py")
    defined = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert named <= defined


def test_the_table_of_options_is_that_of_the_command() -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    crawl.add_to(commands)
    known = {
        name for action in commands.choices["crawl"]._actions for name in action.option_strings
    }
    told = re.findall(r"`(--?[\w-]+)[ `]", first_cells("option"))
    assert sorted(told) == sorted(known)


def test_the_table_of_exit_codes_has_them_all() -> None:
    told = re.findall(r"\d+", first_cells("exit code"))
    terminated = exits.by_signal(signal.SIGTERM)
    known = [exits.DONE, exits.FAILED, exits.USAGE, exits.NOT_STARTED, exits.INTERRUPTED]
    assert [int(code) for code in told] == [*known, terminated]


def test_links_lead_to_files_of_the_checkout() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", readme.text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def _without_measures(report: str) -> str:
    """A report without what differs from run to run: times, rates and the shop's port."""
    report = re.sub(r"[\d.]+ (ms|s|min)\b", "TIME", report)
    report = re.sub(r"\([\d.,]+/s\)", "RATE", report)
    return re.sub(r"127\.0\.0\.1:\d+", "HOST", report)
