"""The process lane by itself. What hostile pages do to workers is told in functional tests."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from scrapekit import Request, Response
from scrapekit.errors import CallbackCrashed, CallbackTimedOut, NotAResult, UsageError
from scrapekit.failure import place, render
from scrapekit.lanes import Lanes
from scrapekit.lanes.meter import Cost
from scrapekit.lanes.processes import ProcessLane
from scrapekit.spider import SpiderRef
from tests.unit import computing
from tests.unit.computing import Computing

URL = "https://shop.test/a"
PAGE = Response(URL, 200, body=b"<h1>Tea</h1>", request=Request(URL, meta={"n": 1}))


def line_of(mark: str) -> str:
    """The place in the spider's file whose line ends with a comment."""
    lines = Path(computing.__file__).read_text().splitlines()
    (number,) = [n for n, line in enumerate(lines, 1) if line.endswith(f"# here: {mark}")]
    return f"{computing.__file__}:{number}"


@asynccontextmanager
async def lane_of(executor: Executor | None = None, **arguments: Any) -> AsyncIterator[ProcessLane]:
    made = ProcessLane(SpiderRef.of(Computing(**arguments)), 1, executor=executor)
    try:
        yield made
    finally:
        await made.aclose(0)


@pytest.fixture
def threads() -> Iterator[Executor]:
    """An executor that needs no process: what is pickled and told is the same."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def test_a_worker_gives_results_errors_and_crashes_and_leaves_nothing_behind(
    no_async_leaks: Callable[[], AbstractAsyncContextManager[None]],
) -> None:
    async with no_async_leaks(), lane_of(factor=5) as made:
        answer = await made.run(None, PAGE)
        offer, item, request = answer.results
        assert offer.title == "Tea"
        assert offer.pid != os.getpid()
        assert item == {"n": 5}
        assert request == Request("https://shop.test/b", "parse").at_depth(1)
        assert answer.counts == {"parsed": 1}
        assert answer.cost.wall_s > 0

        with pytest.raises(ValueError, match="no price") as caught:
            await made.run("boom", PAGE)
        assert place(caught.value) == line_of("boom")
        assert render(caught.value).endswith("ValueError: no price\n")

        with pytest.raises(CallbackCrashed, match=r"exited with code 9 while die ran") as died:
            await made.run("die", PAGE)
        assert (died.value.callback, died.value.url, died.value.exitcode) == ("die", URL, 9)

        assert (await made.run(None, PAGE)).results[0].pid != offer.pid


async def test_results_come_back_in_order_however_many_ask(threads: Executor) -> None:
    async with lane_of(threads) as made:
        pages = [Response(URL, 200, request=Request(URL, meta={"n": n})) for n in range(50)]
        answers = await asyncio.gather(*(made.run("parse", page) for page in pages))
        assert [answer.results[1] for answer in answers] == [{"n": n} for n in range(50)]
        assert sum(answer.counts["parsed"] for answer in answers) == 50


async def test_a_callback_may_give_nothing(threads: Executor) -> None:
    async with lane_of(threads) as made:
        answer = await made.run("nothing", PAGE)
        assert (answer.results, answer.counts, answer.records) == ([], {}, [])


async def test_an_error_that_cannot_travel_is_told_by_another(threads: Executor) -> None:
    async with lane_of(threads) as made:
        with pytest.raises(UsageError, match=r"Demanding: strict \(7\)") as caught:
            await made.run("demanding", PAGE)
        assert "Demanding" in render(caught.value)
        assert place(caught.value).startswith(computing.__file__)
        with pytest.raises(UsageError, match="Unprintable, whose text can't be had"):
            await made.run("unprintable", PAGE)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("leave", "SystemExit"), ("interrupt", "KeyboardInterrupt"), ("stop", "StopIteration")],
)
async def test_what_would_do_more_than_fail_only_fails(
    threads: Executor, name: str, kind: str
) -> None:
    async with lane_of(threads) as made:
        with pytest.raises(UsageError, match=f"{kind} was raised in a worker process") as caught:
            await made.run(name, PAGE)
        assert place(caught.value).startswith(computing.__file__)


async def test_what_is_no_result_is_refused_with_its_line(threads: Executor) -> None:
    async with lane_of(threads) as made:
        with pytest.raises(NotAResult) as caught:
            await made.run("strange", PAGE)
        assert place(caught.value) == line_of("strange")


async def test_a_result_that_cannot_travel_is_named(threads: Executor) -> None:
    async with lane_of(threads) as made:
        with pytest.raises(UsageError, match=r"of unpicklable .* field 'lock', of type lock"):
            await made.run("unpicklable", PAGE)
        with pytest.raises(UsageError, match="a result of brittle can't be made again"):
            await made.run("brittle", PAGE)


async def test_an_argument_that_cannot_travel_is_named(threads: Executor) -> None:
    with socket.socket() as open_socket:
        page = Response(URL, 200, request=Request(URL, meta={"socket": open_socket}))
        async with lane_of(threads) as made:
            with pytest.raises(UsageError, match=r"what parse is called with can't go .* socket"):
                await made.run(None, page)


async def test_an_unknown_callback_and_a_spider_that_cannot_be_built_are_errors(
    threads: Executor,
) -> None:
    async with lane_of(threads) as made:
        with pytest.raises(UsageError, match="no callback 'nowhere'"):
            await made.run("nowhere", PAGE)
    source = SpiderRef(computing.__name__, "Computing", None, (), {"no_such": 1})
    with pytest.raises(UsageError, match="no argument 'no_such'"):
        await ProcessLane(source, 1, executor=threads).run(None, PAGE)


class Broken(Executor):
    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        raise BrokenExecutor("all gone")


class Stuck(Executor):
    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        return Future()


async def test_a_given_executor_that_breaks_fails_the_page() -> None:
    async with lane_of(Broken()) as made:
        with pytest.raises(CallbackCrashed, match="the given executor broke while parse ran"):
            await made.run(None, PAGE)


async def test_a_given_executor_that_never_answers_is_given_up() -> None:
    source = SpiderRef.of(Computing())
    made = ProcessLane(source, 1, executor=Stuck(), timeout_s=0.001)
    with pytest.raises(CallbackTimedOut, match="parse ran longer than") as caught:
        await made.run(None, PAGE)
    assert caught.value.after_s == 0.001


async def test_cancelling_the_wait_disturbs_nobody_else(threads: Executor) -> None:
    async with lane_of(threads) as made:
        tasks = [asyncio.create_task(made.run(None, PAGE)) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        kinds = ["cancelled" if isinstance(a, BaseException) else "done" for a in answers]
        assert kinds[1::2] == ["done"] * 5


async def test_nothing_is_started_before_it_is_needed() -> None:
    async with lane_of() as made:
        assert "workers=0/1" in repr(made)
        assert not made.full
        await made.room()
        made.let_in()


def made(make: Callable[[], ProcessLane]) -> Callable[[], Awaitable[ProcessLane]]:
    async def make_processes() -> ProcessLane:
        return make()

    return make_processes


class Notes:
    def __init__(self) -> None:
        self.costs: list[tuple[str, str]] = []
        self.counts: list[dict[str, float]] = []

    def note(self, callback: str, lane: str, cost: Cost) -> None:
        self.costs.append((callback, lane))


async def test_the_lanes_note_each_callback_with_its_cost(threads: Executor) -> None:
    notes = Notes()
    spider = Computing()
    lanes = Lanes(
        threads=2,
        make_processes=made(lambda: ProcessLane(SpiderRef.of(spider), 1, executor=threads)),
        note=notes.note,
        count=notes.counts.append,
    )

    async def on_loop(response: Response) -> dict[str, int]:
        return {"n": 1}

    async def leave(response: Response) -> None:
        raise SystemExit(3)

    try:
        assert len(await lanes.run("process", None, spider.parse, PAGE)) == 3
        assert len(await lanes.run("thread", "parse", spider.parse, PAGE)) == 3
        assert await lanes.run("loop", "quick", on_loop, PAGE) == [{"n": 1}]
        with pytest.raises(ValueError, match="no price"):
            await lanes.run("process", "boom", spider.boom, PAGE)
        with pytest.raises(ValueError, match="no price"):
            await lanes.run("thread", "boom", spider.boom, PAGE)
        with pytest.raises(UsageError, match="leave raised SystemExit"):
            await lanes.run("thread", "leave", spider.leave, PAGE)
        with pytest.raises(UsageError, match=r"leave called sys.exit\(\)"):
            await lanes.run("loop", "leave", leave, PAGE)
        assert await lanes.run_blocking(abs, -1) == 1
    finally:
        assert await lanes.aclose(60) == 0
    assert notes.costs == [
        ("parse", "process"),
        ("parse", "thread"),
        ("quick", "loop"),
        ("boom", "process"),
        ("boom", "thread"),
        ("leave", "thread"),
        ("leave", "loop"),
    ]
    assert notes.counts == [{"parsed": 1}]


async def test_a_generator_is_run_to_its_end_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = Lanes(threads=4, make_processes=made(lambda: pytest.fail("no")), note=lambda *_: None)
    seen: list[int] = []

    def parse(response: Response) -> Iterator[dict[str, int]]:
        for n in range(1000):
            seen.append(threading.get_ident())
            yield {"n": n}

    hops: list[object] = []
    run = lanes._threads.run

    async def counting(*args: Any, **options: Any) -> Any:
        hops.append(args)
        return await run(*args, **options)

    monkeypatch.setattr(lanes._threads, "run", counting)
    assert len(await lanes.run("thread", None, parse, PAGE)) == 1000
    assert len(set(seen)) == 1
    assert len(hops) == 1
    await lanes.aclose(60)


async def test_a_callback_that_takes_too_long_is_given_up_in_each_lane() -> None:
    release = threading.Event()
    notes = Notes()
    lanes = Lanes(
        threads=1, make_processes=made(lambda: pytest.fail("no")), note=notes.note, timeout_s=0.005
    )

    def block(response: Response) -> None:
        release.wait(60)

    async def wait(response: Response) -> None:
        await asyncio.Event().wait()

    async def own_timeout(response: Response) -> None:
        raise TimeoutError("of its own")

    for lane_name, callback in (("thread", block), ("loop", wait)):
        with pytest.raises(CallbackTimedOut, match=r"slow ran longer than 0\.005 s") as caught:
            await lanes.run(lane_name, "slow", callback, PAGE)
        assert (caught.value.callback, caught.value.url) == ("slow", URL)
    with pytest.raises(TimeoutError, match="of its own"):
        await lanes.run("loop", "own", own_timeout, PAGE)
    release.set()
    assert await lanes.aclose(60) == 0
    assert notes.costs == [("slow", "thread"), ("slow", "loop"), ("own", "loop")]


def test_what_travels_is_small() -> None:
    plain = len(pickle.dumps(PAGE))
    PAGE.get("h1")
    assert len(pickle.dumps(PAGE)) == plain
