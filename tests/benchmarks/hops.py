"""What a hop to another thread or process costs, beside executors without a framework."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from scrapekit import Request, Response
from scrapekit.lanes import Lanes
from scrapekit.lanes.meter import Cost, Stepped, timed
from scrapekit.lanes.processes import ProcessLane
from scrapekit.lanes.stalls import StallWatch
from scrapekit.spider import SpiderRef
from tests.benchmarks.lane_work import SITE, Trivial, trivial

WORKERS = 2
AT_ONCE = 64
PAGE = Response(f"{SITE}page", 200, {"Content-Type": "text/html"}, b"<p>" * 1000, Request(SITE))

Hop = Callable[[], Awaitable[Any]]


async def per_hop(hop: Hop, hops: int) -> float:
    """Seconds a hop, with `AT_ONCE` of them under way."""
    left = iter(range(hops))

    async def visitor() -> None:
        for _ in left:
            await hop()

    began = time.perf_counter()
    await asyncio.gather(*(visitor() for _ in range(AT_ONCE)))
    return (time.perf_counter() - began) / hops


@asynccontextmanager
async def our_threads() -> AsyncIterator[Hop]:
    lanes = _lanes()
    yield partial(lanes.run, "thread", "parse", trivial, PAGE)
    await lanes.aclose(60)


@asynccontextmanager
async def our_processes() -> AsyncIterator[Hop]:
    lanes = _lanes()
    yield partial(lanes.run, "process", None, trivial, PAGE)
    await lanes.aclose(60)


def _lanes() -> Lanes:
    async def make_processes() -> ProcessLane:
        return ProcessLane(SpiderRef.of(Trivial()), WORKERS, timeout_s=120.0)

    return Lanes(
        threads=WORKERS,
        make_processes=make_processes,
        note=lambda *_: None,
        timeout_s=120.0,
    )


@asynccontextmanager
async def thread_pool() -> AsyncIterator[Hop]:
    with ThreadPoolExecutor(WORKERS) as pool:
        yield _of_executor(pool)


@asynccontextmanager
async def process_pool() -> AsyncIterator[Hop]:
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield _of_executor(pool)


@asynccontextmanager
async def loky_pool() -> AsyncIterator[Hop]:
    from loky import ProcessPoolExecutor as LokyExecutor

    with LokyExecutor(WORKERS) as pool:
        yield _of_executor(pool)


@asynccontextmanager
async def pebble_pool() -> AsyncIterator[Hop]:
    from pebble import ProcessPool

    with ProcessPool(WORKERS, context=multiprocessing.get_context("spawn")) as pool:
        yield lambda: asyncio.wrap_future(pool.schedule(trivial, args=(PAGE,), timeout=120))


def _of_executor(pool: Executor) -> Hop:
    return lambda: asyncio.wrap_future(pool.submit(trivial, PAGE))


@asynccontextmanager
async def anyio_threads() -> AsyncIterator[Hop]:
    import anyio.to_thread

    limiter = anyio.CapacityLimiter(WORKERS)
    yield partial(anyio.to_thread.run_sync, trivial, PAGE, limiter=limiter)


@asynccontextmanager
async def anyio_processes() -> AsyncIterator[Hop]:
    import anyio.to_process

    limiter = anyio.CapacityLimiter(WORKERS)
    yield partial(anyio.to_process.run_sync, trivial, PAGE, limiter=limiter, cancellable=True)


Contender = Callable[[], AbstractAsyncContextManager[Hop]]

THREADS: dict[str, Contender] = {
    "our thread lane": our_threads,
    "ThreadPoolExecutor": thread_pool,
    "anyio.to_thread": anyio_threads,
}
PROCESSES: dict[str, Contender] = {
    "our process lane": our_processes,
    "ProcessPoolExecutor": process_pool,
    "pebble": pebble_pool,
    "loky": loky_pool,
    "anyio.to_process": anyio_processes,
}


async def take_turns(contenders: dict[str, Contender], hops: int, rounds: int) -> dict[str, float]:
    """Median seconds a hop of each contender that is installed; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            try:
                async with contender() as hop:
                    # Workers are started and warm before the clock is.
                    await per_hop(hop, 2 * AT_ONCE)
                    seconds = await per_hop(hop, hops)
            except ModuleNotFoundError:
                continue
            if number:
                times[name].append(seconds)
    return {name: statistics.median(known) for name, known in times.items() if known}


def hops_table(rounds: int) -> Iterator[str]:
    yield f"a hop with a page of 3 KB, {AT_ONCE} under way, {WORKERS} workers"
    yield f"  {'':24}{'us':>8}{'beside the bare executor':>26}"
    for contenders, bare in ((THREADS, "ThreadPoolExecutor"), (PROCESSES, "ProcessPoolExecutor")):
        medians = asyncio.run(take_turns(contenders, 3000, rounds))
        for name, seconds in medians.items():
            yield f"  {name:24}{1e6 * seconds:8.0f}{seconds / medians[bare]:26.2f}"


def metering_table() -> Iterator[str]:
    """The cost of measuring one call, which is what it adds to a call that does nothing."""
    bare_s, timed_s = _per_call(_nothing), _per_call(partial(timed, _nothing))
    one_s, eleven_s = asyncio.run(_per_step(0)), asyncio.run(_per_step(10))
    quiet, watched = asyncio.run(_idle(watched=False)), asyncio.run(_idle(watched=True))
    yield "measuring one call (us)"
    yield f"  {'thread or process':24}{1e6 * (timed_s - bare_s):8.2f}"
    yield f"  {'async, one step':24}{1e6 * one_s:8.2f}"
    yield f"  {'async, a further step':24}{1e5 * (eleven_s - one_s):8.2f}"
    yield f"the stall watch in an idle loop: {1e3 * (watched - quiet):.1f} ms of CPU a second"


def _nothing() -> None: ...


def _per_call(call: Callable[[], Any], calls: int = 20_000, rounds: int = 9) -> float:
    def once() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - began) / calls

    return statistics.median(once() for _ in range(rounds))


class _Unwatched:
    threshold_s = 60.0

    def step_blocked(self, callback: str, wall_s: float, cpu_s: float) -> None: ...


async def _per_step(waits: int) -> float:
    """What Stepped adds to a coroutine that gives way so often."""

    async def coroutine() -> None:
        for _ in range(waits):
            await asyncio.sleep(0)

    async def seconds(make: Callable[[], Awaitable[None]], calls: int = 5000) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            await make()
        return (time.perf_counter() - began) / calls

    cost, watch = Cost(), _Unwatched()
    rounds = [
        await seconds(lambda: Stepped("parse", coroutine(), cost, watch)) - await seconds(coroutine)
        for _ in range(9)
    ]
    return statistics.median(rounds)


async def _idle(*, watched: bool) -> float:
    """CPU seconds that a second of an idle loop costs."""
    watch = StallWatch(0.1, lambda _: None)
    if watched:
        watch.start()
    began = time.process_time()
    await asyncio.sleep(2)
    cpu_s = (time.process_time() - began) / 2
    watch.close()
    return cpu_s
