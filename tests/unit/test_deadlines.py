"""Deadlines: what is late is cut short, what isn't costs no timer."""

from __future__ import annotations

import asyncio

import pytest

from scrapekit.deadlines import Deadlines


async def test_what_is_late_is_cut_short() -> None:
    limit = Deadlines().within(0.01)
    with pytest.raises(TimeoutError), limit:
        await asyncio.Event().wait()
    assert limit.expired()


async def test_what_is_in_time_returns_and_leaves_nothing_open() -> None:
    deadlines = Deadlines()
    with deadlines.within(60) as limit:
        await asyncio.sleep(0)
    assert not limit.expired()
    assert repr(deadlines) == "<Deadlines open=0>"


async def test_one_timer_serves_limits_in_any_order() -> None:
    deadlines, ended = Deadlines(), []

    async def wait(name: str, seconds: float) -> None:
        with pytest.raises(TimeoutError), deadlines.within(seconds):
            await asyncio.Event().wait()
        ended.append(name)

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("last", 0.3), ("first", 0.01), ("second", 0.15)):
            group.create_task(wait(name, seconds))
    assert ended == ["first", "second", "last"]


async def test_a_limit_that_has_passed_already_cuts_short_at_the_first_wait() -> None:
    with pytest.raises(TimeoutError), Deadlines().within(0):
        await asyncio.Event().wait()


async def test_without_a_limit_it_waits_until_one_is_set() -> None:
    async def wait() -> None:
        with Deadlines().within(None) as limit:
            await asyncio.sleep(0.01)
            limit.reschedule(asyncio.get_running_loop().time() + 0.01)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait()


async def test_nothing_counts_once_they_are_closed() -> None:
    deadlines = Deadlines()
    with deadlines.within(0.01) as limit:
        deadlines.close()
        await asyncio.sleep(0.03)
    assert not limit.expired()


async def test_a_limit_can_be_put_off_and_taken_away() -> None:
    loop = asyncio.get_running_loop()
    with Deadlines().within(0.02) as limit:
        limit.reschedule(None)
        await asyncio.sleep(0.04)
        limit.reschedule(loop.time() + 60)
        await asyncio.sleep(0.01)
    assert not limit.expired()


async def test_limits_within_limits() -> None:
    deadlines = Deadlines()
    with deadlines.within(60) as outer:
        with pytest.raises(TimeoutError), deadlines.within(0.01):
            await asyncio.Event().wait()
        await asyncio.sleep(0)
    assert not outer.expired()


async def test_a_cancellation_by_others_is_theirs() -> None:
    begun = asyncio.Event()

    async def wait() -> None:
        with Deadlines().within(60):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_goes_before_a_limit_that_passes_at_once_with_it() -> None:
    async def wait() -> None:
        with Deadlines().within(0.01) as limit:
            try:
                await asyncio.Event().wait()
            finally:
                assert limit.expired()
                task.cancel()

    task = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_raised_inside_is_raised() -> None:
    deadlines = Deadlines()
    with pytest.raises(ValueError, match="mine"), deadlines.within(60):
        raise ValueError("mine")
    assert repr(deadlines) == "<Deadlines open=0>"


def test_a_limit_needs_a_task() -> None:
    async def outside() -> None:
        loop = asyncio.get_running_loop()
        result = loop.create_future()

        def call() -> None:
            try:
                with Deadlines().within(None):
                    pass
            except RuntimeError as error:
                result.set_result(str(error))

        loop.call_soon(call)
        assert await result == "a time limit needs a task to cut short"

    asyncio.run(outside())
