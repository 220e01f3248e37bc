from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import pytest

import scrapekit
from scrapekit import DropItem, Response, Spider
from scrapekit.errors import StageError
from scrapekit.events import ItemDropped
from tests.functional.site import Site, Watcher, crawled, only_error
from tests.functional.spiders import TITLE, Titles


class Numbers(Spider):
    """Items 0 to 4 on every page."""

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        for number in range(5):
            yield {"n": number}


async def numbers(*stages: Any, **options: Any) -> tuple[list[Any], Any]:
    async with Site({"/": ""}) as site:
        return await crawled(Numbers(start_urls=[site.url()]), pipeline=stages, **options)


async def test_stages_run_in_list_order() -> None:
    def double(item: dict[str, int]) -> dict[str, int]:
        return {"n": item["n"] * 2}

    async def increase(item: dict[str, int]) -> dict[str, int]:
        await asyncio.sleep(0)
        return {"n": item["n"] + 1}

    items, report = await numbers(double, increase)
    assert [item["n"] for item in items] == [1, 3, 5, 7, 9]
    items, _ = await numbers(increase, double)
    assert [item["n"] for item in items] == [2, 4, 6, 8, 10]
    assert report.ok


async def test_a_spiders_own_pipeline_counts_unless_the_call_names_another() -> None:
    class Own(Titles):
        pipeline = (lambda item: {**item, "own": True},)

    async with Site({"/": ""}) as site:
        spider = Own(start_urls=[site.url()])
        items, _ = await crawled(spider)
        assert items == [{**TITLE, "own": True}]
        items, _ = await crawled(spider, pipeline=[])
        assert items == [TITLE]


async def test_dropped_items_are_counted_by_reason_and_are_no_errors() -> None:
    def odd(item: dict[str, int]) -> dict[str, int]:
        if item["n"] % 2:
            raise DropItem("odd")
        return item

    async def small(item: dict[str, int]) -> dict[str, int]:
        if item["n"] < 1:
            raise DropItem("too small")
        return item

    watcher = Watcher()
    items, report = await numbers(odd, small, observers=[watcher])
    assert [item["n"] for item in items] == [2, 4]
    assert report.items == 2
    assert report.items_dropped == {"odd": 2, "too small": 1}
    assert report.ok
    assert watcher.count(ItemDropped) == 3


async def test_an_item_that_a_stage_fails_on_is_reported_and_the_others_survive() -> None:
    def picky(item: dict[str, int]) -> dict[str, int]:
        if item["n"] == 3:
            raise LookupError("no price")  # here
        return item

    items, report = await numbers(picky)
    assert [item["n"] for item in items] == [0, 1, 2, 4]
    assert not report.ok
    (group,) = report.errors
    assert (group.error, group.during, group.callback) == ("LookupError", "pipeline", "parse")
    assert group.example.startswith("http://127.0.0.1")
    assert group.where.startswith(__file__)
    assert "# here" in group.traceback


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
async def test_a_stage_that_forgets_to_return_is_named(plain: bool) -> None:
    def forgetful(item: object) -> None: ...

    async def forgetful_async(item: object) -> None: ...

    items, report = await numbers(forgetful if plain else forgetful_async)
    assert items == []
    error, message = only_error(report)
    assert error == StageError.__name__
    assert "forgetful" in message
    assert "returned None" in message
    assert report.error_count == 5


async def _cancelled(item: object) -> object:
    raise asyncio.CancelledError


async def _exits(item: object) -> object:
    raise SystemExit(3)


def _exits_plain(item: object) -> object:
    raise SystemExit(3)


def _cancelled_plain(item: object) -> object:
    raise asyncio.CancelledError


@pytest.mark.parametrize("stage", [_cancelled, _exits, _exits_plain, _cancelled_plain])
async def test_a_stage_that_exits_or_is_cancelled_from_within_costs_its_items_alone(
    stage: Any,
) -> None:
    def some(item: dict[str, int]) -> Any:
        return item

    async with Site({"*": ""}) as site:
        spider = Numbers(start_urls=site.urls("/1", "/2"))
        items, report = await crawled(spider, pipeline=[some, stage])
    assert items == []
    assert report.pages == 2
    assert report.error_count >= 2
    assert {group.during for group in report.errors} == {"pipeline"}


class Store:
    """A stage with a state, and a say in what happens at its ends."""

    def __init__(self, at_enter: Exception | None = None, at_exit: Exception | None = None) -> None:
        self.at_enter, self.at_exit = at_enter, at_exit
        self.items: list[Any] = []
        self.order: list[str] = []

    async def __aenter__(self) -> Self:
        self.order.append("enter")
        if self.at_enter:
            raise self.at_enter
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.order.append("exit")
        if self.at_exit:
            raise self.at_exit

    async def __call__(self, item: Any) -> Any:
        self.order.append("item")
        self.items.append(item)
        return item


async def test_a_stage_with_a_state_is_entered_before_the_first_item_and_left_after_the_last() -> (
    None
):
    store = Store()
    await numbers(store)
    assert store.order == ["enter", *["item"] * 5, "exit"]


async def test_a_stage_that_cant_be_entered_keeps_the_crawl_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"kept": true}\n')
    first, second = Store(), Store(at_enter=ConnectionRefusedError("the database is down"))
    with pytest.raises(ConnectionRefusedError, match="database"):
        await numbers(first, second, output=path, overwrite=True)
    assert first.order == ["enter", "exit"]
    assert path.read_text() == '{"kept": true}\n'


async def test_a_stage_that_cant_be_left_is_in_the_report_and_the_others_are_left() -> None:
    first, second = Store(), Store(at_exit=ConnectionResetError("the database went away"))
    items, report = await numbers(first, second)
    assert len(items) == 5
    assert first.order[-1] == "exit"
    assert not report.ok
    assert [(g.error, g.during) for g in report.errors] == [("ConnectionResetError", "pipeline")]


async def test_a_plain_stage_needs_no_lock_however_many_pages_there_are() -> None:
    inside, most = 0, 0
    threads: set[int] = set()

    def stage(item: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threads.add(threading.get_ident())
        inside -= 1
        return item

    async with Site({"*": ""}) as site:
        spider = Numbers(start_urls=site.urls(*(f"/{n}" for n in range(30))))
        items, _ = await crawled(spider, pipeline=[stage], settings={"concurrency": 16})
    assert len(items) == 150
    assert most == 1
    assert threading.get_ident() not in threads


async def test_max_items_counts_what_the_pipeline_lets_through() -> None:
    def even(item: dict[str, int]) -> dict[str, int]:
        if item["n"] % 2:
            raise DropItem("odd")
        return item

    async with Site({"*": ""}) as site:
        spider = Numbers(start_urls=site.urls("/1", "/2", "/3"))
        items, report = await crawled(
            spider, pipeline=[even], settings={"max_items": 4, "concurrency": 1}
        )
    assert [item["n"] for item in items] == [0, 2, 4, 0]
    assert report.reason == "max_items"


async def test_what_stages_return_is_what_is_exported_and_iterated(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    items, report = await numbers(lambda item: {"square": item["n"] ** 2}, output=path)
    assert [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] == items
    assert items[-1] == {"square": 16}
    assert report.exports == {str(path): 5}


async def test_items_in_the_pipeline_when_the_crawl_is_cut_short_are_not_half_committed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "items.jsonl"
    waiting = asyncio.Event()

    async def stuck(item: dict[str, int]) -> dict[str, int]:
        if item["n"] == 3:
            waiting.set()
            await asyncio.Event().wait()
        return item

    async with Site({"/": ""}) as site:
        spider = Numbers(start_urls=[site.url()])
        async with scrapekit.crawl(
            spider, settings={"obey_robots": False}, pipeline=[stuck], output=path
        ) as run:
            await waiting.wait()
            run.cancel()
    assert path.read_text() == ""
    assert run.report.items == 0
