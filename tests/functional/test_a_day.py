"""A day of a thousand origins, on a clock that moves only when told to."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import scrapekit
from scrapekit import Request, Response, Spider
from scrapekit.budget import Account
from scrapekit.clock import Clock, ManualClock
from tests.functional.site import idle

ORIGINS = 1_000
PAGES = 12
DAY_S = 24 * 3600.0
CONCURRENCY_PER_ORIGIN = 2


class Origin:
    """How one origin behaves, and what it has seen."""

    def __init__(self, number: int) -> None:
        self.dice = random.Random(number)
        # So that the slowest needs most of the day.
        self.crawl_delay_s = self.dice.choice([0, 0, 60, 600, 3600, 5000])
        self.answers_in_s = self.dice.uniform(0.1, 30.0)
        self.fails = number % 5 == 0
        self.in_flight = 0
        self.peak = 0
        self.starts: list[float] = []
        self.closed_until = 0.0
        self.early = 0
        """Requests that came before the date that the origin asked for."""


class World:
    """A transport to origins whose answers take time, by the crawl's clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.origins = {f"http://o{n}.test": Origin(n) for n in range(ORIGINS)}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None: ...

    async def fetch(self, request: Request, account: Account) -> Response:
        name, _, path = request.url.rpartition("/")
        origin = self.origins[name]
        now = self.clock.now()
        origin.early += now < origin.closed_until
        origin.in_flight += 1
        origin.peak = max(origin.peak, origin.in_flight)
        if path != "robots.txt":
            origin.starts.append(now)
        await self._pass(origin.answers_in_s)
        origin.in_flight -= 1
        return self._answer(origin, request, path)

    async def _pass(self, seconds: float) -> None:
        passed = asyncio.get_running_loop().create_future()
        self.clock.call_at(self.clock.now() + seconds, lambda: passed.set_result(None))
        await passed

    def _answer(self, origin: Origin, request: Request, path: str) -> Response:
        if path == "robots.txt":
            rules = f"User-agent: *\nCrawl-delay: {origin.crawl_delay_s}"
            return Response(request.url, 200, {}, rules.encode(), request)
        if origin.fails and origin.dice.random() < 0.1:
            seconds = origin.dice.choice([60, 600])
            origin.closed_until = max(origin.closed_until, self.clock.now() + seconds)
            return Response(request.url, 503, {"Retry-After": str(seconds)}, b"", request)
        return Response(request.url, 200, {}, b"", request)


class Everything(Spider):
    """So many pages of each origin, origin by origin: as unfair an order as there is."""

    allowed_domains = ("*",)

    async def start(self) -> AsyncIterator[Request]:
        for number in range(ORIGINS):
            for page in range(PAGES):
                yield Request(f"http://o{number}.test/{page}")

    async def parse(self, response: Response) -> Any:
        yield {"url": response.url}


async def test_a_day_of_a_thousand_origins() -> None:
    clock = ManualClock()
    world = World(clock)
    settings = {
        # Room for all of them, so that the start requests are all there from the beginning.
        "concurrency": 10_000,
        "concurrency_per_origin": CONCURRENCY_PER_ORIGIN,
        "retries": 20,
        "max_retry_delay_s": 600.0,
        "timeout_s": DAY_S,
        "stall_warning_s": 0.0,
    }
    begun = clock.now()
    done: dict[str, deque[int]] = defaultdict(deque)
    async with scrapekit.crawl(
        Everything(), settings=settings, transport=world, clock=clock
    ) as run:
        taking = asyncio.create_task(_take(run, done))
        # Nothing passes before all are there: every page waits for a robots.txt.
        while run.pending < ORIGINS * PAGES:
            await idle(1)
        while not taking.done():
            await idle(8)
            date = clock.next_timer()
            if date is not None:
                clock.advance_to(date)
        await taking
    took_s = clock.now() - begun
    # 12 delays of 5000 s are most of the day; the last answers come soon after.
    assert 12 * 5000 <= took_s <= DAY_S
    assert run.report.error_count == 0
    assert sum(map(len, done.values())) == run.report.pages == ORIGINS * PAGES
    for name, origin in world.origins.items():
        assert origin.peak <= CONCURRENCY_PER_ORIGIN, name
        assert origin.early == 0, name
        gaps = [b - a for a, b in zip(origin.starts, origin.starts[1:], strict=False)]
        assert min(gaps) >= origin.crawl_delay_s - 1e-6, name
        if not origin.fails:
            # First come, first served, and nobody waits for an origin that isn't its own.
            assert sorted(done[name]) == list(range(PAGES))
            own_s = (PAGES + 1) * max(origin.crawl_delay_s, origin.answers_in_s)
            assert origin.starts[-1] - begun <= own_s, name


async def _take(run: Any, done: dict[str, deque[int]]) -> None:
    async for item in run:
        name, _, page = item["url"].rpartition("/")
        done[name].append(int(page))
