"""Sites that are down for a while, or for good, on a clock that moves only when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

import scrapekit
from scrapekit import Request, Response
from scrapekit.budget import Account
from scrapekit.clock import ManualClock
from scrapekit.errors import ConnectError
from scrapekit.report import Report
from tests.functional.site import idle
from tests.functional.spiders import Titles

SITE = "http://a.test"
QUIET = {"stall_warning_s": 0.0, "concurrency_per_origin": 8, "traps": False}
NO_ROBOTS = {**QUIET, "obey_robots": False}
Kind = int | str
"""A status, or "reset" for a connection that breaks."""


class World:
    """A transport to sites whose answers take 0.2 s, by the crawl's clock. `fails(url, second)`
    says how one fails that is asked then; None: it doesn't.
    """

    def __init__(self, fails: Callable[[str, float], Kind | None]) -> None:
        self.clock = ManualClock()
        self.begun = self.clock.now()
        self.fails = fails
        self.asked: list[tuple[float, str]] = []

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
        second = self.clock.now() - self.begun
        self.asked.append((second, request.url))
        passed = asyncio.get_running_loop().create_future()
        self.clock.call_at(self.clock.now() + 0.2, lambda: passed.set_result(None))
        await passed
        kind = self.fails(request.url, second)
        if kind == "reset":
            raise ConnectError("hung up", url=request.url)
        status = kind if isinstance(kind, int) else 200
        return Response(request.url, status, {}, b"", request)

    def within(self, begin: float, end: float) -> int:
        """Requests made in that time."""
        return sum(begin <= second < end for second, _ in self.asked)


async def crawled(
    world: World, count: int, *, others: Sequence[str] = (), **options: Any
) -> Report:
    spider = Titles(start_urls=[*(f"{SITE}/{number}" for number in range(count)), *others])
    async with scrapekit.crawl(spider, transport=world, clock=world.clock, **options) as run:
        done = asyncio.create_task(run.wait())
        while not done.done():
            await idle(60)
            date = world.clock.next_timer()
            if date is not None and not done.done():
                world.clock.advance_to(date)
        await done
    return run.report


def down(begin: float, end: float, kind: Kind) -> Callable[[str, float], Kind | None]:
    return lambda _url, second: kind if begin <= second < end else None


@pytest.mark.parametrize("kind", [503, 500, "reset"])
@pytest.mark.parametrize("seconds", [3, 10, 300])
async def test_a_site_that_is_down_when_its_robots_txt_is_asked_for_loses_no_page(
    kind: Kind, seconds: int
) -> None:
    world = World(down(0, seconds, kind))
    report = await crawled(world, 30, settings=QUIET)
    assert (report.items, report.error_count) == (30, 0)
    assert world.within(0, seconds) < 15
    assert report.duration_s < seconds + 120


async def test_a_robots_txt_that_never_comes_is_waited_for_as_long_as_the_settings_say() -> None:
    for max_outage_s in (0.0, 60.0, 900.0):
        world = World(lambda url, _: 500 if url.endswith("/robots.txt") else None)
        report = await crawled(world, 30, settings={**QUIET, "max_outage_s": max_outage_s})
        assert [(group.error, group.count) for group in report.errors] == [
            ("RobotsUnavailable", 30)
        ]
        assert max_outage_s <= report.duration_s < max_outage_s + 80
        assert {url for _, url in world.asked} == {f"{SITE}/robots.txt"}
        assert len(world.asked) < 30


async def test_an_old_robots_txt_holds_while_a_new_one_cant_be_had() -> None:
    def fails(url: str, second: float) -> Kind | None:
        return 500 if url.endswith("/robots.txt") and second > 10 else None

    world = World(fails)
    settings = {**QUIET, "delay_s": 3600.0}
    report = await crawled(world, 30, settings=settings)
    assert (report.items, report.error_count) == (30, 0)
    pages = [second for second, url in world.asked if not url.endswith("/robots.txt")]
    # A day's pages, and then each after three tries in vain, an hour apart as well.
    assert pages[-1] <= (24 + 6 * 4) * 3600


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("kind", [429, 500, 502, 503, 504, "reset"])
@pytest.mark.parametrize("seconds", [10, 180, 600])
async def test_a_site_that_is_down_for_minutes_costs_time_not_pages_and_gets_no_storm(
    kind: Kind, seconds: int, adaptive: bool
) -> None:
    world = World(down(10, 10 + seconds, kind))
    report = await crawled(world, 1000, settings={**NO_ROBOTS, "adaptive": adaptive})
    assert (report.items, report.error_count) == (1000, 0)
    assert world.within(11, 10 + seconds) < 40


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("max_outage_s", [120.0, 900.0])
async def test_a_site_that_stays_down_ends_the_crawl_and_every_page_is_in_the_report(
    max_outage_s: float, adaptive: bool, tmp_path: Path
) -> None:
    world = World(down(10, 1e9, 503))
    settings = {**NO_ROBOTS, "adaptive": adaptive, "max_outage_s": max_outage_s}
    report = await crawled(world, 1000, settings=settings, job=tmp_path / "job")
    assert report.pages + report.error_count == 1000
    assert report.lost_to_outages > 500
    assert report.job is not None
    assert report.job.failed == report.error_count
    assert max_outage_s <= report.duration_s < max_outage_s + 90
    assert world.within(11, 1e9) < 40
    assert "their site was down for longer than max_outage_s" in str(report)


async def test_pages_that_are_broken_among_good_ones_are_no_outage() -> None:
    for kind in (500, 503):
        world = World(lambda url, _: kind if int(url.rpartition("/")[2]) % 4 == 0 else None)  # noqa: B023
        report = await crawled(world, 100, settings={**NO_ROBOTS, "adaptive": False})
        assert (report.items, report.error_count) == (75, 25)
        assert {group.error for group in report.errors} == {f"BadStatus {kind}"}
        assert report.duration_s < 20


async def test_a_broken_page_doesnt_keep_a_site_down_that_is_up_again() -> None:
    def fails(url: str, second: float) -> Kind | None:
        return 503 if url.endswith("/400") or 10 <= second < 70 else None

    world = World(fails)
    report = await crawled(world, 1000, settings=NO_ROBOTS)
    assert (report.items, report.error_count) == (999, 1)
    assert sum(url.endswith("/400") for _, url in world.asked) < 12


async def test_waiting_for_a_site_that_is_down_holds_no_slot() -> None:
    world = World(lambda url, second: "reset" if url.startswith(SITE) and second < 300 else None)
    other = [f"http://b.test/{number}" for number in range(200)]
    settings = {**NO_ROBOTS, "concurrency": 2}
    report = await crawled(world, 40, others=other, settings=settings)
    assert (report.items, report.error_count) == (240, 0)
    assert max(second for second, url in world.asked if url in other) < 60


async def test_without_retries_nothing_is_repeated_though_the_pauses_are_kept() -> None:
    world = World(down(10, 40, 503))
    report = await crawled(world, 1000, settings={**NO_ROBOTS, "retries": 0})
    assert report.retries == 0
    assert report.pages + report.error_count == 1000 == len(world.asked)
    assert report.error_count < 20
