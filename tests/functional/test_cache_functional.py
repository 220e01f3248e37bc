from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

import scrapekit
from scrapekit import Response
from scrapekit.clock import ManualClock
from tests.functional.cli import Called, started
from tests.functional.cli import scrapekit as command
from tests.functional.site import Pages, Site, answer, crawled, idle, links, redirect
from tests.functional.spiders import Following, Titles

__all__ = ["command"]

ROBOTS = answer(200, "User-agent: *\nCrawl-delay: 20\nDisallow: /private")


def small_site() -> Pages:
    return {
        "/robots.txt": ROBOTS,
        "/": links("/a", "/b", "/moved", "/private", "/gone"),
        "/a": links("/b"),
        "/b": "b" * 300_000,
        "/moved": redirect("/c", 301),
        "/c": links("/a"),
    }


def cached(folder: Path, **settings: Any) -> dict[str, Any]:
    return {"cache": str(folder / "cache"), "obey_robots": True, **settings}


async def test_a_crawl_is_replayed_without_its_site(tmp_path: Path) -> None:
    async with Site(small_site()) as site:
        starts = [site.url()]
        pages = site.pages
        pages["/robots.txt"] = answer(200, "User-agent: *\nDisallow: /private")
        items, first = await crawled(Following(start_urls=starts), settings=cached(tmp_path))
    replayed, second = await crawled(Following(start_urls=starts), settings=cached(tmp_path))
    paths = sorted(item["path"] for item in items)
    assert paths == ["/", "/a", "/b", "/c"]
    assert sorted(item["path"] for item in replayed) == paths
    assert first.cache is not None
    assert second.cache is not None
    assert (first.cache.hits, first.cache.misses, first.cache.kept) == (0, 7, 7)
    assert (second.cache.hits, second.cache.misses, second.cache.kept) == (7, 0, 0)
    assert second.dropped == first.dropped
    assert second.statuses == first.statuses == {200: 4, 404: 1}
    assert second.bytes == first.bytes
    assert "  cache      7 hits, 0 revalidated, 0 missed, 0 kept\n" in str(second)


async def test_what_is_replayed_waits_for_no_delay(tmp_path: Path) -> None:
    settings = cached(tmp_path, delay_s=30.0, concurrency_per_origin=1)
    async with Site({**small_site(), "/": links("/a", "/b", "/moved", "/gone")}) as site:
        starts = [site.url()]
        clock = ManualClock()
        async with scrapekit.crawl(
            Following(start_urls=starts), settings=settings, clock=clock
        ) as run:
            waiting = asyncio.create_task(run.wait())
            while not waiting.done():
                await idle()
                clock.advance(1.0)
    # Neither the setting nor the Crawl-delay is waited for by a clock that stands still.
    replay = ManualClock()
    items, report = await crawled(Following(start_urls=starts), settings=settings, clock=replay)
    assert len(items) == 4
    assert report.cache is not None
    assert report.cache.misses == 0


async def test_what_isnt_there_keeps_its_distance_whatever_is_replayed(tmp_path: Path) -> None:
    clock = ManualClock()
    times: list[float] = []

    async def page(_request: web.BaseRequest) -> web.StreamResponse:
        times.append(clock.now())
        return web.Response()

    async with Site({"*": page}) as site:
        old = site.urls(*(f"/old{number}" for number in range(5)))
        new = site.urls(*(f"/new{number}" for number in range(3)))
        settings = cached(tmp_path, obey_robots=False)
        await crawled(Titles(start_urls=old), settings=settings)
        times.clear()
        mixed = [old[0], new[0], old[1], old[2], new[1], old[3], new[2], old[4]]
        settings["delay_s"] = 10.0
        began = clock.now()
        async with scrapekit.crawl(Titles(start_urls=mixed), settings=settings, clock=clock) as run:
            waiting = asyncio.create_task(run.wait())
            while not waiting.done():
                await idle()
                if run.in_flight == 0 and (date := clock.next_timer()) is not None:
                    clock.advance_to(date)
    assert times == [began, began + 10, began + 20]
    assert run.report.cache is not None
    assert (run.report.cache.hits, run.report.cache.misses) == (5, 3)


async def test_callbacks_see_where_a_page_came_from(tmp_path: Path) -> None:
    class Sources(Titles):
        async def parse(self, response: Response) -> dict[str, Any]:
            return {"cached": response.cached}

    async with Site({"*": redirect("/there"), "/there": ""}) as site:
        starts = site.urls("/")
        settings = cached(tmp_path, obey_robots=False)
        assert (await crawled(Sources(start_urls=starts), settings=settings))[0] == [{"cached": ""}]
    found, _ = await crawled(Sources(start_urls=starts), settings=settings)
    assert found == [{"cached": "hit"}]


async def test_pages_are_revalidated_by_their_etag(tmp_path: Path) -> None:
    tag = '"1"'

    async def page(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.Response(text=f"page {tag}", headers={"ETag": tag})

    settings = cached(tmp_path, cache_mode="rules", obey_robots=False)
    async with Site({"*": page}) as site:
        spider = {"start_urls": site.urls("/a", "/b")}
        reports = [(await crawled(Titles(**spider), settings=settings))[1] for _ in range(2)]
        tag = '"2"'
        reports.append((await crawled(Titles(**spider), settings=settings))[1])
    counts = [(r.cache.revalidated, r.cache.misses) for r in reports if r.cache is not None]
    assert counts == [(0, 2), (2, 0), (0, 2)]
    assert {report.statuses[200] for report in reports} == {2}


async def test_the_command_keeps_and_replays(command: Called) -> None:
    async with Site({"/": f"<h1>Home</h1>{links('/a')}", "/a": "<h1>A</h1>"}) as site:
        start = ["-a", f"start_urls={site.url()}"]
        first = await command.beside("crawl", "pages.py", *start, "--cache", "kept", "-o", "-")
    second = await command.beside("crawl", "pages.py", *start, "--cache", "kept", "-o", "-")
    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out
    assert "  cache      0 hits, 0 revalidated, 2 missed, 2 kept\n" in first.err
    assert "  cache      2 hits, 0 revalidated, 0 missed, 0 kept\n" in second.err
    third = await command.beside("crawl", "pages.py", *start, "--cache", "kept", "--json")
    assert json.loads(third.out)["cache"]["hits"] == 2


async def test_a_folder_that_is_no_cache_ends_the_command_before_it_starts(command: Called) -> None:
    command.write("papers/thesis.txt", "x")
    done = await command.beside(
        "crawl",
        "pages.py",
        "-a",
        "start_urls=http://127.0.0.1:1/",
        "--cache",
        "papers",
        "-q",
        "-o",
        "out.jsonl",
    )
    assert done.code == 3
    assert done.error == (
        "can't use the cache papers: it holds other files and is no cache; choose a new folder"
    )
    assert not (command.folder / "out.jsonl").exists()


async def test_after_a_kill_only_what_is_missing_is_fetched(command: Called) -> None:
    paths = [f"/{number}" for number in range(40)]
    pages: Pages = dict.fromkeys(paths, "<h1>Page</h1>")
    async with Site({**pages, "/": links(*paths)}) as site:
        start = ("crawl", "pages.py", "-a", f"start_urls={site.url()}", "--cache", "kept")
        slow = ("-s", "concurrency=1")
        async with started(command.folder, *start, *slow) as program:
            await site.until(lambda: len(site.hits) >= 20)
            program.send(signal.SIGKILL)
            await program.end()
        before = len(site.hits)
        done = await command.beside(*start, "-O", "out.jsonl")
        assert done.code == 0
        assert len(site.hits) - before <= 41 - 19
    assert len(command.read("out.jsonl").splitlines()) == 41


FULL = """
import resource, signal, sys
import scrapekit
from pages import Pages

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
report = scrapekit.run(Pages(start_urls=[sys.argv[1]]), settings={"cache": "kept"})
print(report.pages, report.cache.kept, report.ok)
"""


async def test_a_full_disk_costs_the_keeping_alone(command: Called) -> None:
    command.write("full.py", FULL)
    pages: Pages = {"/": links("/large", "/a", "/b"), "*": "<h1>x</h1>", "/large": "x" * 200_000}
    async with Site(pages) as site:
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            "full.py",
            site.url(),
            cwd=command.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = (text.decode() for text in await program.communicate())
    pages_done, kept, ok = out.split()
    assert (pages_done, ok) == ("4", "True")
    assert int(kept) <= 3
    assert "the cache kept can't be written any more (File too large)" in err
    assert not list((command.folder / "kept" / "unfinished").iterdir())
