"""run() and crawl() in programs of their own: signals, threads, worker processes, exit codes."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

import scrapekit
from scrapekit.errors import UsageError
from scrapekit.report import Report
from scrapekit.testing import FakeTransport
from tests.functional.cli import environment
from tests.functional.site import Site, held, links
from tests.functional.spiders import TITLE, Titles

RUN = """
import asyncio, sys
import scrapekit
from scrapekit import Spider

class Pages(Spider):
    settings = {"obey_robots": False, "drain_s": float(sys.argv[2])}
    async def parse(self, response):
        yield {"url": response.url}
        yield response.follow_all()

if __name__ == "__main__":
    report = scrapekit.run(Pages(start_urls=[sys.argv[1]]), output="items.jsonl")
    print(report.reason, report.items, flush=True)
"""

EMBEDDED = """
import asyncio, sys
import scrapekit
from scrapekit import Spider

class Pages(Spider):
    settings = {"obey_robots": False}
    async def parse(self, response):
        yield {"url": response.url}
        yield response.follow_all()

async def main():
    async with scrapekit.crawl(Pages(start_urls=[sys.argv[1]]), output="items.jsonl") as run:
        try:
            async for item in run:
                print(item["url"], flush=True)
        finally:
            print("leaving", flush=True)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""

INTERRUPTS = """
import asyncio, sys
import scrapekit
from scrapekit import Spider

class Pages(Spider):
    settings = {"obey_robots": False}
    async def parse(self, response):
        raise KeyboardInterrupt

async def main():
    async with scrapekit.crawl(Pages(start_urls=[sys.argv[1]])) as run:
        async for item in run:
            pass

asyncio.run(main())
"""

HANGING_END = """
import asyncio, sys
import scrapekit
from scrapekit import Spider

class Pages(Spider):
    settings = {"obey_robots": False}
    async def lifespan(self):
        yield
        print("closing", flush=True)
        await asyncio.Event().wait()
    async def parse(self, response):
        yield {"url": response.url}

if __name__ == "__main__":
    scrapekit.run(Pages(start_urls=[sys.argv[1]]), output="items.jsonl")
"""

NO_GUARD = """
import sys
import scrapekit
from scrapekit import Spider, lane

class Pages(Spider):
    settings = {"obey_robots": False, "processes": 1}
    @lane("process")
    def parse(self, response):
        yield {"url": response.url}

report = scrapekit.run(Pages(start_urls=[sys.argv[1]]))
print(report.ok, report.items, flush=True)
"""

GUARD = NO_GUARD.replace(
    "report = scrapekit.run", 'if __name__ == "__main__":\n    report = scrapekit.run'
).replace("print(report", "    print(report")

STUCK_THREAD = """
import sys, threading
import scrapekit
from scrapekit import Spider

class Pages(Spider):
    settings = {"obey_robots": False, "max_seconds": 0.2, "drain_s": 0}
    def parse(self, response):
        threading.Event().wait()

if __name__ == "__main__":
    report = scrapekit.run(Pages(start_urls=[sys.argv[1]]))
    print(report.reason, flush=True)
"""


class Ended(NamedTuple):
    code: int
    out: list[str]
    err: str


class Program:
    """A script in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def send(self, number: signal.Signals = signal.SIGINT) -> None:
        self._process.send_signal(number)

    async def line(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def told(self, words: str) -> None:
        """Wait until it has said so on standard error."""
        assert self._process.stderr is not None
        while words.encode() not in await self._process.stderr.readline():
            assert not self._process.stderr.at_eof()

    async def end(self) -> Ended:
        out, err = await self._process.communicate()
        assert self._process.returncode is not None
        return Ended(self._process.returncode, out.decode().splitlines(), err.decode())


@asynccontextmanager
async def program(folder: Path, script: str, *arguments: str) -> AsyncIterator[Program]:
    (folder / "script.py").write_text(script, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "script.py",
        *arguments,
        cwd=folder,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def urls(folder: Path) -> list[str]:
    text = (folder / "items.jsonl").read_bytes()
    return [msgspec.json.decode(line)["url"] for line in text.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_one_signal_drains(number: signal.Signals, tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with (
        Site({"/": links("/slow", "/2"), "/slow": held(gate, links("/more")), "*": ""}) as site,
        program(tmp_path, RUN, site.url(), "60") as script,
    ):
        await site.until(lambda: "/slow" in site.hits and "/2" in site.hits)
        script.send(number)
        # The page that is held is let go only when the signal has arrived.
        await script.told("interrupted")
        gate.set()
        ended = await script.end()
        assert sorted(urls(tmp_path)) == sorted(site.urls("/", "/slow", "/2"))
    assert ended.out == ["interrupted 3"]
    assert ended.code == 0
    assert "/more" not in site.hits


async def test_two_signals_end_it_at_once_and_keep_what_was_committed(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with (
        Site({"/": links("/hangs"), "/hangs": held(never)}) as site,
        program(tmp_path, RUN, site.url(), "60") as script,
    ):
        await site.until(lambda: "/hangs" in site.hits)
        script.send()
        await script.told("interrupted")
        script.send()
        ended = await script.end()
        assert urls(tmp_path) == [site.url()]
    assert ended.out == ["interrupted 1"]
    assert ended.code == 0


async def test_a_signal_cuts_short_what_takes_longer_than_drain_s(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with (
        Site({"/": links("/hangs"), "/hangs": held(never)}) as site,
        program(tmp_path, RUN, site.url(), "0") as script,
    ):
        await site.until(lambda: "/hangs" in site.hits)
        script.send()
        ended = await script.end()
        assert urls(tmp_path) == [site.url()]
    assert ended.out == ["interrupted 1"]


async def test_an_end_that_hangs_is_cut_short_by_the_second_signal(tmp_path: Path) -> None:
    async with (
        Site({"/": ""}) as site,
        program(tmp_path, HANGING_END, site.url()) as script,
    ):
        assert await script.line() == "closing"
        script.send()
        await script.told("interrupted")
        script.send()
        await script.end()
        assert urls(tmp_path) == [site.url()]


async def test_ctrl_c_leaves_an_embedded_crawl_in_order(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with (
        Site({"/": links("/hangs"), "/hangs": held(never)}) as site,
        program(tmp_path, EMBEDDED, site.url()) as script,
    ):
        assert await script.line() == site.url()
        script.send()
        ended = await script.end()
        assert ended.out == ["leaving", "interrupted"]
        assert urls(tmp_path) == [site.url()]
    assert ended.err == ""


async def test_a_keyboard_interrupt_in_a_callback_ends_the_program(tmp_path: Path) -> None:
    async with Site({"/": ""}) as site, program(tmp_path, INTERRUPTS, site.url()) as script:
        ended = await script.end()
    assert ended.code != 0
    assert "KeyboardInterrupt" in ended.err


async def test_a_script_without_a_guard_is_told_to_write_one(tmp_path: Path) -> None:
    async with Site({"/": ""}) as site, program(tmp_path, NO_GUARD, site.url()) as script:
        ended = await script.end()
    assert 'put what starts the crawl below `if __name__ == "__main__":`' in ended.err
    assert site.hits == ["/"]
    assert ended.out in ([], ["False 0"])


async def test_a_script_with_a_guard_runs_its_process_lane(tmp_path: Path) -> None:
    async with Site({"/": ""}) as site, program(tmp_path, GUARD, site.url()) as script:
        ended = await script.end()
    assert ended.out == ["True 1"]
    assert ended.err == ""


async def test_a_callback_that_never_returns_doesnt_keep_the_interpreter_alive(
    tmp_path: Path,
) -> None:
    async with Site({"/": ""}) as site, program(tmp_path, STUCK_THREAD, site.url()) as script:
        ended = await script.end()
    assert (ended.code, ended.out) == (0, ["max_seconds"])


def test_run_gives_the_report_and_leaves_the_handlers_as_they_were(tmp_path: Path) -> None:
    def handlers() -> list[Any]:
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    before = handlers()
    path = tmp_path / "items.jsonl"
    report = scrapekit.run(
        Titles(start_urls=["http://site.test/"]),
        output=path,
        transport=FakeTransport({"http://site.test/": ""}),
    )
    assert (report.reason, report.items, report.ok) == ("finished", 1, True)
    assert msgspec.json.decode(path.read_bytes()) == TITLE
    assert handlers() == before


def test_run_works_off_the_main_thread() -> None:
    reports: list[Report] = []

    def work() -> None:
        transport = FakeTransport({"http://site.test/": ""})
        spider = Titles(start_urls=["http://site.test/"])
        reports.append(scrapekit.run(spider, transport=transport))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [report.ok for report in reports] == [True]


def test_run_heeds_the_projects_settings_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scrapekit.toml").write_text("max_pages = 1\nconcurrency = 1\n")
    monkeypatch.chdir(tmp_path)
    urls = [f"http://site.test/{n}" for n in range(5)]

    def pages() -> int:
        transport = FakeTransport(dict.fromkeys(urls, ""))
        return scrapekit.run(Titles(start_urls=urls), transport=transport).pages

    assert pages() == 1
    monkeypatch.setenv("SCRAPEKIT_MAX_PAGES", "2")
    assert pages() == 2
    monkeypatch.setenv("SCRAPEKIT_MAX_PAGE", "2")
    with pytest.raises(UsageError, match="SCRAPEKIT_MAX_PAGES"):
        pages()
