"""The command with a job: crawl, job, retry, export; kills and signals for real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.functional.cli import Called, environment, started
from tests.functional.cli import scrapekit as scrapekit  # noqa: PLC0414  a fixture
from tests.functional.site import Site, held, links


def shop(count: int = 6) -> dict[str, Any]:
    pages: dict[str, Any] = {
        f"/{n}": f"<h1>{n}</h1>{links(*(f'/{m}' for m in range(n + 1, min(n + 3, count))))}"
        for n in range(count)
    }
    return pages


def titles(file: Path) -> list[str]:
    return sorted(json.loads(line)["title"] for line in file.read_text().splitlines())


def arguments(site: Site, *more: str) -> list[str]:
    return ["crawl", "pages.py", "-a", f"start_urls={site.url('/0')}", *more]


START = """
from pages import Pages as Base
from scrapekit import Request

class Pages(Base):
    site = ""
    async def start(self):
        yield Request(self.site + "/0")
"""


@pytest.fixture
def command(scrapekit: Called) -> Called:
    scrapekit.write("shop.py", START)
    return scrapekit


def crawl(site: Site, *more: str) -> list[str]:
    return ["crawl", "shop.py", "-a", f"site={site.origin}", "-q", *more]


async def test_the_same_command_continues(command: Called) -> None:
    async with Site(shop()) as site:
        options = ["-o", "items.jsonl", "--job", "j"]
        first = await command.beside(*crawl(site, *options, "-s", "max_pages=2"))
        second = await command.beside(*crawl(site, *options))

    assert (first.code, second.code) == (0, 0)
    assert titles(command.folder / "items.jsonl") == list("012345")
    assert len(site.hits) == 6


async def test_a_killed_crawl_is_continued_by_the_same_command(command: Called) -> None:
    gate = asyncio.Event()
    async with Site(shop() | {"/3": held(gate, f"<h1>3</h1>{links('/4', '/5')}")}) as site:
        options = crawl(site, "-o", "items.jsonl", "--job", "j")
        async with started(command.folder, *options) as program:
            await site.until(lambda: "/3" in site.hits)
            program.send(signal.SIGKILL)
            assert (await program.end()).code == -signal.SIGKILL
        gate.set()
        state = await command.beside("job", "j")
        finished = await command.beside(*options)

    assert "it is running, or was killed" in state.out
    assert finished.code == 0
    assert titles(command.folder / "items.jsonl") == list("012345")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_drains_commits_and_leaves_the_rest_for_later(
    command: Called, number: signal.Signals
) -> None:
    gate = asyncio.Event()
    async with Site(shop() | {"/1": held(gate, f"<h1>1</h1>{links('/2', '/3')}")}) as site:
        options = ["-o", "items.jsonl", "--job", "j", "-s", "concurrency=1"]
        async with started(command.folder, *crawl(site, *options)) as program:
            await site.until(lambda: "/1" in site.hits)
            program.send(number)
            await program.until("interrupted")
            gate.set()
            stopped = await program.end()
        assert titles(command.folder / "items.jsonl") == ["0", "1"]
        finished = await command.beside(*crawl(site, *options))

    assert stopped.code == 128 + number
    assert finished.code == 0
    assert titles(command.folder / "items.jsonl") == list("012345")
    assert len(site.hits) == 6


async def test_a_second_signal_stops_at_once_and_loses_nothing_committed(command: Called) -> None:
    gate = asyncio.Event()
    async with Site(shop() | {"/1": held(gate, f"<h1>1</h1>{links('/2', '/3')}")}) as site:
        options = ["-o", "items.jsonl", "--job", "j", "-s", "concurrency=1"]
        async with started(command.folder, *crawl(site, *options)) as program:
            await site.until(lambda: "/1" in site.hits)
            program.send(signal.SIGINT)
            await program.until("interrupted")
            program.send(signal.SIGINT)
            stopped = await program.end()
        assert titles(command.folder / "items.jsonl") == ["0"]
        gate.set()
        finished = await command.beside(*crawl(site, *options))

    assert (stopped.code, finished.code) == (130, 0)
    assert titles(command.folder / "items.jsonl") == list("012345")


async def test_a_second_process_is_refused_at_once(command: Called) -> None:
    gate = asyncio.Event()
    async with Site(shop() | {"/1": held(gate, "<h1>1</h1>")}) as site, AsyncExitStack() as stack:
        words = crawl(site, "--job", "j")
        program = await stack.enter_async_context(started(command.folder, *words))
        await site.until(lambda: "/1" in site.hits)
        second = await command.beside(*crawl(site, "--job", "j"))
        again = await command.beside("retry", "j")
        state = await command.beside("job", "j")
        export = await command.beside("export", "j", "-o", "-")
        gate.set()
        await program.end()

    assert second.code == again.code == 3
    assert "another process (pid " in second.error
    assert "another process (pid " in again.error
    # Looking doesn't disturb.
    assert (state.code, export.code) == (0, 0)
    assert '{"title":"0"}' in export.out


async def test_the_state_of_a_job(command: Called) -> None:
    async with Site(shop() | {"/4": 500, "/5": 404}) as site:
        await command.beside(*crawl(site, "--job", "j", "-o", "items.jsonl"))
        four, five = site.urls("/4", "/5")
    shown = command("job", "j")
    failed = command("job", "j", "--failed")
    as_json = json.loads(command("job", "j", "--json").out)
    lines = [
        json.loads(line) for line in command("job", "j", "--failed", "--json").out.splitlines()
    ]

    assert "pages: 4 done, 0 pending, 2 failed, 4 items" in shown.out
    assert "1 x BadStatus 404" in shown.out
    assert "4 pages in " in shown.out
    assert f"{four}\n  BadStatus 500 (fetch), 1 try, " in failed.out
    assert as_json["failed"] == {"BadStatus 404": 1, "BadStatus 500": 1}
    assert {line["url"] for line in lines} == {four, five}


async def test_what_failed_is_put_back(command: Called) -> None:
    async with Site(shop() | {"/4": 500, "/5": 404}) as site:
        options = crawl(site, "--job", "j", "-o", "items.jsonl")
        await command.beside(*options)
        one = command("retry", "j", "--only", "BadStatus 500")
        site.pages |= shop()
        await command.beside(*options)
        rest = command("retry", "j")
        await command.beside(*options)

    assert "1 request is put back" in one.out
    assert "1 request is put back" in rest.out
    assert titles(command.folder / "items.jsonl") == list("012345")
    assert "0 requests are put back" in command("retry", "j").out


@pytest.mark.parametrize(
    "words", [["job"], ["job", "--failed"], ["retry"], ["export", "-o", "x.csv"]]
)
def test_a_folder_without_a_job_is_named(scrapekit: Called, words: list[str]) -> None:
    ended = scrapekit(words[0], "nowhere", *words[1:])

    assert (ended.code, ended.error) == (3, "there is no job in nowhere")
    assert not (scrapekit.folder / "nowhere").exists()


@pytest.mark.parametrize("name", ["jsonl", "csv", "json", "sqlite"])
async def test_items_are_exported_again_in_every_format(command: Called, name: str) -> None:
    async with Site(shop()) as site:
        await command.beside(*crawl(site, "--job", "j"))
    target = f"again.{name}"
    done = await command.beside("export", "j", "-o", target)
    refused = await command.beside("export", "j", "-o", target)
    overwritten = await command.beside("export", "j", "-O", target)

    assert (done.code, overwritten.code) == (0, 0)
    assert f"{target}: 6 items" in done.err
    assert refused.code == 3
    assert "the file holds data" in refused.error
    if name == "sqlite":
        with closing(sqlite3.connect(command.folder / target)) as database:
            found = [row[0] for row in database.execute("SELECT title FROM items")]
        assert sorted(found) == list("012345")
    else:
        assert all(number in command.read(target) for number in "012345")


async def test_an_export_is_added_to_a_file_as_the_refusal_advises(command: Called) -> None:
    async with Site(shop()) as site:
        await command.beside(*crawl(site, "--job", "j"))
    export = ("export", "j", "-o", "items.jsonl")
    command.write("items.jsonl", '{"title":"old"}\n')
    refused = await command.beside(*export)
    added = await command.beside(*export, "--append")
    both = await command.beside("export", "j", "-O", "items.jsonl", "--append")
    assert refused.code == 3
    assert "add to it with --append" in refused.error
    assert added.code == 0, added.err
    assert sorted(titles(command.folder / "items.jsonl")) == [*"012345", "old"]
    assert both.code == 2


def test_a_bad_export_is_refused(scrapekit: Called) -> None:
    (scrapekit.folder / "j").mkdir()
    assert scrapekit("export", "j").code == 2
    assert scrapekit("export", "j", "-o", "x.csv").code == 3


async def test_fresh_also_helps_where_the_job_is_damaged(command: Called) -> None:
    async with Site(shop()) as site:
        options = crawl(site, "--job", "j")
        await command.beside(*options, "-s", "max_pages=3")
        (command.folder / "j" / "job.sqlite").write_bytes(b"x" * 5000)
        refused = await command.beside(*options)
        done = await command.beside(*options, "--fresh", "--yes")

    assert refused.code == 3
    assert done.code == 0
    assert "--fresh throws away the job j: a job that can't be read" in done.err
    assert len(site.hits) == 9


async def test_fresh_is_refused_where_nobody_can_confirm_it(command: Called) -> None:
    async with Site(shop()) as site:
        options = crawl(site, "--job", "j", "-o", "items.jsonl")
        await command.beside(*options, "-s", "max_pages=3")
        refused = await command.beside(*options, "--fresh")
        assert len(titles(command.folder / "items.jsonl")) == 3
        done = await command.beside(*options, "--fresh", "--yes")

    assert refused.code == 2
    assert "--fresh throws away the job j: 3 pages done" in refused.err
    assert "--fresh --yes does it unasked" in refused.err
    assert done.code == 0
    assert titles(command.folder / "items.jsonl") == list("012345")
    assert len(site.hits) == 9


LOSING = """
from pages import Pages as Base

def picky(item):
    if item["title"] in "135":
        raise ValueError("odd")
    return item

class Pages(Base):
    pipeline = [picky]
"""


async def test_items_that_were_lost_are_shown_and_can_be_forgotten(command: Called) -> None:
    command.write("losing.py", LOSING)
    async with Site(shop()) as site:
        options = ["crawl", "losing.py", "-a", f"start_urls={site.url('/0')}", "-q", "--job", "j"]
        first = await command.beside(*options)
        again = await command.beside(*options)
        shown = await command.beside("job", "j")
        listed = await command.beside("job", "j", "--failed")
        told = await command.beside("retry", "j")
        forgotten = await command.beside("retry", "j", "--forget-lost")
        shown_again = await command.beside("job", "j")
        done = await command.beside(*options)

    assert (first.code, again.code, done.code) == (1, 1, 0)
    assert "3 items were lost by errors in earlier runs of the job" in again.err
    assert (
        "  lost       3 items, by errors of stages and outputs; --failed shows which" in shown.out
    )
    assert listed.out.count("ValueError (pipeline in parse at ") == 3
    assert "3 items are lost by errors of stages and outputs: " in told.out
    assert "3 items are forgotten" in forgotten.out
    assert "lost" not in shown_again.out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--fresh"], "there is no --job DIR"),
        (["--job", "j", "--yes"], "there is no --fresh"),
    ],
)
def test_options_that_need_another_are_refused(
    scrapekit: Called, options: list[str], why: str
) -> None:
    ended = scrapekit("crawl", "pages.py", *options)

    assert ended.code == 2
    assert why in ended.err


async def test_a_job_that_cant_be_opened_is_no_start(command: Called) -> None:
    command.write("j", "a file")
    async with Site(shop()) as site:
        ended = await command.beside(*crawl(site, "--job", "j"))

    assert ended.code == 3
    assert ended.error == "j is a file; a job needs a folder"


LIMITED = """
import resource, signal, sys
from scrapekit.cli import main

size, files = int(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if size:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
if files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
sys.exit(main(sys.argv[3:]))
"""


async def limited(command: Called, size: int, files: int, *options: str) -> tuple[int, str]:
    """Run the command where files can't grow beyond `size`, and no more than `files` be open."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        command.write("limited.py", LIMITED),
        str(size),
        str(files),
        *options,
        cwd=command.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


@pytest.mark.parametrize("size", [2_000, 40_000, 60_000, 90_000, 150_000])
async def test_a_disk_that_takes_no_more_is_told_and_the_job_continued(
    command: Called, size: int
) -> None:
    text = "x" * 3_000
    pages = {f"/{n}": f"<h1>{n}{text}</h1>{links(f'/{n + 1}', f'/{n + 2}')}" for n in range(80)}
    async with Site(pages | {"/80": 404, "/81": 404}) as site:
        options = crawl(site, "--job", "j", "-o", "items.jsonl")
        code, out = await limited(command, size, 0, *options)
        finished = await command.beside(*options)

    assert code in (1, 3), out
    assert "can't use the job j" in out or "can't write items.jsonl" in out
    assert "mistake in scrapekit" not in out
    assert "Traceback" not in out
    assert finished.code == 0, finished.err
    assert len(titles(command.folder / "items.jsonl")) == 80


async def test_a_full_disk_is_told_and_the_job_continued(command: Called) -> None:
    if os.geteuid() != 0 or not _can_mount(command.folder):
        pytest.skip("only root may mount a small disk, and not in every container")
    small = command.folder / "small"
    text = "x" * 3_000
    pages = {f"/{n}": f"<h1>{n}{text}</h1>{links(f'/{n + 1}')}" for n in range(100)}
    try:
        async with Site(pages | {"/100": 404}) as site:
            options = crawl(site, "--job", "small/j", "-o", "small/items.jsonl")
            full = await command.beside(*options)
            remount(small, "size=10m")
            finished = await command.beside(*options)
            count = len(titles(small / "items.jsonl"))
    finally:
        unmount(small)

    assert full.code == 1
    assert "the disk is full; make room, and run the same command again" in full.err
    assert finished.code == 0, finished.err
    assert count == 100


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=False)


def _can_mount(folder: Path) -> bool:
    small = folder / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


async def test_a_disk_that_may_not_be_written_is_no_start(command: Called) -> None:
    if os.geteuid() != 0 or not _can_mount(command.folder):
        pytest.skip("only root may mount a small disk, and not in every container")
    small = command.folder / "small"
    try:
        async with Site(shop()) as site:
            remount(small, "size=10m")
            options = crawl(site, "--job", "small/j")
            await command.beside(*options, "-s", "max_pages=2")
            remount(small, "ro")
            ended = await command.beside(*options)
            remount(small, "rw")
            finished = await command.beside(*options)
    finally:
        unmount(small)

    assert ended.code == 3
    assert "can't use the job small/j: Read-only file system" in ended.error
    assert finished.code == 0


@pytest.mark.parametrize("victim", ["j", "items.jsonl"])
async def test_files_that_vanish_are_missed(command: Called, victim: str) -> None:
    gate = asyncio.Event()
    async with Site(shop() | {"/1": held(gate, f"<h1>1</h1>{links('/2')}")}) as site:
        options = crawl(site, "--job", "j", "-o", "items.jsonl")
        async with started(command.folder, *options) as program:
            await site.until(lambda: "/1" in site.hits and "/2" in site.hits)
            (command.folder / victim).rename(command.folder / "aside")
            gate.set()
            ended = await program.end()
        if victim == "j":
            (command.folder / "aside").rename(command.folder / victim)
        finished = await command.beside(*options)

    assert ended.code == 1
    assert "gone" in ended.err
    assert finished.code == 0, finished.err
    assert titles(command.folder / "items.jsonl") == list("012345")


@pytest.mark.parametrize("files", range(6, 30, 3))
async def test_too_few_files_lose_nothing(command: Called, files: int) -> None:
    async with Site(shop()) as site:
        options = crawl(site, "--job", "j", "-o", "items.jsonl")
        code, out = await limited(command, 0, files, *options)
        if code == 0:
            assert titles(command.folder / "items.jsonl") == list("012345")
        command("retry", "j")
        finished = await command.beside(*options)

    assert finished.code == 0, finished.err
    assert code in (0, 1, 3), out
    assert titles(command.folder / "items.jsonl") == list("012345")


async def test_what_failed_in_an_earlier_run_is_told_and_no_success(command: Called) -> None:
    fails = ["-a", "fail_on=2"]
    async with Site(shop()) as site:
        options = crawl(site, "--job", "j", "-o", "items.jsonl")
        first = await command.beside(*options, *fails)
        second = await command.beside(*options, *fails)
        command("retry", "j")
        third = await command.beside(*options)

    assert (first.code, second.code, third.code) == (1, 1, 0)
    assert second.error == (
        "1 page and 0 items were lost by errors in earlier runs of the job; `scrapekit job` shows "
        "why, `scrapekit retry` puts them back"
    )
