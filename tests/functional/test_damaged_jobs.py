"""Jobs in whose folder something was changed by whatever it was: one line, and nothing lost."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

import scrapekit
from scrapekit import Request, Response, Settings, Spider
from scrapekit.cli import main
from scrapekit.errors import JobError, OutputError, UsageError
from scrapekit.jobs import failed_requests, items_of, retry, start_anew, state
from scrapekit.jobs.diff import differences
from scrapekit.report import Report
from scrapekit.testing import FakeTransport

HOME = "http://shop.test"
PAGES = 12

JUNK: list[Any] = [
    "",
    "{",
    "null",
    "[]",
    "5",
    '{"u":5}',
    '{"u":"http://[","x":"{"}',
    '{"u":"http://shop.test/1","k":{"\\n":"a"}}',
    "\ufffd\x00\x1b[31m",
    "nan",
    "9" * 400,
    b"\xff\xfe",
    1e308,
    -1,
]


class Row(Spider):
    """Pages in a row, of which some fail and the last wait."""

    start_urls = (f"{HOME}/0",)
    settings = Settings(obey_robots=True, retries=0, concurrency=2)

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        number = int(response.url.rpartition("/")[2])
        yield {"n": number}
        if number % 5 == 2:
            raise ValueError("no price")
        for following in range(number + 1, min(number + 4, PAGES)):
            yield Request(f"{HOME}/{following}", meta={"from": number}, priority=following % 2)


def web() -> FakeTransport:
    def page(request: Request) -> Response:
        headers = CIMultiDict([("Set-Cookie", "seen=1"), ("ETag", '"a"')])
        return Response(request.url, 200, headers, b"<title>x</title>")

    robots = f"User-agent: *\nDisallow: /{PAGES - 1}\nCrawl-delay: 0"
    pages: dict[str, Any] = {f"{HOME}/{number}": page for number in range(PAGES)}
    return FakeTransport({**pages, f"{HOME}/robots.txt": robots})


async def crawl(job: Path, **options: Any) -> Report:
    settings = {"stall_warning_s": 0, **options.pop("settings", {})}
    run = scrapekit.crawl(Row(), job=job, transport=web(), settings=settings, **options)
    async with run as under_way:
        await under_way.wait()
    return under_way.report


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture
async def jobs(made: Path) -> Path:
    """Two jobs that were made once: one that was stopped on its way, and one that is done."""
    if not (made / "done").exists():
        await crawl(made / "half", settings={"max_pages": 5}, output=made / "half.jsonl")
        await crawl(made / "done")
    return made


def changed(job: Path, table: str, column: str, junk: Any) -> int:
    """Put junk into all rows of a column, one after the other; how many there are."""
    with closing(sqlite3.connect(job / "job.sqlite")) as database:
        database.execute(f"UPDATE {table} SET {column} = ?", (junk,))
        database.commit()
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def content(job: Path, table: str) -> list[Any]:
    with closing(sqlite3.connect(job / "job.sqlite")) as database:
        database.text_factory = bytes
        return database.execute(f"SELECT * FROM {table}").fetchall()


COLUMNS = [
    ("pending", "request"),
    ("pending", "tries"),
    ("pending", "due"),
    ("failures", "request"),
    ("failures", "at"),
    ("failures", "tries"),
    ("items", "lines"),
    ("items", "count"),
    ("notes", "value"),
]
NOTES = ["job", "cookies of a site", "origin", "start", "repeats", "output", "reach", "page"]


def spoil(job: Path, table: str, column: str, junk: Any) -> None:
    try:
        changed(job, table, column, junk)
    except (sqlite3.IntegrityError, sqlite3.OperationalError) as error:
        pytest.skip(f"SQLite itself refuses it: {error}")


def one_line(error: Exception) -> None:
    assert isinstance(error, (JobError, OutputError)), repr(error)
    text = str(error)
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) < 1_000


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:30])
@pytest.mark.parametrize(("table", "column"), COLUMNS)
async def test_what_is_damaged_is_told_in_a_line_and_kept(
    jobs: Path, tmp_path: Path, table: str, column: str, junk: Any
) -> None:
    if column == "due" and junk in (1e308, "9" * 400):
        pytest.skip("a date in the far future is one")
    job = tmp_path / "job"
    shutil.copytree(jobs / "half", job)
    spoil(job, table, column, junk)
    before = {name: content(job, name) for name in ("pending", "items", "failures")}
    for look in (
        lambda: state(job),
        lambda: list(failed_requests(job)),
        lambda: list(items_of(job)),
        lambda: list(differences(jobs / "done", job)),
    ):
        try:
            look()
        except JobError as error:
            one_line(error)
    assert {name: content(job, name) for name in before} == before
    try:
        report = await crawl(job, output=tmp_path / "out.jsonl")
    except UsageError as error:
        one_line(error)
    else:
        for group in report.errors:
            assert group.error in ("ValueError", "JobError", "OutputError", "ItemError"), group
            assert "\n" not in group.message
        if report.reason != "failed":
            return
    # What was there is still there, but for what was done meanwhile.
    after = {name: content(job, name) for name in before}
    assert len(after["items"]) >= len(before["items"])
    held = len(after["pending"]) + len(after["failures"]) + len(after["items"])
    assert held >= len(before["pending"]) + len(before["failures"])


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:30])
@pytest.mark.parametrize("kind", NOTES)
async def test_so_is_each_kind_of_note(jobs: Path, tmp_path: Path, kind: str, junk: Any) -> None:
    job = tmp_path / "job"
    shutil.copytree(jobs / "half", job)
    with closing(sqlite3.connect(job / "job.sqlite")) as database:
        database.execute("UPDATE notes SET value = ? WHERE kind = ?", (junk, kind))
        database.commit()
    before = content(job, "pending")
    try:
        report = await crawl(job)
    except UsageError as error:
        one_line(error)
        assert content(job, "pending") == before
    else:
        assert {g.error for g in report.errors} <= {"ValueError", "JobError"}, report


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:30])
@pytest.mark.parametrize(
    ("table", "column"), [("notes", "value"), ("items", "lines"), ("failures", "request")]
)
async def test_so_is_what_a_later_crawl_compares_with(
    jobs: Path, tmp_path: Path, table: str, column: str, junk: Any
) -> None:
    job = tmp_path / "job"
    shutil.copytree(jobs / "done", job)
    spoil(job, table, column, junk)
    if table == "notes":
        with closing(sqlite3.connect(job / "job.sqlite")) as database:
            good = sqlite3.connect(jobs / "done" / "job.sqlite")
            kept = good.execute("SELECT * FROM notes WHERE kind = 'job'").fetchall()
            good.close()
            database.executemany("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", kept)
            database.commit()
    try:
        report = await crawl(tmp_path / "later", since=job)
    except UsageError as error:
        one_line(error)
    else:
        assert {g.error for g in report.errors} <= {"ValueError", "JobError"}, report


@pytest.mark.parametrize("junk", ["{", '{"u":5}'])
async def test_damaged_requests_can_be_put_back_and_a_damaged_job_made_anew(
    jobs: Path, tmp_path: Path, junk: str
) -> None:
    job = tmp_path / "job"
    shutil.copytree(jobs / "half", job)
    spoil(job, "failures", "request", junk)
    try:
        retry(job)
    except JobError as error:
        one_line(error)
    spoil(job, "notes", "value", junk)
    spoil(job, "pending", "request", junk)
    start_anew(job)
    report = await crawl(job)
    assert report.reason == "finished"


async def test_the_command_tells_it_in_a_line_and_by_its_exit_code(
    jobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tmp_path / "job"
    shutil.copytree(jobs / "half", job)
    spoil(job, "notes", "value", "{")
    assert main(["job", str(job)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "a note on its runs is damaged" in line
    assert f"`scrapekit export {job}` saves its items" in line
