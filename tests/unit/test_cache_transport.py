from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from scrapekit.addresses import Space
from scrapekit.budget import ByteBudget
from scrapekit.clock import ManualClock
from scrapekit.errors import BodyTooLarge, ConnectError, OutputError, Refused, UsageError
from scrapekit.messages import Request, Response
from scrapekit.settings import Settings
from scrapekit.transport.body import CUT
from scrapekit.transport.cache import CachingTransport
from scrapekit.transport.fake import FakeTransport, Script

START = 1_000_000_000.0
URL = "http://a.test/"
LARGE = b"0123456789" * 100_000


def page(body: str | bytes = "page", status: int = 200, **headers: str) -> Response:
    """`Cache_Control="x"` stands for the header Cache-Control; the Date is the beginning."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body.encode() if isinstance(body, str) else body
    return Response(URL, status, {"Date": formatdate(START, usegmt=True), **named}, data)


class Bench:
    """A caching transport around a fake one, and what it was asked."""

    def __init__(self, transport: CachingTransport, web: FakeTransport, clock: ManualClock) -> None:
        self.transport = transport
        self.web = web
        self.clock = clock
        self.budget = ByteBudget(1_000_000_000)

    async def get(self, url: str = URL, **options: Any) -> Response:
        return await self.send(Request(url, **options))

    async def send(self, request: Request) -> Response:
        with self.budget.account() as account:
            response = await self.transport.fetch(request, account)
            assert account.held >= len(response.body)
        assert response.request == request
        return response

    @property
    def asked(self) -> int:
        return len(self.web.requests)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Hits, revalidated, misses."""
        counts = self.transport.counts
        return counts.hits, counts.revalidated, counts.misses


@asynccontextmanager
async def bench(
    folder: Path,
    pages: Mapping[str, Script] | Script,
    *,
    clock: ManualClock | None = None,
    **settings: Any,
) -> AsyncIterator[Bench]:
    web = FakeTransport(pages if isinstance(pages, Mapping) else {URL: pages})
    clock = clock or ManualClock(START)
    made = Settings(**{"cache": str(folder / "cache"), **settings})
    async with CachingTransport(web, made, clock) as transport:
        yield Bench(transport, web, clock)


def by_rules(folder: Path, *pages: Script, **options: Any) -> Any:
    script: Any = list(pages)
    return bench(folder, script, cache_mode="rules", **options)


async def test_a_page_is_fetched_once_and_replayed_ever_after(tmp_path: Path) -> None:
    async with bench(tmp_path, page("page", X="1", Cache_Control="no-store")) as first:
        fetched = await first.get()
        replayed = await first.get()
    async with bench(tmp_path, {}, clock=ManualClock(START * 2)) as second:
        later = await second.get()
        assert second.asked == 0
        assert second.counts == (1, 0, 0)
    assert first.asked == 1
    assert first.counts == (1, 0, 1)
    assert [r.cached for r in (fetched, replayed, later)] == ["", "hit", "hit"]
    for response in (replayed, later):
        assert (response.url, response.status, response.body) == (URL, 200, b"page")
        assert dict(response.headers) == dict(fetched.headers)


async def test_what_was_set_is_replayed_line_by_line(tmp_path: Path) -> None:
    response = page()
    headers: Any = response.headers
    headers.extend([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X", "ü\udcff")])
    async with bench(tmp_path, response) as it:
        await it.get()
        replayed: Any = (await it.get()).headers
    assert replayed.getall("Set-Cookie") == ["a=1", "b=2"]
    assert replayed["X"] == "ü\udcff"


@pytest.mark.parametrize("status", [200, 204, 301, 302, 403, 404, 410])
async def test_any_answer_is_replayed(tmp_path: Path, status: int) -> None:
    async with bench(tmp_path, page(status=status, Location="/there")) as it:
        await it.get()
        response = await it.get()
    assert (it.asked, response.status) == (1, status)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_an_answer_that_asks_to_try_again_isnt_kept(tmp_path: Path, status: int) -> None:
    async with bench(tmp_path, [page(status=status), page()]) as it:
        assert (await it.get()).status == status
        assert (await it.get()).status == 200
        assert (await it.get()).cached == "hit"


async def test_a_failure_isnt_kept(tmp_path: Path) -> None:
    async with bench(tmp_path, [ConnectError("no", url=URL), page()]) as it:
        with pytest.raises(ConnectError):
            await it.get()
        assert (await it.get()).cached == ""
        assert it.counts == (0, 0, 1)


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_only_gets_are_kept(tmp_path: Path, method: str) -> None:
    async with bench(tmp_path, page()) as it:
        for _ in range(2):
            assert (await it.get(method=method)).cached == ""
    assert it.asked == 2


OTHERS: list[dict[str, Any]] = [
    {"headers": {"Authorization": "Basic YTpi"}},
    {"headers": {"X-Api-Key": "1"}},
    {"headers": {"Cookie": "sid=1"}},
    {"cookies": {"sid": "1"}},
    {"cookies": {"sid": "2"}},
    {"headers": {"Accept-Language": "de"}},
    {"headers": {"Range": "bytes=0-9"}},
]


@pytest.mark.parametrize("mode", ["replay", "rules"])
async def test_what_one_was_shown_is_shown_to_nobody_else(tmp_path: Path, mode: str) -> None:
    fresh = page(Cache_Control="max-age=60")
    async with bench(tmp_path, fresh, cache_mode=mode) as it:
        for options in ({}, *OTHERS):
            assert (await it.get(**options)).cached == "", options
        assert it.asked == len(OTHERS) + 1
        for options in ({}, *OTHERS[:-1]):
            assert (await it.get(**options)).cached == "hit", options


async def test_the_same_header_in_other_letters_is_the_same(tmp_path: Path) -> None:
    async with bench(tmp_path, page()) as it:
        await it.get(headers={"X-Api-Key": "1", "Accept": "text/html"})
        assert (await it.get(headers={"accept": "text/html", "x-api-key": "1"})).cached == "hit"


@pytest.mark.parametrize("mode", ["replay", "rules"])
async def test_settings_that_a_page_varies_by_make_it_another(tmp_path: Path, mode: str) -> None:
    varying = page(Vary="User-Agent, Accept-Encoding", Cache_Control="max-age=60")
    plain = page(Vary="Accept-Encoding", Cache_Control="max-age=60")
    pages = {URL: varying, f"{URL}plain": plain}
    for agent, cached in (("one", ""), ("one", "hit"), ("two", ""), ("two", "hit")):
        async with bench(tmp_path, pages, cache_mode=mode, user_agent=agent) as it:
            assert (await it.get()).cached == cached
            first = agent == "one" and cached == ""
            assert (await it.get(f"{URL}plain")).cached == ("" if first else "hit")


async def test_replay_overlooks_that_a_page_varies_by_everything(tmp_path: Path) -> None:
    async with bench(tmp_path, page(Vary="*")) as it:
        await it.get()
        assert (await it.get()).cached == "hit"


async def test_what_is_damaged_is_fetched_anew_and_counted(tmp_path: Path) -> None:
    for body in (b"small", LARGE):
        async with bench(tmp_path, page(body)) as it:
            await it.get()
            for file in (tmp_path / "cache").glob("??/*"):
                file.write_bytes(file.read_bytes()[:-1] + b"x")
            response = await it.get()
            assert (response.cached, response.body) == ("", body)
            assert it.transport.counts.damaged == 1
            assert (await it.get()).cached == "hit"


async def test_a_file_under_a_wrong_name_is_no_answer(tmp_path: Path) -> None:
    other = "http://b.test/"
    async with bench(tmp_path, {URL: page("a"), other: page("b")}) as it:
        await it.get(URL)
        await it.get(other)
        files = {file.read_bytes()[-1:]: file for file in (tmp_path / "cache").glob("??/*")}
        files[b"a"].replace(files[b"b"])
        response = await it.get(other)
    assert (response.cached, response.body) == ("", b"b")


async def test_what_came_from_a_local_address_isnt_shown_to_a_public_page(tmp_path: Path) -> None:
    local = page()
    local.address = "10.0.0.1"
    local.anomalies = ("trailing-garbage",)
    # The fake transport tells no address of its own.
    for mode in ("replay", "rules"):
        folder = tmp_path / mode
        folder.mkdir()
        async with bench(folder, page(Cache_Control="max-age=60"), cache_mode=mode) as it:
            fetch = it.web.fetch

            async def fetch_locally(request: Request, account: Any, fetch: Any = fetch) -> Response:
                response: Response = await fetch(request, account)
                response.address, response.anomalies = local.address, local.anomalies
                return response

            it.web.fetch = fetch_locally  # type: ignore[method-assign]
            await it.get()
            replayed = await it.get()
            assert (replayed.cached, replayed.address) == ("hit", "10.0.0.1")
            assert replayed.anomalies == ("trailing-garbage",)
            with pytest.raises(Refused):
                await it.send(Request(URL).at_depth(1, Space.PUBLIC))


async def test_a_body_that_is_too_large_by_now_is_refused_as_ever(tmp_path: Path) -> None:
    async with bench(tmp_path, page(LARGE)) as it:
        await it.get()
    async with bench(tmp_path, {}, max_body_bytes=1000) as it:
        with pytest.raises(BodyTooLarge) as caught:
            await it.get()
        assert caught.value.url == URL
        assert it.asked == 0


async def test_a_cancelled_fetch_leaves_it_working(tmp_path: Path) -> None:
    async with bench(tmp_path, page(LARGE)) as it:
        for _ in range(20):
            task = asyncio.create_task(it.get())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert (await it.get()).body == LARGE


async def test_a_folder_that_cant_be_written_costs_the_keeping_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench(tmp_path, {URL: page(), f"{URL}2": page()}) as it:
        await it.get()
        (tmp_path / "cache" / "unfinished").rmdir()
        for _ in range(2):
            assert (await it.get(f"{URL}2")).body == b"page"
        assert (await it.get()).cached == "hit"
        assert it.transport.counts.kept == 1
    (line,) = caplog.messages
    assert "can't be written any more (No such file or directory); the crawl goes on" in line


async def test_a_folder_that_is_no_cache_keeps_the_crawl_from_starting(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="is no cache"):
        async with bench(tmp_path, {}):
            raise AssertionError("it must not open")


async def test_it_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="`cache`"):
        CachingTransport(FakeTransport({}), Settings(), ManualClock())


async def test_outside_of_its_block_it_says_so(tmp_path: Path) -> None:
    async with bench(tmp_path, page()) as it:
        pass
    with pytest.raises(RuntimeError, match="async with"):
        await it.get()


async def test_a_fresh_page_is_used_until_it_is_stale(tmp_path: Path) -> None:
    async with by_rules(tmp_path, page("old", Cache_Control="max-age=60"), page("new")) as it:
        await it.get()
        it.clock.advance(59)
        fresh = await it.get()
        it.clock.advance(1)
        stale = await it.get()
    assert (fresh.cached, fresh.body, fresh.headers["Age"]) == ("hit", b"old", "59")
    assert (stale.cached, stale.body) == ("", b"new")
    assert it.counts == (1, 0, 2)


async def test_a_stale_page_that_still_holds_isnt_sent_again(tmp_path: Path) -> None:
    old = page(LARGE, ETag='"a"', Last_Modified="x", Cache_Control="max-age=60")
    confirmed = page(b"", 304, ETag='"a"', Cache_Control="max-age=600", Set_Cookie="a=1")
    async with by_rules(tmp_path, old, confirmed) as it:
        await it.get(headers={"X": "1"})
        it.clock.advance(100)
        stale = await it.get(headers={"X": "1"})
        again = await it.get(headers={"X": "1"})
    asked = it.web.requests[1].headers
    assert asked == {"X": "1", "If-None-Match": '"a"', "If-Modified-Since": "x"}
    assert (stale.cached, stale.status, stale.body) == ("revalidated", 200, LARGE)
    assert stale.headers["Cache-Control"] == "max-age=600"
    assert stale.headers["Set-Cookie"] == "a=1"
    assert again.cached == "hit"
    assert "Set-Cookie" not in again.headers
    assert it.counts == (1, 1, 1)


async def test_a_page_confirmed_without_a_date_is_fresh_from_then_on(tmp_path: Path) -> None:
    long_ago = "Sun, 06 Nov 1994 08:49:37 GMT"
    old = page("old", ETag='"a"', Date=long_ago, Cache_Control="max-age=60")
    confirmed = page(b"", 304, ETag='"a"', Cache_Control="max-age=60")
    async with by_rules(tmp_path, old, confirmed) as it:
        await it.get()
        assert (await it.get()).cached == "revalidated"
        it.clock.advance(59)
        assert (await it.get()).cached == "hit"


async def test_a_stale_page_that_was_changed_is_the_new_one(tmp_path: Path) -> None:
    old = page("old", ETag='"a"', Cache_Control="max-age=60")
    new = page("new", ETag='"b"', Cache_Control="max-age=600")
    async with by_rules(tmp_path, old, new) as it:
        await it.get()
        it.clock.advance(100)
        changed = await it.get()
    assert (changed.cached, changed.body) == ("", b"new")
    async with by_rules(tmp_path, page("none")) as it:
        assert (await it.get()).body == b"new"


async def test_trouble_while_asking_costs_nothing_that_is_kept(tmp_path: Path) -> None:
    old = page("old", ETag='"a"')
    refused = ConnectError("no", url=URL)
    async with by_rules(tmp_path, old, page("sorry", 503), refused, page("", 304)) as it:
        await it.get()
        assert (await it.get()).status == 503
        with pytest.raises(ConnectError):
            await it.get()
        assert (await it.get()).body == b"old"


async def test_a_304_of_another_page_is_no_confirmation(tmp_path: Path) -> None:
    async with by_rules(
        tmp_path, page("a", ETag='"a"'), page("", 304, ETag='"b"'), page("b")
    ) as it:
        await it.get()
        response = await it.get()
    assert (response.status, response.body) == (200, b"b")
    assert "If-None-Match" not in it.web.requests[2].headers


async def test_a_page_that_was_damaged_is_fetched_whole_after_a_304(tmp_path: Path) -> None:
    answers = [page(LARGE, ETag='"a"'), page("", 304), page("new")]
    async with by_rules(tmp_path, *answers) as it:
        await it.get()
        (file,) = (tmp_path / "cache").glob("??/*")
        file.write_bytes(file.read_bytes()[:-1])
        assert (await it.get()).body == b"new"


@pytest.mark.parametrize("said", ["no-store", "max-age=60, no-store"])
async def test_what_a_site_wont_have_kept_isnt_on_disk(tmp_path: Path, said: str) -> None:
    async with by_rules(tmp_path, page("secret", Cache_Control=said)) as it:
        await it.get()
        await it.get(headers={"Cache-Control": "no-store"})
    assert it.asked == 2
    assert not list((tmp_path / "cache").glob("??/*"))


async def test_who_brings_conditions_gets_the_sites_own_answer(tmp_path: Path) -> None:
    async with by_rules(tmp_path, page(Cache_Control="max-age=60"), page("", 304)) as it:
        await it.get()
        assert (await it.get(headers={"If-None-Match": '"a"'})).status == 304


async def test_a_change_makes_what_was_kept_void_for_everybody(tmp_path: Path) -> None:
    fresh = page(Cache_Control="max-age=60")
    async with by_rules(tmp_path, fresh) as it:
        for _ in range(2):
            await it.get()
            await it.get(cookies={"sid": "1"})
        assert it.asked == 2
        await it.get(method="HEAD")
        await it.get()
        assert it.counts[0] == 3
        await it.get(method="POST")
        await it.get()
        await it.get(cookies={"sid": "1"})
        assert it.counts == (3, 0, 4)


async def test_a_change_that_failed_changed_nothing(tmp_path: Path) -> None:
    async with by_rules(tmp_path, page(Cache_Control="max-age=60"), page("", 403)) as it:
        await it.get()
        await it.get(method="DELETE")
        assert (await it.get()).cached == "hit"


async def test_two_crawls_share_a_folder(tmp_path: Path) -> None:
    pages = {f"{URL}{number}": page(str(number) * 200_000) for number in range(20)}
    async with bench(tmp_path, pages) as one, bench(tmp_path, pages) as two:
        found = await asyncio.gather(*(it.get(url) for url in pages for it in (one, two)))
    assert {response.url: response.body for response in found} == {
        url: str(number).encode() * 200_000 for number, url in enumerate(pages)
    }
    async with bench(tmp_path, {}) as three:
        for url in pages:
            assert (await three.get(url)).cached == "hit"


async def test_a_beginning_that_was_kept_is_no_answer_for_whoever_wants_the_whole(
    tmp_path: Path,
) -> None:
    beginning = Response(URL, 200, CIMultiDict(), b"beg", anomalies=(CUT,))
    async with bench(tmp_path, [beginning, page("beginning and end")]) as it:
        for cached in ("", "hit"):
            with it.budget.account() as account:
                account.enough = 3
                response = await it.transport.fetch(Request(URL), account)
                assert (response.body, response.cached) == (b"beg", cached)
        assert (await it.get()).body == b"beginning and end"
