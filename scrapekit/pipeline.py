"""An item through the stages, in list order.

A stage is a callable, plain or async, that takes an item and returns it, changed or not, or
another item in its place. It drops an item by raising `DropItem`; any other exception fails that
item alone. Stages with `__aenter__` and `__aexit__` are entered before the first item and left
after the last.

A plain stage may block, so it runs in a thread: a page's items in one go, and one page at a time,
so that it needs no lock of its own. An async stage runs on the event loop, item by item; pages
may overtake each other where it waits.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from scrapekit.errors import DropItem, StageError
from scrapekit.items import is_item

T = TypeVar("T")

Stage = Callable[[Any], Any]


# How long leaving a pipeline waits for a plain stage whose page was cancelled under it.
PATIENCE_S = 5.0


class RunBlocking(Protocol):
    """Runs a plain function in a thread and returns what it returns.

    Cancelling it may leave the function running, but the awaitable may not end before it has
    in any other way: that is what keeps a stage from running twice at a time.
    """

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]: ...


@dataclass(slots=True)
class Processed:
    """What became of the items of a page; beside each lost item what its stage raised.

    The items in `dropped` and `errors` are as the stage that lost them got them.
    """

    items: list[object] = field(default_factory=list)
    dropped: list[tuple[object, str]] = field(default_factory=list)
    errors: list[tuple[object, Exception]] = field(default_factory=list)


class Pipeline:
    """The stages in list order. Use it in `async with`, then `run` it page by page.

    `patience_s` is how long leaving waits for plain stages that still run because their page was
    cancelled; their threads can't be stopped. Raises StageError if a stage is not callable.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        run_blocking: RunBlocking,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        # A stage that is listed twice is one stage: entered once, and under one lock.
        steps = {id(stage): _Step(stage) for stage in stages}
        self._steps = [steps[id(stage)] for stage in stages]
        self._unique = list(steps.values())
        self._run_blocking = run_blocking
        self._patience_s = patience_s
        self._batches: set[asyncio.Task[list[object]]] = set()
        self._entered = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Pipeline {' -> '.join(step.name for step in self._steps) or 'empty'}>"

    async def __aenter__(self) -> Self:
        """Enter the stages in list order; if one fails, those before it are left again."""
        try:
            for step in self._unique:
                if hasattr(step.stage, "__aenter__"):
                    await self._entered.enter_async_context(step.stage)
        except BaseException:
            # Not by leaving an `async with`: a stage could swallow the error there.
            await self._entered.__aexit__(*sys.exc_info())
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the stages in reverse; all of them, whatever one of them raises.

        A stage can't swallow the error that ends the crawl.
        """
        try:
            await self._end_batches()
        finally:
            await self._entered.__aexit__(kind, error, traceback)

    async def run(self, items: list[object]) -> Processed:
        """Send the items of one page through all stages; never raises what a stage raised."""
        done = Processed(items)
        for step in self._steps:
            if done.items:
                await self._pass(step, done)
        return done

    async def _pass(self, step: _Step, done: Processed) -> None:
        items, done.items = done.items, []
        results: Iterable[object]
        if step.is_async:
            results = (_call(step.stage, item) for item in items)
        else:
            results = await self._in_thread(step, items)
        for item, result in zip(items, results, strict=True):
            # A plain wrapper around an async function shows only by what it returns.
            settled = await _settle(result) if inspect.isawaitable(result) else result
            _sort(step, item, settled, done)

    async def _in_thread(self, step: _Step, items: list[object]) -> list[object]:
        await step.lock.acquire()
        batch = asyncio.create_task(self._run_batch(step, items), name=f"stage {step.name}")
        self._batches.add(batch)
        batch.add_done_callback(self._batches.discard)
        # A cancelled page lets go at once; the stage is free again when its thread is done.
        return await asyncio.shield(batch)

    async def _run_batch(self, step: _Step, items: list[object]) -> list[object]:
        try:
            return await self._run_blocking(_call_batch, step.stage, items)
        finally:
            step.lock.release()

    async def _end_batches(self) -> None:
        if not self._batches:
            return
        try:
            await asyncio.wait(self._batches, timeout=self._patience_s)
        finally:
            for batch in self._batches:
                batch.cancel()
            await asyncio.gather(*self._batches, return_exceptions=True)


class _Step:
    """A stage, its name for messages, and the lock that keeps a plain one to a page at a time."""

    def __init__(self, stage: Stage) -> None:
        self.stage: Any = stage
        self.name = _name(stage)
        _check(stage, self.name)
        self.is_async = _is_async(stage)
        self.lock = asyncio.Lock()


class _Raised:
    """An exception on its way from where the stage ran; a stage might return exceptions."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _name(stage: object) -> str:
    while isinstance(stage, functools.partial):
        stage = stage.func
    name = getattr(stage, "__qualname__", None)
    return name if isinstance(name, str) else type(stage).__qualname__


def _check(stage: object, name: str) -> None:
    if not callable(stage):
        raise StageError(
            f"the pipeline stage {name} is not callable; a stage is a function of an item, or an "
            "object with __call__(self, item)",
            stage=name,
        )
    if isinstance(stage, type) and _makes_stages(stage):
        raise StageError(f"the pipeline stage {name} is a class: list {name}()", stage=name)


def _makes_stages(cls: type) -> bool:
    # hasattr() would find the __call__ that every class has from `type`.
    return any({"__call__", "__aenter__"} & vars(base).keys() for base in cls.__mro__)


def _is_async(stage: Stage) -> bool:
    while isinstance(stage, functools.partial):
        stage = stage.func
    call = getattr(stage, "__call__", None)  # noqa: B004 (known to be callable; what does it call?)
    return inspect.iscoroutinefunction(stage) or inspect.iscoroutinefunction(call)


# What isn't the stage's: Ctrl-C, and the end of the coroutine that runs it.
_PASSING = (KeyboardInterrupt, GeneratorExit)


async def _settle(awaitable: Awaitable[object]) -> object:
    try:
        return await awaitable
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # It comes from within, and would pass for that of the page.
        return _Raised(error)
    except _PASSING:
        raise
    except BaseException as error:
        return _Raised(error)


def _call_batch(stage: Stage, items: list[object]) -> list[object]:
    return [_call(stage, item) for item in items]


def _call(stage: Stage, item: object) -> object:
    try:
        return stage(item)
    except _PASSING:
        raise
    except BaseException as error:
        return _Raised(error)


def _sort(step: _Step, item: object, result: object, done: Processed) -> None:
    if is_item(result):
        done.items.append(result)
    elif not isinstance(result, _Raised):
        done.errors.append((item, _no_item(step.name, result)))
    elif isinstance(result.error, DropItem):
        done.dropped.append((item, str(result.error)))
    else:
        done.errors.append((item, _error(step.name, result.error)))


def _error(stage: str, raised: BaseException) -> Exception:
    if not isinstance(raised, Exception):
        # On the loop, sys.exit() would tear down a program that may not be ours.
        exits = isinstance(raised, SystemExit)
        what = "called sys.exit()" if exits else f"raised {type(raised).__name__}"
        error = StageError(f"the pipeline stage {stage} {what}", stage=stage)
        error.__cause__ = raised
        return error
    note = f"in the pipeline stage {stage}"
    if note not in getattr(raised, "__notes__", ()):
        raised.add_note(note)
    return raised


def _no_item(stage: str, result: object) -> StageError:
    what = "None" if result is None else f"a value of type {type(result).__qualname__}"
    return StageError(
        f"the pipeline stage {stage} returned {what}; a stage returns the item, or raises "
        "DropItem to drop it",
        stage=stage,
    )
