"""What every frontier does. Another one joins by a line in FRONTIERS and a machine of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scrapekit.frontier.base import Frontier, Lease, Outcome
from scrapekit.frontier.memory import MemoryFrontier
from scrapekit.messages import Request

Make = Callable[[Path], Frontier]

FRONTIERS: dict[str, Make] = {"memory": lambda folder: MemoryFrontier()}

NOW = 1_000.0
A, B = "http://a.test", "http://b.test"


@pytest.fixture(params=FRONTIERS)
async def frontier(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Frontier]:
    opened = FRONTIERS[request.param](tmp_path)
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
    await add(frontier, f"{A}/")
    await frontier.aclose()
    await frontier.aclose()


async def test_repr_tells_the_state(frontier: Frontier) -> None:
    await add(frontier, f"{A}/1", f"{A}/2", f"{A}/3")
    lease(frontier)
    assert "pending=2" in repr(frontier)
    assert "leased=1" in repr(frontier)


@dataclass
class Filed:
    """What the model keeps of a request that waits or is handed out."""

    request: Request
    number: int
    tries: int = 1
    due: float = 0.0


@dataclass
class Model:
    """A frontier that looks at everything, each time."""

    waiting: list[Filed] = field(default_factory=list)
    leased: dict[int, tuple[Lease, Filed]] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)
    filed: int = 0

    def add(self, requests: list[Request]) -> list[Request]:
        new = []
        for request in requests:
            key = request.method, request.url
            if request.unique and key in self.seen:
                continue
            self.seen.add(key)
            new.append(request)
            self.file(Filed(request, 0))
        return new

    def file(self, filed: Filed) -> None:
        self.filed += 1
        filed.number = self.filed
        self.waiting.append(filed)

    def head(self, origin: str, now: float) -> Filed | None:
        own = [filed for filed in self.waiting if filed.request.url.startswith(f"{origin}/")]
        ready = [filed for filed in own if filed.due <= now]
        if ready:
            return min(ready, key=lambda filed: (-filed.request.priority, filed.number))
        return min(own, key=lambda filed: (filed.due, filed.number), default=None)


origins = st.sampled_from([A, B])
requests = st.lists(
    st.builds(
        lambda origin, page, priority, unique: Request(
            f"{origin}/{page}", priority=priority, unique=unique
        ),
        origins,
        st.integers(0, 9),
        st.integers(-1, 1),
        st.sampled_from([True, True, False]),
    ),
    max_size=4,
)


class FrontierMachine(RuleBasedStateMachine):
    """A frontier beside the model. `make` is what a subclass for another frontier changes."""

    def make(self) -> Frontier:
        return MemoryFrontier()

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.now = NOW
        self.model = Model()
        self.frontier = self.make()

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.frontier.aclose())
            self.runner.close()

    def pick(self, data: st.DataObject) -> tuple[Lease, Filed]:
        key = data.draw(st.sampled_from(sorted(self.model.leased)))
        return self.model.leased.pop(key)

    @rule(new=requests)
    def add(self, new: list[Request]) -> None:
        assert list(self.runner.run(self.frontier.add(new))) == self.model.add(new)

    @rule(origin=origins)
    def lease(self, origin: str) -> None:
        expected = self.model.head(origin, self.now)
        leased = self.frontier.lease(origin, self.now)
        if expected is None or expected.due > self.now:
            assert leased is None
            return
        assert leased is not None
        assert leased.request == expected.request
        assert (leased.origin, leased.tries) == (origin, expected.tries)
        self.model.waiting.remove(expected)
        self.model.leased[expected.number] = leased, expected

    @precondition(lambda self: self.model.leased)
    @rule(data=st.data(), new=requests, alias=st.none() | st.integers(0, 9))
    def commit(self, data: st.DataObject, new: list[Request], alias: int | None) -> None:
        leased, _ = self.pick(data)
        aliases = () if alias is None else (f"{A}/{alias}",)
        outcome = Outcome(leased, new, aliases=aliases)
        self.model.seen.update(("GET", url) for url in aliases)
        assert list(self.runner.run(self.frontier.commit(outcome))) == self.model.add(new)

    @precondition(lambda self: self.model.leased)
    @rule(data=st.data(), seconds=st.integers(-1, 5))
    def postpone(self, data: st.DataObject, seconds: int) -> None:
        leased, filed = self.pick(data)
        due = self.now + seconds
        self.runner.run(self.frontier.postpone(leased, due))
        self.model.file(Filed(filed.request, 0, filed.tries + 1, due))

    @precondition(lambda self: self.model.leased)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        self.runner.run(self.frontier.give_up(self.pick(data)[0]))

    @rule(seconds=st.integers(0, 5))
    def advance(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def counts_are_equal(self) -> None:
        assert self.frontier.pending == len(self.model.waiting)
        assert self.frontier.leased == len(self.model.leased)

    @invariant()
    def heads_are_equal(self) -> None:
        for origin in (A, B):
            expected = self.model.head(origin, self.now)
            head = self.frontier.head(origin, self.now)
            assert (head is None) == (expected is None)
            if head is not None and expected is not None:
                assert max(head.due, self.now) == max(expected.due, self.now)
                if head.due <= self.now:
                    assert head.priority == expected.request.priority

    @invariant()
    def as_much_was_seen(self) -> None:
        for page in range(10):
            assert self.frontier.has_seen(f"{A}/{page}") == (
                ("GET", f"{A}/{page}") in self.model.seen
            )


TestMemoryFrontier = FrontierMachine.TestCase
