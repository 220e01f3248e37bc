"""Crawls by way of real proxies on loopback."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from scrapekit import Request
from scrapekit.errors import ProxyError
from tests import certificate
from tests.functional.site import Site, crawled, redirect
from tests.functional.spiders import Given
from tests.proxyserver import ForwardProxy, forward_proxy
from tests.rawserver import serve

pytestmark = pytest.mark.usefixtures("each_transport")

NoLeaks = Callable[[], AbstractAsyncContextManager[None]]

LOGIN = "me:s3cret"
ONE = {"concurrency": 1}
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    return certificate.server_context(tmp_path)


async def proxies(stack: AsyncExitStack, count: int) -> list[ForwardProxy]:
    return [await stack.enter_async_context(forward_proxy(LOGIN)) for _ in range(count)]


def dead() -> str:
    """A proxy that nobody runs: the discard port, which refuses."""
    return "http://me:s3cret@127.0.0.1:9"


async def test_a_plain_page_comes_through_and_the_site_learns_no_secret() -> None:
    async with forward_proxy(LOGIN) as proxy, Site({"*": ""}) as site:
        items, report = await crawled(Given([Request(site.url("/a"), proxy=proxy.url())]))
        assert proxy.lines == [f"GET {site.url('/a')} HTTP/1.1"]
        assert "Proxy-Authorization" not in site.requests[0].headers
        assert report.ok
        assert [item["proxy"] for item in items] == [proxy.url()]


async def test_a_secure_page_comes_through_a_tunnel_that_hides_everything(
    tls: ssl.SSLContext, no_async_leaks: NoLeaks
) -> None:
    async with no_async_leaks(), forward_proxy(LOGIN) as proxy, serve(HELLO, tls=tls) as server:
        requests = [Request(server.url(f"/{number}"), auth="Bearer t0ken") for number in range(3)]
        settings = {**ONE, "proxy": proxy.url(), "verify_tls": False}
        items, _ = await crawled(Given(requests), settings=settings)
        assert len(items) == 3
        assert proxy.lines == [f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"]
        assert "t0ken" not in proxy.heads[0]
        assert "s3cret" not in str([request.head for request in server.requests])
        assert server.requests[0].header("Proxy-Authorization") is None
        assert server.requests[0].header("Authorization") == "Bearer t0ken"


async def test_the_requests_own_proxy_wins_over_those_of_the_settings() -> None:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Site({"*": ""}))
        own, crawls, listed = await proxies(stack, 3)
        settings = {**ONE, "proxy": crawls.url()}
        requests = [Request(site.url("/1"), proxy=own.url()), Request(site.url("/2"))]
        await crawled(Given(requests), settings=settings)
        assert [len(proxy.lines) for proxy in (own, crawls)] == [1, 1]
        settings["proxies"] = [listed.url()]
        await crawled(Given(requests), settings=settings)
        assert [len(proxy.lines) for proxy in (own, crawls, listed)] == [2, 1, 1]


async def test_a_list_is_gone_through_in_turn() -> None:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Site({"*": ""}))
        three = await proxies(stack, 3)
        requests = [Request(site.url(f"/{number}")) for number in range(9)]
        settings = {**ONE, "proxies": [proxy.url() for proxy in three]}
        items, _ = await crawled(Given(requests), settings=settings)
        assert [len(proxy.lines) for proxy in three] == [3, 3, 3]
        assert {item["proxy"] for item in items} == {None}


async def test_a_session_stays_with_one_of_them() -> None:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Site({"*": ""}))
        two = await proxies(stack, 2)
        requests = [
            Request(site.url(f"/{name}/{number}"), session=name)
            for number in range(4)
            for name in ("x", "y")
        ]
        settings = {**ONE, "proxies": [proxy.url() for proxy in two]}
        await crawled(Given(requests), settings=settings)
        for proxy, name in zip(two, ("x", "y"), strict=True):
            assert len(proxy.lines) == 4
            assert all(f"/{name}/" in line for line in proxy.lines)


async def test_dead_proxies_cost_no_page_and_are_not_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Site({"*": ""}))
        good, stranger = await proxies(stack, 2)
        requests = [Request(site.url(f"/{number}")) for number in range(8)]
        settings = {
            **ONE,
            "retries": 0,
            "proxies": [dead(), stranger.url("me:wrong"), good.url()],
        }
        items, report = await crawled(Given(requests), settings=settings)
        assert len(items) == 8
        assert report.ok
        assert len(stranger.lines) == 1
        assert caplog.text.count(" sits out for 30 s: the proxy ") == 2
        assert "the proxy http://***@127.0.0.1:9 sits out" in caplog.text
        assert len(good.lines) == 8


async def test_a_proxy_whose_name_does_not_resolve_is_as_dead(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Site({"*": ""}))
        (good,) = await proxies(stack, 1)
        requests = [Request(site.url(f"/{number}")) for number in range(4)]
        nameless = "http://me:s3cret@no-such-proxy.invalid:81"
        settings = {**ONE, "retries": 0, "proxies": [nameless, good.url()]}
        items, report = await crawled(Given(requests), settings=settings)
    assert len(items) == len(good.lines) == 4
    assert report.errors == []
    assert caplog.text.count("sits out for 30 s: the proxy can't be reached") == 1
    assert "s3cret" not in caplog.text


async def test_a_body_goes_on_to_the_next_proxy_as_well() -> None:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Site({"*": ""}))
        (good,) = await proxies(stack, 1)
        request = Request(site.url("/"), data={"a": "1"})
        settings = {"retries": 0, "proxies": [dead(), good.url()]}
        _, report = await crawled(Given([request]), settings=settings)
        assert report.ok


async def test_what_a_proxy_cannot_reach_does_not_bench_it(tls: ssl.SSLContext) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(HELLO, tls=tls))
        one, two = await proxies(stack, 2)
        one.status = 502
        requests = [Request(f"https://127.0.0.1:{server.port}/{number}") for number in range(4)]
        settings = {**ONE, "retries": 0, "proxies": [one.url(), two.url()], "verify_tls": False}
        items, _ = await crawled(Given(requests), settings=settings)
        assert len(items) == len(one.lines) == 2


async def test_if_all_are_dead_the_page_fails_with_the_last_error() -> None:
    async with Site({"*": ""}) as site:
        settings = {"retries": 1, "proxies": [dead(), dead().replace(":9", ":11")]}
        items, report = await crawled(Given([Request(site.url("/"))]), settings=settings)
    assert items == []
    (group,) = report.errors
    assert (group.error, group.count) == ("ProxyError", 1)
    assert "the proxy can't be reached" in group.message
    assert report.retries == 1


@pytest.mark.parametrize("settings", [{"proxy": dead()}, {"proxies": [dead()]}])
async def test_no_log_and_no_report_shows_the_credentials(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    kept: list[Any] = []

    class Telling(Given):
        def on_error(self, failure: Any) -> None:
            kept.append(failure)

    async with Site({"*": ""}) as site:
        spider = Telling([Request(site.url("/"))])
        _, report = await crawled(spider, settings={"retries": 1, **settings})
    (failure,) = kept
    assert isinstance(failure.error, ProxyError)
    shown = f"{caplog.text} {report} {report!r} {failure!s} {failure!r}"
    assert "127.0.0.1" in shown
    assert "s3cret" not in shown


async def test_a_request_that_asks_for_a_proxy_does_not_show_it() -> None:
    request = Request("http://site.test/", proxy=dead())
    assert "s3cret" not in f"{request!r} {request}"


async def test_a_redirect_to_another_host_stays_with_the_requests_proxy() -> None:
    async def away(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": other.url("/b")})

    async with (
        forward_proxy(LOGIN) as proxy,
        Site({"/b": ""}, host="127.0.0.2") as other,
        Site({"/a": away}) as site,
    ):
        spider = Given([Request(site.url("/a"), proxy=proxy.url())])
        spider.allowed_domains = ["*"]
        await crawled(spider)
        assert len(proxy.lines) == 2
        assert "Proxy-Authorization" not in other.requests[0].headers


OBEY = {"obey_robots": True, "retry_delay_s": 0.0}


async def test_a_page_asked_for_by_a_proxy_has_its_robots_txt_asked_for_by_that() -> None:
    async with forward_proxy(LOGIN) as proxy, Site({"*": ""}) as site:
        requests = [Request(site.url(f"/{number}"), proxy=proxy.url()) for number in range(3)]
        _, report = await crawled(Given(requests), settings=OBEY)
        assert report.ok
        asked = [line.split(" ")[1] for line in proxy.lines]
        assert sorted(asked) == [site.url(path) for path in ("/0", "/1", "/2", "/robots.txt")]
        assert (site.robots_hits, len(site.hits)) == (1, 3)


async def test_so_has_a_site_that_such_a_page_redirects_to() -> None:
    async with forward_proxy(LOGIN) as proxy, Site({"*": ""}) as other, Site() as site:
        site.pages["/robots.txt"] = redirect(other.url("/robots.txt"))
        site.pages["/"] = redirect(other.url("/there"))
        requests = [Request(site.url(), proxy=proxy.url())]
        _, report = await crawled(Given(requests), settings=OBEY)
        assert report.ok
        asked = [line.split(" ")[1] for line in proxy.lines]
        assert sorted(asked) == sorted(
            [
                site.url("/"),
                site.url("/robots.txt"),
                *[other.url("/robots.txt")] * 2,
                other.url("/there"),
            ]
        )


async def test_a_proxy_that_is_dead_leaves_the_robots_txt_to_another_one_and_never_to_nobody() -> (
    None
):
    async with forward_proxy(LOGIN) as proxy, Site({"*": ""}) as site:
        requests = [
            Request(site.url("/0"), proxy=proxy.url()),
            Request(site.url("/1"), proxy=dead()),
        ]
        _, report = await crawled(Given(requests), settings={**OBEY, "retries": 1})
        assert site.hits == ["/0"]
        assert site.robots_hits == 1
        assert len(proxy.lines) == 2
        assert [group.error for group in report.errors] == ["ProxyError"]


async def test_a_dead_proxy_alone_keeps_its_pages_from_being_asked_for() -> None:
    async with Site({"*": ""}) as site:
        _, report = await crawled(Given([Request(site.url("/"), proxy=dead())]), settings=OBEY)
        assert (site.hits, site.robots_hits) == ([], 0)
        assert [group.error for group in report.errors] == ["RobotsUnavailable"]


async def test_a_job_that_goes_on_asks_by_the_same_proxies(tmp_path: Path) -> None:
    async with forward_proxy(LOGIN) as proxy, Site({"*": ""}) as site:
        requests = [Request(site.url(f"/{number}"), proxy=proxy.url()) for number in range(3)]
        options: dict[str, Any] = {"job": tmp_path / "job"}
        first = {**OBEY, **ONE, "max_pages": 1, "obey_robots": False}
        await crawled(Given(requests), settings=first, **options)
        await crawled(Given([]), settings=OBEY, **options)
        assert (site.robots_hits, len(site.hits)) == (1, 3)
        assert len(proxy.lines) == 4
