from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import scrapekit
from scrapekit import Request, Response, Spider
from scrapekit.api import Crawl
from scrapekit.events import PageDone, PageFetched
from tests.functional.site import Site, Watcher, answer, crawled, idle, links, only_error
from tests.functional.spiders import Titles

CONCURRENCY = 4
PAGES_AHEAD = 16
"""What the stream to whoever iterates holds, in pages."""
SETTINGS = {"obey_robots": False, "concurrency": CONCURRENCY, "concurrency_per_origin": CONCURRENCY}
MANY = [f"/{number}" for number in range(200)]


async def settled(site: Site) -> int:
    """How many pages were asked for by the time nothing moves any more."""
    before = -1
    while before != len(site.hits):
        before = len(site.hits)
        await idle(200)
    return before


async def test_a_slow_consumer_slows_fetching_down() -> None:
    async with Site({"*": ""}) as site:
        spider = Titles(start_urls=site.urls(*MANY))
        async with scrapekit.crawl(spider, settings=SETTINGS) as run:
            taken = 0
            async for _ in run:
                taken += 1
                if taken in (1, 2, 50):
                    ahead = await settled(site) - taken
                    assert ahead <= PAGES_AHEAD + CONCURRENCY + 1
    assert taken == len(MANY)


async def test_nobody_who_iterates_slows_nothing_down_once_the_block_is_left() -> None:
    async with Site({"*": ""}) as site:
        spider = Titles(start_urls=site.urls(*MANY))
        async with scrapekit.crawl(spider, settings=SETTINGS) as run:
            assert await settled(site) <= PAGES_AHEAD + CONCURRENCY + 1
        assert len(site.hits) == len(MANY)
        assert run.report.items == len(MANY)


async def test_a_slow_async_stage_slows_fetching_down() -> None:
    gate = asyncio.Event()

    async def slow(item: Any) -> Any:
        await gate.wait()
        return item

    await _held_up([slow], gate.set)


async def test_a_slow_plain_stage_slows_fetching_down() -> None:
    gate = threading.Event()

    def slow(item: Any) -> Any:
        gate.wait()
        return item

    await _held_up([slow], gate.set)


async def _held_up(pipeline: list[Any], go_on: Callable[[], None], **options: Any) -> None:
    async with Site({"*": ""}) as site:
        spider = Titles(start_urls=site.urls(*MANY))
        async with scrapekit.crawl(spider, settings=SETTINGS, pipeline=pipeline, **options) as run:
            try:
                assert await settled(site) <= CONCURRENCY
            finally:
                go_on()
        assert run.report.items == len(MANY)


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
async def test_slow_callbacks_slow_fetching_down(plain: bool) -> None:
    gate, loop_gate = threading.Event(), asyncio.Event()

    class Slow(Spider):
        async def start(self) -> AsyncIterator[Request]:
            for url in self.start_urls:
                yield Request(url, "parse_plain" if plain else "parse_async")

        def parse_plain(self, response: Response) -> None:
            gate.wait()

        async def parse_async(self, response: Response) -> None:
            await loop_gate.wait()

    async with Site({"*": ""}) as site:
        spider = Slow(start_urls=site.urls(*MANY))
        async with scrapekit.crawl(spider, settings=SETTINGS) as run:
            try:
                assert await settled(site) <= CONCURRENCY
            finally:
                gate.set()
                loop_gate.set()
        assert run.report.pages == len(MANY)


class Large(Spider):
    async def parse(self, response: Response) -> dict[str, Any]:
        return {"text": "x" * 20_000}


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A named pipe whose reader, the descriptor, takes nothing unless the test does."""
    path = tmp_path / "items.jsonl"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reader
    os.close(reader)


async def _drain(reader: int, until: asyncio.Task[Any]) -> bytes:
    """Read the pipe until the task is done and nothing is left."""
    loop, parts = asyncio.get_running_loop(), []
    while True:
        try:
            part = os.read(reader, 65_536)
        except BlockingIOError:
            part = b""
        if part:
            parts.append(part)
        elif until.done():
            return b"".join(parts)
        else:
            readable = asyncio.Event()
            loop.add_reader(reader, readable.set)
            waiting = asyncio.create_task(readable.wait())
            await asyncio.wait({waiting, until}, return_when=asyncio.FIRST_COMPLETED)
            loop.remove_reader(reader)
            waiting.cancel()


async def test_an_export_that_nobody_reads_slows_fetching_down(pipe: tuple[Path, int]) -> None:
    path, reader = pipe
    async with Site({"*": ""}) as site:
        spider = Large(start_urls=site.urls(*MANY))

        async def crawl() -> Crawl:
            async with scrapekit.crawl(spider, settings=SETTINGS, output=path) as run:
                return run

        task = asyncio.create_task(crawl())
        await site.until(lambda: len(site.hits) > CONCURRENCY)
        # 64 KB in the pipe and 256 KB in our buffer are some 17 pages.
        assert await settled(site) <= 17 + 2 * CONCURRENCY
        written = await _drain(reader, task)
        run = await task
    assert written.count(b"\n") == run.report.items == len(MANY)
    assert run.report.ok


async def test_a_crawl_whose_export_nobody_reads_can_be_cancelled(
    pipe: tuple[Path, int], tmp_path: Path
) -> None:
    path, _ = pipe
    other = tmp_path / "items.json"
    async with Site({"*": ""}) as site:
        spider = Large(start_urls=site.urls(*MANY))
        async with scrapekit.crawl(spider, settings=SETTINGS, output=[path, other]) as run:
            await site.until(lambda: len(site.hits) > CONCURRENCY)
            await settled(site)
            run.cancel()
    assert run.report.reason == "stopped"
    assert not run.report.ok
    assert only_error(run.report)[0] == "OutputError"
    assert len(msgspec.json.decode(other.read_bytes())) == run.report.items


async def test_bytes_in_flight_stay_within_their_bound() -> None:
    size, limit = 50_000, 200_000
    gate = asyncio.Event()
    watcher = Watcher()

    class Holding(Spider):
        async def parse(self, response: Response) -> dict[str, Any]:
            await gate.wait()
            return {"size": len(response.body)}

    async with Site({"*": answer(body="x" * size)}) as site:
        spider = Holding(start_urls=site.urls(*MANY[:60]))
        settings = {
            "obey_robots": False,
            "concurrency": 40,
            "concurrency_per_origin": 40,
            "max_bytes_in_flight": limit,
        }
        async with scrapekit.crawl(spider, settings=settings, observers=[watcher]) as run:
            await watcher.until(PageFetched, 1)
            await settled(site)
            assert run._engine is not None
            budget = run._engine._budget
            # One page more than the limit may be whole: see ByteBudget.
            assert watcher.count(PageFetched) <= limit // size + 1
            gate.set()
            items = [item async for item in run]
    assert len(items) == 60
    assert limit / 2 < budget.peak <= limit + size
    assert budget.used == 0


async def test_a_budget_smaller_than_any_page_fetches_them_one_after_another() -> None:
    async with Site({"*": answer(body="x" * 10_000)}) as site:
        spider = Titles(start_urls=site.urls(*MANY[:20]))
        items, report = await crawled(spider, settings={"max_bytes_in_flight": 1})
    assert len(items) == 20
    assert report.ok


async def test_generated_starts_wait_while_the_consumer_does() -> None:
    made = 0

    class Endless(Titles):
        async def start(self) -> AsyncIterator[Request]:
            nonlocal made
            while True:
                made += 1
                yield Request(site.url(f"/{made}"))

    async with Site({"*": ""}) as site:
        async with scrapekit.crawl(Endless(), settings=SETTINGS) as run:
            async for _ in run:
                await settled(site)
                break
        assert made <= 64 + PAGES_AHEAD + 2 * CONCURRENCY + 2


async def test_links_found_are_kept_but_not_fetched_ahead() -> None:
    watcher = Watcher()

    class Fan(Spider):
        async def parse(self, response: Response) -> AsyncIterator[Any]:
            yield {"url": response.url}
            yield response.follow_all()

    async with Site({"/": links(*MANY), "*": ""}) as site:
        spider = Fan(start_urls=[site.url()])
        async with scrapekit.crawl(spider, settings=SETTINGS, observers=[watcher]) as run:
            async for _ in run:
                await watcher.until(PageDone)
                assert await settled(site) <= PAGES_AHEAD + 2 * CONCURRENCY + 1
                assert run.pending >= len(MANY) - PAGES_AHEAD - 2 * CONCURRENCY
                break
