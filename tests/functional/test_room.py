"""Workers that wait for room in a lane are let in, whatever the others do meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

from scrapekit import Request, Response, Spider, crawl
from scrapekit.testing import FakeTransport

# So long a wait is a bug, not a slow machine.
BUG_S = 60


class Mixed(Spider):
    """Two pages block a thread each until some more have passed on the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.passed = 0

    async def start(self) -> AsyncIterator[Request]:
        for number in range(2):
            yield Request(f"http://slow{number}.test/", "slow")
        for number in range(40):
            yield Request(f"http://quick{number}.test/", "quick")

    def slow(self, response: Response) -> dict[str, Any]:
        assert self.gate.wait(BUG_S)
        return {"url": response.url}

    async def quick(self, response: Response) -> None:
        self.passed += 1
        if self.passed == 8:
            self.gate.set()


async def test_a_crawl_ends_though_those_who_were_let_in_had_nothing_for_the_lane() -> None:
    settings = {"threads": 1, "concurrency": 16}
    web = FakeTransport({}, default_status=200)
    async with crawl(Mixed(), settings=settings, transport=web) as run:
        report = await asyncio.wait_for(run.wait(), BUG_S)
    assert (report.pages, report.items) == (42, 2)
