"""Crawls with a job, stopped in every way and continued."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import json
import logging
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

import scrapekit
from scrapekit import Request, Response, Settings, Spider
from scrapekit.api import why_not_ok
from scrapekit.errors import BadStatus, ConnectError, JobError, OutputError
from scrapekit.events import PageDone, Recorder, RequestsDropped
from scrapekit.exports.sqlite import SqliteFile
from scrapekit.failure import Failure
from scrapekit.frontier.folder import lock
from scrapekit.frontier.sqlite import SqliteFrontier
from scrapekit.frontier.store import Store
from scrapekit.jobs import (
    failed_requests,
    forget_lost,
    items_of,
    lost_items,
    retry,
    start_anew,
    state,
    waste,
)
from scrapekit.jobs.job import Job
from scrapekit.report import Report
from scrapekit.testing import FakeTransport, ManualClock, respond
from tests.functional.site import idle

HOME = "http://shop.test"
PAGES = 12


def site(count: int = PAGES) -> dict[str, Any]:
    """Pages in a row, each linked to the next three."""
    return {f"{HOME}/{n}": _page(n, count) for n in range(count)}


def _page(number: int, count: int) -> str:
    links = "".join(f'<a href="/{n}">.</a>' for n in range(number + 1, number + 4) if n < count)
    return f"<title>{number}</title>{links}"


class Row(Spider):
    """An item a page, every link followed."""

    start_urls = (f"{HOME}/0",)
    settings = Settings(obey_robots=False, retries=0, concurrency=2)

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        yield {"n": int(response.get("title", ""))}
        yield response.follow_all()


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return tmp_path / "job"


async def crawl(
    spider: Spider,
    job: Path,
    pages: Mapping[str, Any] | FakeTransport,
    **options: Any,
) -> Report:
    """Run a crawl with a job to its end, or to what `settings` say."""
    web = pages if isinstance(pages, FakeTransport) else FakeTransport(pages)
    options["settings"] = {"stall_warning_s": 0, **options.get("settings", {})}
    async with scrapekit.crawl(spider, job=job, transport=web, **options) as run:
        await run.wait()
    return run.report


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110  the crawl tells nobody else
        await asyncio.sleep(0)


def numbers(file: Path) -> list[int]:
    return [json.loads(line)["n"] for line in file.read_text().splitlines()]


ALL = set(range(PAGES))


async def test_a_stopped_crawl_is_continued(job: Path, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    first = await crawl(Row(), job, site(), output=file, settings={"max_pages": 5})
    assert (first.reason, first.pages) == ("max_pages", 5)
    web = FakeTransport(site())

    second = await crawl(Row(), job, web, output=file)

    assert second.reason == "finished"
    assert second.ok
    assert len(web.requests) == second.pages == PAGES - 5
    assert sorted(numbers(file)) == sorted(ALL)
    assert second.job is not None
    assert (second.job.done, second.job.done_before, second.job.pending) == (PAGES, 5, 0)
    assert second.exports == {str(file): PAGES}


async def test_it_says_what_it_resumes(job: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "scrapekit")
    await crawl(Row(), job, site(), settings={"max_pages": 5})
    assert "resuming" not in caplog.text

    await crawl(Row(), job, site())

    assert "resuming: 5 done, 3 pending, 0 failed" in caplog.text


async def test_a_finished_job_has_nothing_left_to_do(job: Path, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    await crawl(Row(), job, site(), output=file)
    web = FakeTransport(site())

    report = await crawl(Row(), job, web, output=file)

    assert web.requests == []
    assert report.ok
    assert sorted(numbers(file)) == sorted(ALL)


async def test_a_crawl_that_is_left_is_continued(job: Path, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    web = FakeTransport(site())
    for count in range(1, 6):
        async with scrapekit.crawl(Row(), job=job, transport=web, output=file) as run:
            seen = 0
            async for _ in run:
                seen += 1
                if seen == count:
                    break

    await crawl(Row(), job, web, output=file)

    assert sorted(numbers(file)) == sorted(ALL)


async def test_iterating_gives_the_objects_and_the_job_their_data(job: Path) -> None:
    @dataclasses.dataclass
    class Page:
        n: int

    class Typed(Row):
        name = "row"

        async def parse(self, response: Response) -> AsyncIterator[Any]:
            yield Page(int(response.get("title", "")))

    async with scrapekit.crawl(Typed(), job=job, transport=FakeTransport(site())) as run:
        items = [item async for item in run]

    assert items == [Page(0)]
    assert list(items_of(job)) == [[{"n": 0}]]


async def test_the_folder_is_its_owners_alone(job: Path) -> None:
    await crawl(Row(), job, site())

    assert stat.S_IMODE(job.stat().st_mode) == 0o700


async def test_its_files_are_its_owners_alone_also_in_a_folder_that_others_may_read(
    job: Path,
) -> None:
    job.mkdir(mode=0o755)
    with closing(Store(job / "job.sqlite")):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in job.iterdir()}

    names = ("job.sqlite", "job.sqlite-wal", "job.sqlite-shm")
    assert modes == dict.fromkeys(names, 0o600)


async def test_a_second_process_is_refused_at_once(job: Path) -> None:
    async with scrapekit.crawl(Row(), job=job, transport=FakeTransport(site())) as first:
        with pytest.raises(JobError, match=r"another process \(pid \d+\) has the job"):
            await crawl(Row(), job, site())
        await first.wait()

    await crawl(Row(), job, site())


async def test_looking_at_an_open_job_lets_no_other_process_fold_its_journal(job: Path) -> None:
    await crawl(Row(), job, site(), settings={"max_pages": 5})
    look = f"import pathlib, scrapekit.jobs as j; print(j.state(pathlib.Path({str(job)!r})).done)"
    with closing(Store(job / "job.sqlite")) as store:
        store.change(("UPDATE notes SET value = '6' WHERE name = 'done'", ()))
        journal = (job / "job.sqlite-wal").stat()
        assert state(job).done == 6
        assert len(list(items_of(job))) == 5

        child = await asyncio.create_subprocess_exec(sys.executable, "-c", look)

        assert await child.wait() == 0
        assert (job / "job.sqlite-wal").stat().st_ino == journal.st_ino


async def test_another_spiders_job_is_refused_and_kept(job: Path) -> None:
    await crawl(Row(), job, site(), settings={"max_pages": 5})

    class Other(Row):
        pass

    with pytest.raises(JobError, match="is that of the spider 'row', not of 'other'"):
        await crawl(Other(), job, site())

    assert state(job).pending == 3


async def test_a_job_of_another_format_is_refused_and_kept(job: Path) -> None:
    await crawl(Row(), job, site(), settings={"max_pages": 5})
    database = job / "job.sqlite"
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("PRAGMA user_version = 99")
    before = database.read_bytes()

    with pytest.raises(JobError, match="has format 99, and this scrapekit knows format 2"):
        await crawl(Row(), job, site())

    assert database.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello", b"SQLite format 3\0" + bytes(84), b"x" * 200])
async def test_what_is_no_job_is_refused_and_kept(job: Path, content: bytes) -> None:
    job.mkdir()
    (job / "job.sqlite").write_bytes(content)

    with pytest.raises(JobError):
        await crawl(Row(), job, site())

    assert (job / "job.sqlite").read_bytes().startswith(content[:16])


async def test_a_folder_with_other_files_is_refused(job: Path) -> None:
    job.mkdir()
    (job / "thesis.txt").touch()

    with pytest.raises(JobError, match="holds other files and no job"):
        await crawl(Row(), job, site())

    assert [path.name for path in job.iterdir()] == ["thesis.txt"]


async def test_a_file_is_no_folder(job: Path) -> None:
    job.touch()

    with pytest.raises(JobError, match="is a file; a job needs a folder"):
        await crawl(Row(), job, site())


async def test_a_callback_that_is_gone_is_named_and_what_waits_for_it_kept(job: Path) -> None:
    class Before(Row):
        name = "row"

        async def parse(self, response: Response) -> AsyncIterator[Any]:
            yield response.follow_all(callback=self.parse_page)

        async def parse_page(self, response: Response) -> AsyncIterator[Any]:
            yield {"n": int(response.get("title", ""))}
            yield response.follow_all(callback=self.parse_page)

    await crawl(Before(), job, site(), settings={"max_pages": 3})

    with pytest.raises(JobError, match=r"\d pending requests of .* wait for the callback 'parse_p"):
        await crawl(Row(), job, site())
    pending = state(job).pending
    report = await crawl(Before(), job, site())

    assert pending
    assert report.job is not None
    assert report.job.pending == 0
    assert sum(map(len, items_of(job))) == PAGES - 1


async def test_other_settings_and_versions_are_told(
    job: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "scrapekit")
    await crawl(Row(), job, site(), settings={"max_pages": 5})
    with closing(sqlite3.connect(job / "job.sqlite")) as opened:
        opened.execute("UPDATE notes SET value = '0.0.1' WHERE name = 'version'")
        opened.commit()

    await crawl(Row(), job, site(), settings={"delay_s": 0.001})

    assert "the job was last run by scrapekit 0.0.1; this is " in caplog.text
    assert "max_pages was 5, now it is the default" in caplog.text
    assert "delay_s was the default, now it is 0.001" in caplog.text


async def test_secrets_of_the_settings_are_not_noted(job: Path) -> None:
    await crawl(Row(), job, site(), settings={"headers": {"X-Api-Key": "hush"}})

    assert b"hush" not in (job / "job.sqlite").read_bytes()


async def test_links_that_leave_the_domains_of_the_start_are_still_outside(job: Path) -> None:
    pages = site() | {f"{HOME}/3": '<title>3</title><a href="http://else.test/">.</a>'}
    await crawl(Row(), job, pages, settings={"max_pages": 2})

    report = await crawl(Row(), job, pages)

    assert report.dropped.get("off-domain") == 1
    assert report.reason == "finished"


class Generated(Spider):
    """Start requests made one by one; some of them need not be unique."""

    settings = Settings(obey_robots=False, concurrency=2)
    count = 200

    async def start(self) -> AsyncIterator[Request]:
        for number in range(self.count):
            yield Request(f"{HOME}/{number}")
            if number % 10 == 0:
                yield Request(f"{HOME}/again", unique=False)

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        yield {"n": response.url}


NARROW: dict[str, dict[str, Any]] = {
    "off-domain": {"allowed_domains": ["shop.test"]},
    "depth": {"settings": {"max_depth": 1}},
}


@pytest.mark.parametrize("reason", NARROW)
async def test_what_narrower_settings_leave_out_stays_in_the_job(job: Path, reason: str) -> None:
    def page(*hrefs: str) -> str:
        return "<title>1</title>" + "".join(f'<a href="{href}">.</a>' for href in hrefs)

    pages = {
        f"{HOME}/0": page("/1", "http://far.test/1"),
        f"{HOME}/1": page("/2", "http://far.test/2"),
        f"{HOME}/2": page("/3"),
        f"{HOME}/3": page(),
        "http://far.test/1": page("/5"),
        **{f"http://far.test/{n}": page() for n in (2, 5)},
    }

    async def run(**changes: Any) -> tuple[list[str], Report]:
        web = FakeTransport(pages)
        spider = Row(allowed_domains=changes.pop("allowed_domains", ["*"]))
        settings = {"concurrency": 1, **changes.pop("settings", {})}
        report = await crawl(spider, job, web, settings=settings)
        return web.urls, report

    first, _ = await run(settings={"max_pages": 3})
    before = state(job).pending
    narrow, report = await run(**NARROW[reason])
    left = report.dropped[f"{reason}, left in the job"]
    assert report.reason == "finished"
    assert report.job is not None
    assert report.job.pending == state(job).pending == left > 0
    if reason == "depth":
        # Nothing that waited was shallow enough.
        assert (narrow, left) == ([], before)
    else:
        assert narrow
        assert not any("far" in url for url in narrow)
    wide, report = await run()
    assert sorted({*first, *narrow, *wide}) == sorted(pages)
    assert len(first) + len(narrow) + len(wide) == len(pages)
    assert report.job is not None
    assert (report.job.pending, report.job.done) == (0, len(pages))


@pytest.mark.parametrize("stop_after", [1, 3, 50, 119, 219])
async def test_generated_starts_are_neither_lost_nor_done_twice(job: Path, stop_after: int) -> None:
    pages = {f"{HOME}/{n}": "." for n in (*range(Generated.count), "again")}
    web = FakeTransport(pages)
    await crawl(Generated(), job, web, settings={"max_pages": stop_after})
    recorder = Recorder()

    report = await crawl(Generated(), job, web, observers=[recorder])

    assert report.reason == "finished"
    assert web.urls.count(f"{HOME}/again") == 20
    assert sorted(set(web.urls)) == sorted(pages)
    assert len(web.urls) == Generated.count + 20
    # What is only replayed was not dropped.
    assert not [event for event in recorder.events if isinstance(event, RequestsDropped)]


async def test_new_starts_of_a_later_run_are_fetched(job: Path) -> None:
    pages = {f"{HOME}/{n}": "." for n in (*range(20), "again")}

    class Fewer(Generated):
        name = "generated"
        count = 10

    class More(Generated):
        name = "generated"
        count = 20

    await crawl(Fewer(), job, pages)
    web = FakeTransport(pages)

    await crawl(More(), job, web)

    assert sorted(web.urls) == sorted([f"{HOME}/{n}" for n in (*range(10, 20), "again")])


class Failing(Row):
    """Page 3 can't be fetched, page 4 is not understood."""

    name = "row"

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        if response.url.endswith("/4"):
            raise ValueError("no such price")
        async for result in super().parse(response):
            yield result


def failing_site() -> dict[str, Any]:
    return site() | {f"{HOME}/3": Response(f"{HOME}/3", 500)}


async def test_failures_are_kept_with_all_that_explains_them(job: Path) -> None:
    await crawl(Failing(), job, failing_site(), settings={"retries": 1, "retry_delay_s": 0})

    unfetched, misread = sorted(failed_requests(job), key=lambda failed: failed.url)
    assert (unfetched.url, unfetched.reason) == (f"{HOME}/3", "BadStatus 500")
    assert (unfetched.during, unfetched.tries) == ("fetch", 2)
    assert (misread.url, misread.reason) == (f"{HOME}/4", "ValueError")
    assert (misread.during, misread.callback, misread.tries) == ("callback", "parse", 1)
    assert misread.message == "no such price"
    assert "ValueError: no such price" in misread.traceback
    assert misread.where.startswith(__file__)
    assert misread.at > 1.7e9
    assert state(job).failed == {"BadStatus 500": 1, "ValueError": 1}


async def test_a_failure_of_user_code_in_an_earlier_run_is_not_forgotten(job: Path) -> None:
    first = await crawl(Failing(), job, failing_site())
    again = await crawl(Row(), job, site())
    assert not first.ok
    assert not again.ok

    assert retry(job) == 2
    last = await crawl(Row(), job, site())

    assert last.ok
    assert last.job is not None
    assert last.job.failed == 0
    assert sorted(item["n"] for items in items_of(job) for item in items) == sorted(ALL)


async def test_items_that_stages_cost_are_told_until_they_are_forgotten(job: Path) -> None:
    def odd_only(item: dict[str, int]) -> dict[str, int]:
        if item["n"] % 2:
            raise ValueError(f"{item['n']} is odd")
        return item

    first = await crawl(Row(), job, site(), pipeline=[odd_only])
    assert (first.ok, state(job).lost, state(job).items) == (False, 6, 6)
    lost = list(lost_items(job))
    assert [each.message for each in lost] == [f"{n} is odd" for n in (1, 3, 5, 7, 9, 11)]
    assert lost[0].url == f"{HOME}/1"
    assert (lost[0].reason, lost[0].during, lost[0].callback) == ("ValueError", "pipeline", "parse")
    assert "test_jobs.py" in lost[0].where
    assert "raise ValueError" in lost[0].traceback
    again = await crawl(Row(), job, site(), pipeline=[odd_only])
    assert not again.ok
    assert "--forget-lost" in why_not_ok(again)
    assert forget_lost(job) == 6
    assert (state(job).lost, list(lost_items(job))) == (0, [])
    assert (await crawl(Row(), job, site(), pipeline=[odd_only])).ok
    assert forget_lost(job) == 0


async def test_failures_are_put_back_by_reason(job: Path) -> None:
    await crawl(Failing(), job, failing_site())
    with pytest.raises(JobError, match="did you mean 'BadStatus 500'"):
        retry(job, "BadStatus 501")

    assert retry(job, "BadStatus") == 1
    web = FakeTransport(site())
    await crawl(Failing(), job, web)

    assert web.urls == [f"{HOME}/3"]
    assert state(job).failed == {"ValueError": 1}
    assert retry(job, "ValueError") == 1
    assert retry(job) == 0


async def test_a_failed_page_commits_what_on_error_made_of_it(job: Path, tmp_path: Path) -> None:
    class Told(Failing):
        async def on_error(self, failure: Failure) -> dict[str, Any]:
            return {"n": -1}

    file = tmp_path / "items.jsonl"
    spider = Told()
    spider.name = "row"

    await crawl(spider, job, failing_site(), output=file)

    assert sorted(numbers(file)) == [-1, -1, *sorted(ALL - {3, 4})]


async def test_a_retry_waits_for_its_date_also_in_a_later_run(job: Path) -> None:
    clock = ManualClock()
    pages: dict[str, Any] = {
        f"{HOME}/0": [ConnectError("gone", url=f"{HOME}/0"), "<title>0</title>"]
    }
    options: dict[str, Any] = {"settings": {"retries": 3, "retry_delay_s": 1000}, "clock": clock}
    async with scrapekit.crawl(Row(), job=job, transport=FakeTransport(pages), **options) as run:
        await until(lambda: run.report.retries)
        run.stop()
        await run.wait()
    assert state(job).pending == 1
    web = FakeTransport({f"{HOME}/0": "<title>0</title>"})

    async with scrapekit.crawl(Row(), job=job, transport=web, **options) as again:
        for _ in range(20):
            await asyncio.sleep(0)
        assert web.urls == []
        clock.advance(1000)
        report = await again.wait()

    assert report.pages == 1
    assert report.ok


async def test_an_origin_that_asked_for_a_pause_gets_it_also_in_a_later_run(job: Path) -> None:
    clock = ManualClock()
    busy = Response(f"{HOME}/0", 503, {"Retry-After": "120"})
    options: dict[str, Any] = {"settings": {"retries": 0}, "clock": clock}
    await crawl(Row(), job, {f"{HOME}/0": busy}, **options)
    retry(job)
    web = FakeTransport(site(1))

    async with scrapekit.crawl(Row(), job=job, transport=web, **options) as again:
        for _ in range(20):
            await asyncio.sleep(0)
        assert web.urls == []
        clock.advance(120)
        await again.wait()

    assert web.urls == [f"{HOME}/0"]


async def test_robots_txt_is_read_again_after_a_day(job: Path) -> None:
    class Polite(Row):
        name = "row"
        settings = Settings(concurrency=1)

    clock = ManualClock()
    rules = {f"{HOME}/robots.txt": "User-agent: *\nDisallow: /2\n"}
    pages = site(6) | rules
    first = FakeTransport(pages)
    await crawl(Polite(), job, first, clock=clock, settings={"max_pages": 2})
    soon = FakeTransport(pages)
    await crawl(Polite(), job, soon, clock=clock, settings={"max_pages": 1})
    clock.advance(86_400)
    late = FakeTransport(pages)
    await crawl(Polite(), job, late, clock=clock)

    robots = f"{HOME}/robots.txt"
    assert [web.urls.count(robots) for web in (first, soon, late)] == [1, 0, 1]
    fetched = [*first.urls, *soon.urls, *late.urls]
    assert f"{HOME}/2" not in fetched
    assert f"{HOME}/5" in fetched


async def test_what_is_no_data_cant_be_kept_and_is_named(job: Path) -> None:
    class Meta(Row):
        name = "row"

        async def parse(self, response: Response) -> AsyncIterator[Any]:
            yield {"n": 0}
            yield response.follow("/1", meta={"lock": asyncio.Lock()})

    report = await crawl(Meta(), job, site())

    (group,) = report.errors
    assert (group.error, group.during) == ("UsageError", "callback")
    assert "can't be kept in a job" in group.message
    assert list(items_of(job)) == []


async def test_meta_is_the_same_whether_a_crawl_was_interrupted_or_not(job: Path) -> None:
    class Meta(Row):
        name = "row"

        async def parse(self, response: Response) -> AsyncIterator[Any]:
            yield {"n": dict(response.meta)}
            for path in ("/1", "/2", "/3"):
                yield response.follow(path, meta={"pair": (1, 2), "big": 10**30, "odd": "\udc80"})

    await crawl(Meta(), job, site(), settings={"max_pages": 2})
    await crawl(Meta(), job, site())

    found = [item["n"] for items in items_of(job) for item in items if item["n"]]
    assert found == 3 * [{"pair": [1, 2], "big": 10**30, "odd": "\udc80"}]


async def test_an_item_that_is_no_data_costs_itself_alone(job: Path, tmp_path: Path) -> None:
    class Odd(Row):
        name = "row"

        async def parse(self, response: Response) -> AsyncIterator[Any]:
            yield {"n": 1}
            yield {"n": 1j}
            yield {"n": 2}

    file = tmp_path / "items.jsonl"
    report = await crawl(Odd(), job, site(), output=file)
    again = await crawl(Odd(), job, site(), output=file)

    assert numbers(file) == [1, 2]
    assert not report.ok
    assert not again.ok
    (group,) = report.errors
    assert group.error == "ItemError"
    assert "an item of type dict can't be kept in the job: field 'n'" in group.message


async def test_a_crawl_takes_a_job_or_a_frontier(job: Path) -> None:
    with pytest.raises(scrapekit.UsageError, match="a job or a frontier, not both"):
        scrapekit.crawl(Row(), job=job, frontier=SqliteFrontier(job))


class Texts(Row):
    """Items that are hard on formats."""

    name = "row"
    texts = ("plain", 'a "quoted", one', "two\nlines\r\n", "\u2028\x85\x0b", "caf\u00e9", "\0", "")

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        n = int(response.get("title", ""))
        yield {"n": n, "text": self.texts[n % len(self.texts)], "more": [1.5, None, {"a": True}]}
        yield response.follow_all()


def read(file: Path) -> list[tuple[int, str, Any]]:
    if file.suffix == ".csv":
        with file.open(newline="", encoding="utf-8") as opened:
            rows: list[Any] = list(csv.DictReader(opened))
    elif file.suffix == ".json":
        rows = json.loads(file.read_bytes())
    elif file.suffix == ".sqlite":
        with closing(sqlite3.connect(file)) as database:
            cells = database.execute("SELECT n, text, more FROM items").fetchall()
        rows = [dict(zip(("n", "text", "more"), row, strict=True)) for row in cells]
    else:
        rows = [json.loads(line) for line in file.read_text().split("\n") if line]
    more = [
        json.loads(row["more"]) if isinstance(row["more"], str) else row["more"] for row in rows
    ]
    return [(int(row["n"]), row["text"], its) for row, its in zip(rows, more, strict=True)]


FORMATS = ["jsonl", "csv", "json", "sqlite"]
EXPECTED = sorted((n, Texts.texts[n % 7], [1.5, None, {"a": True}]) for n in range(PAGES))


@pytest.mark.parametrize("name", FORMATS)
async def test_outputs_are_continued_in_every_format(job: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / f"items.{name}"
    for _ in range(PAGES):
        await crawl(Texts(), job, site(), output=file, settings={"max_pages": 1})
        assert len(read(file)) <= PAGES

    report = await crawl(Texts(), job, site(), output=file)

    assert sorted(read(file)) == EXPECTED
    assert report.exports.get(str(file), PAGES) == PAGES


@pytest.mark.parametrize("name", FORMATS)
async def test_an_output_that_comes_later_gets_what_came_before(
    job: Path, tmp_path: Path, name: str
) -> None:
    await crawl(Texts(), job, site(), settings={"max_pages": 5})

    await crawl(Texts(), job, site(), output=tmp_path / f"items.{name}")

    assert sorted(read(tmp_path / f"items.{name}")) == EXPECTED


@pytest.mark.parametrize("name", FORMATS)
async def test_an_output_that_is_gone_is_made_anew(job: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / f"items.{name}"
    await crawl(Texts(), job, site(), output=file, settings={"max_pages": 5})
    file.unlink()

    await crawl(Texts(), job, site(), output=file)

    assert sorted(read(file)) == EXPECTED


@pytest.mark.parametrize("name", ["jsonl", "csv", "json"])
@pytest.mark.parametrize("edit", ["add", "change", "cut", "replace"])
async def test_an_output_that_was_edited_is_refused_and_kept(
    job: Path, tmp_path: Path, name: str, edit: str
) -> None:
    file = tmp_path / f"items.{name}"
    await crawl(Texts(), job, site(), output=file, settings={"max_pages": 5})
    data = file.read_bytes()
    edited = {
        "add": data + b"mine\n",
        "change": data[:-3] + b"#" + data[-2:],
        "cut": data[:-20],
        "replace": b"precious\n",
    }[edit]
    file.write_bytes(edited)

    with pytest.raises(OutputError, match="Move it away, and it is made anew"):
        await crawl(Texts(), job, site(), output=file)
    assert file.read_bytes() == edited
    file.rename(tmp_path / "aside")
    await crawl(Texts(), job, site(), output=file)

    assert sorted(read(file)) == EXPECTED


async def test_another_database_in_the_place_of_the_output_is_refused_and_kept(
    job: Path, tmp_path: Path
) -> None:
    file = tmp_path / "items.sqlite"
    await crawl(Texts(), job, site(), output=file, settings={"max_pages": 5})
    file.unlink()
    with closing(sqlite3.connect(file)) as database:
        database.executescript("CREATE TABLE mine (a); PRAGMA application_id = 7;")

    with pytest.raises(OutputError, match="it is another database"):
        await crawl(Texts(), job, site(), output=file)


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ("INSERT INTO items (n) VALUES (99)", "rows were added or deleted since"),
        ("DELETE FROM items WHERE n = 2", "rows were added or deleted since"),
        ("PRAGMA user_version = 6", "it has items of pages that the job doesn't have"),
        ("PRAGMA user_version = 4", "rows were added or deleted since"),
    ],
)
async def test_a_database_that_was_edited_is_refused_and_kept(
    job: Path, tmp_path: Path, edit: str, told: str, *, append: bool
) -> None:
    file = tmp_path / "items.sqlite"
    options: dict[str, Any] = {"output": file, "append": append}
    if append:
        await crawl(Texts(), tmp_path / "other", site(3), output=file)
    first = await crawl(Texts(), job, site(), settings={"max_pages": 5}, **options)
    assert first.exports == {str(file): 5}
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute(edit)
    edited = file.read_bytes()

    with pytest.raises(OutputError, match=f"{told}. Move it away"):
        await crawl(Texts(), job, site(), **options)

    assert file.read_bytes() == edited
    file.rename(tmp_path / "aside")
    await crawl(Texts(), job, site(), **options)
    assert sorted(read(file)) == EXPECTED


async def test_a_database_that_an_older_job_follows_is_refused(job: Path, tmp_path: Path) -> None:
    file, copy = tmp_path / "items.sqlite", tmp_path / "copy"
    await crawl(Texts(), job, site(), output=file, settings={"max_pages": 5})
    shutil.copytree(job, copy)
    await crawl(Texts(), job, site(), output=file)

    with pytest.raises(OutputError, match="items of pages that the job doesn't have"):
        await crawl(Texts(), copy, site(), output=file)

    assert sorted(read(file)) == EXPECTED


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41 b", "caf\u00e9"])
async def test_a_database_is_continued_whatever_its_name(
    job: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / f"{name}.sqlite"
    await crawl(Texts(), job, site(), output=file, settings={"max_pages": 5})

    await crawl(Texts(), job, site(), output=file)

    assert sorted(read(file)) == EXPECTED
    with closing(sqlite3.connect(file)) as database:
        database.executescript("PRAGMA application_id = 7;")
    with pytest.raises(OutputError, match="it is another database"):
        await crawl(Texts(), job, site(), output=file)


@pytest.mark.parametrize("name", FORMATS)
async def test_a_file_that_is_not_the_jobs_is_refused_and_kept(
    job: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / f"items.{name}"
    file.write_text("precious\n")

    with pytest.raises(OutputError, match="the file holds data"):
        await crawl(Texts(), job, site(), output=file)

    assert file.read_text() == "precious\n"


@pytest.mark.parametrize("name", FORMATS)
async def test_overwriting_is_done_once(job: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / f"items.{name}"
    file.write_text("old\n" * 1000)
    options: dict[str, Any] = {"output": file, "overwrite": True}
    await crawl(Texts(), job, site(), settings={"max_pages": 5}, **options)

    await crawl(Texts(), job, site(), **options)

    assert sorted(read(file)) == EXPECTED


@pytest.mark.parametrize("name", ["jsonl", "csv", "sqlite"])
async def test_appending_keeps_what_was_there_and_continues(
    job: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / f"items.{name}"
    await crawl(Texts(), tmp_path / "other", site(3), output=file)
    options: dict[str, Any] = {"output": file, "append": True}
    await crawl(Texts(), job, site(), settings={"max_pages": 5}, **options)

    await crawl(Texts(), job, site(), **options)

    assert sorted(read(file)) == sorted(EXPECTED + EXPECTED[:3])


async def spoilt(
    job: Path, outputs: list[Path], spoil: Callable[[], Any], *, after: int = PAGES
) -> Report:
    """What a crawl tells of it if somebody meddles with its files."""
    left = iter(range(after - 1, -1, -1))

    def observe(event: object) -> None:
        if isinstance(event, PageDone) and next(left, None) == 0:
            spoil()

    return await crawl(Texts(), job, site(), output=outputs, observers=[observe])


@pytest.mark.parametrize("name", FORMATS)
async def test_a_job_that_vanishes_after_the_last_page_is_missed(
    job: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / f"items.{name}"

    report = await spoilt(job, [file], lambda: shutil.rmtree(job))

    assert (report.ok, report.reason) == (False, "failed")
    assert any(f"can't write {file}: can't use the job" in e.message for e in report.errors)


@pytest.mark.parametrize("name", ["jsonl", "csv", "sqlite"])
@pytest.mark.parametrize("after", [5, PAGES])
async def test_an_output_that_vanishes_is_missed(
    job: Path, tmp_path: Path, name: str, after: int
) -> None:
    file = tmp_path / f"items.{name}"

    report = await spoilt(job, [file], file.unlink, after=after)

    assert (report.ok, report.reason) == (False, "failed")
    (group,) = report.errors
    assert "it is gone; it is made anew when the job is continued" in group.message
    assert (await crawl(Texts(), job, site(), output=file)).ok
    assert sorted(read(file)) == EXPECTED


@pytest.mark.parametrize("name", ["jsonl", "csv"])
@pytest.mark.parametrize("after", [5, PAGES])
async def test_an_output_that_is_cut_off_meanwhile_is_told(
    job: Path, tmp_path: Path, name: str, after: int
) -> None:
    file = tmp_path / f"items.{name}"

    report = await spoilt(job, [file], lambda: os.truncate(file, 0), after=after)

    assert (report.ok, report.reason) == (False, "failed")
    (group,) = report.errors
    assert "was changed by somebody else while it was written" in group.message
    file.unlink()
    assert (await crawl(Texts(), job, site(), output=file)).ok
    assert sorted(read(file)) == EXPECTED


async def test_rows_that_others_delete_meanwhile_are_told(job: Path, tmp_path: Path) -> None:
    file = tmp_path / "items.sqlite"

    def delete() -> None:
        with closing(sqlite3.connect(file)) as database:
            database.execute("DELETE FROM items")
            database.commit()

    report = await spoilt(job, [file], delete)

    assert not report.ok
    assert "was changed by somebody else" in report.errors[0].message


@pytest.mark.parametrize("number", [3, PAGES - 1])
async def test_what_is_left_out_of_an_output_is_told_and_not_forgotten(
    job: Path, tmp_path: Path, number: int
) -> None:
    class More(Row):
        async def parse(self, response: Response) -> AsyncIterator[Any]:
            n = int(response.get("title", ""))
            yield {"n": n, "more": 1} if n == number else {"n": n}
            yield response.follow_all()

    file = tmp_path / "items.csv"
    report = await crawl(More(), job, site(), output=file)
    again = await crawl(More(), job, site(), output=file)

    (group,) = report.errors
    assert "field 'more' first appeared in item" in group.message
    assert (report.ok, again.ok, again.errors) == (False, False, [])
    assert again.job is not None
    assert again.job.troubles == 1


@pytest.mark.parametrize("name", ["jsonl", "csv"])
async def test_nothing_is_added_to_a_line_that_is_not_finished(
    job: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / f"items.{name}"
    file.write_text('n,text,more\n"torn')

    for _ in range(2):
        with pytest.raises(OutputError, match="its last line is not finished"):
            await crawl(Texts(), job, site(), output=file, append=True)

    assert file.read_text() == 'n,text,more\n"torn'
    file.write_text("")
    await crawl(Texts(), job, site(), output=file, append=True)
    assert sorted(read(file)) == EXPECTED


class Formulas(Row):
    name = "row"

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        yield {"n": int(response.get("title", "")), "-text": "=cmd()"}
        yield response.follow_all()


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("before", [False, True])
async def test_what_is_written_for_spreadsheets_is_so_in_every_run(
    job: Path, tmp_path: Path, *, before: bool, append: bool
) -> None:
    file, there = tmp_path / "items.csv", '"n","\'-text"\n"99","\'=old"\n' if append else ""
    file.write_text(there)
    options: dict[str, Any] = {"output": file, "append": append}
    first = {"csv_safe": before, "max_pages": 5}
    await crawl(Formulas(), job, site(), settings=first, **options)

    for _ in range(2):
        await crawl(Formulas(), job, site(), settings={"csv_safe": True}, **options)

    head, *rows = file.read_text().removeprefix(there).splitlines()
    assert append or head == '"n","\'-text"'
    assert sorted([head, *rows] if append else rows) == sorted(f'"{n}","\'=cmd()"' for n in ALL)


async def test_a_pipe_gets_what_this_run_commits(
    job: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    await crawl(Row(), job, site(), output="-", settings={"max_pages": 5})
    first = capfd.readouterr().out

    await crawl(Row(), job, site(), output="-")

    lines = (first + capfd.readouterr().out).splitlines()
    assert sorted(json.loads(line)["n"] for line in lines) == sorted(ALL)


async def test_a_new_start_forgets_all_but_which_files_are_the_jobs(
    job: Path, tmp_path: Path
) -> None:
    file = tmp_path / "items.jsonl"
    await crawl(Row(), job, site(), output=file, settings={"max_pages": 5})
    lost = waste(job)
    assert lost is not None
    assert (lost.done, lost.pending, lost.items, lost.outputs) == (5, 3, 5, [str(file)])

    start_anew(job)
    assert file.exists()
    web = FakeTransport(site())
    await crawl(Row(), job, web, output=file)

    assert len(web.urls) == PAGES
    assert sorted(numbers(file)) == sorted(ALL)


@pytest.mark.parametrize("damage", [b"", b"nonsense" * 1000])
async def test_a_new_start_also_helps_where_the_job_is_damaged(job: Path, damage: bytes) -> None:
    await crawl(Row(), job, site(), settings={"max_pages": 5})
    (job / "job.sqlite").write_bytes((job / "job.sqlite").read_bytes()[:100] + damage)
    if damage:
        with pytest.raises(JobError, match="--fresh starts it anew"):
            await crawl(Row(), job, site())

    start_anew(job)
    report = await crawl(Row(), job, site())

    assert report.pages == PAGES


@pytest.mark.parametrize("damage", ["header", "pages", "format"])
async def test_a_job_that_cant_be_read_is_thrown_away_if_it_is_one(job: Path, damage: str) -> None:
    await crawl(Row(), job, site(), settings={"max_pages": 5})
    database = job / "job.sqlite"
    data = database.read_bytes()
    if damage == "format":
        with closing(sqlite3.connect(database)) as opened:
            opened.execute("PRAGMA user_version = 99")
    else:
        database.write_bytes(data[:100] + bytes(5000) if damage == "pages" else b"x" * 5000)

    assert str(waste(job)) == "a job that can't be read"
    start_anew(job)

    assert (await crawl(Row(), job, site())).pages == PAGES


@pytest.mark.parametrize("content", ["CREATE TABLE mine (a); PRAGMA application_id = 7;", "", "x"])
async def test_what_may_be_somebody_elses_is_not_thrown_away(job: Path, content: str) -> None:
    job.mkdir()
    database = job / "job.sqlite"
    if content == "x":
        database.write_bytes(b"x" * 5000)
    else:
        with closing(sqlite3.connect(database)) as opened:
            opened.executescript(content or "CREATE TABLE mine (a)")
    before = database.read_bytes()

    for throw_away in (waste, start_anew):
        with pytest.raises(JobError):
            throw_away(job)

    assert [database.read_bytes(), *job.iterdir()] == [before, database]


async def test_a_crawl_without_a_job_touches_no_disk(tmp_path: Path) -> None:
    async with scrapekit.crawl(Row(), transport=FakeTransport(site())) as run:
        await run.wait()

    assert run.job is None
    assert list(tmp_path.iterdir()) == []


async def test_a_page_with_very_many_links_is_committed_whole(job: Path) -> None:
    class Many(Row):
        name = "row"

        async def parse(self, response: Response) -> AsyncIterator[Any]:
            yield [Request(f"{HOME}/{n}/") for n in range(25_000)]

    await crawl(Many(), job, site(), settings={"max_pages": 1})

    assert state(job).pending == 25_000


async def test_the_report_and_the_state_agree(job: Path) -> None:
    report = await crawl(Failing(), job, failing_site())

    known = state(job)
    assert report.job is not None
    assert (known.done, known.pending) == (report.job.done, report.job.pending) == (10, 0)
    assert sum(known.failed.values()) == report.job.failed == 2
    assert known.items == report.job.items == report.items
    assert (known.spider, known.runs, known.last_pages) == ("row", 1, 10)
    assert known.pages_per_s > 0
    assert "10 done (0 before), 0 pending, 2 failed" in str(report)
    assert msgspec.json.decode(msgspec.json.encode(report))["job"]["failed"] == 2


async def test_errors_that_are_kept_are_those_that_are_raised(job: Path) -> None:
    # The status is a fact of the error, and part of the reason.
    assert BadStatus(500, url="").status == 500
    await crawl(Row(), job, {})
    (failed,) = failed_requests(job)
    assert failed.reason == "BadStatus 404"


class PlainRow(Spider):
    """The same in threads, with plain starts."""

    name = "row"
    settings = Settings(obey_robots=False, concurrency=4)

    def start(self) -> Any:
        yield Request(f"{HOME}/0")

    def parse(self, response: Response) -> Iterator[Any]:
        yield {"n": int(response.get("title", ""))}
        yield from response.follow_all()


async def test_it_works_from_threads(job: Path, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    for _ in range(4):
        await crawl(PlainRow(), job, site(), output=file, settings={"max_pages": 3})

    await crawl(PlainRow(), job, site(), output=file)

    assert sorted(numbers(file)) == sorted(ALL)


async def test_a_page_that_failed_after_a_redirect_can_be_put_back(job: Path) -> None:
    moved = Response(f"{HOME}/0", 301, {"Location": "/new"})
    pages = {f"{HOME}/0": moved, f"{HOME}/new": "<title>no number</title>"}
    await crawl(Row(), job, pages)
    assert retry(job) == 1

    await crawl(Row(), job, pages | {f"{HOME}/new": "<title>7</title>"})

    assert list(items_of(job)) == [[{"n": 7}]]


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_a_cancelled_crawl_lets_go_of_its_job(job: Path, tmp_path: Path, turns: int) -> None:
    file = tmp_path / "items.json"

    async def use() -> None:
        async with scrapekit.crawl(
            Row(), job=job, transport=FakeTransport(site()), output=file
        ) as run:
            await run.wait()

    task = asyncio.create_task(use())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    task.cancel()
    await asyncio.wait({task})

    report = await crawl(Row(), job, site(), output=file)

    assert report.ok
    assert sorted(item["n"] for item in json.loads(file.read_text())) == sorted(ALL)


@pytest.mark.parametrize("name", FORMATS)
async def test_a_crawl_that_is_cancelled_while_it_opens_an_output_lets_go_of_it(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = tmp_path / f"items.{name}"
    begun, held = threading.Event(), threading.Event()
    pages = Job.pages

    def slow(self: Job, after: int) -> Iterator[Any]:
        begun.set()
        held.wait(60)
        return pages(self, after)

    with monkeypatch.context() as patched:
        patched.setattr(Job, "pages", slow)
        task = asyncio.create_task(crawl(Texts(), job, site(), output=file))
        for _ in range(10_000):
            if begun.is_set() or task.done():
                break
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        held.set()
        await asyncio.wait({task})

    assert (await crawl(Texts(), job, site(), output=file)).ok
    assert sorted(read(file)) == EXPECTED


async def test_an_output_that_is_refused_is_let_go_of(job: Path, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    await crawl(Texts(), job, site(), output=file, settings={"max_pages": 5})
    good = file.read_bytes()
    file.write_bytes(good + b"mine\n")
    with pytest.raises(OutputError, match="something was added to it since"):
        await crawl(Texts(), job, site(), output=file)
    file.write_bytes(good)

    assert (await crawl(Texts(), job, site(), output=file)).ok


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("damage", ["cut", "zeros", "more"])
async def test_what_the_machine_took_down_with_it_is_made_anew(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    file = tmp_path / f"items.{name}"
    async with scrapekit.crawl(
        Texts(), job=job, transport=FakeTransport(site()), output=file, settings={"max_pages": 5}
    ) as run:
        await run.wait()
    with closing(sqlite3.connect(job / "job.sqlite")) as opened:
        opened.execute("DELETE FROM notes WHERE name = 'ended'")
        opened.execute("UPDATE notes SET value = 'another' WHERE name = 'boot'")
        opened.commit()
    data = file.read_bytes()
    half = len(data) // 2
    file.write_bytes(
        {"cut": data[:half], "zeros": data[:half] + bytes(half), "more": data * 2}[damage]
    )

    await crawl(Texts(), job, site(), output=file)

    assert sorted(read(file)) == EXPECTED


async def test_max_items_leaves_the_other_pages_to_the_next_run(job: Path, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    first = await crawl(Row(), job, site(), output=file, settings={"max_items": 3})
    assert first.reason == "max_items"
    await crawl(Row(), job, site(), output=file)
    assert sorted(numbers(file)) == sorted(ALL)


async def test_a_job_of_sitemaps_is_continued(job: Path, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    urls = [f"https://listed.test/{n}" for n in range(12)]
    pages = dict.fromkeys(urls, "<p>x")
    listed = respond("\n".join(urls), headers={"Content-Type": "text/plain"})
    web = {**pages, "https://listed.test/sitemap.txt": listed}
    for _ in range(3):
        spider = Listed()
        await crawl(spider, job, web, output=file, settings={"max_pages": 5})
    found = [json.loads(line)["url"] for line in file.read_text().splitlines()]
    assert sorted(found) == sorted(urls)


async def test_sitemaps_that_were_not_read_are_not_asked_for_twice(job: Path) -> None:
    urls = [f"https://listed.test/{n}.txt" for n in range(9)]
    web: dict[str, Any] = dict.fromkeys(urls, respond("", headers={"Content-Type": "text/plain"}))
    spider = Listed(sitemap_urls=urls)
    settings = {"obey_robots": False, "drain_s": 0, "max_body_bytes": 1_000_000}
    for _ in range(3):
        silent = Silent(web)
        async with scrapekit.crawl(spider, job=job, transport=silent, settings=settings) as run:
            # A few are asked for at a time.
            while run.pending + run.in_flight < 4:
                await idle()
            run.stop()
    assert state(job).pending == 4
    web["https://listed.test/0.txt"] = respond(f"{HOME}/0", headers={"Content-Type": "text/plain"})
    transport = FakeTransport(web)
    report = await crawl(spider, job, transport, settings={"obey_robots": False})
    assert transport.urls == urls
    assert report.job is not None
    assert report.job.pending == 0


class Silent(FakeTransport):
    """Never answers."""

    async def fetch(self, request: Request, account: Any) -> Response:
        await asyncio.Event().wait()
        raise AssertionError


class Listed(Spider):
    sitemap_urls = ("https://listed.test/sitemap.txt",)

    def parse(self, response: Response) -> dict[str, str]:
        return {"url": response.url}


def test_a_job_is_free_when_a_process_that_had_it_is_gone_but_not_its_forks(job: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from scrapekit.frontier.folder import lock\n"
        "folder = lock(Path(sys.argv[1]), create=True)\n"
        "if os.fork() == 0:\n"
        "    time.sleep(60)\n"
        "    os._exit(0)\n"
    )
    done = subprocess.Popen([sys.executable, "-c", program, str(job)], start_new_session=True)
    try:
        assert done.wait(30) == 0
        lock(job, create=True).release()
    finally:
        os.killpg(done.pid, signal.SIGKILL)


async def test_cookies_come_back_and_are_written_a_site_at_a_time(job: Path) -> None:
    hosts = [f"http://shop{number}.test" for number in range(3)]

    def page(request: Request) -> Response:
        lines = CIMultiDict([("Set-Cookie", f"seen={request.url[-1]}")])
        return Response(request.url, 200, lines, b"<title>1</title>")

    web = FakeTransport({f"{host}/{n}": page for host in hosts for n in range(2)})
    first = Row(start_urls=[f"{host}/0" for host in hosts])
    await crawl(first, job, web)
    with closing(sqlite3.connect(job / "job.sqlite")) as database:
        names = database.execute("SELECT name FROM notes WHERE kind LIKE 'cookies%'").fetchall()
    assert sorted(name for (name,) in names) == [f"shop{number}.test " for number in range(3)]
    again = FakeTransport({f"{host}/1": page for host in hosts})
    await crawl(Row(start_urls=[f"{host}/1" for host in hosts]), job, again)
    assert [request.headers["Cookie"] for request in again.requests] == ["seen=0"] * 3


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_what_survives_a_power_cut_is_synced_with_the_outputs(
    job: Path, tmp_path: Path, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
        synced.append((Path(path).name, os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", watched)
    outputs = [tmp_path / f"out.{ending}" for ending in ("jsonl", "csv", "json", "sqlite")]
    levels: list[int] = []
    write = SqliteFile.write

    def level(self: SqliteFile, *args: Any) -> None:
        levels.append(self._database.execute("PRAGMA synchronous").fetchone()[0])
        write(self, *args)

    monkeypatch.setattr(SqliteFile, "write", level)
    settings = {"durability": durability}
    report = await crawl(Row(), job, site(), output=outputs, settings=settings)
    assert report.ok
    if durability == "process":
        assert synced == []
        assert set(levels) == {0}
        return
    assert set(levels) == {3}
    names = [name for name, _ in synced]
    assert {"out.jsonl", "out.csv", ".out.json.unfinished", tmp_path.name} <= set(names)
    for ending in ("jsonl", "csv"):
        sizes = [size for name, size in synced if name == f"out.{ending}"]
        assert len(sizes) > 2
        assert sizes[-1] == (tmp_path / f"out.{ending}").stat().st_size
