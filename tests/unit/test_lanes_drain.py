from __future__ import annotations

import asyncio
import dataclasses
import functools
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from scrapekit.errors import NotAResult, UsageError
from scrapekit.lanes.drain import drain, drain_async
from scrapekit.messages import Request, Response

PAGE = Response("https://shop.test/", 200)
REQUEST = Request("https://shop.test/a")
ITEM = {"price": 1}


@dataclasses.dataclass
class Offer:
    price: int


class Model(BaseModel):
    price: int


def line_of(mark: str) -> str:
    """The place in this file whose line ends with a comment."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = [n for n, line in enumerate(lines, 1) if line.endswith(f"# here: {mark}")]
    return f"{__file__}:{number}"


def run(callback: Callable[[Response], Any]) -> list[Any]:
    return drain(callback(PAGE), callback)


async def run_async(callback: Callable[[Response], Any]) -> list[Any]:
    return await drain_async(callback(PAGE), callback)


def returning(value: Any) -> Callable[[Response], Any]:
    def parse(response: Response) -> Any:
        return value

    return parse


def yielding(*values: Any) -> Callable[[Response], Iterator[Any]]:
    def parse(response: Response) -> Iterator[Any]:
        yield from values

    return parse


def awaited(value: Any) -> Callable[[Response], Any]:
    async def parse(response: Response) -> Any:
        await asyncio.sleep(0)
        return value

    return parse


def yielding_async(*values: Any) -> Callable[[Response], AsyncIterator[Any]]:
    async def parse(response: Response) -> AsyncIterator[Any]:
        for value in values:
            await asyncio.sleep(0)
            yield value

    return parse


RETURNED: list[tuple[Any, list[Any]]] = [
    (None, []),
    (REQUEST, [REQUEST]),
    (ITEM, [ITEM]),
    (OrderedDict(ITEM), [ITEM]),
    (Offer(1), [Offer(1)]),
    (Model(price=1), [Model(price=1)]),
    ([], []),
    ((ITEM, REQUEST), [ITEM, REQUEST]),
    ([ITEM, None, [REQUEST, [Offer(2)]], ()], [ITEM, REQUEST, Offer(2)]),
    ({REQUEST}, [REQUEST]),
]


@pytest.mark.parametrize(("value", "results"), RETURNED)
async def test_nothing_one_result_and_many_are_all_fine(value: Any, results: list[Any]) -> None:
    assert run(returning(value)) == results
    assert run(yielding(value)) == results
    assert run(yielding(ITEM, value, REQUEST)) == [ITEM, *results, REQUEST]
    assert await run_async(awaited(value)) == results
    assert await run_async(yielding_async(ITEM, value, REQUEST)) == [ITEM, *results, REQUEST]
    assert await run_async(returning(value)) == results


async def test_iterators_and_generators_may_be_nested() -> None:
    def inner() -> Iterator[Any]:
        yield ITEM
        yield (request for request in [REQUEST])

    async def inner_async() -> AsyncIterator[Any]:
        yield ITEM
        yield inner()

    assert run(returning(map(Offer, range(2)))) == [Offer(0), Offer(1)]
    assert run(yielding(inner(), iter([ITEM]))) == [ITEM, REQUEST, ITEM]
    nested = await run_async(yielding_async(inner(), inner_async()))
    assert nested == [ITEM, REQUEST, ITEM, ITEM, REQUEST]
    assert await run_async(awaited(inner_async())) == [ITEM, ITEM, REQUEST]
    assert await run_async(awaited(inner())) == [ITEM, REQUEST]


STRANGE = ["text", b"bytes", bytearray(b"x"), 5, 1.5, True, object(), Offer, PAGE, len]


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: type(value).__name__)
async def test_what_is_no_result_is_refused_however_it_comes(value: Any) -> None:
    name = type(value).__name__
    for callback in (returning(value), returning([ITEM, [value]]), yielding(value)):
        with pytest.raises(NotAResult, match=f"of type {name};"):
            run(callback)
    for callback in (awaited(value), awaited([value]), yielding_async([value])):
        with pytest.raises(NotAResult, match=f"of type {name};"):
            await run_async(callback)


def test_the_error_names_the_callback_and_the_line_of_the_yield() -> None:
    def parse(response: Response) -> Iterator[Any]:
        yield ITEM
        yield "oops"  # here: plain

    with pytest.raises(NotAResult) as caught:
        run(parse)
    assert caught.value.callback.endswith("parse")
    assert caught.value.where == line_of("plain")


async def test_the_error_of_an_async_generator_names_the_line_too() -> None:
    async def parse(response: Response) -> AsyncIterator[Any]:
        yield ITEM
        yield [ITEM, "oops"]  # here: async

    with pytest.raises(NotAResult) as caught:
        await run_async(parse)
    assert caught.value.where == line_of("async")


def test_the_error_of_a_nested_generator_names_its_own_line() -> None:
    def inner() -> Iterator[Any]:
        yield "oops"  # here: nested

    with pytest.raises(NotAResult) as caught:
        run(yielding(inner()))
    assert caught.value.where == line_of("nested")


def test_the_error_of_a_plain_function_names_its_definition() -> None:
    def parse(response: Response) -> str:  # here: definition
        return "oops"

    @functools.wraps(parse)
    def wrapped(response: Response) -> str:
        return parse(response)

    for callback in (parse, wrapped):
        with pytest.raises(NotAResult) as caught:
            run(callback)
        assert caught.value.where == line_of("definition")


async def test_a_forgotten_await_is_refused_without_a_warning() -> None:
    async def helper() -> dict[str, int]:
        return ITEM

    for made in (returning(helper()), yielding(helper())):
        with pytest.raises(NotAResult, match="coroutine"):
            run(made)
    with pytest.raises(NotAResult, match="coroutine"):
        await run_async(yielding_async(helper()))


async def test_a_yielded_task_is_refused() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    with pytest.raises(NotAResult, match="Task"):
        await run_async(yielding_async(task))
    with pytest.raises(NotAResult, match="Future"):
        run(yielding(asyncio.get_running_loop().create_future()))
    await task


async def test_an_async_generator_off_the_loop_is_refused() -> None:
    with pytest.raises(NotAResult, match="async_generator"):
        run(yielding_async(ITEM))


async def test_what_a_callback_raises_comes_out_as_it_is() -> None:
    error = ValueError("x")

    def parse(response: Response) -> Iterator[Any]:
        yield ITEM
        raise error

    async def parse_async(response: Response) -> AsyncIterator[Any]:
        yield ITEM
        raise error

    with pytest.raises(ValueError, match="x") as caught:
        run(parse)
    assert caught.value is error
    with pytest.raises(ValueError, match="x") as caught:
        await run_async(parse_async)
    assert caught.value is error


async def test_a_generator_is_closed_at_once_when_what_it_yields_is_refused() -> None:
    closed: list[str] = []

    def parse(response: Response) -> Iterator[Any]:
        try:
            yield "oops"
        finally:
            closed.append("plain")

    async def parse_async(response: Response) -> AsyncIterator[Any]:
        try:
            yield "oops"
        finally:
            await asyncio.sleep(0)
            closed.append("async")

    # Held, so that it isn't the garbage collector that closes them.
    held = parse(PAGE), parse_async(PAGE)
    with pytest.raises(NotAResult):
        drain(held[0], parse)
    with pytest.raises(NotAResult):
        await drain_async(held[1], parse_async)
    assert closed == ["plain", "async"]


async def test_cancelling_closes_an_async_generator() -> None:
    closed = asyncio.Event()

    async def parse(response: Response) -> AsyncIterator[Any]:
        try:
            yield ITEM
            await asyncio.Event().wait()
        finally:
            closed.set()

    task = asyncio.create_task(run_async(parse))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()


def test_a_list_that_holds_itself_is_an_error_and_no_crash() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(RecursionError):
        run(returning(loop))


class WithoutCode:
    def __call__(self, response: Response) -> str:
        return "oops"


def test_a_callable_without_code_has_no_line() -> None:
    with pytest.raises(NotAResult) as caught:
        run(WithoutCode())
    assert caught.value.where == ""


def endless(response: Response) -> Iterator[Any]:
    while True:
        yield ITEM


async def endless_async(response: Response) -> AsyncIterator[Any]:
    while True:
        yield ITEM


async def test_a_callback_without_end_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["scrapekit.lanes.drain"], "_MOST", 5_000)
    told = r"endless.* produced more than 5,000 results for one page; does it never end\?"
    with pytest.raises(UsageError, match=told):
        run(endless)
    with pytest.raises(UsageError, match=told):
        await run_async(endless_async)


async def test_an_async_callback_that_never_waits_can_be_timed_out() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await run_async(endless_async)
