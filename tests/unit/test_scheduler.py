from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scrapekit.begun import MAX_HOPS, Errand
from scrapekit.clock import ManualClock
from scrapekit.frontier.base import Hop, Lease, Outcome
from scrapekit.frontier.memory import MemoryFrontier
from scrapekit.limits import Limits
from scrapekit.messages import Request
from scrapekit.politeness import Politeness
from scrapekit.scheduler import Scheduler

START = 1_000_000.0


class Bench:
    """A scheduler with all that it needs, and the tasks that ask it for requests."""

    def __init__(
        self,
        *,
        concurrency: int = 8,
        delay_s: float = 0.0,
        backlog: int = 1000,
        max_pages: int | None = None,
        obey: bool = False,
    ) -> None:
        self.clock = ManualClock(START)
        self.frontier = MemoryFrontier()
        self.grown: list[int] = []
        self.known: set[str] = set()
        """Origins whose robots.txt is known, if it is obeyed."""
        limits = Limits(concurrency, delay_s)
        self.politeness = Politeness(lambda _: limits)
        self.scheduler = Scheduler(
            self.frontier,
            self.politeness,
            self.clock,
            unknown=(lambda origin, _reach: origin not in self.known) if obey else None,
            grow=self.grown.append,
            backlog=backlog,
            max_pages=max_pages,
        )

    async def add(self, *urls: str, **options: Any) -> Sequence[Request]:
        return await self.scheduler.add([Request(url, **options) for url in urls])

    async def lease(self) -> Lease:
        """The next request, which is there already, and is sent."""
        task = self.ask()
        await settle()
        assert task.done()
        lease = task.result()
        assert isinstance(lease, Lease)
        lease.sent = True
        return lease

    async def errand(self) -> Errand:
        """The same for a robots.txt."""
        task = self.ask()
        await settle()
        assert task.done()
        errand = task.result()
        assert isinstance(errand, Errand)
        return errand

    def ask(self) -> asyncio.Task[Lease | Errand | None]:
        return asyncio.create_task(self.scheduler.next())

    async def commit(self, lease: Lease, *urls: str) -> None:
        await self.scheduler.commit(Outcome(lease, [Request(url) for url in urls]))


async def settle() -> None:
    """Let every task go on as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def url_of(task: asyncio.Task[Lease | Errand | None]) -> str:
    lease = task.result()
    assert isinstance(lease, Lease)
    return lease.request.url


async def test_what_was_added_comes_at_once_by_priority() -> None:
    bench = Bench()
    await bench.add("http://a.test/1", "http://b.test/1")
    await bench.add("http://a.test/2", priority=1)
    urls = [(await bench.lease()).request.url for _ in range(3)]
    assert urls == ["http://a.test/2", "http://b.test/1", "http://a.test/1"]


async def test_a_duplicate_is_not_filed() -> None:
    bench = Bench()
    assert await bench.add("http://a.test/")
    assert not await bench.add("http://a.test/")
    assert bench.frontier.pending == 1


async def test_whoever_waits_is_woken_by_a_new_request() -> None:
    bench = Bench()
    first, second = bench.ask(), bench.ask()
    await settle()
    await bench.add("http://a.test/1")
    await settle()
    assert url_of(first) == "http://a.test/1"
    assert not second.done()
    await bench.add("http://a.test/2")
    await settle()
    assert url_of(second) == "http://a.test/2"


async def test_several_requests_to_one_origin_wake_as_many() -> None:
    bench = Bench(concurrency=3)
    tasks = [bench.ask() for _ in range(5)]
    await settle()
    await bench.add(*(f"http://a.test/{n}" for n in range(5)))
    await settle()
    assert [task.done() for task in tasks] == [True, True, True, False, False]
    await cancel(*tasks)


async def test_an_origin_at_its_limit_goes_on_when_a_request_ends() -> None:
    bench = Bench(concurrency=1)
    await bench.add("http://a.test/1", "http://a.test/2")
    lease = await bench.lease()
    waiting = bench.ask()
    await settle()
    assert not waiting.done()
    await bench.commit(lease)
    await settle()
    assert url_of(waiting) == "http://a.test/2"


async def test_requests_that_a_page_led_to_wake_those_who_wait() -> None:
    bench = Bench()
    await bench.add("http://a.test/")
    lease = await bench.lease()
    tasks = [bench.ask() for _ in range(2)]
    await settle()
    await bench.commit(lease, "http://b.test/", "http://c.test/")
    await settle()
    assert {url_of(task) for task in tasks} == {"http://b.test/", "http://c.test/"}


async def test_the_delay_between_two_requests_is_waited_for() -> None:
    bench = Bench(delay_s=10.0)
    await bench.add("http://a.test/1", "http://a.test/2")
    await bench.commit(await bench.lease())
    waiting = bench.ask()
    await settle()
    bench.clock.advance(9.99)
    await settle()
    assert not waiting.done()
    bench.clock.advance(0.01)
    await settle()
    assert url_of(waiting) == "http://a.test/2"


async def test_a_request_that_has_to_wait_is_not_forgotten_if_all_wait_already() -> None:
    bench = Bench(delay_s=10.0)
    await bench.add("http://a.test/1")
    await bench.commit(await bench.lease())
    waiting = bench.ask()
    await settle()
    await bench.add("http://a.test/2")
    bench.scheduler.starts_finished()
    bench.clock.advance(10)
    await settle()
    assert url_of(waiting) == "http://a.test/2"


async def test_origins_whose_date_comes_together_each_wake_someone() -> None:
    bench = Bench(delay_s=10.0)
    origins = [f"http://o{n}.test" for n in range(5)]
    await bench.add(*(f"{origin}/{n}" for origin in origins for n in range(2)))
    for lease in [await bench.lease() for _ in origins]:
        await bench.commit(lease)
    tasks = [bench.ask() for _ in origins]
    await settle()
    bench.clock.advance(10)
    await settle()
    assert sorted(map(url_of, tasks)) == [f"{origin}/1" for origin in origins]


async def test_a_date_wakes_someone_while_the_one_woken_before_is_busy() -> None:
    bench = Bench(delay_s=10.0)
    for n in range(3):
        await bench.add(f"http://o{n}.test/1", f"http://o{n}.test/2")
        await bench.commit(await bench.lease())
        bench.clock.advance(1)
    tasks = [bench.ask() for _ in range(3)]
    await settle()
    done = []
    for _ in range(3):
        date = bench.clock.next_timer()
        assert date is not None
        bench.clock.advance_to(date)
        await settle()
        done.append(sum(task.done() for task in tasks))
    assert done == [1, 2, 3]


async def test_a_date_asks_for_workers_if_all_are_busy() -> None:
    bench = Bench(delay_s=10.0)
    await bench.add("http://a.test/1", "http://a.test/2", "http://b.test/1")
    busy = [await bench.lease(), await bench.lease()]
    await bench.commit(busy[0])
    bench.grown.clear()
    bench.clock.advance(10)
    assert bench.grown == [1]


async def test_a_held_origin_is_left_alone_until_its_date() -> None:
    bench = Bench()
    await bench.add("http://a.test/1", "http://a.test/2")
    lease = await bench.lease()
    bench.scheduler.hold(lease.origin, START + 30)
    waiting = bench.ask()
    await settle()
    assert not waiting.done()
    bench.clock.advance(30)
    await settle()
    assert url_of(waiting) == "http://a.test/2"


def hop(url: str) -> Hop:
    return Hop(Request(url), ("http://a.test/1",))


async def test_a_redirect_waits_for_the_turn_of_its_origin_and_holds_no_slot() -> None:
    bench = Bench(concurrency=1, delay_s=10.0)
    await bench.add("http://a.test/1", "http://b.test/1")
    first, busy = await bench.lease(), await bench.lease()
    await bench.scheduler.forward(first, hop("http://b.test/2"))
    assert (bench.scheduler.hops, bench.frontier.leased) == (1, 2)
    await bench.add("http://a.test/3")
    waiting = bench.ask()
    bench.clock.advance(10)
    await settle()
    # The origin it came from goes on, that of the redirect is still busy.
    assert url_of(waiting) == "http://a.test/3"
    waiting = bench.ask()
    await bench.commit(busy)
    await settle()
    lease = waiting.result()
    assert lease is first
    assert lease.turn == "http://b.test"
    await bench.commit(lease)
    assert (bench.scheduler.hops, bench.frontier.leased) == (0, 1)


async def test_a_redirect_within_an_origin_keeps_the_delay() -> None:
    bench = Bench(delay_s=10.0)
    await bench.add("http://a.test/1")
    lease = await bench.lease()
    await bench.scheduler.forward(lease, hop("http://a.test/2"))
    waiting = bench.ask()
    bench.clock.advance(9.5)
    await settle()
    assert not waiting.done()
    bench.clock.advance(0.5)
    await settle()
    assert waiting.result() is lease


async def test_what_has_begun_goes_before_what_is_new() -> None:
    bench = Bench(concurrency=1)
    await bench.add("http://a.test/1", "http://a.test/2", priority=5)
    lease = await bench.lease()
    await bench.scheduler.forward(lease, hop("http://a.test/3"))
    assert await bench.lease() is lease


async def test_a_redirect_goes_on_when_no_further_page_may_be_handed_out() -> None:
    bench = Bench(max_pages=1)
    await bench.add("http://a.test/1", "http://b.test/1", "http://b.test/2")
    lease = await bench.lease()
    await bench.scheduler.forward(lease, hop("http://b.test/3"))
    assert await bench.lease() is lease
    waiting = bench.ask()
    await settle()
    assert not waiting.done()
    # It was no page after all, so another one may go.
    await bench.scheduler.commit(Outcome(lease), is_page=False)
    await settle()
    assert url_of(waiting) == "http://b.test/1"


async def test_an_origin_passed_over_while_no_page_was_left_gets_its_turn_later() -> None:
    bench = Bench(max_pages=2)
    await bench.add(*(f"http://{o}.test/1" for o in "abc"))
    first, second = await bench.lease(), await bench.lease()
    await bench.scheduler.forward(first, hop("http://d.test/"))
    assert await bench.lease() is first
    await bench.scheduler.commit(Outcome(first), is_page=False)
    assert (await bench.lease()).request.url == "http://c.test/1"
    await bench.commit(second)


async def test_a_page_whose_redirect_is_one_too_many_starts_over() -> None:
    bench = Bench()
    await bench.add("http://a.test/1")
    lease = await bench.lease()
    bench.scheduler._begun.hops = MAX_HOPS
    await bench.scheduler.forward(lease, hop("http://b.test/"))
    bench.scheduler._begun.hops = 0
    waiting = bench.ask()
    bench.clock.advance(60)
    await settle()
    again = waiting.result()
    assert isinstance(again, Lease)
    assert (again.request.url, again.tries, again.hop) == ("http://a.test/1", 1, None)


async def test_a_page_that_is_there_lets_the_next_one_go() -> None:
    bench = Bench(concurrency=1)
    await bench.add("http://a.test/1", "http://a.test/2")
    lease = await bench.lease()
    waiting = bench.ask()
    await settle()
    assert not waiting.done()
    bench.scheduler.arrived(lease)
    await settle()
    assert url_of(waiting) == "http://a.test/2"
    await bench.commit(lease)
    assert bench.frontier.leased == 1


async def test_robots_txt_is_asked_for_once_before_the_pages_of_its_origin() -> None:
    bench = Bench(obey=True)
    await bench.add("http://a.test/1", "http://a.test/2", "http://b.test/1")
    first, second = await bench.errand(), await bench.errand()
    assert [errand.hop.request.url for errand in (first, second)] == [
        "http://a.test/robots.txt",
        "http://b.test/robots.txt",
    ]
    tasks = [bench.ask() for _ in range(3)]
    await settle()
    assert not any(task.done() for task in tasks)
    bench.known.add("http://a.test")
    bench.scheduler.end_errand(first)
    await settle()
    assert [task.done() for task in tasks] == [True, True, False]
    await cancel(*tasks)


async def test_the_page_after_a_robots_txt_waits_for_the_delay() -> None:
    bench = Bench(obey=True, delay_s=10.0)
    await bench.add("http://a.test/1")
    errand = await bench.errand()
    bench.known.add("http://a.test")
    bench.scheduler.end_errand(errand)
    waiting = bench.ask()
    bench.clock.advance(9.5)
    await settle()
    assert not waiting.done()
    bench.clock.advance(0.5)
    await settle()
    assert waiting.done()


async def test_robots_txt_files_that_redirect_to_each_others_origins_dont_wait_for_ever() -> None:
    bench = Bench(obey=True, concurrency=1)
    await bench.add("http://a.test/1", "http://b.test/1")
    first, second = await bench.errand(), await bench.errand()
    bench.scheduler.forward_errand(first, Hop(Request("http://b.test/robots.txt")))
    bench.scheduler.forward_errand(second, Hop(Request("http://a.test/robots.txt")))
    assert {await bench.errand(), await bench.errand()} == {first, second}
    assert (first.turn, second.turn) == ("http://b.test", "http://a.test")
    bench.known |= {"http://a.test", "http://b.test"}
    bench.scheduler.end_errand(first)
    bench.scheduler.end_errand(second)
    assert {(await bench.lease()).origin for _ in range(2)} == bench.known


async def test_a_robots_txt_that_is_tried_again_holds_its_origin_until_then() -> None:
    bench = Bench(obey=True)
    await bench.add("http://a.test/1")
    errand = await bench.errand()
    bench.scheduler.forward_errand(errand, errand.hop, due=START + 30)
    waiting = bench.ask()
    bench.clock.advance(29)
    await settle()
    assert not waiting.done()
    bench.clock.advance(1)
    await settle()
    assert waiting.result() is errand


async def test_a_redirect_to_an_unknown_origin_waits_for_its_robots_txt() -> None:
    bench = Bench(obey=True)
    bench.known.add("http://a.test")
    await bench.add("http://a.test/1")
    lease = await bench.lease()
    await bench.scheduler.forward(lease, hop("http://b.test/2"))
    errand = await bench.errand()
    assert errand.origin == "http://b.test"
    bench.known.add("http://b.test")
    bench.scheduler.end_errand(errand)
    assert await bench.lease() is lease


async def test_a_request_with_a_date_of_its_own_holds_up_no_other() -> None:
    bench = Bench()
    await bench.add("http://a.test/late", not_before_s=START + 30, priority=9)
    await bench.add("http://a.test/now")
    assert (await bench.lease()).request.url == "http://a.test/now"
    waiting = bench.ask()
    bench.clock.advance(29)
    await settle()
    assert not waiting.done()
    bench.clock.advance(1)
    await settle()
    assert url_of(waiting) == "http://a.test/late"


async def test_a_retry_is_a_date_and_leaves_the_slot_to_others() -> None:
    bench = Bench(concurrency=1)
    await bench.add("http://a.test/1", "http://a.test/2")
    first = await bench.lease()
    await bench.scheduler.postpone(first, START + 60)
    second = await bench.lease()
    assert second.request.url == "http://a.test/2"
    await bench.commit(second)
    again = bench.ask()
    await settle()
    assert not again.done()
    bench.clock.advance(60)
    await settle()
    lease = again.result()
    assert isinstance(lease, Lease)
    assert (lease.request.url, lease.tries) == ("http://a.test/1", 2)


async def test_the_crawl_is_over_when_nothing_waits_and_nothing_is_on_its_way() -> None:
    bench = Bench()
    await bench.add("http://a.test/")
    bench.scheduler.starts_finished()
    lease = await bench.lease()
    tasks = [bench.ask() for _ in range(3)]
    await settle()
    assert not any(task.done() for task in tasks)
    await bench.scheduler.give_up(lease)
    await settle()
    assert [task.result() for task in tasks] == [None, None, None]


async def test_the_crawl_goes_on_while_start_requests_may_come() -> None:
    bench = Bench()
    tasks = [bench.ask() for _ in range(2)]
    await settle()
    assert not any(task.done() for task in tasks)
    bench.scheduler.starts_finished()
    await settle()
    assert [task.result() for task in tasks] == [None, None]


async def test_a_retry_that_waits_for_its_date_keeps_the_crawl_going() -> None:
    bench = Bench()
    await bench.add("http://a.test/")
    bench.scheduler.starts_finished()
    await bench.scheduler.postpone(await bench.lease(), START + 60)
    waiting = bench.ask()
    await settle()
    assert not waiting.done()
    bench.clock.advance(60)
    await settle()
    assert url_of(waiting) == "http://a.test/"


async def test_after_closing_nothing_is_handed_out_but_leases_can_be_settled() -> None:
    bench = Bench()
    await bench.add("http://a.test/1", "http://a.test/2")
    lease = await bench.lease()
    bench.scheduler.close()
    assert await bench.scheduler.next() is None
    await bench.commit(lease, "http://a.test/3")
    assert bench.frontier.leased == 0
    assert bench.frontier.pending == 2


async def test_closing_wakes_all_and_leaves_no_timer() -> None:
    bench = Bench(delay_s=10.0)
    await bench.add("http://a.test/1", "http://a.test/2")
    lease = await bench.lease()
    tasks = [bench.ask() for _ in range(3)]
    await settle()
    bench.scheduler.close()
    await settle()
    assert [task.result() for task in tasks] == [None, None, None]
    await bench.commit(lease, "http://b.test/")
    await bench.add("http://a.test/4")
    assert bench.clock.next_timer() is None


async def test_max_pages_bounds_what_is_handed_out() -> None:
    bench = Bench(max_pages=2)
    await bench.add(*(f"http://a.test/{n}" for n in range(5)))
    leases = [await bench.lease(), await bench.lease()]
    assert bench.scheduler.out_of_pages
    waiting = bench.ask()
    for lease in leases:
        await settle()
        assert not waiting.done()
        await bench.commit(lease)
    assert await waiting is None
    assert bench.frontier.pending == 3


async def test_a_page_that_is_tried_again_counts_once_for_max_pages() -> None:
    bench = Bench(max_pages=1)
    await bench.add("http://a.test/1")
    waiting = bench.ask()
    await settle()
    first = waiting.result()
    assert isinstance(first, Lease)
    waiting = bench.ask()
    await bench.scheduler.postpone(first, START + 60)
    bench.clock.advance(60)
    await settle()
    second = waiting.result()
    assert isinstance(second, Lease)
    assert second.tries == 2
    await bench.commit(second)
    assert await bench.scheduler.next() is None


async def test_a_page_that_has_to_be_tried_again_makes_room_for_another() -> None:
    bench = Bench(max_pages=1)
    await bench.add("http://a.test/1", "http://b.test/2")
    lease = await bench.lease()
    waiting = bench.ask()
    await settle()
    await bench.scheduler.postpone(lease, START + 60)
    await settle()
    assert url_of(waiting) == "http://b.test/2"


async def test_workers_are_asked_for_only_if_nobody_waits() -> None:
    bench = Bench()
    waiting = bench.ask()
    await settle()
    await bench.add("http://a.test/", "http://b.test/", "http://c.test/")
    assert bench.grown == [2]
    await cancel(waiting)


async def test_no_workers_are_asked_for_when_the_crawl_is_over() -> None:
    bench = Bench()
    bench.scheduler.close()
    await bench.add("http://a.test/")
    assert bench.grown == []


async def test_room_is_made_by_leasing() -> None:
    bench = Bench(backlog=2)
    await bench.add("http://a.test/1")
    await bench.scheduler.room()
    await bench.add("http://a.test/2")
    waiting = asyncio.create_task(bench.scheduler.room())
    await settle()
    assert not waiting.done()
    await bench.lease()
    await settle()
    assert waiting.done()


async def test_closing_lets_go_of_whoever_waits_for_room() -> None:
    bench = Bench(backlog=1)
    await bench.add("http://a.test/1")
    waiting = asyncio.create_task(bench.scheduler.room())
    await settle()
    bench.scheduler.close()
    await settle()
    assert waiting.done()


async def test_waiting_for_room_can_be_cancelled_and_begun_again() -> None:
    bench = Bench(backlog=1)
    await bench.add("http://a.test/1")
    waiting = asyncio.create_task(bench.scheduler.room())
    await settle()
    await cancel(waiting)
    again = asyncio.create_task(bench.scheduler.room())
    await settle()
    await bench.lease()
    await settle()
    assert again.done()


async def test_a_wake_up_of_someone_cancelled_goes_to_the_next() -> None:
    bench = Bench()
    first, second = bench.ask(), bench.ask()
    await settle()
    await bench.add("http://a.test/")
    first.cancel()
    await settle()
    assert first.cancelled()
    assert url_of(second) == "http://a.test/"


async def test_whoever_was_cancelled_while_waiting_takes_no_wake_up() -> None:
    bench = Bench()
    first, second = bench.ask(), bench.ask()
    await settle()
    await cancel(first)
    await bench.add("http://a.test/")
    await settle()
    assert url_of(second) == "http://a.test/"


async def test_a_wake_up_of_the_only_one_cancelled_asks_for_a_worker() -> None:
    bench = Bench()
    only = bench.ask()
    await settle()
    await bench.add("http://a.test/")
    only.cancel()
    await settle()
    assert bench.grown == [1]


async def test_repr_tells_the_state() -> None:
    bench = Bench()
    waiting = bench.ask()
    await settle()
    assert repr(bench.scheduler).startswith("<Scheduler waiting=1 <MemoryFrontier pending=0")
    bench.scheduler.close()
    assert repr(bench.scheduler).startswith("<Scheduler closed")
    await waiting


class Crew:
    """Workers as the engine has them: each asks, works for a moment, settles, asks again."""

    def __init__(self, bench: Bench, limit: int) -> None:
        self.bench = bench
        self.limit = limit
        self.urls: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.begun: set[asyncio.Task[None] | None] = set()
        bench.scheduler._grow = self.grow

    def grow(self, count: int) -> None:
        live = sum(not task.done() for task in self.tasks)
        for _ in range(min(count, self.limit - live)):
            self.tasks.append(asyncio.create_task(self.work()))

    def cancel(self, number: int) -> None:
        """Cancel a worker that waits or works; one that hasn't begun takes its wake-up along."""
        task = self.tasks[number] if number < len(self.tasks) else None
        if task is not None and task in self.begun:
            task.cancel()

    async def work(self) -> None:
        self.begun.add(asyncio.current_task())
        while isinstance(lease := await self.bench.scheduler.next(), Lease):
            lease.sent = True
            self.urls.append(lease.request.url)
            try:
                await asyncio.sleep(0)
            finally:
                await self.bench.commit(lease)


STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 2)),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("hold"), st.integers(0, 2)),
    st.tuples(st.just("pass"), st.integers(0, 3)),
    st.tuples(st.just("advance"), st.integers(0, 3)),
)


async def crawl(steps: list[tuple[str, int]], concurrency: int, delay_s: float) -> None:
    bench = Bench(concurrency=concurrency, delay_s=delay_s)
    crew = Crew(bench, limit=3)
    added = 0
    for step, number in steps:
        if step == "add":
            await bench.add(f"http://o{number}.test/{added}")
            added += 1
        elif step == "cancel":
            crew.cancel(number)
        elif step == "hold":
            bench.scheduler.hold(f"http://o{number}.test", bench.clock.now() + 2)
        elif step == "advance":
            bench.clock.advance(number)
        else:
            for _ in range(number):
                await asyncio.sleep(0)
    bench.scheduler.starts_finished()
    await settle()
    while bench.frontier.pending:
        date = bench.clock.next_timer()
        assert date is not None, f"requests wait and nobody will be woken: {bench.scheduler}"
        bench.clock.advance_to(date)
        await settle()
    await settle()
    assert sorted(crew.urls) == sorted(set(crew.urls))
    assert len(crew.urls) == added
    assert all(task.done() for task in crew.tasks)
    assert bench.clock.next_timer() is None


@given(st.lists(STEPS, max_size=30), st.integers(1, 2), st.sampled_from([0.0, 1.0]))
def test_no_request_is_lost_whoever_is_cancelled_and_whenever(
    steps: list[tuple[str, int]], concurrency: int, delay_s: float
) -> None:
    asyncio.run(crawl(steps, concurrency, delay_s))
