"""A frontier beside a model that looks at everything, each time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scrapekit.frontier.base import Frontier, Lease, Outcome
from scrapekit.frontier.memory import MemoryFrontier
from scrapekit.messages import Request

NOW = 1_000.0
A, B = "http://a.test", "http://b.test"


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

    def new_model(self) -> Model:
        return Model()

    def told(self, *, kept: bool) -> None:
        """Something changed; `kept` if it is so for good."""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.now = NOW
        self.model = self.new_model()
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
        self.told(kept=False)

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
        self.told(kept=True)

    @precondition(lambda self: self.model.leased)
    @rule(data=st.data(), seconds=st.integers(-1, 5))
    def postpone(self, data: st.DataObject, seconds: int) -> None:
        leased, filed = self.pick(data)
        due = self.now + seconds
        self.runner.run(self.frontier.postpone(leased, due))
        self.model.file(Filed(filed.request, 0, filed.tries + 1, due))
        self.told(kept=False)

    @precondition(lambda self: self.model.leased)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        self.runner.run(self.frontier.give_up(self.pick(data)[0]))
        self.told(kept=False)

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
