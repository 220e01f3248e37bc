"""Whole crawls whose callbacks run in threads and in worker processes."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

import scrapekit
from scrapekit import Request, Response, Spider
from scrapekit.errors import UsageError
from scrapekit.events import Event, Failed, Observer, PageDone, Recorder
from scrapekit.failure import Failure
from scrapekit.importing import import_file
from scrapekit.lanes.pool import WorkerPool
from scrapekit.report import Report
from scrapekit.testing import FakeTransport
from tests import programs
from tests.functional.lane_spiders import Awkward, Counting, Following, Logging
from tests.functional.site import Site, crawled, idle, links, only_error
from tests.leaks import no_async_leaks

SITE = "https://site.example/"


def pages(count: int) -> list[str]:
    return [f"{SITE}{number}" for number in range(count)]


async def crawl(
    spider: Spider, *, observers: Sequence[Observer] = (), **settings: Any
) -> tuple[list[Any], Report]:
    """Items and report of a crawl; each page's text is its path. Fails if anything is left."""
    async with no_async_leaks():
        return await crawled(
            spider,
            transport=FakeTransport({url: url.removeprefix(SITE) for url in spider.start_urls}),
            observers=observers,
            settings={"processes": 2, "concurrency_per_origin": 32, **settings},
        )


class Dones:
    """An observer: pages that are done, to be waited for one by one."""

    def __init__(self) -> None:
        self._done: asyncio.Queue[PageDone] = asyncio.Queue()

    def __call__(self, event: Event) -> None:
        if isinstance(event, PageDone):
            self._done.put_nowait(event)

    async def next(self) -> PageDone:
        return await self._done.get()


class Gated(Spider):
    """Its callbacks wait until they are let through, one by one."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.gate = threading.Semaphore(0)

    def parse(self, response: Response) -> dict[str, Any]:
        self.gate.acquire()
        return {"url": response.url}


async def test_fetching_slows_down_when_all_threads_are_busy() -> None:
    spider, dones = Gated(), Dones()
    settings = {"threads": 1, "concurrency": 6, "concurrency_per_origin": 6, "obey_robots": False}
    async with Site({"*": "<p>"}) as site:
        spider.start_urls = site.urls(*(f"/{number}" for number in range(20)))
        async with scrapekit.crawl(spider, settings=settings, observers=[dones]) as run:
            await site.until(lambda: len(site.hits) == 6)
            # One page has the thread, five wait for it. Those that are done make no room for
            # others as long as more than one waits.
            for _ in range(4):
                spider.gate.release()
                await dones.next()
                await idle()
                assert len(site.hits) == 6
            spider.gate.release()
            await site.until(lambda: len(site.hits) > 6)
            spider.gate.release(20)
            report = await run.wait()
    assert report.items == 20


user: ContextVar[str] = ContextVar("user")


async def test_context_variables_travel_to_threads_and_no_change_comes_back() -> None:
    class Asking(Spider):
        start_urls = pages(2)

        def parse(self, response: Response) -> dict[str, Any]:
            found = user.get()
            user.set("nobody")
            return {"user": found}

    token = user.set("alice")
    try:
        items, _ = await crawl(Asking())
        assert items == [{"user": "alice"}] * 2
        assert user.get() == "alice"
    finally:
        user.reset(token)


class Stuck(Spider):
    """Pages called "stuck..." never end; the others give an item."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.freed = threading.Event()
        self.began: list[str] = []

    async def start(self) -> AsyncIterator[Request]:
        for url in self.start_urls:
            yield Request(url, "wait" if "async" in url else "block")

    def block(self, response: Response) -> dict[str, Any]:
        self.began.append(response.url.removeprefix(SITE))
        if "stuck" in response.url:
            self.freed.wait()
        return {"path": response.url.removeprefix(SITE)}

    async def wait(self, response: Response) -> dict[str, Any]:
        if "stuck" in response.url:
            try:
                await asyncio.Event().wait()
            finally:
                self.began.append("cancelled")
        return {"path": response.url.removeprefix(SITE)}

    def on_error(self, failure: Failure) -> dict[str, Any]:
        return {"failed": str(failure.error)}


async def stuck(tmp_path: Path, *paths: str) -> tuple[Stuck, list[Any], Report]:
    """A crawl with one thread and little patience."""
    spider = Stuck(start_urls=[SITE + path for path in paths])
    folder = str(tmp_path / "quarantine")
    freed = asyncio.get_running_loop().call_later(60, spider.freed.set)
    try:
        items, report = await crawled(
            spider,
            transport=FakeTransport(dict.fromkeys(spider.start_urls, "the body")),
            settings={"threads": 1, "callback_timeout_s": 0.5, "quarantine": folder},
        )
    finally:
        spider.freed.set()
        freed.cancel()
    return spider, items, report


async def test_an_async_callback_that_takes_too_long_is_cancelled(tmp_path: Path) -> None:
    spider, items, report = await stuck(tmp_path, "async-stuck", "async-fine")
    told = "wait ran longer than 0.5 s; it was cancelled"
    assert sorted(items, key=str) == [{"failed": told}, {"path": "async-fine"}]
    assert spider.began == ["cancelled"]
    assert only_error(report) == ("CallbackTimedOut", told)


async def test_a_thread_that_takes_too_long_is_left_behind_and_another_takes_its_place(
    tmp_path: Path,
) -> None:
    _, items, report = await stuck(tmp_path, "stuck", "fine-1", "fine-2")
    error, message = only_error(report)
    assert error == "CallbackTimedOut"
    assert "block ran longer than 0.5 s; a thread can't be stopped: it is left behind" in message
    assert sorted(item["path"] for item in items if "path" in item) == ["fine-1", "fine-2"]
    (body,) = (tmp_path / "quarantine").glob("*.body")
    assert body.read_text() == "the body"


async def test_when_every_thread_is_stuck_what_needs_one_fails_and_the_crawl_ends(
    tmp_path: Path,
) -> None:
    spider, items, report = await stuck(tmp_path, "stuck-1", "stuck-2", "stuck-3", "async-fine")
    # One thread, and one in its place.
    assert spider.began == ["stuck-1", "stuck-2"]
    assert {"path": "async-fine"} in items
    assert report.reason == "finished"
    assert sum(group.count for group in report.errors if group.during == "callback") == 3
    assert "every thread is stuck in a callback that ran past callback_timeout_s" in str(report)


HOME = "can't leave its process:"
CULPRITS = {
    "dict": f"a result of parse {HOME} dict, field 'lock', of type lock: ",
    "dataclass": f"a result of parse {HOME} Product, field 'price', of type lock: ",
    "deep": f"a result of parse {HOME} Product, field 'price.each[1]', of type lock: ",
    "request": f"a result of parse {HOME} Request, field 'meta.lock', of type lock: ",
    "error": (
        "a result of parse can't be made again outside its process: "
        "tests.functional.lane_spiders.Untravelled: TypeError: "
    ),
    "meta": (
        "what parse is called with can't go to another process: "
        "Response, field 'request.meta.lock', of type lock: "
    ),
}


async def test_what_cant_travel_is_named_by_type_and_field() -> None:
    recorder = Recorder()
    spider = Awkward(start_urls=[SITE + path for path in (*CULPRITS, "fine")])
    items, _ = await crawl(spider, observers=[recorder])
    assert items == [{"fine": True}]
    errors = {
        event.failure.url.removeprefix(SITE): event.failure.error
        for event in recorder.events
        if isinstance(event, Failed)
    }
    assert errors.keys() == CULPRITS.keys()
    assert {type(error) for error in errors.values()} == {UsageError}
    for path, culprit in CULPRITS.items():
        assert str(errors[path]).startswith(culprit)


@pytest.fixture
def levels() -> Iterator[None]:
    """The root logs warnings; "shop" from info on, and "noisy" nothing but errors."""
    wanted = {"": logging.WARNING, "shop": logging.INFO, "noisy": logging.ERROR}
    before = {name: logging.getLogger(name).level for name in wanted}
    for name, level in wanted.items():
        logging.getLogger(name).setLevel(level)
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("levels")
async def test_what_workers_log_and_warn_reaches_the_logging_at_home(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    class Censor(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return "secret" not in record.getMessage()

    censor = Censor()
    logging.getLogger("shop").addFilter(censor)
    try:
        ((item,), report) = await crawl(Logging(start_urls=pages(1)))
    finally:
        logging.getLogger("shop").removeFilter(censor)
    assert report.ok
    records = [record for record in caplog.records if record.process == item["pid"] != os.getpid()]
    assert [(record.name, record.levelname, record.getMessage()) for record in records[:2]] == [
        ("shop", "INFO", "info of 0"),
        ("shop", "ERROR", "it failed"),
    ]
    assert records[1].exc_text
    assert records[1].exc_text.endswith("LookupError: no price")
    assert vars(records[1])["sku"] == 7
    assert not hasattr(records[1], "lock")
    assert records[1].pathname.endswith("lane_spiders.py")
    (warning,) = records[2:]
    assert (warning.name, warning.levelname) == ("py.warnings", "WARNING")
    assert "UserWarning: old attribute" in warning.getMessage()
    # The message that doesn't fit its arguments is told as logging tells it, and costs no page.
    assert "not all arguments converted" in capfd.readouterr().err


async def test_a_script_that_configures_logging_as_it_is_imported_logs_once(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(SCRIPT)
    done = await asyncio.to_thread(programs.run, program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("one page") == 1


SCRIPT = """
import logging
import scrapekit
from scrapekit import Spider, lane
from scrapekit.testing import FakeTransport

logging.basicConfig(level=logging.INFO)
logging.getLogger("shop").addHandler(logging.StreamHandler())
logging.getLogger("shop").propagate = False

class Shop(Spider):
    start_urls = ["https://site.example/"]

    @lane("process")
    def parse(self, response):
        logging.getLogger("shop").info("one page")

if __name__ == "__main__":
    scrapekit.run(Shop(), transport=FakeTransport({}, default_status=200))
"""


async def test_processes_lose_no_count_of_stats_and_an_attribute_gets_none() -> None:
    spider = Counting(start_urls=pages(200))
    items, report = await crawl(spider)
    assert report.stats == {"pages": 2000, "euros": 50}
    assert spider.stats.get("pages") == 2000
    assert "counted    pages: 2,000, euros: 50" in str(report)
    assert os.getpid() not in {item["pid"] for item in items}
    # What the README warns of: each worker counted for itself alone.
    assert spider.pages == 0


class CountingInThreads(Spider):
    pages = 0

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.both = threading.Barrier(2)

    def parse(self, response: Response) -> None:
        for _ in range(10):
            self.stats.add("pages")
        # `self.pages += 1`, taken apart where another thread may come in.
        before = self.pages
        self.both.wait()
        self.pages = before + 1
        self.both.wait()


async def test_threads_lose_no_count_of_stats_where_an_attribute_loses_half() -> None:
    spider = CountingInThreads(start_urls=pages(200))
    _, report = await crawl(spider, threads=2)
    assert report.stats == {"pages": 2000}
    assert spider.pages == 100


async def test_the_bytes_of_a_page_go_over_once_and_dont_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[int] = []
    received: list[int] = []
    run = WorkerPool.run

    async def counted(self: WorkerPool, name: str, url: str, message: bytes) -> bytes:
        answer = await run(self, name, url, message)
        sent.append(len(message))
        received.append(len(answer))
        return answer

    monkeypatch.setattr(WorkerPool, "run", counted)
    body = links("/a").encode() + b" " * 1_000_000
    items, _ = await crawled(
        Following(start_urls=[SITE]), transport=FakeTransport({SITE: body, f"{SITE}a": "leaf"})
    )
    assert len(items) == 2
    assert len(body) < sent[0] < len(body) + 2000
    assert max(received) < 2000


async def test_requests_of_a_worker_are_followed_at_home_to_a_modules_function() -> None:
    items, report = await crawled(
        Following(start_urls=[SITE]),
        transport=FakeTransport({SITE: links("/a", "/b"), f"{SITE}a": "", f"{SITE}b": ""}),
        settings={"processes": 1},
    )
    assert sorted(item["depth"] for item in items) == [0, 1, 1]
    assert len({item["pid"] for item in items} - {os.getpid()}) == 1
    assert {cost.callback: cost.calls for cost in report.callbacks} == {
        "parse": 1,
        "tests.functional.lane_spiders:leaf": 2,
    }


async def test_a_worker_imports_the_spiders_file_once(tmp_path: Path) -> None:
    log = tmp_path / "imports"
    file = tmp_path / "counted_import.py"
    file.write_text(IMPORTED.format(log=str(log)))
    spider = import_file(file).Imported(start_urls=pages(40))
    items, _ = await crawl(spider)
    imports = [int(line) for line in log.read_text().split()]
    assert len(items) == 40
    assert len(imports) == len(set(imports))
    assert {item["pid"] for item in items} <= set(imports) - {os.getpid()}


IMPORTED = """
import os
from scrapekit import Spider, lane

with open({log!r}, "a") as file:
    print(os.getpid(), file=file)

class Imported(Spider):
    @lane("process")
    def parse(self, response):
        return {{"pid": os.getpid()}}
"""


class Huge(Spider):
    """Notes how many pages are with their callback at a time, and whether a tree is kept after."""

    allowed_domains = ("*",)

    def __init__(self, *, in_company: bool, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.in_company = in_company
        self.met = asyncio.Event()
        self.now, self.most = 0, 0
        self.seen: list[Response] = []

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now > 1:
            self.met.set()
        if self.in_company:
            await self.met.wait()
        else:
            # Time for another page to come, if one could.
            await asyncio.sleep(0.3)
        yield {"title": response.get("title")}
        self.seen.append(response)
        self.now -= 1


@pytest.mark.parametrize("size", [5_000_000, 1_000_000])
async def test_of_huge_pages_one_is_parsed_at_a_time(size: int) -> None:
    page = "<title>Tea</title><p>" + "tea " * (size // 4)
    async with Site({"*": page}) as site:
        is_huge = size > 4_194_304
        spider = Huge(in_company=not is_huge, start_urls=site.urls("/0", "/1", "/2", "/3"))
        items, _ = await crawled(spider, settings={"concurrency": 4, "adaptive": False})
    assert items == [{"title": "Tea"}] * 4
    assert (spider.most == 1) == is_huge
    assert all((response._document is None) == is_huge for response in spider.seen)
