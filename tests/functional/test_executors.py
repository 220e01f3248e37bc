"""Any concurrent.futures.Executor can run the process lane: the results are the same, what a crash
costs is not.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import scrapekit
from scrapekit import Request, Response, Spider, lane
from scrapekit.errors import SettingsError
from scrapekit.report import Report
from scrapekit.spider import SpiderRef
from scrapekit.testing import FakeTransport
from tests.functional.hostile import Hostile

SITE = "https://site.example/"


@contextmanager
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@contextmanager
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@contextmanager
def loky() -> Iterator[Executor]:
    from loky import get_reusable_executor

    pool = get_reusable_executor(2)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, kill_workers=True)


@contextmanager
def dask() -> Iterator[Executor]:
    from distributed import Client, LocalCluster

    # Port 0: a dashboard on its usual port warns if another one is there.
    cluster = LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0")  # type: ignore[no-untyped-call]
    with cluster, Client(cluster) as client:  # type: ignore[no-untyped-call]
        # pure=False: equal pages are run as often as they are there.
        yield client.get_executor(pure=False)


@contextmanager
def own() -> Iterator[None]:
    yield None


EXECUTORS = [own, threads, processes, loky, dask]


async def crawl(
    executor: Executor | None, words: dict[str, str], log: Path, *, twice: str = ""
) -> tuple[list[str], Report]:
    """The paths of the items, and the report."""
    paths = [*words, twice] if twice else list(words)
    async with scrapekit.crawl(
        Hostile(start_urls=[SITE + path for path in paths], log=str(log)),
        executor=executor,
        transport=FakeTransport({SITE + path: word for path, word in words.items()}),
        settings={"obey_robots": False, "processes": 2},
    ) as run:
        items = [item["path"] async for item in run]
    return sorted(items), run.report


@pytest.mark.parametrize("make", EXECUTORS, ids=lambda make: make.__name__)
def test_results_errors_and_counts_are_those_of_the_lanes_own_workers(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    words = {f"page-{n}": "nothing" for n in range(6)} | {"bad": "raise"}
    with make() as executor:
        items, report = asyncio.run(crawl(executor, words, tmp_path / "log", twice="page-3"))
    assert items == sorted([*(path for path in words if path != "bad"), "page-3"])
    assert report.stats == {"runs": 8}
    runs = Counter((tmp_path / "log").read_text().split())
    assert runs == dict.fromkeys(words, 1) | {"page-3": 2}
    (error,) = report.errors
    assert (error.error, error.message, error.count) == ("LookupError", "no price", 1)
    assert error.where.startswith(str(Path(__file__).with_name("hostile.py")))
    assert "do_raise" in error.traceback
    (cost,) = report.callbacks
    assert (cost.callback, cost.lane, cost.calls) == ("parse", "process", 8)
    assert cost.cpu_s > 0


@pytest.mark.parametrize("make", [processes, loky], ids=lambda make: make.__name__)
async def test_a_crash_costs_every_page_that_such_an_executor_has_or_is_given_after_it(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    with make() as executor:
        items, report = await crawl(executor, {"crash": "exit 3"}, tmp_path / "log")
        after, report_after = await crawl(executor, {"page": "nothing"}, tmp_path / "log")
    assert items == after == []
    for told in (report, report_after):
        (error,) = told.errors
        assert error.error == "CallbackCrashed"
        assert error.message.startswith("the given executor broke while parse ran: ")


async def test_the_lanes_own_workers_lose_the_page_alone(tmp_path: Path) -> None:
    items, report = await crawl(None, {"crash": "exit 3", "page": "nothing"}, tmp_path / "log")
    assert items == ["page"]
    assert [error.error for error in report.errors] == ["CallbackCrashed 3"]


class Cancelling(Executor):
    """One that is shut down, such as that of a dask client which lost its cluster."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        return future


class Refusing(Executor):
    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        raise RuntimeError("cannot schedule new futures after shutdown")


@pytest.mark.parametrize(
    ("executor", "why"),
    [
        (Cancelling(), "BrokenExecutor: it cancelled the job"),
        (Refusing(), "RuntimeError: cannot schedule new futures after shutdown"),
    ],
)
async def test_an_executor_that_takes_no_jobs_costs_pages_and_not_the_crawl(
    executor: Executor, why: str, tmp_path: Path
) -> None:
    items, report = await crawl(executor, {"a": "nothing", "b": "nothing"}, tmp_path / "log")
    assert items == []
    assert report.reason == "finished"
    (error,) = report.errors
    assert (error.error, error.count) == ("CallbackCrashed", 2)
    assert error.message == f"the given executor broke while parse ran: {why}"


made: list[ThreadPoolExecutor] = []


def make_threads() -> Executor:
    made.append(ThreadPoolExecutor(2))
    return made[-1]


def make_nothing() -> object:
    return 7


async def with_setting(executor: object, log: Path) -> list[str]:
    spider = Hostile(start_urls=[SITE + "page"], log=str(log))
    settings = {"obey_robots": False, "executor": executor}
    transport = FakeTransport({SITE + "page": "nothing"})
    items = await scrapekit.collect(spider, settings=settings, transport=transport)
    return [item["path"] for item in items]


async def test_the_setting_takes_an_executor_and_leaves_it_open(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert await with_setting(pool, tmp_path / "log") == ["page"]
        assert pool.submit(int).result() == 0


async def test_the_setting_takes_the_name_of_a_function_whose_executor_is_shut_down_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "compute", sys.modules[__name__])
    assert await with_setting("compute:make_threads", tmp_path / "log") == ["page"]
    with pytest.raises(RuntimeError, match="after shutdown"):
        made.pop().submit(int)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere.compute:make", "there is no module nowhere"),
        ("compute:mak_threads", "module compute has no function 'mak_threads'"),
        ("compute:make_nothing", "it returned 7, which is no Executor"),
    ],
)
async def test_a_name_that_makes_no_executor_keeps_the_crawl_from_starting(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "compute", sys.modules[__name__])
    with pytest.raises(SettingsError, match=f"setting 'executor' is '{name}': {why}"):
        await with_setting(name, tmp_path / "log")


class Functional(Spider):
    """Has a process-lane callback that is no method."""

    start_urls = (SITE,)

    def parse(self, response: Response) -> Request:
        return Request(SITE + "page", compute)


@lane("process")
def compute(response: Response) -> dict[str, Any]:
    time.sleep(float(response.text))
    return {"thread": threading.current_thread() is not threading.main_thread()}


@pytest.mark.parametrize(("sleep_s", "count"), [("0", 1), ("3", 0)])
async def test_a_named_executor_runs_functions_and_a_hung_one_does_not_keep_the_crawl(
    sleep_s: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "compute", sys.modules[__name__])
    settings = {"obey_robots": False, "executor": "compute:make_threads", "callback_timeout_s": 0.3}
    transport = FakeTransport({SITE: "", SITE + "page": sleep_s})
    async with scrapekit.crawl(Functional(), settings=settings, transport=transport) as run:
        items = [item async for item in run]
    assert items == [{"thread": True}] * count
    pool = made.pop()
    assert sleep_s == "0" or any(thread.is_alive() for thread in pool._threads)
    await asyncio.to_thread(pool.shutdown)


class Slow(Spider):
    """Two threads are in its constructor at the same time."""

    both = threading.Barrier(2)

    def __init__(self) -> None:
        super().__init__()
        if threading.current_thread() is not threading.main_thread():
            self.both.wait()

    def parse(self, response: Response) -> None: ...


def test_threads_of_an_executor_share_one_spider_though_they_build_it_at_the_same_time() -> None:
    source = SpiderRef.of(Slow())
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(source.callback, ["parse", "parse"])
    assert one.__self__ is other.__self__  # type: ignore[attr-defined]
