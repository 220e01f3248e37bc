"""Cookies, sessions and logins against a real server."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from aiohttp import web

import scrapekit
from scrapekit import Request, Response, Spider
from tests.functional.site import Handler, Pages, Site, answer, crawled, links, redirect
from tests.functional.spiders import Given

pytestmark = pytest.mark.usefixtures("each_transport")


class Shop:
    """A site with a login: a CSRF token tied to a cookie, then a cookie for whoever is in."""

    USERS: ClassVar = {"ann": "a-pass", "bob": "b-pass"}

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self.logged_in: dict[str, str] = {}

    @property
    def pages(self) -> Pages:
        return {
            "/login": self.form,
            "/session": self.log_in,
            "/orders": self.orders,
            "/orders/1": self.orders,
        }

    async def form(self, request: web.BaseRequest) -> web.StreamResponse:
        visitor, token = secrets.token_hex(8), secrets.token_hex(8)
        self.tokens[visitor] = token
        response = web.Response(
            content_type="text/html",
            text=f"""<form id=search><input name=q></form>
                <form id=login action=/session method=post>
                <input type=hidden name=csrf value={token}>
                <input name=user><input type=password name=password>
                <button name=go value=in>Log in</button></form>""",
        )
        response.set_cookie("visitor", visitor, path="/")
        return response

    async def log_in(self, request: web.BaseRequest) -> web.StreamResponse:
        fields = dict(part.split("=", 1) for part in (await request.text()).split("&"))
        visitor = request.cookies.get("visitor", "")
        known = self.USERS.get(fields["user"]) == fields["password"] and fields["go"] == "in"
        if not known or self.tokens.get(visitor) != fields["csrf"]:
            return web.Response(status=403)
        sid = secrets.token_hex(8)
        self.logged_in[sid] = fields["user"]
        response = web.Response(status=303, headers={"Location": "/orders"})
        response.set_cookie("sid", sid, path="/orders", httponly=True)
        response.del_cookie("visitor", path="/")
        return response

    async def orders(self, request: web.BaseRequest) -> web.StreamResponse:
        user = self.logged_in.get(request.cookies.get("sid", ""))
        if user is None or "visitor" in request.cookies:
            return web.Response(status=401)
        body = f"<h1>{user}</h1><a href=/orders/1>one</a>"
        return web.Response(text=body, content_type="text/html")


class Orders(Spider):
    """Logs in as several people at once, each in a session of their own."""

    site: str = ""
    users: dict[str, str] = {}  # noqa: RUF012 -- the class attribute is never changed

    async def start(self) -> AsyncIterator[Request]:
        for user in self.users:
            yield Request(f"{self.site}/login", "log_in", session=user)

    def log_in(self, response: Response) -> Any:
        user = response.request.session
        data = {"user": user, "password": self.users[user]}
        yield response.form("#login", data, callback=self.parse)

    def parse(self, response: Response) -> Any:
        yield {
            "session": response.request.session,
            "user": response.get("h1"),
            "url": response.url.removeprefix(self.site),
        }
        yield from response.follow_all("a")


def seen_by(items: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    assert len(items) == len({tuple(item.values()) for item in items})
    return {(item["session"], item["user"], item["url"]) for item in items}


async def test_two_people_log_in_side_by_side_and_stay_themselves() -> None:
    async with Site(Shop().pages) as site:
        spider = Orders(site=site.origin, users=Shop.USERS)
        items, report = await crawled(spider)
    assert seen_by(items) == {
        (user, user, url) for user in Shop.USERS for url in ("/orders", "/orders/1")
    }
    assert report.ok


async def test_a_wrong_password_fails_that_session_alone() -> None:
    async with Site(Shop().pages) as site:
        spider = Orders(site=site.origin, users={"ann": "a-pass", "bob": "wrong"})
        items, report = await crawled(spider)
    assert {item["session"] for item in items} == {"ann"}
    assert report.statuses[403] == 1


async def test_cookies_of_one_crawl_open_the_next() -> None:
    async with Site(Shop().pages) as site:
        spider = Orders(site=site.origin, users=Shop.USERS)
        settings = {"obey_robots": False}
        async with scrapekit.crawl(spider, settings=settings) as run:
            await run.wait()
        kept = json.loads(json.dumps(run.cookies))
        again = [Request(site.url("/orders"), session=user) for user in Shop.USERS]
        items, report = await crawled(Given(again), cookies=kept)
    assert {item["user"] for item in items} == set(Shop.USERS)
    assert report.ok
    assert report.pages == 2


def cookie_of(request: web.BaseRequest) -> str:
    return request.headers.get("Cookie", "")


def setting(*lines: str, status: int = 200, location: str = "", body: str = "") -> Handler:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        response = web.Response(status=status, text=body, content_type="text/html")
        for line in lines:
            response.headers.add("Set-Cookie", line)
        if location:
            response.headers["Location"] = location
        return response

    return handler


ONE = {"concurrency": 1}


async def test_each_hop_of_a_redirect_sets_and_sends() -> None:
    pages: Pages = {
        "/a": setting("hop=1; Path=/", status=302, location="/b"),
        "/b": setting("hop=2; Path=/", "more=x; Path=/c", status=302, location="/c"),
        "/c": "",
    }
    async with Site(pages) as site:
        _, report = await crawled(Given([Request(site.url("/a"))]))
    assert [cookie_of(request) for request in site.requests] == ["", "hop=1", "more=x; hop=2"]
    assert report.ok


async def test_a_page_that_asks_for_a_cookie_by_redirecting_to_itself_is_fetched() -> None:
    async def wall(request: web.BaseRequest) -> web.StreamResponse:
        if "ok=1" in cookie_of(request):
            return web.Response(text="<h1>in</h1>", content_type="text/html")
        return await setting("ok=1; Path=/", status=302, location=request.path)(request)

    async with Site({"/a": wall, "/b": wall}) as site:
        requests = [Request(site.url("/a")), Request(site.url("/b"))]
        items, report = await crawled(Given(requests), settings=ONE)
    assert [item["user"] for item in items] == ["in", "in"]
    assert site.hits == ["/a", "/a", "/b"]
    assert report.ok


async def test_a_page_that_sets_cookies_for_ever_is_left() -> None:
    async with Site({"/a": setting("a=1", status=302, location="/a")}) as site:
        items, report = await crawled(Given([Request(site.url("/a"))]))
    assert items == []
    assert [group.message for group in report.errors] == ["more than 10 redirects"]


async def test_cookies_do_not_follow_to_another_host() -> None:
    async with Site({"/x": ""}, host="127.0.0.2") as other:
        pages: Pages = {"/a": setting("a=1; Path=/", status=302, location=other.url("/x"))}
        async with Site(pages) as site:
            spider = Given([Request(site.url("/a"))])
            spider.allowed_domains = ["*"]
            await crawled(spider)
    assert [cookie_of(request) for request in other.requests] == [""]


async def test_sessions_fetch_the_same_page_each_for_itself() -> None:
    async with Site({"/a": "<h1>x</h1>"}) as site:
        url = site.url("/a")
        requests = [Request(url, session=name) for name in ("", "x", "y", "x")]
        items, report = await crawled(Given(requests))
    assert len(items) == 3
    assert report.dropped == {"duplicate": 1}


async def test_redirects_of_one_session_are_no_duplicates_for_another() -> None:
    async with Site({"/a": redirect("/home"), "/home": "<h1>x</h1>"}) as site:
        requests = [Request(site.url("/a"), session=name) for name in ("x", "y")]
        items, _ = await crawled(Given(requests))
    assert [item["url"].rpartition("/")[2] for item in items] == ["home", "home"]


async def test_sessions_do_not_share_connections() -> None:
    ports: dict[str, set[Any]] = {}

    async def note(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peername")
        ports.setdefault(request.headers["X-Session"], set()).add(peer)
        return web.Response()

    async with Site({"*": note}) as site:
        requests = [
            Request(site.url(f"/{number}"), session=name, headers={"X-Session": name})
            for number in range(3)
            for name in ("", "x", "y")
        ]
        await crawled(Given(requests), settings=ONE)
    assert [len(peers) for peers in ports.values()] == [1, 1, 1]
    assert len(set.union(*ports.values())) == 3


async def test_the_requests_own_cookies_win_and_the_settings_come_last() -> None:
    pages: Pages = {"/a": setting("set=site; Path=/", "own=site; Path=/"), "/b": ""}
    async with Site(pages) as site:
        requests = [
            Request(site.url("/a")),
            Request(site.url("/b"), cookies={"own": "request"}),
        ]
        cookies = {"set": "settings", "kept": "settings"}
        await crawled(Given(requests), settings={**ONE, "cookies": cookies})
    first, second = map(cookie_of, site.requests)
    assert first == "set=settings; kept=settings"
    assert sorted(second.split("; ")) == ["kept=settings", "own=request", "set=site"]


async def test_without_keep_cookies_none_come_back() -> None:
    async with Site({"/a": setting("a=1; Path=/"), "/b": ""}) as site:
        requests = [Request(site.url("/a")), Request(site.url("/b"))]
        await crawled(Given(requests), settings={**ONE, "keep_cookies": False})
    assert [cookie_of(request) for request in site.requests] == ["", ""]


async def test_authorization_stays_with_its_origin() -> None:
    heard: list[tuple[str, str | None]] = []

    def note(location: str = "") -> Handler:
        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            heard.append((request.path, request.headers.get("Authorization")))
            return await answer(302 if location else 200, Location=location)(request)

        return handler

    async with Site({"*": note()}) as other, Site() as site:
        site.pages |= {"/a": note(other.url("/y")), "/b": note()}
        spider = Given(
            [
                Request(site.url("/a")),
                Request(site.url("/b"), auth="Bearer own"),
                Request(other.url("/x"), auth=("me", "x"), unique=False),
            ]
        )
        spider.allowed_domains = ["*"]
        await crawled(spider, settings={**ONE, "auth": {site.origin: "Bearer token"}})
    assert sorted(heard, key=str) == [
        ("/a", "Bearer token"),
        ("/b", "Bearer own"),
        ("/x", "Basic bWU6eA=="),
        ("/y", None),
    ]


@pytest.mark.parametrize("lane", ["parse_here", "parse_there"])
async def test_links_stay_in_the_session_of_their_page(lane: str) -> None:
    class Links(Given):
        async def parse_here(self, response: Response) -> Any:
            yield response.follow_all("a", self.note)
            yield response.follow("/c", self.note)
            yield response.follow("/d", self.note, session="other")

        def parse_there(self, response: Response) -> Any:
            yield from response.follow_all("a", self.note, priority=1)
            yield response.follow("/c", self.note)
            yield response.follow("/d", self.note, session="other")

        def note(self, response: Response) -> Any:
            yield {"path": response.url[-1], "session": response.request.session}

    async with Site({"/a": links("/b"), "*": ""}) as site:
        items, _ = await crawled(Links([Request(site.url("/a"), lane, session="mine")]))
    assert {item["path"]: item["session"] for item in items} == {
        "b": "mine",
        "c": "mine",
        "d": "other",
    }
