"""A page that takes its callback down costs that page, and nothing is left of it but its body."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import scrapekit
from scrapekit.errors import CallbackCrashed, CallbackTimedOut
from scrapekit.events import Failed, Recorder
from scrapekit.failure import Failure
from scrapekit.lanes import pool
from scrapekit.lanes.pool import WorkerPool
from scrapekit.lanes.processes import ProcessLane
from scrapekit.lanes.worker import Answer
from scrapekit.report import Report
from scrapekit.spider import SpiderRef
from scrapekit.testing import FakeTransport, respond
from tests import programs
from tests.functional import hostile
from tests.functional.hostile import MEBIBYTE, Hostile, Idle
from tests.functional.site import crawled
from tests.leaks import no_async_leaks

SITE = "https://site.example/"
LIMIT = 64 * MEBIBYTE


def pages(**words: str) -> dict[str, str]:
    return {SITE + path: word for path, word in words.items()}


def urls(*paths: str) -> list[str]:
    return [SITE + path for path in paths]


async def crawl(
    words: dict[str, str], *, settings: dict[str, Any] | None = None, **arguments: Any
) -> tuple[list[str], dict[str, Failure]]:
    """The paths of the pages that gave an item, and the failures by path.

    Fails if a process, thread, task or descriptor is left.
    """
    recorder = Recorder()
    async with no_async_leaks():
        items, _ = await crawled(
            Hostile(start_urls=urls(*words), **arguments),
            transport=FakeTransport(pages(**words)),
            observers=[recorder],
            settings={"processes": 1, "concurrency_per_origin": 32, **(settings or {})},
        )
    failures = [event.failure for event in recorder.events if isinstance(event, Failed)]
    by_path = {failed.url.removeprefix(SITE): failed for failed in failures}
    assert len(by_path) == len(failures)
    return sorted(item["path"] for item in items), by_path


def how(failed: Failure) -> str:
    """What became of a callback, in a word or two."""
    error = failed.error
    assert isinstance(error, CallbackCrashed | CallbackTimedOut)
    assert (error.callback, error.url) == ("parse", failed.url)
    if isinstance(error, CallbackTimedOut):
        return "timed out"
    if error.exitcode is None:
        return "memory"
    return signal.Signals(-error.exitcode).name if error.exitcode < 0 else f"exit {error.exitcode}"


HOSTILE = {
    **{f"segfault-{n}": "segfault" for n in range(5)},
    **{f"exit-{n}": f"exit {n}" for n in (1, 7, 255)},
    **{f"loop-{n}": "loop" for n in range(2)},
    **{f"allocate-{n}": "allocate" for n in range(2)},
}
EXPECTED = {
    **{f"segfault-{n}": "SIGSEGV" for n in range(5)},
    **{f"exit-{n}": f"exit {n}" for n in (1, 7, 255)},
    **{f"loop-{n}": "timed out" for n in range(2)},
    **{f"allocate-{n}": "memory" for n in range(2)},
}


async def test_of_200_pages_12_crash_hang_or_swell_and_188_give_their_items(tmp_path: Path) -> None:
    harmless = [f"page-{n:03}" for n in range(188)]
    words = dict.fromkeys(harmless, "nothing")
    # Spread among the others, so that batches hold both.
    for place, (path, word) in enumerate(HOSTILE.items()):
        before = list(words.items())[: 15 * place]
        words = {**dict(before), path: word, **words}
    items, failures = await crawl(
        words,
        settings={
            "processes": 2,
            "callback_timeout_s": 1.0,
            "callback_memory_bytes": LIMIT,
            "quarantine": str(tmp_path / "quarantine"),
        },
        log=str(tmp_path / "log"),
    )
    assert items == harmless
    assert {path: how(failed) for path, failed in failures.items()} == EXPECTED
    runs = Counter((tmp_path / "log").read_text().split())
    assert runs == dict.fromkeys(harmless, 1) | dict.fromkeys(HOSTILE, 2)
    check_messages(failures)
    check_quarantine(tmp_path / "quarantine")


def check_messages(failures: dict[str, Failure]) -> None:
    """See that they say what happened, and where if that is known."""
    paths = ("segfault-0", "exit-7", "loop-0", "allocate-0")
    assert [str(failures[path].error) for path in paths] == [
        "the worker process was killed by SIGSEGV while parse ran, twice",
        "the worker process exited with code 7 while parse ran, twice",
        "parse ran longer than 1 s and was stopped, twice",
        "parse allocated more than callback_memory_bytes, 67,108,864 bytes",
    ]
    assert failures["allocate-0"].where.startswith(hostile.__file__)
    assert "hoard.append(bytearray(MEBIBYTE))" in failures["allocate-0"].traceback


def check_quarantine(folder: Path) -> None:
    """See that it has the bodies of the hostile pages, with what is known of them."""
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in folder.iterdir())
    facts = {file.stem: json.loads(file.read_bytes()) for file in folder.glob("*.json")}
    bodies = {
        facts[file.stem]["url"].removeprefix(SITE): file.read_text()
        for file in folder.glob("*.body")
    }
    assert bodies == HOSTILE
    assert {about["callback"] for about in facts.values()} == {"parse"}
    assert {about["status"] for about in facts.values()} == {200}
    assert {about["error"].partition(":")[0] for about in facts.values()} == {
        "CallbackCrashed",
        "CallbackTimedOut",
    }


async def test_a_worker_killed_by_the_kernel_is_told_with_its_signal() -> None:
    _, failures = await crawl({"page": "kill"})
    message = "the worker process was killed by SIGKILL while parse ran, twice"
    assert str(failures["page"].error) == message


async def test_a_page_that_finds_the_memory_leaked_away_is_run_in_a_fresh_worker() -> None:
    words = {"first": "leak 40", "second": "leak 40"}
    items, failures = await crawl(words, settings={"callback_memory_bytes": LIMIT})
    assert items == sorted(words)
    assert not failures


async def test_a_worker_outlives_what_a_callback_merely_raises(tmp_path: Path) -> None:
    words = {"bad": "raise", "good": "nothing"}
    items, failures = await crawl(words, log=str(tmp_path / "log"))
    assert items == ["good"]
    assert isinstance(failures["bad"].error, LookupError)
    assert Counter((tmp_path / "log").read_text().split()) == {"bad": 1, "good": 1}


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("word", ["run", "leave exit"])
async def test_what_a_callback_has_started_goes_with_its_worker(word: str, fifo: str) -> None:
    # Open to read as long as the page is tried, or the second try would wait for a reader.
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:  # noqa: ASYNC230, PTH123
        _, failures = await crawl({"page": word}, settings={"callback_timeout_s": 0.5}, fifo=fifo)
        os.set_blocking(reader.fileno(), True)
        # Ends when the last process that has the FIFO open to write has ended.
        await asyncio.to_thread(reader.read)
    assert how(failures["page"]) == ("exit 5" if word == "leave exit" else "timed out")


async def test_leaving_a_crawl_ends_workers_that_hang(fifo: str) -> None:
    async with no_async_leaks():
        crawl = scrapekit.crawl(
            Hostile(start_urls=[SITE], fifo=fifo),
            transport=FakeTransport({SITE: "hang"}),
            settings={"processes": 1},
        )
        async with crawl as run:
            with await asyncio.to_thread(open, fifo) as reader:
                pid = int(reader.readline())
            run.cancel()
    assert not Path(f"/proc/{pid}").exists()
    assert run.report.items == 0


KILLED = """
import scrapekit
from scrapekit.testing import FakeTransport
from tests.functional.hostile import Hostile

if __name__ == "__main__":
    site = "https://site.example/"
    spider = Hostile(start_urls=[site], fifo={fifo!r})
    scrapekit.run(spider, transport=FakeTransport({{site: {word!r}}}))
"""


@pytest.mark.parametrize("word", ["hang", "run"])
async def test_workers_and_what_they_started_end_with_a_parent_that_is_killed(
    word: str, fifo: str, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(KILLED.format(fifo=fifo, word=word))
    with programs.started(program) as process, open(fifo, "rb") as reader:  # noqa: ASYNC230, PTH123
        process.kill()
        # Ends when the last process that has the FIFO open to write has ended.
        reader.read()


async def test_a_pool_may_be_closed_while_it_starts_a_worker(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def close_after(turns_of_the_loop: int) -> None:
        pool = WorkerPool(Idle(), 1)
        job = asyncio.create_task(pool.run("parse", SITE, b""))
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        await pool.aclose(patience_s=60)
        job.cancel()
        await asyncio.wait({job})

    await asyncio.gather(*map(close_after, range(6)))
    assert capfd.readouterr().err == ""


async def test_pages_that_wait_at_a_worker_that_dies_are_run_once(
    fifo: str, tmp_path: Path
) -> None:
    words = {"first": "hold", "second": "segfault"} | {f"page-{n}": "nothing" for n in range(8)}
    log = tmp_path / "log"
    lane = ProcessLane(SpiderRef.of(Hostile(fifo=fifo, log=str(log))), 1)
    # As if many quick jobs had gone before: the first worker gets all of these at once.
    lane._pool._job_s = 0.0
    runs = [lane.run(None, respond(word, url=SITE + path)) for path, word in words.items()]
    try:
        *_, answers = await asyncio.gather(
            asyncio.to_thread(Path(fifo).write_text, "go"),
            asyncio.gather(*runs, return_exceptions=True),
        )
    finally:
        await lane.aclose(patience_s=60)
    results = {
        path: answer.results if isinstance(answer, Answer) else answer
        for path, answer in zip(words, answers, strict=True)
    }
    assert isinstance(results.pop("second"), CallbackCrashed)
    assert results == {path: [{"path": path}] for path in results}
    assert Counter(log.read_text().split()) == dict.fromkeys(words, 1) | {"second": 2}


async def test_the_answers_of_a_worker_that_has_died_since_are_taken(
    fifo: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    lane = ProcessLane(SpiderRef.of(Hostile(fifo=fifo, log=str(log))), 1)
    lane._pool._job_s = 0.0

    def run(path: str, word: str) -> asyncio.Task[Answer]:
        return asyncio.create_task(lane.run(None, respond(word, url=SITE + path)))

    first, second = run("first", "hold"), run("second", "exit 5")
    with await asyncio.to_thread(open, fifo, "w"):
        # The worker has both; the first one goes on when the file is closed.
        (worker,) = lane._pool._workers
    assert worker.process.pid
    os.waitid(os.P_PID, worker.process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
    # The loop hasn't seen yet what was answered, nor that a third job can't be written any more.
    third = run("third", "nothing")
    await asyncio.wait({first, second, third})
    await lane.aclose(patience_s=60)
    assert first.result().results == [{"path": "first"}]
    assert third.result().results == [{"path": "third"}]
    assert isinstance(second.exception(), CallbackCrashed)
    assert Counter(log.read_text().split()) == {"first": 1, "second": 2, "third": 1}


SPIDER = """
import multiprocessing
import scrapekit
from scrapekit import Spider, lane
from scrapekit.testing import FakeTransport

if multiprocessing.parent_process():
    raise ImportError("no such library here")

class Elsewhere(Spider):
    start_urls = ["https://site.example/1", "https://site.example/2"]

    @lane("process")
    def parse(self, response):
        return {}
"""
RUN = "print(scrapekit.run(Elsewhere(), transport=FakeTransport({}, default_status=200)))"


async def test_a_spider_that_workers_cant_import_fails_its_pages(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text(SPIDER)
    program = tmp_path / "program.py"
    program.write_text(f'if __name__ == "__main__":\n    from elsewhere import *\n    {RUN}')
    done = await asyncio.to_thread(programs.run, program, cwd=tmp_path)
    assert "2 x ImportError (callback in parse" in done.stdout
    assert "no such library here" in done.stdout


COLLECT = """
import asyncio
asyncio.run(scrapekit.collect(Elsewhere(), transport=FakeTransport({}, default_status=200)))
"""


@pytest.mark.parametrize("start", [RUN, COLLECT])
async def test_a_script_without_a_guard_is_told_so(tmp_path: Path, start: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(SPIDER + start)
    done = await asyncio.to_thread(programs.run, program, cwd=tmp_path)
    assert 'put what starts the crawl below `if __name__ == "__main__":`' in done.stderr
    told = done.stdout + done.stderr
    assert "there is no worker process for parse: the last one exited with code 1" in told


async def test_a_worker_that_closed_its_socket_and_hangs_costs_its_page() -> None:
    words = {"closed": "close"} | {f"page-{n}": "nothing" for n in range(5)}
    items, failures = await crawl(words)
    assert items == sorted(words.keys() - {"closed"})
    assert isinstance(failures["closed"].error, CallbackCrashed)


async def test_a_callback_that_forks_answers_once() -> None:
    words = {"fork": "fork"} | {f"page-{n}": "nothing" for n in range(20)}
    assert await crawl(words) == (sorted(words), {})


async def test_a_worker_that_does_not_get_ready_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "_START_S", 0.01)
    items, failures = await crawl({"page": "nothing"})
    assert items == []
    assert "the last one didn't get ready within 0.01 s" in str(failures["page"].error)


async def test_a_large_spider_does_not_keep_the_loop_until_a_worker_reads_it() -> None:
    lags: list[float] = []

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            lags.append(loop.time() - due)

    task = asyncio.create_task(watch())
    lane = ProcessLane(SpiderRef.of(Hostile(log="/" + "x" * 4_000_000)), 1)
    with pytest.raises(OSError, match="File name too long"):
        await lane.run(None, respond("nothing", url=SITE))
    await lane.aclose(patience_s=60)
    task.cancel()
    # A worker takes longer than that to start, let alone to import the spider.
    assert statistics.median(lags) < 0.1


def test_the_lanes_run_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")
    words = {"crash": "exit 3"} | {f"page-{n}": "nothing" for n in range(20)}

    async def main() -> tuple[list[dict[str, Any]], Report]:
        # Not by `crawl`: libuv keeps a descriptor in reserve.
        transport = FakeTransport(pages(**words))
        return await crawled(Hostile(start_urls=urls(*words)), transport=transport)

    items, report = uvloop.run(main())
    assert {item["path"] for item in items} == words.keys() - {"crash"}
    assert [error.error for error in report.errors] == ["CallbackCrashed 3"]
