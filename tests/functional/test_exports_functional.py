from __future__ import annotations

import csv
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import scrapekit
from scrapekit import Response, Spider
from scrapekit.errors import OutputError, UsageError
from scrapekit.events import CrawlFinished, ItemsWritten
from tests.functional.site import Site, Watcher, crawled, only_error
from tests.functional.spiders import TITLE, Titles

OLD = '{"kept": true}\n'


def lines(path: Path) -> list[Any]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


async def test_items_go_to_every_output_in_its_format(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.jsonl", "a.json", "a.csv", "a.txt")]
    outputs = [*paths[:3], f"{paths[3]}:jsonl"]
    watcher = Watcher()
    async with Site({"*": ""}) as site:
        spider = Titles(start_urls=site.urls("/1", "/2"))
        _, report = await crawled(spider, output=outputs, observers=[watcher])
    assert lines(paths[0]) == lines(paths[3]) == [TITLE, TITLE]
    assert msgspec.json.decode(paths[1].read_bytes()) == [TITLE, TITLE]
    with paths[2].open(newline="") as file:
        assert list(csv.DictReader(file)) == [TITLE, TITLE]
    assert report.exports == {str(path): 2 for path in paths}
    assert watcher.count(ItemsWritten) == 8


async def test_a_crawl_without_items_leaves_complete_files(tmp_path: Path) -> None:
    outputs = [tmp_path / "a.json", tmp_path / "a.jsonl"]
    await crawled(Titles(), output=outputs)
    assert msgspec.json.decode(outputs[0].read_bytes()) == []
    assert outputs[1].read_bytes() == b""


class Odd(Spider):
    async def parse(self, response: Response) -> AsyncIterator[Any]:
        yield {"n": 1}
        yield {"n": 2, "connection": object()}
        yield {"n": 3}


async def test_an_item_that_cant_be_written_is_reported_and_the_rest_survives(
    tmp_path: Path,
) -> None:
    path = tmp_path / "items.jsonl"
    async with Site({"/": ""}) as site:
        items, report = await crawled(Odd(start_urls=[site.url()]), output=path)
        url = site.url()
    assert [item["n"] for item in items] == [1, 2, 3]
    assert [item["n"] for item in lines(path)] == [1, 3]
    assert report.exports == {str(path): 2}
    assert report.reason == "finished"
    assert not report.ok
    (group,) = report.errors
    assert (group.error, group.during, group.callback) == ("ItemError", "export", "parse")
    assert group.example == url
    assert "field 'connection'" in group.message


class Big(Spider):
    async def parse(self, response: Response) -> dict[str, Any]:
        return {"text": "x" * 100_000}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("pages", [1, 100], ids=["at the end", "under way"])
async def test_a_full_disk_stops_the_crawl(pages: int) -> None:
    watcher = Watcher()
    async with Site({"*": ""}) as site:
        spider = Big(start_urls=site.urls(*(f"/{n}" for n in range(pages))))
        _, report = await crawled(
            spider, output="/dev/full:jsonl", observers=[watcher], settings={"concurrency": 2}
        )
    assert report.reason == "failed"
    assert not report.ok
    error, message = only_error(report)
    assert error == OutputError.__name__
    assert "disk is full" in message
    assert report.errors[0].during == "export"
    finished = watcher.events[-1]
    assert isinstance(finished, CrawlFinished)
    assert finished.reason == "failed"
    if pages > 1:
        assert len(site.hits) < pages


async def test_an_output_that_holds_data_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path, fresh = tmp_path / "items.jsonl", tmp_path / "fresh.jsonl"
    path.write_text(OLD)
    async with Site({"/": ""}) as site:
        spider = Titles(start_urls=[site.url()])
        with pytest.raises(OutputError, match="overwrite"):
            await crawled(spider, output=[fresh, path])
    assert path.read_text() == OLD
    assert not fresh.exists()
    assert site.hits == []


async def test_overwrite_and_append(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(OLD)
    async with Site({"/": ""}) as site:
        spider = Titles(start_urls=[site.url()])
        await crawled(spider, output=path, append=True)
        assert lines(path) == [{"kept": True}, TITLE]
        await crawled(spider, output=path, overwrite=True)
        assert lines(path) == [TITLE]
        with pytest.raises(UsageError, match="either overwritten or appended"):
            await crawled(spider, output=path, overwrite=True, append=True)


class NoLifespan(Titles):
    async def lifespan(self) -> AsyncIterator[None]:
        if not self.allowed_domains:
            raise ConnectionRefusedError("the database is down")
        yield


@pytest.mark.parametrize(
    "spider",
    [NoLifespan(), Titles(start_urls=["ftp://site.test/"])],
    ids=["lifespan", "start URL"],
)
async def test_a_crawl_that_cant_start_overwrites_nothing(spider: Spider, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(OLD)
    with pytest.raises((ConnectionRefusedError, UsageError)):
        await crawled(spider, output=path, overwrite=True)
    assert path.read_text() == OLD


async def test_two_outputs_to_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    with pytest.raises(UsageError, match="same file"):
        scrapekit.crawl(Titles(), output=[path, f"{path}:csv"])


async def test_a_reader_that_has_seen_enough_ends_the_crawl_without_an_error(
    tmp_path: Path,
) -> None:
    path = tmp_path / "items.jsonl"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    async with Site({"*": ""}) as site:
        spider = Big(start_urls=site.urls(*(f"/{n}" for n in range(200))))
        settings = {"obey_robots": False, "concurrency": 2}
        async with scrapekit.crawl(spider, settings=settings, output=path) as run:
            await site.until(lambda: len(site.hits) > 2)
            os.close(reader)
        assert len(site.hits) < 200
    assert run.report.error_count == 0
    assert run.report.reason == "stopped"
