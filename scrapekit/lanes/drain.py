"""Whatever a callback returns, as one flat list of results."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final

from scrapekit.errors import NotAResult, UsageError
from scrapekit.items import is_item
from scrapekit.messages import Request

_ONE: Final = (str, bytes, bytearray, Awaitable)
"""What can be iterated over, but holds no results. Futures are among the awaitables."""
_BREATH: Final = 1_000
"""Results of an async generator between two turns of the loop."""
_MOST: Final = 1_000_000
"""Results of one page. They are held until the callback has ended, and no page has so many: what
goes on has no end.
"""


def drain(produced: Any, callback: Callable[..., Any]) -> list[Any]:
    """Run a callback's generator to its end and flatten what it yields.

    Nothing, one result, and iterables of results (nested ones too) are all fine. Raises
    NotAResult, with the line of the `yield`, for anything else, and whatever the generator raises.
    """
    results: list[Any] = []
    _gather(produced, results, callback, None)
    return results


async def drain_async(produced: Any, callback: Callable[..., Any]) -> list[Any]:
    """The same for a coroutine or an async generator."""
    results: list[Any] = []
    breath = _BREATH
    if not _is_async_generator(produced):
        if inspect.isawaitable(produced):
            produced = await produced
        if not _is_async_generator(produced):
            _gather(produced, results, callback, None)
            return results
    try:
        async for value in produced:
            if len(results) >= breath:
                # A generator that never awaits would keep the loop to itself.
                breath += _BREATH
                await asyncio.sleep(0)
            if _is_async_generator(value):
                results += await drain_async(value, callback)
            else:
                _gather(value, results, callback, produced)
    finally:
        await produced.aclose()
    return results


def _is_async_generator(value: Any) -> bool:
    # The first look is enough for all but generators that were compiled, and is far cheaper.
    return type(value) is AsyncGeneratorType or isinstance(value, AsyncGenerator)


def _gather(produced: Any, into: list[Any], callback: Callable[..., Any], yielder: Any) -> None:
    """`yielder` is the generator that yielded what was produced, if one did."""
    if len(into) >= _MOST:
        raise _too_many(callback, _place(yielder, callback))
    if isinstance(produced, Request) or is_item(produced):
        into.append(produced)
    elif inspect.isgenerator(produced):
        _gather_yielded(produced, into, callback)
    elif type(produced) is list and set(map(type, produced)) == {Request}:
        into += produced
    elif isinstance(produced, Iterable) and not isinstance(produced, _ONE):
        for value in produced:
            _gather(value, into, callback, yielder)
    elif produced is not None:
        if inspect.iscoroutine(produced):
            produced.close()
        name = getattr(callback, "__qualname__", repr(callback))
        raise NotAResult(name, _place(yielder, callback), type(produced).__name__)


def _gather_yielded(
    produced: GeneratorType[Any, Any, Any], into: list[Any], callback: Callable[..., Any]
) -> None:
    try:
        for value in produced:
            if (isinstance(value, Request) or is_item(value)) and len(into) < _MOST:
                into.append(value)
            else:
                _gather(value, into, callback, produced)
    finally:
        produced.close()


def _too_many(callback: Callable[..., Any], where: str) -> UsageError:
    name = getattr(callback, "__qualname__", repr(callback))
    return UsageError(
        f"{name} ({where}) produced more than {_MOST:,} results for one page; does it never end? "
        "Yield requests for parts of what it goes through"
    )


def _place(yielder: Any, callback: Callable[..., Any]) -> str:
    """Where a generator stands, or else where the callback is defined."""
    frame = getattr(yielder, "ag_frame", None) or getattr(yielder, "gi_frame", None)
    if frame is not None:
        return f"{frame.f_code.co_filename}:{frame.f_lineno}"
    code = getattr(inspect.unwrap(callback), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""
