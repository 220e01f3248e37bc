"""What every frontier does. Another one joins by a line in FRONTIERS and a machine of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from scrapekit.frontier.base import Frontier, Lease, Outcome
from scrapekit.frontier.memory import MemoryFrontier
from scrapekit.frontier.sqlite import SqliteFrontier
from scrapekit.messages import Request
from tests.contract.frontier_machine import NOW, A, B, FrontierMachine

Make = Callable[[Path], Frontier]

FRONTIERS: dict[str, Make] = {
    "memory": lambda folder: MemoryFrontier(),
    "sqlite": lambda folder: SqliteFrontier(folder / "job"),
    # So little in memory that nearly everything goes by way of the disk.
    "sqlite, tiny": lambda folder: SqliteFrontier(folder / "job", window=2, generation=3),
}


@pytest.fixture(params=FRONTIERS)
async def frontier(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Frontier]:
    opened = FRONTIERS[request.param](tmp_path)
    await opened.open()
    yield opened
    await opened.aclose()


async def add(frontier: Frontier, *urls: str, priority: int = 0) -> list[str]:
    """File requests; the URLs of those that are new."""
    new = await frontier.add([Request(url, priority=priority) for url in urls])
    return [request.url for request in new]


def lease(frontier: Frontier, origin: str = A, now: float = NOW) -> Lease:
    leased = frontier.lease(origin, now)
    assert leased is not None
    return leased


def leases(frontier: Frontier, origin: str = A, now: float = NOW) -> list[str]:
    """The URLs of all that may go, in the order they are handed out."""
    found = []
    while (leased := frontier.lease(origin, now)) is not None:
        found.append(leased.request.url)
    return found


async def test_an_empty_one_has_nothing(frontier: Frontier) -> None:
    assert (frontier.pending, frontier.leased) == (0, 0)
    assert frontier.head(A, NOW) is None
    assert frontier.lease(A, NOW) is None
    assert not frontier.has_seen(f"{A}/")
    assert list(await frontier.add([])) == []


async def test_what_was_filed_is_handed_out_first_come_first_served(frontier: Frontier) -> None:
    urls = [f"{A}/{n}" for n in range(20)]
    assert await add(frontier, *urls) == urls
    assert (frontier.pending, frontier.leased) == (20, 0)
    assert leases(frontier) == urls
    assert (frontier.pending, frontier.leased) == (0, 20)


async def test_a_higher_priority_goes_first(frontier: Frontier) -> None:
    for priority in (0, -5, 7, 0, 7):
        await add(frontier, f"{A}/{priority}/{frontier.pending}", priority=priority)
    assert leases(frontier) == [f"{A}/{end}" for end in ("7/2", "7/4", "0/0", "0/3", "-5/1")]


async def test_origins_have_queues_of_their_own(frontier: Frontier) -> None:
    await add(frontier, f"{A}/", f"{B}/", f"{A}:8080/", f"{A.replace('http', 'https')}/")
    assert leases(frontier, B) == [f"{B}/"]
    assert leases(frontier, f"{A}:8080") == [f"{A}:8080/"]
    assert leases(frontier, "https://a.test") == ["https://a.test/"]
    assert leases(frontier, A) == [f"{A}/"]


async def test_a_request_comes_back_as_it_was_filed(frontier: Frontier) -> None:
    request = Request(
        f"{A}/x?b=1&a=2",
        "parse_item",
        method="PUT",
        json={"a": 1},
        headers={"X-A": "b"},
        cookies={"c": "d"},
        meta={"page": 1, "tags": ["x"]},
        priority=-3,
        unique=False,
        session="ann",
        proxy="http://me:pass@proxy.test:3128",
    ).at_depth(4, 1)
    (new,) = await frontier.add([request])
    assert new == request
    leased = lease(frontier)
    assert leased.request == request
    assert (leased.request.depth, leased.request.reach) == (4, 1)
    assert (leased.origin, leased.tries) == (A, 1)


async def test_what_was_seen_is_filed_once(frontier: Frontier) -> None:
    assert await add(frontier, f"{A}/1", f"{A}/1", f"{A}/2") == [f"{A}/1", f"{A}/2"]
    assert await add(frontier, f"{A}/2", f"{A}/3") == [f"{A}/3"]
    await frontier.give_up(lease(frontier))
    assert await add(frontier, f"{A}/1") == []
    assert frontier.pending == 2


async def test_the_order_of_parameters_makes_no_other_page(frontier: Frontier) -> None:
    assert await add(frontier, f"{A}/?b=1&a=2", f"{A}/?a=2&b=1") == [f"{A}/?b=1&a=2"]
    assert lease(frontier).request.url == f"{A}/?b=1&a=2"


async def test_method_and_body_make_another_request(frontier: Frontier) -> None:
    requests = [
        Request(f"{A}/"),
        Request(f"{A}/", method="HEAD"),
        Request(f"{A}/", body=b"1"),
        Request(f"{A}/", body=b"2"),
    ]
    assert list(await frontier.add([*requests, *requests])) == requests


async def test_each_session_has_pages_of_its_own(frontier: Frontier) -> None:
    names = ("ann", "ann", "bob", "")
    new = await frontier.add([Request(f"{A}/", session=name) for name in names])
    assert [request.session for request in new] == ["ann", "bob", ""]
    assert frontier.has_seen(f"{A}/", "ann")
    assert not frontier.has_seen(f"{A}/", "eve")
    ann, bob = lease(frontier), lease(frontier)
    assert (ann.request.session, bob.request.session) == ("ann", "bob")
    await frontier.commit(Outcome(ann, aliases=[f"{A}/home"]))
    assert frontier.has_seen(f"{A}/home", "ann")
    assert not frontier.has_seen(f"{A}/home", "bob")
    assert not frontier.has_seen(f"{A}/home")


async def test_what_need_not_be_unique_is_filed_again_and_remembered(frontier: Frontier) -> None:
    again = Request(f"{A}/", unique=False)
    assert list(await frontier.add([again, again])) == [again, again]
    assert await add(frontier, f"{A}/") == []


async def test_has_seen_asks_for_the_get_of_a_page(frontier: Frontier) -> None:
    await frontier.add([Request(f"{A}/get"), Request(f"{A}/post", body=b"x")])
    assert frontier.has_seen(f"{A}/get")
    assert not frontier.has_seen(f"{A}/post")
    assert not frontier.has_seen(f"{A}/other")


async def test_the_head_is_what_a_lease_hands_out(frontier: Frontier) -> None:
    await add(frontier, f"{A}/low", priority=-1)
    await add(frontier, f"{A}/high", priority=4)
    for priority in (4, -1):
        head = frontier.head(A, NOW)
        assert head is not None
        assert head.priority == priority
        assert head.due <= NOW
        assert lease(frontier).request.priority == priority
    assert frontier.head(A, NOW) is None


async def test_a_postponed_request_waits_for_its_date(frontier: Frontier) -> None:
    await add(frontier, f"{A}/", priority=2)
    await frontier.postpone(lease(frontier), NOW + 60)
    assert (frontier.pending, frontier.leased) == (1, 0)
    head = frontier.head(A, NOW)
    assert head is not None
    assert (head.priority, head.due) == (2, NOW + 60)
    assert frontier.lease(A, NOW + 59.9) is None
    again = lease(frontier, now=NOW + 60)
    assert (again.request.url, again.tries) == (f"{A}/", 2)
    await frontier.postpone(again, NOW)
    assert lease(frontier).tries == 3


async def test_a_request_with_a_date_waits_for_it(frontier: Frontier) -> None:
    await frontier.add([Request(f"{A}/late", not_before_s=NOW + 60, priority=2)])
    assert frontier.pending == 1
    head = frontier.head(A, NOW)
    assert head is not None
    assert (head.priority, head.due) == (2, NOW + 60)
    assert frontier.lease(A, NOW + 59.9) is None
    await add(frontier, f"{A}/now")
    assert leases(frontier) == [f"{A}/now"]
    again = lease(frontier, now=NOW + 60)
    assert (again.request.url, again.tries) == (f"{A}/late", 1)
    assert again.request.not_before_s == NOW + 60


async def test_a_postponed_request_does_not_hold_up_others(frontier: Frontier) -> None:
    await add(frontier, f"{A}/late", priority=9)
    await frontier.postpone(lease(frontier), NOW + 60)
    await add(frontier, f"{A}/now")
    head = frontier.head(A, NOW)
    assert head is not None
    assert head.priority == 0
    assert leases(frontier) == [f"{A}/now"]
    await add(frontier, f"{A}/later")
    assert leases(frontier, now=NOW + 60) == [f"{A}/late", f"{A}/later"]


async def test_the_earliest_date_comes_first(frontier: Frontier) -> None:
    await add(frontier, *(f"{A}/{n}" for n in range(3)))
    first, second, third = (lease(frontier) for _ in range(3))
    await frontier.postpone(first, NOW + 30)
    await frontier.postpone(second, NOW + 10)
    await frontier.postpone(third, NOW + 20)
    for date in (10, 20, 30):
        head = frontier.head(A, NOW)
        assert head is not None
        assert head.due == NOW + date
        assert len(leases(frontier, now=NOW + date)) == 1


async def test_a_retry_waits_behind_what_was_filed_before(frontier: Frontier) -> None:
    await add(frontier, f"{A}/1", f"{A}/2")
    await frontier.postpone(lease(frontier), NOW)
    await add(frontier, f"{A}/3")
    assert leases(frontier) == [f"{A}/2", f"{A}/1", f"{A}/3"]


async def test_a_commit_settles_and_files_what_is_new(frontier: Frontier) -> None:
    await add(frontier, f"{A}/1")
    links = [Request(f"{A}/1"), Request(f"{A}/2"), Request(f"{B}/"), Request(f"{A}/2")]
    new = await frontier.commit(Outcome(lease(frontier), links, items=[{"a": 1}]))
    assert [request.url for request in new] == [f"{A}/2", f"{B}/"]
    assert (frontier.pending, frontier.leased) == (2, 0)


async def test_the_aliases_of_a_page_count_as_seen(frontier: Frontier) -> None:
    await add(frontier, f"{A}/old")
    outcome = Outcome(lease(frontier), aliases=(f"{A}/new",))
    assert list(await frontier.commit(outcome)) == []
    assert frontier.has_seen(f"{A}/new")
    assert await add(frontier, f"{A}/new") == []
    assert frontier.pending == 0


async def test_a_link_to_an_alias_of_the_same_page_is_not_new(frontier: Frontier) -> None:
    await add(frontier, f"{A}/old")
    links = [Request(f"{A}/new")]
    assert not await frontier.commit(Outcome(lease(frontier), links, aliases=(f"{A}/new",)))


async def test_what_is_given_up_is_gone(frontier: Frontier) -> None:
    await add(frontier, f"{A}/")
    await frontier.give_up(lease(frontier))
    assert (frontier.pending, frontier.leased) == (0, 0)
    assert frontier.head(A, NOW + 1e9) is None


async def test_many_origins_and_requests_are_kept_apart(frontier: Frontier) -> None:
    origins = [f"http://o{n}.test" for n in range(200)]
    await frontier.add([Request(f"{origin}/{n}") for n in range(10) for origin in origins])
    assert frontier.pending == 2000
    for origin in origins:
        assert leases(frontier, origin) == [f"{origin}/{n}" for n in range(10)]


@pytest.mark.parametrize("make", FRONTIERS.values(), ids=FRONTIERS)
async def test_closing_can_be_repeated(make: Make, tmp_path: Path) -> None:
    frontier = make(tmp_path)
    await frontier.open()
    await add(frontier, f"{A}/")
    await frontier.aclose()
    await frontier.aclose()


async def test_repr_tells_the_state(frontier: Frontier) -> None:
    await add(frontier, f"{A}/1", f"{A}/2", f"{A}/3")
    lease(frontier)
    assert "pending=2" in repr(frontier)
    assert "leased=1" in repr(frontier)


TestMemoryFrontier = FrontierMachine.TestCase


@pytest.mark.parametrize("again", [False, True])
async def test_others_go_on_while_a_great_many_requests_are_filed_in_memory(*, again: bool) -> None:
    frontier, turns = MemoryFrontier(), 0
    requests = [Request(f"{A}/{number}") for number in range(10_000)]
    if again:
        await frontier.add(requests)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    assert len(await frontier.add(requests)) == (0 if again else 10_000)
    other.cancel()
    assert turns >= 4


async def test_a_lease_is_held_until_all_of_its_requests_are_filed_in_memory() -> None:
    frontier = MemoryFrontier()
    await frontier.add([Request(f"{A}/page")])
    lease = frontier.lease(A, NOW)
    assert lease is not None
    repeated = [Request(f"{A}/alias")] * 5_000
    outcome = Outcome(lease, [*repeated, Request(f"{A}/new")], aliases=[f"{A}/alias"])
    committing = asyncio.create_task(frontier.commit(outcome))
    await asyncio.sleep(0)
    assert (frontier.pending, frontier.leased) == (0, 1)
    assert len(await committing) == 1
    assert (frontier.pending, frontier.leased) == (1, 0)
