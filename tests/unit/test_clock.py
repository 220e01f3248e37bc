from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.clock import Clock, ManualClock, SystemClock


def test_the_system_clock_starts_at_the_epochs_time() -> None:
    before = time.time()
    now = SystemClock().now()
    # The clock of the system may be corrected in between; it isn't by minutes.
    assert abs(now - before) < 60


def test_the_system_clock_follows_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    earlier = clock.now()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert clock.now() >= earlier


@pytest.mark.parametrize("after", [0.001, 0.0, -1000.0])
async def test_the_system_clock_calls_on_the_loop_at_once_if_late(after: float) -> None:
    clock = SystemClock()
    called = asyncio.Event()
    clock.call_at(clock.now() + after, called.set)
    assert not called.is_set()
    await called.wait()


async def test_a_cancelled_call_of_the_system_clock_is_not_made() -> None:
    clock = SystemClock()
    calls: list[str] = []
    timer = clock.call_at(clock.now(), lambda: calls.append("cancelled"))
    later = asyncio.Event()
    clock.call_at(clock.now(), later.set)
    timer.cancel()
    await later.wait()
    assert calls == []


def test_manual_time_moves_only_when_told_to() -> None:
    clock = ManualClock(5.0)
    assert [clock.now(), clock.now()] == [5.0, 5.0]
    clock.advance(2.5)
    assert clock.now() == 7.5


def test_manual_time_never_goes_back() -> None:
    clock = ManualClock(5.0)
    clock.advance_to(1.0)
    assert clock.now() == 5.0


def test_calls_are_made_in_order_each_at_its_own_time() -> None:
    clock = ManualClock(0.0)
    calls: list[tuple[str, float]] = []

    def note(name: str) -> None:
        calls.append((name, clock.now()))

    clock.call_at(3.0, lambda: note("c"))
    clock.call_at(1.0, lambda: note("a"))
    clock.call_at(1.0, lambda: note("b"))
    clock.call_at(9.0, lambda: note("later"))
    clock.advance(5.0)
    assert calls == [("a", 1.0), ("b", 1.0), ("c", 3.0)]
    assert clock.now() == 5.0


def test_a_call_may_arrange_another_that_falls_due_in_the_same_move() -> None:
    clock = ManualClock(0.0)
    times: list[float] = []

    def again() -> None:
        times.append(clock.now())
        clock.call_at(clock.now() + 1, again)

    clock.call_at(1.0, again)
    clock.advance(3.0)
    assert times == [1.0, 2.0, 3.0]
    assert clock.next_timer() == 4.0


def test_a_cancelled_call_is_neither_made_nor_counted() -> None:
    clock = ManualClock(0.0)
    calls: list[int] = []
    first = clock.call_at(1.0, lambda: calls.append(1))
    clock.call_at(2.0, lambda: calls.append(2))
    first.cancel()
    assert clock.next_timer() == 2.0
    assert repr(clock) == "<ManualClock now=0.0 timers=1>"
    clock.advance(5.0)
    assert calls == [2]
    assert clock.next_timer() is None


def test_an_overdue_call_is_made_with_the_next_move() -> None:
    clock = ManualClock(10.0)
    times: list[float] = []
    clock.call_at(1.0, lambda: times.append(clock.now()))
    clock.advance(0.0)
    assert times == [10.0]


@given(st.lists(st.floats(0, 100), max_size=20), st.lists(st.floats(0, 30), max_size=10))
def test_all_calls_are_made_once_and_never_early(dates: list[float], moves: list[float]) -> None:
    clock = ManualClock(0.0)
    made: list[tuple[float, float]] = []

    def call(date: float) -> None:
        made.append((date, clock.now()))

    for date in dates:
        clock.call_at(date, lambda date=date: call(date))  # type: ignore[misc]
    for move in [*moves, 200.0]:
        clock.advance(move)
    assert [date for date, _ in made] == sorted(dates)
    assert all(now == date for date, now in made)


def test_both_clocks_fill_the_protocol() -> None:
    clocks: list[Clock] = [SystemClock(), ManualClock()]
    assert len(clocks) == 2
