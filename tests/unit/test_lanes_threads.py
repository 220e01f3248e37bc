from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from scrapekit.errors import UsageError
from scrapekit.failure import place
from scrapekit.lanes.threads import ThreadLane

# So long a wait is a bug, not a slow machine.
BUG_S = 60


@asynccontextmanager
async def lane_of(threads: int) -> AsyncIterator[ThreadLane]:
    """A lane whose threads are all gone afterwards."""
    lane = ThreadLane(threads)
    try:
        yield lane
    finally:
        assert await lane.aclose(BUG_S) == 0
    assert workers() == []


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "scrapekit callback"]


class Gate:
    """A function that blocks until it is let go, and says when it has begun."""

    def __init__(self) -> None:
        self.begun: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.calls = 0
        self._open = threading.Event()

    def __call__(self, number: int = 0) -> int:
        self.begun.put(number)
        self.calls += 1
        assert self._open.wait(BUG_S)
        return number

    def open(self) -> None:
        self._open.set()

    async def has_begun(self) -> int:
        """Wait for the next call to begin."""
        return await asyncio.to_thread(self.begun.get, timeout=BUG_S)


async def test_a_function_runs_off_the_loops_thread_and_gives_its_result() -> None:
    async with lane_of(2) as lane:
        assert await lane.run(pow, 2, 10) == 1024
        assert await lane.run(threading.current_thread) is not threading.current_thread()


async def test_what_it_raises_comes_out_with_the_line() -> None:
    def fail() -> None:
        raise ValueError("of a thread")

    async with lane_of(1) as lane:
        with pytest.raises(ValueError, match="of a thread") as caught:
            await lane.run(fail)
        assert place(caught.value) == f"{__file__}:{fail.__code__.co_firstlineno + 1}"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_what_would_end_a_thread_only_fails(kind: type[BaseException]) -> None:
    def leave() -> None:
        raise kind

    async with lane_of(1) as lane:
        with pytest.raises(UsageError, match=kind.__name__) as caught:
            await lane.run(leave)
        assert isinstance(caught.value.__cause__, kind)
        assert await lane.run(abs, -1) == 1
        assert "threads=1/1" in repr(lane)


async def test_a_stray_stop_iteration_is_an_error_that_a_task_can_have() -> None:
    async with lane_of(1) as lane:
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await lane.run(next, iter(()))
        assert isinstance(caught.value.__cause__, StopIteration)


async def test_a_cancelled_error_of_a_function_cancels_nobody() -> None:
    def fail() -> None:
        raise asyncio.CancelledError

    async with lane_of(1) as lane:
        with pytest.raises(UsageError, match="CancelledError"):
            await lane.run(fail)


variable = contextvars.ContextVar("variable", default="nothing")


async def test_context_variables_travel_there_and_not_back() -> None:
    def look() -> str:
        seen = variable.get()
        variable.set("changed in a thread")
        return seen

    async def ask(value: str, lane: ThreadLane) -> tuple[str, str]:
        variable.set(value)
        return await lane.run(look), variable.get()

    async with lane_of(2) as lane:
        answers = await asyncio.gather(*(ask(str(n), lane) for n in range(10)))
        assert answers == [(str(n), str(n)) for n in range(10)]
        assert await lane.run(variable.get) == "nothing"


async def test_no_more_functions_run_at_once_than_there_may_be_threads() -> None:
    gate = Gate()
    async with lane_of(3) as lane:
        tasks = [asyncio.create_task(lane.run(gate, n)) for n in range(10)]
        first = {await gate.has_begun() for _ in range(3)}
        assert first == {0, 1, 2}
        assert gate.begun.empty()
        assert repr(lane) == "<ThreadLane threads=3/3 unfinished=10 stuck=0>"
        gate.open()
        assert await asyncio.gather(*tasks) == list(range(10))
        assert len(workers()) == 3


async def test_threads_are_started_as_they_are_needed() -> None:
    async with lane_of(100) as lane:
        assert workers() == []
        for _ in range(20):
            await lane.run(abs, -1)
        assert len(workers()) == 1


async def test_functions_begin_in_the_order_they_were_handed_over() -> None:
    order: list[int] = []
    async with lane_of(1) as lane:
        await asyncio.gather(*(lane.run(order.append, n) for n in range(100)))
    assert order == list(range(100))


async def test_none_of_thousands_of_functions_is_lost() -> None:
    async with lane_of(8) as lane:
        results = await asyncio.gather(*(lane.run(divmod, n, 7) for n in range(5_000)))
        assert results == [divmod(n, 7) for n in range(5_000)]
        assert "unfinished=0" in repr(lane)


async def test_waiting_can_be_given_up_and_the_thread_is_used_again() -> None:
    gate = Gate()
    async with lane_of(1) as lane:
        task = asyncio.create_task(lane.run(gate))
        await gate.has_begun()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "unfinished=1" in repr(lane)
        later = asyncio.create_task(lane.run(abs, -5))
        await asyncio.sleep(0)
        assert not later.done()
        gate.open()
        assert await later == 5
        assert "threads=1/1 unfinished=0" in repr(lane)


async def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    gate, other = Gate(), Gate()
    async with lane_of(1) as lane:
        first = asyncio.create_task(lane.run(gate))
        second = asyncio.create_task(lane.run(other))
        await gate.has_begun()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        gate.open()
        await first
        await lane.run(abs, -1)
        assert "unfinished=0" in repr(lane)
        assert other.calls == 0


async def test_an_abandoned_functions_error_disturbs_nobody() -> None:
    gate = Gate()

    def fail() -> None:
        gate()
        raise ValueError("nobody hears this")

    async with lane_of(1) as lane:
        task = asyncio.create_task(lane.run(fail))
        await gate.has_begun()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gate.open()
        await lane.run(abs, -1)
        assert "unfinished=0" in repr(lane)


async def test_closing_leaves_behind_what_is_stuck_and_says_how_many() -> None:
    gate = Gate()
    lane = ThreadLane(3)
    tasks = [asyncio.create_task(lane.run(gate, n)) for n in range(2)]
    await asyncio.gather(gate.has_begun(), gate.has_begun())
    await lane.run(abs, -1)
    assert await lane.aclose(0.01) == 2
    stuck = workers()
    assert len(stuck) == 2
    assert all(thread.daemon for thread in stuck)
    gate.open()
    assert await asyncio.gather(*tasks) == [0, 1]
    assert await lane.aclose(BUG_S) == 0
    assert workers() == []


async def test_after_closing_nothing_can_be_run() -> None:
    lane = ThreadLane(1)
    assert await lane.aclose(0) == 0
    with pytest.raises(RuntimeError, match="closed"):
        await lane.run(abs, -1)


async def test_closing_lets_what_is_handed_over_finish() -> None:
    lane = ThreadLane(2)
    tasks = [asyncio.create_task(lane.run(divmod, n, 3)) for n in range(50)]
    await asyncio.sleep(0)
    assert await lane.aclose(BUG_S) == 0
    assert await asyncio.gather(*tasks) == [divmod(n, 3) for n in range(50)]


def test_a_function_that_outlives_its_loop_ends_quietly() -> None:
    gate = Gate()

    async def abandon() -> None:
        lane = ThreadLane(1)
        task = asyncio.create_task(lane.run(gate))
        await gate.has_begun()
        task.cancel()

    asyncio.run(abandon())
    (thread,) = workers()
    gate.open()
    thread.join(BUG_S)
    assert not thread.is_alive()


class TestTimeouts:
    async def test_a_function_that_takes_too_long_is_given_up(self) -> None:
        gate = Gate()
        async with lane_of(1) as lane:
            with pytest.raises(TimeoutError):
                await lane.run(gate, timeout_s=0.001)
            gate.open()

    async def test_one_that_is_quick_enough_is_not(self) -> None:
        async with lane_of(1) as lane:
            assert await lane.run(abs, -1, timeout_s=BUG_S) == 1

    async def test_another_thread_takes_the_place_of_one_that_is_stuck(self) -> None:
        gate = Gate()
        async with lane_of(1) as lane:
            with pytest.raises(TimeoutError):
                await lane.run(gate, timeout_s=0.001)
            assert await lane.run(abs, -1) == 1
            assert repr(lane) == "<ThreadLane threads=2/1 unfinished=1 stuck=1>"
            gate.open()

    async def test_the_time_counts_from_when_a_thread_takes_it_up(self) -> None:
        gate = Gate()
        async with lane_of(1) as lane:
            first = asyncio.create_task(lane.run(gate))
            await gate.has_begun()
            second = asyncio.create_task(lane.run(abs, -1, timeout_s=0.01))
            await asyncio.sleep(0.03)
            assert not second.done()
            gate.open()
            assert await second == 1
            await first

    async def test_when_too_many_are_stuck_nothing_more_is_begun(self) -> None:
        gate = Gate()
        async with lane_of(2) as lane:
            for _ in range(4):
                with pytest.raises(TimeoutError):
                    await lane.run(gate, timeout_s=0.001)
            with pytest.raises(TimeoutError):
                await lane.run(abs, -1)
            assert len(workers()) == 4
            gate.open()

    async def test_who_waits_for_a_thread_is_not_kept_waiting_when_all_are_stuck(self) -> None:
        gate = Gate()
        async with lane_of(1) as lane:
            tasks = [asyncio.create_task(lane.run(gate, n, timeout_s=0.01)) for n in range(5)]
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in results] == [TimeoutError] * 5
            assert gate.calls == 2
            gate.open()

    async def test_threads_that_stood_in_go_when_the_stuck_ones_are_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = Gate()
        async with lane_of(2) as lane:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await lane.run(gate, timeout_s=0.001)
            await lane.run(abs, -1)
            assert len(workers()) == 4
            gone = asyncio.Event()
            bury = lane._bury

            def note() -> None:
                bury()
                if len(workers()) == 2:
                    gone.set()

            monkeypatch.setattr(lane, "_bury", note)
            gate.open()
            await asyncio.wait_for(gone.wait(), BUG_S)
            assert repr(lane) == "<ThreadLane threads=2/2 unfinished=0 stuck=0>"
            assert await asyncio.gather(*(lane.run(abs, -n) for n in range(20))) == list(range(20))
            assert len(workers()) == 2

    async def test_cancelling_leaves_no_timer(self) -> None:
        gate = Gate()
        async with lane_of(1) as lane:
            task = asyncio.create_task(lane.run(gate, timeout_s=0.001))
            await gate.has_begun()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0.01)
            assert "stuck=0" in repr(lane)
            gate.open()


class TestRoom:
    async def test_a_lane_is_full_when_as_many_wait_as_there_are_threads(self) -> None:
        gate = Gate()
        async with lane_of(2) as lane:
            tasks: list[asyncio.Task[Any]] = []
            seen = []
            for number in range(4):
                seen.append((lane.full, lane.busy))
                tasks.append(asyncio.create_task(lane.run(gate, number)))
                await asyncio.sleep(0)
            seen.append((lane.full, lane.busy))
            gate.open()
            await asyncio.gather(*tasks)
            seen.append((lane.full, lane.busy))
        assert seen == [(False, False), *[(False, True)] * 3, (True, True), (False, False)]

    async def test_there_is_room_at_once_if_it_is_not_full(self) -> None:
        async with lane_of(1) as lane:
            await lane.room()

    async def test_as_many_are_let_in_as_there_is_room_for(self) -> None:
        gate, last = Gate(), Gate()
        async with lane_of(1) as lane:
            tasks = [asyncio.create_task(lane.run(gate)), asyncio.create_task(lane.run(last))]
            await gate.has_begun()
            waiting = [asyncio.create_task(lane.room()) for _ in range(4)]
            await asyncio.sleep(0)
            gate.open()
            await tasks[0]
            await asyncio.sleep(0)
            assert [task.done() for task in waiting] == [True, False, False, False]
            last.open()
            await tasks[1]
            await asyncio.sleep(0)
            assert [task.done() for task in waiting] == [True, True, True, False]
            lane.let_in()
            await asyncio.sleep(0)
            assert waiting[3].done()

    async def test_who_was_cancelled_takes_nobodys_room(self) -> None:
        gate = Gate()
        async with lane_of(1) as lane:
            tasks = [asyncio.create_task(lane.run(gate)) for _ in range(2)]
            await gate.has_begun()
            waiting = [asyncio.create_task(lane.room()) for _ in range(5)]
            await asyncio.sleep(0)
            for task in waiting[:4]:
                task.cancel()
            await asyncio.sleep(0)
            gate.open()
            await asyncio.gather(*tasks)
            await waiting[4]


def counted(function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    def counting(*args: Any) -> Any:
        calls.append(threading.current_thread().name)
        return function(*args)

    return counting


async def test_the_loop_is_woken_far_less_often_than_there_are_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate()
    calls: list[str] = []
    async with lane_of(1) as lane:
        first = asyncio.create_task(lane.run(gate))
        rest = [asyncio.create_task(lane.run(abs, -n)) for n in range(100)]
        await gate.has_begun()
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_soon_threadsafe", counted(loop.call_soon_threadsafe, calls))
        # The loop is kept from running until the thread has done all.
        lane._jobs.append(None)
        gate.open()
        workers()[0].join(BUG_S)
        monkeypatch.undo()
        assert len(calls) == 2
        await asyncio.gather(first, *rest)
