"""A job's frontier beside the model, killed and opened again at any moment."""

from __future__ import annotations

import asyncio
import copy
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from scrapekit.errors import BadStatus
from scrapekit.failure import failure
from scrapekit.frontier.base import Frontier, Outcome
from scrapekit.frontier.sqlite import SqliteFrontier
from scrapekit.messages import Request
from tests.contract.frontier_machine import A, B, Filed, FrontierMachine, Model, requests


def kill(frontier: SqliteFrontier) -> None:
    """Leave a frontier as SIGKILL does: what it hasn't handed to its writer is lost.

    The lock goes with the process; the files stay as they are.
    """
    frontier._committing._writer.finish()
    frontier._committing._closed = True
    frontier.store.close()
    assert frontier.folder is not None
    frontier.folder.release()


def observed(frontier: SqliteFrontier, now: float) -> tuple[Any, ...]:
    """What a job has on disk: the requests that wait, which pages were seen, what failed.

    A date that has passed is as good as none.
    """
    rows = frontier.store.rows(
        "SELECT request->>'u', rank, tries, due, coalesce(request->>'n', 0) FROM pending"
        " ORDER BY number"
    )
    waiting = [
        (url, rank, tries, max(due, now), not again) for url, rank, tries, due, again in rows
    ]
    seen = [frontier.has_seen(f"{origin}/{page}") for origin in (A, B) for page in range(10)]
    failed = [row[0] for row in frontier.store.rows("SELECT url FROM failures ORDER BY number")]
    items = [row[0] for row in frontier.store.rows("SELECT lines FROM items ORDER BY page")]
    return waiting, seen, sorted(failed), items


def expected(model: KeptModel, now: float) -> tuple[Any, ...]:
    """The same of the model: what was handed out waits again."""
    back = [*model.waiting, *(filed for _, filed in model.leased.values())]
    waiting = [
        (
            filed.request.url,
            -filed.request.priority,
            filed.tries,
            max(filed.due, now),
            filed.request.unique,
        )
        for filed in sorted(back, key=lambda filed: filed.number)
    ]
    seen = [("GET", f"{origin}/{page}") in model.seen for origin in (A, B) for page in range(10)]
    return waiting, seen, sorted(model.failed), model.items


class KeptModel(Model):
    """The model, with what only a job keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: list[str] = []
        self.items: list[str] = []

    def copy(self) -> KeptModel:
        """As it is now, but for the leases, which can't be told apart by a copy."""
        other = KeptModel()
        other.waiting = [copy.copy(filed) for filed in self.waiting]
        other.leased = {key: (lease, copy.copy(its)) for key, (lease, its) in self.leased.items()}
        other.seen, other.filed = set(self.seen), self.filed
        other.failed, other.items = list(self.failed), list(self.items)
        return other


class KilledFrontierMachine(FrontierMachine):
    """After a kill, the job is as it was at some moment since the last commit that returned."""

    window = 256
    generation = 12_000
    model: KeptModel
    frontier: SqliteFrontier

    def make(self) -> Frontier:
        self.folder = tempfile.TemporaryDirectory(prefix="scrapekit-job-")
        self.path = Path(self.folder.name) / "job"
        return self.reopened()

    def reopened(self) -> SqliteFrontier:
        frontier = SqliteFrontier(self.path, window=self.window, generation=self.generation)
        self.runner.run(frontier.open())
        return frontier

    def new_model(self) -> Model:
        self.moments: list[KeptModel] = [KeptModel()]
        return KeptModel()

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def told(self, *, kept: bool) -> None:
        """Something changed; if it is `kept`, earlier moments can't come back."""
        if kept:
            self.moments.clear()
        self.moments.append(self.model.copy())

    @precondition(lambda self: self.model.leased)
    @rule(data=st.data(), new=requests, text=st.none() | st.text(max_size=5))
    def commit_items(self, data: st.DataObject, new: list[Request], text: str | None) -> None:
        leased, _ = self.pick(data)
        lines = [] if text is None else [repr(text).encode("utf-8", "replace")]
        outcome = Outcome(leased, new, lines=lines)
        assert list(self.runner.run(self.frontier.commit(outcome))) == self.model.add(new)
        self.model.items += [line.decode() + "\n" for line in lines]
        self.told(kept=True)

    @precondition(lambda self: self.model.leased)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        leased, filed = self.pick(data)
        failed = failure(BadStatus(500, url=leased.request.url), "fetch", request=leased.request)
        self.runner.run(self.frontier.commit(Outcome(leased, failure=failed)))
        self.model.failed.append(filed.request.url)
        self.told(kept=True)

    @rule(pause=st.booleans())
    def kill(self, pause: bool) -> None:
        if pause:
            # Long enough for a group to be closed by its timer.
            self.runner.run(asyncio.sleep(0.006))
        kill(self.frontier)
        self.frontier = self.reopened()
        self.take_up(list(self.frontier.origins()))

    @rule()
    def close(self) -> None:
        self.runner.run(self.frontier.aclose())
        self.moments = [self.model.copy()]
        self.frontier = self.reopened()
        self.take_up(list(self.frontier.origins()))

    def take_up(self, origins: list[str]) -> None:
        """Find the moment that the job went back to."""
        found = observed(self.frontier, self.now)
        matching = [moment for moment in self.moments if expected(moment, self.now) == found]
        assert matching, (
            f"{found} is none of {[expected(moment, self.now) for moment in self.moments]}"
        )
        self.model = matching[-1]
        self.model.waiting += [filed for _, filed in self.model.leased.values()]
        self.model.waiting.sort(key=lambda filed: filed.number)
        self.model.leased = {}
        self.moments = [self.model.copy()]
        assert set(origins) == {_origin(filed) for filed in self.model.waiting}


def _origin(filed: Filed) -> str:
    return A if filed.request.url.startswith(f"{A}/") else B


class TinyFrontierMachine(KilledFrontierMachine):
    """The same with so little in memory that nearly everything goes by way of the disk."""

    window = 2
    generation = 3


TestKilledFrontier = KilledFrontierMachine.TestCase
TestTinyFrontier = TinyFrontierMachine.TestCase

# Opening a job takes milliseconds; what takes long is no sign of anything.
TestKilledFrontier.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestTinyFrontier.settings = TestKilledFrontier.settings
