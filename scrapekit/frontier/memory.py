"""The frontier that lives and dies with the process."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from scrapekit import urls
from scrapekit.frontier.base import Head, Lease, Outcome, batched
from scrapekit.messages import Request


@dataclass(slots=True)
class _Queue:
    """One origin's requests: those that may go now, and those that wait for a date.

    The number in an entry keeps equal priorities first come, first served, and keeps the heap
    from comparing requests.
    """

    ready: list[tuple[int, int, Request, int]] = field(default_factory=list)
    dated: list[tuple[float, int, Request, int]] = field(default_factory=list)

    def bring_due(self, now: float) -> None:
        while self.dated and self.dated[0][0] <= now:
            _, number, request, tries = heapq.heappop(self.dated)
            heapq.heappush(self.ready, (-request.priority, number, request, tries))


class MemoryFrontier:
    """Queues by origin, and a set of 64-bit fingerprints: about 80 bytes for each URL seen."""

    keeps = False

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._seen: set[int] = set()
        self._numbers = itertools.count()
        self._pending = 0
        self._leased = 0

    def __repr__(self) -> str:
        return (
            f"<MemoryFrontier pending={self._pending} leased={self._leased} seen={len(self._seen)}>"
        )

    async def open(self) -> None:
        """There is nothing to open."""

    def origins(self) -> Iterator[str]:
        return iter(())

    def leave_out(self, *, deepest: int | None, allows: Callable[[str], bool]) -> None:
        """Nothing was pending."""

    @property
    def left_out(self) -> Mapping[str, int]:
        return {}

    def check(self, request: Request) -> None:
        """Anything will do: it is never written anywhere."""

    def remember(self, kind: str, name: str, value: str | None) -> None:
        """There are no later processes, and whoever remembers knows it himself."""

    def recall(self, kind: str, name: str) -> str | None:
        return None

    def recall_all(self, kind: str) -> Mapping[str, str]:
        return {}

    @property
    def pending(self) -> int:
        return self._pending

    @property
    def leased(self) -> int:
        return self._leased

    async def add(self, requests: Sequence[Request]) -> Sequence[Request]:
        new: list[Request] = []
        for number, some in enumerate(batched(requests)):
            if number:
                await asyncio.sleep(0)
            new += self._add(some)
        return new

    def head(self, origin: str, now: float) -> Head | None:
        queue = self._queues.get(origin)
        if queue is None:
            return None
        queue.bring_due(now)
        if queue.ready:
            return Head(-queue.ready[0][0], now)
        date, _, request, _ = queue.dated[0]
        return Head(request.priority, date)

    def lease(self, origin: str, now: float) -> Lease | None:
        queue = self._queues.get(origin)
        if queue is None:
            return None
        queue.bring_due(now)
        if not queue.ready:
            return None
        _, _, request, tries = heapq.heappop(queue.ready)
        if not queue.ready and not queue.dated:
            del self._queues[origin]
        self._pending -= 1
        self._leased += 1
        return Lease(request, origin, tries)

    def has_seen(self, url: str, session: str = "") -> bool:
        return urls.fingerprint(url, session=session) in self._seen

    def unseen(self, requests: Sequence[Request]) -> list[Request]:
        seen = self._seen
        return [each for each in requests if each.fingerprint not in seen or not each.unique]

    async def commit(self, outcome: Outcome) -> Sequence[Request]:
        session = outcome.lease.request.session
        for url in outcome.aliases:
            self._seen.add(urls.fingerprint(url, session=session))
        try:
            return await self.add(outcome.requests)
        finally:
            # Not before: with nothing pending or leased meanwhile, the crawl would pass for over.
            self._leased -= 1

    async def keep(self, lines: Sequence[bytes]) -> None:
        """It keeps none."""

    async def postpone(self, lease: Lease, due: float) -> None:
        self._leased -= 1
        self._pending += 1
        entry = (due, next(self._numbers), lease.request, lease.tries + 1)
        heapq.heappush(self._queue(lease.origin).dated, entry)

    async def give_up(self, lease: Lease) -> None:
        self._leased -= 1

    async def aclose(self) -> None:
        self._queues.clear()
        self._seen.clear()

    def _add(self, requests: Sequence[Request]) -> list[Request]:
        new = []
        for request in requests:
            fingerprint = request.fingerprint
            if request.unique and fingerprint in self._seen:
                continue
            self._seen.add(fingerprint)
            queue, number = self._queue(urls.origin(request.url)), next(self._numbers)
            if request.not_before_s:
                heapq.heappush(queue.dated, (request.not_before_s, number, request, 1))
            else:
                heapq.heappush(queue.ready, (-request.priority, number, request, 1))
            new.append(request)
        self._pending += len(new)
        return new

    def _queue(self, origin: str) -> _Queue:
        queue = self._queues.get(origin)
        if queue is None:
            queue = self._queues[origin] = _Queue()
        return queue
