from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from scrapekit.lanes import meter
from scrapekit.lanes.meter import Cost, Stepped, timed


class Time:
    """Takes the place of the time module in the meter: moves when told to."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def perf_counter(self) -> float:
        return self.wall

    def thread_time(self) -> float:
        return self.cpu

    def compute(self, seconds: float) -> None:
        self.wall += seconds
        self.cpu += seconds

    def wait(self, seconds: float) -> None:
        self.wall += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(meter, "time", time)
    return time


class Watch:
    def __init__(self, threshold_s: float = math.inf) -> None:
        self.threshold_s = threshold_s
        self.steps: list[tuple[str, float, float]] = []

    def step_blocked(self, callback: str, wall_s: float, cpu_s: float) -> None:
        self.steps.append((callback, wall_s, cpu_s))


def stepped(
    coroutine: Coroutine[Any, Any, Any], cost: Cost | None = None, watch: Watch | None = None
) -> Stepped[Any]:
    return Stepped("parse", coroutine, cost or Cost(), watch or Watch())


def test_timed_code_gives_its_result_and_cost(time: Time) -> None:
    def work() -> str:
        time.compute(2.0)
        time.wait(3.0)
        return "done"

    assert timed(work) == ("done", None, Cost(wall_s=5.0, cpu_s=2.0))


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
def test_timed_code_that_fails_has_a_cost_too(time: Time, error: BaseException) -> None:
    def work() -> None:
        time.compute(1.0)
        raise error

    assert timed(work) == (None, error, Cost(wall_s=1.0, cpu_s=1.0))


def test_the_cpu_time_is_that_of_this_thread_alone() -> None:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    spinning = threading.Thread(target=spin)
    spinning.start()
    _, _, cost = timed(lambda: stop.wait(0.05))
    stop.set()
    spinning.join()
    assert cost.cpu_s < cost.wall_s / 2


async def test_a_coroutine_gives_its_result() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    assert await stepped(work()) == "done"


async def test_only_its_own_steps_cost_cpu_time_but_waiting_takes_time(time: Time) -> None:
    async def work() -> None:
        time.compute(1.0)
        await asyncio.sleep(0)
        time.compute(2.0)
        await asyncio.sleep(0)

    async def other() -> None:
        for _ in range(2):
            time.compute(10.0)
            await asyncio.sleep(0)

    cost = Cost()
    await asyncio.gather(stepped(work(), cost), other())
    assert cost.cpu_s == 3.0
    assert cost.wall_s == 23.0
    assert cost.blocked_s == 2.0


async def test_the_longest_step_is_what_blocked_the_loop(time: Time) -> None:
    async def work() -> None:
        time.wait(1.0)
        await asyncio.sleep(0)
        time.wait(5.0)
        await asyncio.sleep(0)
        time.wait(2.0)

    cost = Cost()
    watch = Watch(threshold_s=1.5)
    await stepped(work(), cost, watch)
    assert cost == Cost(wall_s=8.0, cpu_s=0.0, blocked_s=5.0)
    assert watch.steps == [("parse", 5.0, 0.0), ("parse", 2.0, 0.0)]


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3)])
async def test_what_it_raises_comes_out_and_is_paid_for(time: Time, error: BaseException) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        time.compute(1.0)
        raise error

    cost = Cost()
    raised: list[BaseException] = []
    try:
        await stepped(work(), cost)
    except BaseException as exc:
        raised.append(exc)
    assert raised == [error]
    assert cost == Cost(wall_s=1.0, cpu_s=1.0, blocked_s=1.0)


async def test_what_is_raised_into_it_arrives() -> None:
    async def fail() -> None:
        raise ValueError("from below")

    async def work() -> str:
        try:
            await asyncio.create_task(fail())
        except ValueError as exc:
            return str(exc)
        return ""

    assert await stepped(work()) == "from below"


async def test_cancelling_arrives_and_is_paid_for(time: Time) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            time.compute(3.0)
            await asyncio.sleep(0)
            time.compute(4.0)

    cost = Cost()
    task = asyncio.ensure_future(stepped(work(), cost))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cost.cpu_s == 7.0


async def test_it_may_refuse_to_be_cancelled() -> None:
    begun = asyncio.Event()

    async def work() -> str:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "stayed"
        return ""

    task = asyncio.ensure_future(stepped(work()))
    await begun.wait()
    task.cancel()
    assert await task == "stayed"


async def test_timeouts_inside_and_outside_work() -> None:
    async def work(limit: float | None) -> str:
        try:
            async with asyncio.timeout(limit):
                await asyncio.Event().wait()
        except TimeoutError:
            return "inside"
        return ""

    assert await stepped(work(0)) == "inside"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await stepped(work(None))


variable = contextvars.ContextVar("variable", default=0)


async def test_it_runs_in_the_task_that_awaits_it() -> None:
    async def work() -> asyncio.Task[Any] | None:
        variable.set(7)
        await asyncio.sleep(0)
        return asyncio.current_task()

    assert await stepped(work()) is asyncio.current_task()
    assert variable.get() == 7


class Leaky:
    """An awaitable that notes when it is closed."""

    def __init__(self) -> None:
        self.closed = False

    def __await__(self) -> Any:
        try:
            yield
        finally:
            self.closed = True


def test_closing_it_closes_the_coroutine() -> None:
    leaky = Leaky()

    async def work() -> None:
        await leaky

    steps = stepped(work()).__await__()
    next(steps)
    steps.close()
    assert leaky.closed


def test_a_stray_stop_iteration_is_no_result() -> None:
    async def work() -> None:
        next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        next(stepped(work()).__await__())


async def test_nested_ones_add_up(time: Time) -> None:
    async def inner() -> None:
        time.compute(1.0)
        await asyncio.sleep(0)

    inner_cost, outer_cost = Cost(), Cost()

    async def outer() -> None:
        time.compute(2.0)
        await stepped(inner(), inner_cost)

    await stepped(outer(), outer_cost)
    assert (inner_cost.cpu_s, outer_cost.cpu_s) == (1.0, 3.0)
