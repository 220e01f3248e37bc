"""ByteBudget: room is shared fairly, the bound holds, and nothing stays taken."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.budget import Account, ByteBudget


async def rounds(count: int = 5) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


def waiter(account: Account, size: int) -> asyncio.Task[None]:
    return asyncio.create_task(account.take(size))


def test_what_fits_is_taken_without_waiting() -> None:
    budget = ByteBudget(10)
    with budget.account() as account:
        assert account.try_take(4)
        assert account.try_take(6)
        assert (account.held, budget.used) == (10, 10)


def test_what_does_not_fit_is_not_taken() -> None:
    budget = ByteBudget(10)
    with budget.account() as one, budget.account() as other:
        assert one.try_take(8)
        assert not other.try_take(3)
        assert (other.held, budget.used) == (0, 8)


def test_leaving_gives_everything_back() -> None:
    budget = ByteBudget(10)
    with budget.account() as account:
        account.try_take(7)
    assert (account.held, budget.used, budget.peak) == (0, 0, 7)


def test_leaving_by_an_error_gives_everything_back() -> None:
    budget = ByteBudget(10)

    def fail() -> None:
        with budget.account() as account:
            account.try_take(7)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (budget.used, budget.peak) == (0, 7)


async def test_the_first_who_finds_no_room_overdraws_instead_of_waiting() -> None:
    budget = ByteBudget(10)
    with budget.account() as one, budget.account() as other:
        one.try_take(10)
        await other.take(5)
        assert other.try_take(5)
        assert (budget.used, budget.waiting) == (20, 0)


async def test_a_body_larger_than_the_whole_budget_goes_through() -> None:
    budget = ByteBudget(10)
    with budget.account() as account:
        await account.take(25)
        assert (budget.used, budget.peak) == (25, 25)
    assert budget.used == 0


async def test_only_one_account_overdraws_at_a_time() -> None:
    budget = ByteBudget(10)
    with budget.account() as full, budget.account() as first, budget.account() as second:
        full.try_take(10)
        await first.take(3)
        waiting = waiter(second, 3)
        await rounds()
        assert (budget.used, budget.waiting) == (13, 1)
        first.__exit__(None, None, None)
        await waiting
        assert (budget.used, budget.waiting) == (13, 0)


async def test_waiters_are_served_in_the_order_they_came() -> None:
    budget = ByteBudget(10)
    served: list[int] = []

    async def visit(number: int) -> None:
        with budget.account() as account:
            await account.take(6)
            served.append(number)
            await rounds(1)

    with budget.account() as full, budget.account() as overdrawer:
        full.try_take(10)
        await overdrawer.take(1)
        visits = [asyncio.create_task(visit(number)) for number in range(4)]
        await rounds()
        assert served == []
    await asyncio.gather(*visits)
    assert served == [0, 1, 2, 3]


async def test_nobody_overtakes_a_waiter_even_if_there_is_room_for_less() -> None:
    budget = ByteBudget(10)
    with budget.account() as full, budget.account() as overdrawer, budget.account() as large:
        full.try_take(5)
        await overdrawer.take(6)
        waiting = waiter(large, 9)
        await rounds()
        full.__exit__(None, None, None)
        assert (budget.used, budget.waiting) == (6, 1)
        with budget.account() as small:
            assert not small.try_take(1)
        overdrawer.__exit__(None, None, None)
        await waiting
        assert large.held == 9


async def test_room_for_several_wakes_several() -> None:
    budget = ByteBudget(10)
    with budget.account() as full, budget.account() as overdrawer:
        full.try_take(10)
        await overdrawer.take(1)
        accounts = [budget.account().__enter__() for _ in range(3)]
        waiting = [waiter(account, 3) for account in accounts]
        await rounds()
        assert budget.waiting == 3
        full.__exit__(None, None, None)
        await asyncio.gather(*waiting)
        assert budget.used == 10
    for account in accounts:
        account.__exit__(None, None, None)
    assert budget.used == 0


async def test_a_cancelled_waiter_leaves_no_trace() -> None:
    budget = ByteBudget(10)
    with budget.account() as full, budget.account() as overdrawer, budget.account() as third:
        full.try_take(10)
        await overdrawer.take(1)
        waiting = waiter(third, 5)
        await rounds()
        waiting.cancel()
        await rounds()
        assert waiting.cancelled()
        assert (budget.used, budget.waiting, third.held) == (11, 0, 0)


async def test_a_waiter_cancelled_just_after_it_was_served_leaves_no_trace() -> None:
    budget = ByteBudget(10)
    with budget.account() as full, budget.account() as overdrawer, budget.account() as third:
        full.try_take(10)
        await overdrawer.take(1)
        waiting = waiter(third, 5)
        await rounds()
        full.__exit__(None, None, None)
        assert third.held == 5
        waiting.cancel()
        await rounds()
        assert waiting.cancelled()
        assert (budget.used, third.held) == (1, 0)


async def test_an_overdraft_cancelled_before_it_began_passes_to_the_next() -> None:
    budget = ByteBudget(10)
    with budget.account() as full, budget.account() as overdrawer:
        full.try_take(10)
        await overdrawer.take(1)
        with budget.account() as first, budget.account() as second:
            waiting, behind = waiter(first, 5), waiter(second, 6)
            await rounds()
            overdrawer.__exit__(None, None, None)
            assert (first.held, second.held) == (5, 0)
            waiting.cancel()
            await behind
            assert waiting.cancelled()
            assert (first.held, second.held, budget.used) == (0, 6, 16)


async def test_a_cancelled_waiter_whose_task_has_not_noticed_yet_is_passed_over() -> None:
    budget = ByteBudget(10)
    with budget.account() as full, budget.account() as overdrawer:
        full.try_take(10)
        await overdrawer.take(1)
        with budget.account() as first, budget.account() as second:
            waiting, behind = waiter(first, 5), waiter(second, 6)
            await rounds()
            waiting.cancel()
            overdrawer.__exit__(None, None, None)
            assert (first.held, second.held) == (0, 6)
            await behind


async def test_cancelling_the_head_of_the_queue_lets_the_next_go() -> None:
    budget = ByteBudget(10)
    with budget.account() as full, budget.account() as overdrawer:
        full.try_take(5)
        await overdrawer.take(6)
        with budget.account() as large, budget.account() as small:
            head, behind = waiter(large, 9), waiter(small, 2)
            await rounds()
            full.__exit__(None, None, None)
            assert budget.waiting == 2
            head.cancel()
            await behind
            assert (small.held, budget.waiting) == (2, 0)


async def test_what_is_set_aside_is_counted_until_it_is_closed() -> None:
    budget = ByteBudget(100)
    with budget.account() as account:
        assert account.try_take(60)
        aside = account.set_aside()
        assert (account.held, aside.held) == (0, 60)
    assert budget.used == 60
    with budget.account() as other:
        assert not other.try_take(41)
        aside.close()
        aside.close()
        assert other.try_take(100)
    assert budget.used == 0


async def test_what_is_set_aside_leaves_the_right_to_overdraw_to_others() -> None:
    budget = ByteBudget(100)
    with budget.account() as account:
        await account.take(150)
        aside = account.set_aside()
    for _ in range(3):
        # The crawl has to go on: the bytes that are set aside wait for it.
        with budget.account() as page:
            await page.take(50)
            assert budget.used == 200
    with budget.account() as first, budget.account() as second:
        await first.take(50)
        task = waiter(second, 50)
        await rounds()
        assert not task.done()
        aside.close()
        await task
    assert budget.used == 0


def test_an_account_is_used_inside_its_with_block_only() -> None:
    budget = ByteBudget(10)
    with pytest.raises(RuntimeError, match="inside"):
        budget.account().try_take(1)
    with budget.account() as account:
        pass
    with pytest.raises(RuntimeError, match="inside"):
        account.try_take(1)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ByteBudget(0)
    with ByteBudget(1).account() as account, pytest.raises(ValueError, match="-1 bytes"):
        account.try_take(-1)


async def test_repr_tells_the_state() -> None:
    budget = ByteBudget(10)
    assert repr(budget) == "<ByteBudget used=0 limit=10 peak=0 waiting=0>"
    with budget.account() as account:
        await account.take(12)
        assert repr(budget) == "<ByteBudget used=12 limit=10 peak=12 waiting=0 overdrawn>"
        assert repr(account) == "<Account held=12>"


class _Crawl:
    """Bodies read side by side, some of them cancelled on the way."""

    def __init__(self, limit: int, bodies: list[list[int]]) -> None:
        self.budget = ByteBudget(limit)
        self.bound = limit + max(sum(body) for body in bodies)
        self.read: set[int] = set()

    async def visit(self, number: int, body: list[int]) -> None:
        with self.budget.account() as account:
            for chunk in body:
                if not account.try_take(chunk):
                    await account.take(chunk)
                assert self.budget.used <= self.bound
                await asyncio.sleep(0)
            assert account.held == sum(body)
            self.read.add(number)

    async def run(self, bodies: list[list[int]], cuts: dict[int, int]) -> None:
        visits = [
            asyncio.create_task(self.visit(number, body)) for number, body in enumerate(bodies)
        ]
        for step in range(max(cuts.values(), default=0) + 1):
            for number, when in cuts.items():
                if when == step and number < len(visits):
                    visits[number].cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*visits, return_exceptions=True)
        for visit in visits:
            assert visit.cancelled() or visit.exception() is None


@given(
    limit=st.integers(1, 40),
    bodies=st.lists(st.lists(st.integers(0, 30), max_size=6), min_size=1, max_size=12),
    cuts=st.dictionaries(st.integers(0, 11), st.integers(0, 12), max_size=6),
)
def test_the_bound_holds_all_get_through_and_all_is_returned(
    limit: int, bodies: list[list[int]], cuts: dict[int, int]
) -> None:
    crawl = _Crawl(limit, bodies)
    asyncio.run(crawl.run(bodies, cuts))
    assert crawl.read >= set(range(len(bodies))) - cuts.keys()
    assert crawl.budget.peak <= crawl.bound
    state = f"<ByteBudget used=0 limit={limit} peak={crawl.budget.peak} waiting=0>"
    assert repr(crawl.budget) == state


def test_two_thousand_bodies_get_through_a_budget_of_five() -> None:
    bodies = [[10, 10, 10, 10]] * 2_000
    crawl = _Crawl(200, bodies)
    asyncio.run(crawl.run(bodies, {}))
    assert len(crawl.read) == 2_000
    assert crawl.budget.peak <= 240
