from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import anyio.to_thread
import pytest

from scrapekit.errors import DropItem, StageError
from scrapekit.pipeline import Pipeline, Processed, Stage

Item = dict[str, Any]

# So long a wait is a bug, not a slow machine.
BUG_S = 60


async def in_thread(function: Callable[..., Any], /, *args: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *args)


async def inline(function: Callable[..., Any], /, *args: Any) -> Any:
    return function(*args)


async def process(stages: list[Stage], *items: object) -> Processed:
    async with Pipeline(stages, inline) as pipeline:
        return await pipeline.run(list(items))


def named(name: str) -> Stage:
    def stage(item: Item) -> Item:
        return {**item, "by": [*item.get("by", []), name]}

    return stage


def awaited(name: str) -> Stage:
    async def stage(item: Item) -> Item:
        await asyncio.sleep(0)
        return {**item, "by": [*item.get("by", []), name]}

    return stage


class Plain:
    def __call__(self, item: Item) -> Item:
        return {**item, "by": [*item.get("by", []), "object"]}


class Async:
    async def __call__(self, item: Item) -> Item:
        return {**item, "by": [*item.get("by", []), "object"]}


def plain_around_async(item: Item) -> Awaitable[Item]:
    return Async()(item)


async def test_items_pass_the_stages_in_list_order() -> None:
    done = await process([named("a"), awaited("b"), named("c")], {"n": 1}, {"n": 2})

    assert done.items == [{"n": 1, "by": ["a", "b", "c"]}, {"n": 2, "by": ["a", "b", "c"]}]
    assert (done.dropped, done.errors) == ([], [])


@pytest.mark.parametrize(
    "stage",
    [
        Plain(),
        Async(),
        functools.partial(Plain()),
        functools.partial(Async()),
        Async().__call__,
        plain_around_async,
    ],
    ids=["plain", "async", "partial plain", "partial async", "method", "plain around async"],
)
async def test_any_callable_is_a_stage(stage: Stage) -> None:
    assert (await process([stage], {})).items == [{"by": ["object"]}]


def test_without_stages_nothing_is_awaited() -> None:
    items: list[object] = [{}]
    run = Pipeline([], inline).run(items)

    with pytest.raises(StopIteration) as returned:
        run.send(None)

    assert returned.value.value == Processed([{}])


async def test_a_dropped_item_keeps_its_reason_and_passes_no_further() -> None:
    def odd_only(item: Item) -> Item:
        if item["n"] % 2 == 0:
            raise DropItem("even")
        return item

    done = await process([odd_only, named("later")], {"n": 1}, {"n": 2}, {"n": 3})

    assert [item["n"] for item in done.items if isinstance(item, dict)] == [1, 3]
    assert done.dropped == [({"n": 2}, "even")]
    assert done.errors == []


async def test_an_async_stage_may_drop_too() -> None:
    async def drop(item: Item) -> Item:
        raise DropItem("why")

    assert (await process([drop], {})).dropped == [({}, "why")]


def plain_invert(item: Item) -> Item:
    return {"n": 1 / item["n"]}


async def async_invert(item: Item) -> Item:
    return {"n": 1 / item["n"]}


@pytest.mark.parametrize("stage", [plain_invert, async_invert])
async def test_a_stage_that_raises_fails_that_item_alone(stage: Stage) -> None:
    done = await process([stage], {"n": 1}, {"n": 0}, {"n": 2})

    assert done.items == [{"n": 1}, {"n": 0.5}]
    [(item, error)] = done.errors
    assert item == {"n": 0}
    assert isinstance(error, ZeroDivisionError)
    assert error.__notes__ == [f"in the pipeline stage {stage.__name__}"]
    assert error.__traceback__ is not None


async def test_an_exception_that_is_raised_again_is_annotated_once() -> None:
    known = ValueError("always the same")

    def fail(item: Item) -> Item:
        raise known

    await process([fail], {}, {})

    assert len(known.__notes__) == 1


async def test_a_stage_with_the_wrong_signature_fails_the_items() -> None:
    async def stage() -> None:
        pass

    [(_, error)] = (await process([stage], {})).errors  # type: ignore[list-item]

    assert isinstance(error, TypeError)


class Cleaner:
    def __call__(self, item: Item) -> None:
        item["clean"] = True


@pytest.mark.parametrize(
    ("stage", "name", "returned"),
    [
        (Cleaner(), "Cleaner", "None"),
        (functools.partial(Cleaner()), "Cleaner", "None"),
        (lambda _: 5, "<lambda>", "a value of type int"),
        (lambda item: (part for part in [item]), "<lambda>", "a value of type generator"),
        (lambda _: Item, "<lambda>", "a value of type GenericAlias"),
    ],
)
async def test_a_stage_that_returns_no_item_is_named(
    stage: Stage, name: str, returned: str
) -> None:
    [(_, error)] = (await process([stage], {})).errors

    assert isinstance(error, StageError)
    assert error.stage == name
    assert str(error) == (
        f"the pipeline stage {name} returned {returned}; "
        "a stage returns the item, or raises DropItem to drop it"
    )


def plain_exit(item: Item) -> Item:
    sys.exit("enough")


async def async_exit(item: Item) -> Item:
    sys.exit("enough")


@pytest.mark.parametrize("stage", [plain_exit, async_exit])
async def test_sys_exit_in_a_stage_costs_one_item_and_not_the_program(stage: Stage) -> None:
    [(_, error)] = (await process([stage], {})).errors

    assert isinstance(error, StageError)
    assert str(error) == f"the pipeline stage {stage.__name__} called sys.exit()"
    assert isinstance(error.__cause__, SystemExit)


async def test_cancellation_passes_through_an_async_stage() -> None:
    entered = asyncio.Event()

    async def wait(item: Item) -> Item:
        entered.set()
        await asyncio.Event().wait()
        return item

    run = asyncio.create_task(process([wait], {}))
    await entered.wait()
    run.cancel()

    with pytest.raises(asyncio.CancelledError):
        await run


def test_what_is_not_callable_is_refused_by_name() -> None:
    with pytest.raises(StageError, match="the pipeline stage int is not callable") as caught:
        Pipeline([5], inline)  # type: ignore[list-item]

    assert caught.value.stage == "int"


def test_a_class_of_stages_is_refused_with_the_remedy() -> None:
    with pytest.raises(StageError, match=r"Cleaner is a class: list Cleaner\(\)"):
        Pipeline([Cleaner], inline)  # type: ignore[list-item]


async def test_a_class_of_items_may_convert_items() -> None:
    assert (await process([dict], {"n": 1})).items == [{"n": 1}]


async def test_a_plain_stage_gets_a_page_in_one_call_off_the_loop() -> None:
    calls = []
    threads = set()

    async def counting(function: Callable[..., Any], /, *args: Any) -> Any:
        calls.append(args)
        return await in_thread(function, *args)

    def stage(item: Item) -> Item:
        threads.add(threading.current_thread())
        return item

    async with Pipeline([stage], counting) as pipeline:
        await pipeline.run([{}, {}, {}])

    assert len(calls) == 1
    assert threading.main_thread() not in threads


async def test_async_stages_stay_on_the_loop() -> None:
    async def never(function: Callable[..., Any], /, *args: Any) -> Any:
        raise AssertionError("no thread is needed")

    async with Pipeline([awaited("a")], never) as pipeline:
        assert len((await pipeline.run([{}])).items) == 1


async def test_a_stage_is_not_asked_once_every_item_is_gone() -> None:
    def drop(item: Item) -> Item:
        raise DropItem("all")

    def unreachable(item: Item) -> Item:
        raise AssertionError("no item gets here")

    assert (await process([drop, unreachable], {})).errors == []


class Gate:
    """A plain stage that can be held up; it notices if it runs twice at a time."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = threading.Event()
        self.overlapped = False
        self._running = 0
        self._loop = asyncio.get_running_loop()

    def __call__(self, item: Item) -> Item:
        self._running += 1
        self.overlapped |= self._running > 1
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self.open.wait(BUG_S)
        self._running -= 1
        return item


async def settled() -> None:
    """Let every task go as far as it can without a thread."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_plain_stage_has_one_page_at_a_time() -> None:
    gate = Gate()
    started = []

    async def counting(function: Callable[..., Any], /, *args: Any) -> Any:
        started.append(function)
        return await in_thread(function, *args)

    async with Pipeline([gate], counting) as pipeline:
        pages = [asyncio.create_task(pipeline.run([{"n": n}])) for n in range(3)]
        await gate.entered.wait()
        await settled()
        assert len(started) == 1
        gate.open.set()
        done = await asyncio.gather(*pages)

    assert [page.items for page in done] == [[{"n": 0}], [{"n": 1}], [{"n": 2}]]
    assert not gate.overlapped


async def test_different_stages_work_on_different_pages_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=BUG_S)

    def first(item: Item) -> Item:
        if item["n"] == 1:
            meeting.wait()
        return item

    def second(item: Item) -> Item:
        if item["n"] == 0:
            meeting.wait()
        return item

    async with Pipeline([first, second], in_thread) as pipeline:
        done = await asyncio.gather(pipeline.run([{"n": 0}]), pipeline.run([{"n": 1}]))

    assert [page.errors for page in done] == [[], []]


async def test_a_stage_listed_twice_is_one_stage() -> None:
    gate = Gate()

    async with Pipeline([gate, awaited("between"), gate], in_thread) as pipeline:
        pages = [asyncio.create_task(pipeline.run([{"n": n}])) for n in range(4)]
        gate.open.set()
        await asyncio.gather(*pages)

    assert not gate.overlapped


async def test_a_cancelled_page_lets_go_but_its_stage_stays_busy() -> None:
    gate = Gate()

    async with Pipeline([gate], in_thread) as pipeline:
        cancelled = asyncio.create_task(pipeline.run([{"n": 1}]))
        await gate.entered.wait()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        following = asyncio.create_task(pipeline.run([{"n": 2}]))
        await settled()
        assert not following.done()
        gate.open.set()
        assert (await following).items == [{"n": 2}]

    assert not gate.overlapped


async def test_a_page_cancelled_in_the_queue_never_reaches_the_stage() -> None:
    gate = Gate()
    seen = []

    def stage(item: Item) -> Item:
        seen.append(item["n"])
        return gate(item)

    async with Pipeline([stage], in_thread) as pipeline:
        first = asyncio.create_task(pipeline.run([{"n": 1}]))
        await gate.entered.wait()
        second = asyncio.create_task(pipeline.run([{"n": 2}]))
        await settled()
        second.cancel()
        gate.open.set()
        await first

    assert seen == [1]


class Resource:
    def __init__(self, log: list[str], name: str, failing: BaseException | None = None) -> None:
        self._log = log
        self._name = name
        self._failing = failing

    async def __aenter__(self) -> Self:
        if self._failing:
            raise self._failing
        self._log.append(f"enter {self._name}")
        return self

    async def __aexit__(self, *error: object) -> bool:
        self._log.append(f"leave {self._name}")
        return True

    def __call__(self, item: Item) -> Item:
        self._log.append(self._name)
        return item


async def test_stages_are_entered_in_order_and_left_in_reverse() -> None:
    log: list[str] = []

    await process([Resource(log, "a"), named("x"), Resource(log, "b")], {})

    assert log == ["enter a", "enter b", "a", "b", "leave b", "leave a"]


async def test_a_resource_listed_twice_is_entered_once() -> None:
    log: list[str] = []
    twice = Resource(log, "a")

    await process([twice, twice], {})

    assert log == ["enter a", "a", "a", "leave a"]


async def test_if_one_stage_cannot_be_entered_those_before_are_left() -> None:
    log: list[str] = []
    pipeline = Pipeline([Resource(log, "a"), Resource(log, "b", OSError("no database"))], inline)

    # The stage "a" would swallow the error; the way in has to be as strict as the way out.
    with pytest.raises(OSError, match="no database"):
        await pipeline.__aenter__()

    assert log == ["enter a", "leave a"]


async def test_a_stage_cannot_swallow_what_ends_the_crawl() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Pipeline([Resource([], "a")], inline):
            raise ZeroDivisionError


async def test_leaving_waits_for_a_stage_that_still_runs() -> None:
    log: list[str] = []
    gate = Gate()

    def stage(item: Item) -> Item:
        gate(item)
        log.append("stage")
        return item

    async with running_on_after_cancellation([Resource(log, "a"), stage], gate) as stack:
        leaving = asyncio.create_task(stack.aclose())
        await settled()
        assert "leave a" not in log
        gate.open.set()
        await leaving

    assert log == ["enter a", "a", "stage", "leave a"]


async def test_leaving_does_not_wait_for_ever() -> None:
    log: list[str] = []
    gate = Gate()

    async with running_on_after_cancellation(
        [Resource(log, "a"), gate], gate, patience_s=0.0
    ) as stack:
        await stack.aclose()
        assert log[-1] == "leave a"
        gate.open.set()


@asynccontextmanager
async def running_on_after_cancellation(
    stages: list[Stage], gate: Gate, **options: float
) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        pipeline = await stack.enter_async_context(Pipeline(stages, in_thread, **options))
        page = asyncio.create_task(pipeline.run([{}]))
        await gate.entered.wait()
        page.cancel()
        await asyncio.wait({page})
        yield stack


async def test_a_pipeline_leaves_no_task_behind(
    no_async_leaks: Callable[[], Any],
) -> None:
    async with no_async_leaks():
        await process([named("a"), awaited("b")], {}, {})


def test_its_repr_shows_the_way() -> None:
    assert repr(Pipeline([plain_invert, Cleaner()], inline)) == "<Pipeline plain_invert -> Cleaner>"
    assert repr(Pipeline([], inline)) == "<Pipeline empty>"


def accepts(run_blocking: Callable[..., Awaitable[Any]]) -> Pipeline:
    """Type check: what runs blocking code elsewhere fits as it is."""
    return Pipeline([], run_blocking)
