from __future__ import annotations

import os

import pytest

from scrapekit.advice import advise, usable_cpus
from scrapekit.report import CallbackCost


def cost(lane: str, calls: int, *, cpu_ms: float, blocked_s: float = 0.0) -> CallbackCost:
    """That of so many calls; `cpu_ms` is what each one computed."""
    cpu_s = calls * cpu_ms / 1000
    return CallbackCost(
        callback="parse", lane=lane, calls=calls, wall_s=cpu_s, cpu_s=cpu_s, blocked_s=blocked_s
    )


def test_a_callback_that_computes_on_the_loop_belongs_in_a_process_which_saves_a_share() -> None:
    (sentence,) = advise([cost("loop", 400, cpu_ms=20, blocked_s=0.03)], duration_s=10, cpus=2)
    assert sentence == (
        "parse computed 20.0 ms a page on the event loop, 80 % of the crawl's time: as a plain def "
        'with @lane("process") it would let other pages go on and save up to 4.0 s on 2 CPUs.'
    )


def test_one_that_computes_in_threads_does_too() -> None:
    (sentence,) = advise([cost("thread", 400, cpu_ms=20)], duration_s=8, cpus=4)
    assert "20.0 ms a page in threads, one at a time, 100 % of the crawl's time" in sentence
    assert "save up to 6.0 s on 4 CPUs" in sentence


def test_on_one_cpu_a_process_frees_the_loop_but_saves_nothing() -> None:
    (sentence,) = advise([cost("loop", 400, cpu_ms=20)], duration_s=10, cpus=1)
    assert sentence.endswith('with @lane("process") it would let other pages go on.')
    assert not advise([cost("thread", 400, cpu_ms=20)], duration_s=10, cpus=1)


def test_a_callback_that_blocks_the_loop_belongs_in_a_thread() -> None:
    (sentence,) = advise([cost("loop", 400, cpu_ms=1, blocked_s=0.15)], duration_s=60)
    assert sentence == (
        "parse kept the event loop waiting, for up to 0.15 s at a time: write it as a plain def, "
        "which runs in a thread."
    )


def test_a_light_callback_is_cheaper_without_a_process() -> None:
    (sentence,) = advise([cost("process", 400, cpu_ms=0.1)], duration_s=10)
    assert sentence == (
        "parse took 0.10 ms a page in worker processes, less than the way there: without "
        '@lane("process") it would be cheaper.'
    )


@pytest.mark.parametrize(
    ("known", "duration_s"),
    [
        pytest.param(cost("loop", 400, cpu_ms=1), 1.0, id="too light to move"),
        pytest.param(cost("loop", 10, cpu_ms=20), 10.0, id="a small share of the crawl"),
        pytest.param(cost("thread", 400, cpu_ms=0.5), 1.0, id="threads that hardly compute"),
        pytest.param(cost("thread", 400, cpu_ms=1), 60.0, id="threads that wait"),
        pytest.param(cost("thread", 400, cpu_ms=20), 5.0, id="threads that compute side by side"),
        pytest.param(cost("loop", 400, cpu_ms=1, blocked_s=0.09), 60.0, id="short blocks"),
        pytest.param(cost("process", 400, cpu_ms=20), 4.0, id="in the right lane"),
        pytest.param(cost("process", 10, cpu_ms=0.1), 4.0, id="too few calls to tell"),
        pytest.param(cost("loop", 0, cpu_ms=0), 4.0, id="never called"),
        pytest.param(cost("loop", 400, cpu_ms=20), 0.0, id="no time has passed"),
    ],
)
def test_nothing_is_said_where_nothing_would_help(known: CallbackCost, duration_s: float) -> None:
    assert advise([known], duration_s, cpus=2) == []


def test_each_callback_gets_its_own_sentence() -> None:
    known = [cost("loop", 400, cpu_ms=20), cost("loop", 4, cpu_ms=1), cost("thread", 90, cpu_ms=30)]
    assert len(advise(known, duration_s=10, cpus=2)) == 2


def test_the_cpus_that_count_are_those_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    assert usable_cpus() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cpus() == 1
        (sentence,) = advise([cost("loop", 400, cpu_ms=20)], duration_s=10)
    finally:
        os.sched_setaffinity(0, allowed)
    assert "CPUs" not in sentence
