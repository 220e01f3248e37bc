"""Hostile pages: what they may cost, in each lane."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import scrapekit
from scrapekit import Response, Spider, lane
from scrapekit.errors import DocumentRefused
from scrapekit.events import Failed, Recorder
from scrapekit.failure import Failure
from scrapekit.lanes.trial import Trial
from scrapekit.report import Report
from scrapekit.settings import Settings
from scrapekit.testing import FakeTransport, respond
from tests import torture
from tests.leaks import no_async_leaks

NESTED = torture.HOSTILE["nested div"](torture.SIZE)
SWOLLEN = torture.HOSTILE["formatting with a long value"](torture.SIZE)
TABLES = torture.HARMLESS["nested tables"](torture.SIZE)
LARGE = b"<title>tea</title>" + b"<p>tea</p>" * 2_000
SITE = "http://site.test/"


class OnLoop(Spider):
    start_urls: tuple[str, ...] = (SITE,)

    async def parse(self, response: Response) -> AsyncIterator[dict[str, Any]]:
        yield {"title": response.get("title", "")}


class InThread(Spider):
    start_urls: tuple[str, ...] = (SITE,)

    def parse(self, response: Response) -> Iterator[dict[str, Any]]:
        yield {"title": response.get("title", "")}


class InProcess(Spider):
    start_urls: tuple[str, ...] = (SITE,)

    @lane("process")
    def parse(self, response: Response) -> Iterator[dict[str, Any]]:
        yield {"title": response.get("title", "")}


async def crawl(
    spider: Spider, body: bytes, kind: str = "text/html", **settings: Any
) -> tuple[list[Any], Report]:
    page = respond(body, url=SITE, headers={"Content-Type": kind})
    transport = FakeTransport({SITE: page})
    merged = Settings(obey_robots=False, max_parse_s=1.0, **settings)
    async with scrapekit.crawl(spider, settings=merged, transport=transport) as run:
        items = [item async for item in run]
    return items, run.report


@pytest.fixture
async def trial() -> AsyncIterator[Trial]:
    made = Trial(1.0)
    yield made
    made.close()


async def test_a_page_that_passes_has_no_fault(trial: Trial) -> None:
    assert await trial.fault(TABLES) == ""
    assert await trial.fault(b"") == ""


async def test_a_page_that_takes_too_long_is_told_so_and_the_next_one_is_tried(
    trial: Trial,
) -> None:
    assert (await trial.fault(NESTED)).startswith("it takes longer than 0.")
    assert await trial.fault(TABLES) == ""


async def test_small_pages_get_less_time(trial: Trial) -> None:
    small = torture.HOSTILE["nested div"](20_000)
    assert "0.42 s" in await trial.fault(small)


async def test_after_some_bad_pages_an_origin_gets_no_trial(trial: Trial) -> None:
    for _ in range(3):
        assert "longer than" in await trial.fault(NESTED, "http://bad.test")
    before = repr(trial)
    assert await trial.fault(TABLES, "http://bad.test") == (
        "it looks like 3 earlier pages of http://bad.test, which took too long"
    )
    assert repr(trial) == before
    assert await trial.fault(TABLES, "http://good.test") == ""


async def test_a_page_that_takes_too_much_memory_is_told_so() -> None:
    trial = Trial(60)
    assert await trial.fault(SWOLLEN) == "it takes more than 512 MiB of memory"
    assert await trial.fault(TABLES) == ""
    trial.close()


async def test_a_process_serves_many_pages_and_is_not_there_before_and_after() -> None:
    async with no_async_leaks():
        trial = Trial(1)
        assert repr(trial) == "<Trial idle>"
        await trial.fault(TABLES)
        first = repr(trial)
        await asyncio.gather(*(trial.fault(TABLES) for _ in range(5)))
        assert repr(trial) == first != "<Trial idle>"
        trial.close()


async def test_cancelling_a_trial_ends_its_process() -> None:
    async with no_async_leaks():
        trial = Trial(30)
        page = asyncio.create_task(trial.fault(NESTED))
        await asyncio.sleep(0.3)
        page.cancel()
        with pytest.raises(asyncio.CancelledError):
            await page
        assert await trial.fault(TABLES) == ""
        trial.close()


@pytest.mark.parametrize("spider", [OnLoop, InThread])
async def test_a_hostile_page_costs_itself_alone(spider: type[Spider]) -> None:
    async with no_async_leaks():
        items, report = await crawl(spider(), NESTED)
    assert items == []
    assert [(each.error, each.callback) for each in report.errors] == [("DocumentRefused", "parse")]
    assert report.ok
    assert "not parsed: it takes longer than 0." in str(report)


@pytest.mark.parametrize("spider", [OnLoop, InThread])
@pytest.mark.parametrize("body", [LARGE, b"<title>tea</title>" + TABLES])
async def test_other_pages_are_parsed(spider: type[Spider], body: bytes) -> None:
    assert (await crawl(spider(), body))[0] == [{"title": "tea"}]


async def test_pages_of_any_encoding_are_tried_as_they_are_parsed() -> None:
    body = NESTED.decode().encode("utf-16")
    items, report = await crawl(InThread(), body, "text/html; charset=utf-16")
    assert (len(items), len(report.errors)) == (0, 1)


async def test_html_by_another_name_is_parsed_in_any_lane() -> None:
    for spider in (OnLoop(), InThread()):
        items, _ = await crawl(spider, b"  \n" + LARGE, "application/octet-stream")
        assert items == [{"title": "tea"}]


async def test_many_hostile_pages_of_a_site_cost_a_few_trials() -> None:
    pages = {f"{SITE}{n}": respond(NESTED, url=f"{SITE}{n}") for n in range(30)}
    pages |= {f"{SITE}good-{n}": respond(LARGE, url=f"{SITE}good-{n}") for n in range(100)}
    spider = OnLoop()
    spider.start_urls = tuple(pages)
    settings = Settings(obey_robots=False, concurrency=8)
    recorder = Recorder()
    async with scrapekit.crawl(
        spider, settings=settings, transport=FakeTransport(pages), observers=[recorder]
    ) as run:
        items = [item async for item in run]
    assert len(items) == 100
    failures = [str(event.failure) for event in recorder.events if isinstance(event, Failed)]
    assert sum("it looks like 3 earlier pages" in failure for failure in failures) == 27
    assert len(failures) == 30


async def test_on_error_cannot_block_the_loop_either() -> None:
    class Asking(Spider):
        start_urls: tuple[str, ...] = (SITE,)

        async def parse(self, response: Response) -> None: ...

        async def on_error(self, failure: Failure) -> None:
            assert failure.response is not None
            failure.response.get("title")

    page = respond(NESTED, url=SITE, status=404)
    settings = Settings(obey_robots=False)
    async with scrapekit.crawl(
        Asking(), settings=settings, transport=FakeTransport({SITE: page})
    ) as run:
        await run.wait()
    assert sorted(group.error for group in run.report.errors) == [
        "BadStatus 404",
        "DocumentRefused",
    ]


async def test_on_the_loop_only_markup_is_parsed() -> None:
    items, report = await crawl(OnLoop(), b"tea" + LARGE * 2, "image/png")
    assert items == []
    assert "image/png" in str(report)
    assert (await crawl(InThread(), b"tea" + LARGE * 2, "image/png"))[0] == [{"title": "tea"}]


async def test_what_looks_dangerous_and_is_no_markup_is_not_even_tried() -> None:
    _, report = await crawl(InThread(), b"tea" + NESTED, "image/png")
    assert "not parsed: it is image/png" in str(report)


async def test_who_asks_no_question_is_not_told() -> None:
    class Size(Spider):
        start_urls: tuple[str, ...] = (SITE,)

        def parse(self, response: Response) -> dict[str, Any]:
            return {"size": len(response.body)}

    items, report = await crawl(Size(), NESTED)
    assert items == [{"size": len(NESTED)}]
    assert report.ok


async def test_the_process_lane_needs_no_trial() -> None:
    items, report = await crawl(InProcess(), NESTED, callback_timeout_s=0.3)
    assert items == []
    assert [each.error for each in report.errors] == ["CallbackTimedOut"]


async def test_without_a_limit_all_is_parsed() -> None:
    page = respond(torture.HOSTILE["nested div"](20_000), url=SITE)
    settings = Settings(obey_robots=False, max_parse_s=None)
    transport = FakeTransport({SITE: page})
    items = await scrapekit.collect(InThread(), settings=settings, transport=transport)
    assert items == [{"title": ""}]


async def test_leaving_a_crawl_ends_a_trial_under_way() -> None:
    transport = FakeTransport({SITE: respond(NESTED, url=SITE)})
    settings = Settings(obey_robots=False, max_parse_s=30)
    async with no_async_leaks():
        async with scrapekit.crawl(OnLoop(), settings=settings, transport=transport) as run:
            await asyncio.sleep(0.3)
            run.cancel()
        assert run.report.pages == 1


def test_a_script_without_a_main_guard_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from scrapekit import Spider, run\n"
        "from scrapekit.testing import FakeTransport\n"
        "class Tables(Spider):\n"
        f"    start_urls = [{SITE!r}]\n"
        "    def parse(self, response):\n"
        "        return {'tables': len(response.css('table'))}\n"
        f"web = FakeTransport({{{SITE!r}: '<table><tr><td>' * 20_000}})\n"
        "report = run(Tables(), transport=web)\n"
        "print('items', report.items, 'ok', report.ok)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "items 1 ok True\n", done.stderr


def test_the_error_says_who_and_what() -> None:
    error = DocumentRefused("it takes too long", url=SITE)
    assert str(error) == "not parsed: it takes too long"
    assert (error.reason, error.url, error.fault) == ("it takes too long", SITE, "the site")
