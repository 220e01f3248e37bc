"""Adaptive concurrency and retries against real servers that measure what they get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web

import scrapekit
from scrapekit import Spider
from scrapekit.api import Crawl
from scrapekit.clock import ManualClock
from scrapekit.testing import FakeTransport, respond
from tests.functional.site import Site, crawled, idle
from tests.functional.spiders import Titles

PAGES = 200
POLITE = {"obey_robots": False, "adaptive": True, "stall_warning_s": 0.0}


class Measuring:
    """Answers, and keeps what there was at a time and when."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.in_flight = 0
        self.peak = 0
        self.requests = 0
        self.early = 0
        """Requests before the date that was asked for."""
        self.closed_at = self.closed_until = 0.0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        number = self.requests
        # What is on its way when somebody is refused is not to blame.
        self.early += self.closed_at < self.clock.now() < self.closed_until
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await idle(3)
            return await self.answer(request, number)
        finally:
            self.in_flight -= 1

    async def answer(self, request: web.BaseRequest, number: int) -> web.StreamResponse:
        return web.Response(text=f"<title>{request.path}</title>", content_type="text/html")


class Refusing(Measuring):
    """Refuses what is more than `most` at a time, and everybody for a while."""

    def __init__(self, most: int, clock: ManualClock, retry_after: str | None) -> None:
        super().__init__(clock)
        self.most = most
        self.refused = 0
        self.retry_after = retry_after

    async def answer(self, request: web.BaseRequest, number: int) -> web.StreamResponse:
        if self.in_flight <= self.most:
            return await super().answer(request, number)
        self.refused += 1
        if self.retry_after is None:
            return web.Response(status=429)
        self.closed_at = self.clock.now()
        self.closed_until = self.closed_at + float(self.retry_after)
        return web.Response(status=429, headers={"Retry-After": self.retry_after})


class Dying(Measuring):
    """Hangs up on every request from the n-th on, for so many; for ever by default."""

    def __init__(self, clock: ManualClock, after: int, times: float = float("inf")) -> None:
        super().__init__(clock)
        self.after = after
        self.times = times
        self.died = 0

    async def answer(self, request: web.BaseRequest, number: int) -> web.StreamResponse:
        if number <= self.after or self.died >= self.times:
            return await super().answer(request, number)
        self.died += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


@asynccontextmanager
async def passing(clock: ManualClock, crawl: Crawl) -> AsyncIterator[None]:
    """Let time pass by itself, from date to date, whenever nothing is on its way."""

    async def run() -> None:
        while True:
            await asyncio.sleep(0.001)
            await idle(20)
            date = clock.next_timer()
            if date is not None and not crawl.in_flight:
                clock.advance_to(date)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def starts(site: Site, count: int = PAGES) -> Titles:
    return Titles(start_urls=site.urls(*(f"/{n}" for n in range(count))))


def kept(run: Crawl) -> int:
    """Pages that came or are reported with their last error."""
    return run.report.pages + run.report.error_count


@pytest.mark.parametrize("ceiling", [1, 3, 8])
async def test_it_rises_to_the_ceiling_and_never_above(ceiling: int) -> None:
    clock = ManualClock()
    server = Measuring(clock)
    async with Site({"*": server}) as site:
        settings = {**POLITE, "concurrency_per_origin": ceiling}
        items, report = await crawled(starts(site), settings=settings, clock=clock)
        origin = site.origin
    assert server.peak <= ceiling
    assert len(items) == PAGES
    (limit,) = report.origins
    assert (limit.origin, limit.requests) == (origin, PAGES)
    assert (limit.concurrency, limit.ceiling) == (ceiling, ceiling)
    why = "the most that is allowed"
    assert limit.why == why
    assert f"  limit      {origin}: {ceiling} at a time ({why})" in str(report)


async def test_it_begins_with_two_at_a_time() -> None:
    gate = asyncio.Event()

    async def held(_request: web.BaseRequest) -> web.StreamResponse:
        await gate.wait()
        return web.Response()

    async with Site({"*": held}) as site:
        crawl = scrapekit.crawl(starts(site, 20), settings=POLITE)
        async with crawl as run:
            await site.until(lambda: site.in_flight == 2)
            await idle(200)
            assert site.in_flight == 2
            gate.set()
            assert len([item async for item in run]) == 20


@pytest.mark.parametrize("retry_after", [None, "5"])
async def test_a_server_that_refuses_loses_no_page_and_gets_no_request_too_early(
    retry_after: str | None,
) -> None:
    clock = ManualClock()
    server = Refusing(3, clock, retry_after)
    async with Site({"*": server}) as site:
        settings = {**POLITE, "concurrency_per_origin": 8, "retries": 10}
        crawl = scrapekit.crawl(starts(site), settings=settings, clock=clock)
        async with crawl as run, passing(clock, run):
            items = [item async for item in run]
    assert len(items) == PAGES
    assert run.report.error_count == 0
    assert server.refused > 0
    assert server.early == 0
    assert server.peak <= 8
    # What it refuses becomes rare.
    assert server.refused < PAGES / 10
    assert run.report.origins[0].why.startswith(("status 429 at ", "answers took"))


async def test_a_server_that_dies_half_way_and_comes_back_loses_no_page() -> None:
    clock = ManualClock()
    server = Dying(clock, after=PAGES // 2, times=12)
    async with Site({"*": server}) as site:
        settings = {**POLITE, "retries": 4}
        crawl = scrapekit.crawl(starts(site), settings=settings, clock=clock)
        async with crawl as run, passing(clock, run):
            items = [item async for item in run]
    assert server.died == 12
    assert len(items) == PAGES
    assert run.report.error_count == 0


async def test_a_server_that_dies_for_good_gets_no_storm_and_its_pages_are_all_reported() -> None:
    clock = ManualClock()
    server = Dying(clock, after=PAGES // 2)
    async with Site({"*": server}) as site:
        crawl = scrapekit.crawl(starts(site), settings=POLITE, clock=clock)
        async with crawl as run, passing(clock, run):
            items = [item async for item in run]
    assert len(items) == PAGES // 2
    assert kept(run) == PAGES
    # What was under way, the first tries after it, and then one a minute for a quarter of an hour.
    assert server.died < 48
    errors = {group.error: group.count for group in run.report.errors}
    assert set(errors) <= {"OriginDown", "ConnectError", "ProtocolError"}
    assert errors["OriginDown"] > PAGES // 4
    (down,) = [group for group in run.report.errors if group.error == "OriginDown"]
    assert (
        "in a row, by a broken connection when asked every 60 s: it is left alone" in down.message
    )
    assert not down.of_user_code
    # It takes minutes until an origin is given up, not seconds, and not hours.
    assert 100 < run.report.duration_s < 1000


async def test_without_adaptive_a_server_that_is_dead_gets_no_storm_either() -> None:
    clock = ManualClock()
    server = Dying(clock, after=0)
    async with Site({"*": server}) as site:
        settings = {**POLITE, "adaptive": False, "retries": 10}
        crawl = scrapekit.crawl(starts(site, 300), settings=settings, clock=clock)
        async with crawl as run, passing(clock, run):
            assert [item async for item in run] == []
    assert kept(run) == 300
    assert server.died < 40
    assert 900 <= run.report.duration_s < 1000
    assert {group.error for group in run.report.errors} == {"OriginDown"}
    assert run.report.origins[0].why == "adaptive is off"


async def test_the_retry_budget_keeps_off_a_storm_for_pages_that_are_broken_among_good_ones() -> (
    None
):
    clock = ManualClock()

    async def half(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=503 if int(request.path[1:]) % 2 else 200)

    async with Site({"*": half}) as site:
        settings = {**POLITE, "adaptive": False, "retries": 10}
        crawl = scrapekit.crawl(starts(site, 300), settings=settings, clock=clock)
        async with crawl as run, passing(clock, run):
            assert len([item async for item in run]) == 150
    assert kept(run) == 300
    assert 50 <= run.report.retries <= 50 + 0.2 * 150
    assert {group.error for group in run.report.errors} == {"BadStatus 503"}


async def test_an_accepted_refusal_has_to_be_waited_for_as_well() -> None:
    clock = ManualClock()
    server = Refusing(0, clock, "30")
    async with Site({"*": server}) as site:
        settings = {**POLITE, "accept_statuses": [429], "concurrency_per_origin": 1}
        crawl = scrapekit.crawl(starts(site, 4), settings=settings, clock=clock)
        async with crawl as run, passing(clock, run):
            assert len([item async for item in run]) == 4
    assert server.early == 0
    assert run.report.duration_s >= 90


async def test_a_method_that_may_be_repeated_is_one_that_the_settings_say() -> None:
    tries: list[str] = []

    async def failing(request: web.BaseRequest) -> web.StreamResponse:
        tries.append(request.method)
        return web.Response(status=503)

    class Posting(Spider):
        async def start(self) -> Any:
            yield scrapekit.Request(site.url(), method="POST")

        async def parse(self, response: scrapekit.Response) -> None: ...

    async with Site({"/": failing}) as site:
        await crawled(Posting(), settings={"retry_methods": ["POST"], "retries": 2})
    assert tries == ["POST"] * 3


@pytest.mark.parametrize("warning_s", [0.0, 0.1])
async def test_a_late_loop_is_measured_whether_or_not_anybody_is_warned(
    warning_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    clock, late_s, took = ManualClock(1e9), 0.0, []
    loop_time = loop.time
    monkeypatch.setattr(loop, "time", lambda: loop_time() + late_s)

    def answered(_self: Any, _name: str, _asked: Any, elapsed_s: float | None) -> None:
        took.append(elapsed_s)

    monkeypatch.setattr("scrapekit.politeness.Politeness.answered", answered)

    class Late(FakeTransport):
        async def fetch(self, request: scrapekit.Request, account: Any) -> Any:
            nonlocal late_s
            clock.advance_to(clock.now() + 5.0)
            late_s += 5.0
            return await super().fetch(request, account)

    settings = {"obey_robots": False, "stall_warning_s": warning_s}
    web_ = Late({}, default_status=200)
    spider = Titles(start_urls=["http://a.test/"])
    async with scrapekit.crawl(spider, transport=web_, clock=clock, settings=settings) as run:
        await run.wait()
    assert took == [None]


async def test_answers_that_our_own_loop_kept_waiting_dont_lower_the_limit() -> None:
    # Each callback blocks the loop for longer than any answer takes.
    class Blocking(Titles):
        async def parse(self, response: scrapekit.Response) -> Any:
            end = asyncio.get_running_loop().time() + 0.03
            while asyncio.get_running_loop().time() < end:
                pass
            yield {"url": response.url}

    async with Site({"*": Measuring()}) as site:
        spider = Blocking(start_urls=site.urls(*(f"/{n}" for n in range(60))))
        settings = {**POLITE, "stall_warning_s": 0.01, "concurrency_per_origin": 8}
        _, report = await crawled(spider, settings=settings)
    assert "answers took" not in report.origins[0].why


class Linked(Spider):
    """Follows all links from the first page."""

    start_urls = ("http://a.test/",)

    async def parse(self, response: scrapekit.Response) -> Any:
        yield {"url": response.url}
        yield response.follow_all()


async def test_a_trap_is_cut_off_counted_and_named() -> None:
    class Endless(Spider):
        start_urls = ("http://a.test/",)

        async def parse(self, response: scrapekit.Response) -> Any:
            yield {"url": response.url}
            yield response.follow_all()

    def page(number: int) -> str:
        return f'<h1>Nothing</h1><a href="/p/{number + 1}">next</a>{"<p>still nothing</p>" * 50}'

    pages = {f"http://a.test/p/{n}": page(n) for n in range(1, 1000)}
    web_ = FakeTransport({"http://a.test/": page(0), **pages})
    for traps, fetched in ((True, 105), (False, 1000)):
        settings = {"obey_robots": False, "traps": traps}
        async with scrapekit.crawl(Endless(), transport=web_, settings=settings) as run:
            await run.wait()
        reasons = {"trap: nothing new on http://a.test/p/{}": 1} if traps else {}
        assert run.report.pages == fetched
        assert {r: n for r, n in run.report.dropped.items() if r.startswith("trap")} == reasons


def moved(to: str) -> scrapekit.Response:
    return respond(b"", status=302, headers={"Location": to})


@pytest.mark.parametrize("budget", ["max_pages_per_origin", "max_pages_per_template"])
async def test_a_page_that_is_redirected_counts_once(budget: str) -> None:
    links = [f"http://a.test/{n}" for n in range(40)]
    web_ = FakeTransport(
        {"http://a.test/": "".join(f'<a href="{link}">x</a>' for link in links)}
        | {link: moved(f"{link}?page=1") for link in links}
        | {f"{link}?page=1": moved(f"{link}?page=2") for link in links}
        | {f"{link}?page=2": "x" for link in links}
    )
    async with scrapekit.crawl(Linked(), transport=web_, settings={budget: 10}) as run:
        await run.wait()
    assert run.report.pages == 11
    assert sum(run.report.dropped.values()) == 30


async def test_a_redirect_to_another_session_id_is_no_trap_of_its_own() -> None:
    first, second, third = (f"http://a.test/p;jsessionid={name * 8}1" for name in "ABC")
    gone = "http://a.test/q;jsessionid="
    web_ = FakeTransport(
        {
            "http://a.test/": f'<a href="{first}">p</a><a href="{gone}A">q</a>',
            first: moved(second),
            second: f'<a href="{third}">p</a><a href="{gone}B">q</a>',
            third: "p",
            f"{gone}A": respond(b"", status=404),
            f"{gone}B": "q",
        }
    )
    async with scrapekit.crawl(Linked(), transport=web_) as run:
        await run.wait()
    assert {second, f"{gone}B"} <= set(web_.urls)
    assert third not in web_.urls
    assert run.report.dropped == {"trap: the same page with another session id": 1}


async def test_start_requests_are_never_traps() -> None:
    web_ = FakeTransport({}, default_status=200)
    spider = Titles(start_urls=[f"http://a.test/{'x' * 3000}/a/a/a/a/a", "http://a.test/2099-01"])
    async with scrapekit.crawl(spider, transport=web_) as run:
        await run.wait()
    assert run.report.pages == 2
