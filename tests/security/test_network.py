"""Nobody leads the crawl into our own network: a canary listens there, and is never reached."""

from __future__ import annotations

import itertools
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import scrapekit
from scrapekit import Request, Response, Settings, Spider
from scrapekit.addresses import Space
from scrapekit.budget import ByteBudget
from scrapekit.errors import ConnectError, Refused, SiteError
from scrapekit.failure import Failure
from scrapekit.reach import Reach, led_to
from scrapekit.report import Report
from scrapekit.testing import FakeTransport
from scrapekit.transport import http
from scrapekit.transport.fast import names
from scrapekit.transport.guarded import Guarded
from tests.functional.site import Site, answer, idle, links, redirect
from tests.rawserver import Exchange, serve
from tests.security.pretend import CANARY, PUBLIC, Answers, Canary, internet, listening
from tests.transports import AnyTransport

pytestmark = pytest.mark.usefixtures("each_transport")

# What a page may write to lead to the canary, before ":port/".
SPELLINGS = (
    "127.0.0.77",
    "2130706509",
    "0x7f00004d",
    "0177.0.0.0115",
    "127.77",
    "[::ffff:127.0.0.77]",
    "[::ffff:7f00:4d]",
    "[64:ff9b::127.0.0.77]",
    "[2002:7f00:4d::1]",
    "①②⑦.0.0.77",
    "user:pw@127.0.0.77",
    "inside.test",
    "INSIDE.test.",
    "mapped.test",
    "localhost",
    "any.localhost",
)
ADDRESSES = {
    "public.test": [PUBLIC],
    "inside.test": [CANARY],
    "inside.test.": [CANARY],
    "mapped.test": [f"::ffff:{CANARY}"],
    "mixed.test": [CANARY, PUBLIC],
}


def answers(name: str) -> list[str]:
    return ADDRESSES.get(name) or [CANARY]


class Follow(Spider):
    """Follows every link, and never mind where to."""

    allowed_domains = ("*",)

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        yield {"url": response.url, "address": response.address}
        for request in response.follow_all():
            yield request


def index(*urls: str) -> bytes:
    sitemaps = "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in urls)
    return f"<sitemapindex>{sitemaps}</sitemapindex>".encode()


async def crawl(
    *starts: str, sitemap: str = "", names: Answers = answers, **settings: Any
) -> tuple[list[dict[str, str]], Report]:
    chosen = Settings(**{"obey_robots": False, "retries": 0, **settings})
    spider = Follow(start_urls=starts, sitemap_urls=[sitemap] if sitemap else [])
    transport = internet(names, chosen)
    async with scrapekit.crawl(spider, settings=chosen, transport=transport) as run:
        items = [item async for item in run]
    return items, run.report


def at(name: str, site: Site, path: str = "/") -> str:
    return f"http://{name}:{site.origin.rpartition(':')[2]}{path}"


def all_spellings(canary: Canary, path: str = "/") -> list[str]:
    return [f"http://{spelling}:{canary.port}{path}" for spelling in SPELLINGS]


async def test_links_of_a_public_page_lead_to_public_addresses_only() -> None:
    async with listening() as canary, Site({"/b": ""}) as site:
        site.pages["/"] = links(*all_spellings(canary), at("public.test", site, "/b"))
        items, report = await crawl(at("public.test", site))
    assert canary.connections == 0
    assert [item["address"] for item in items] == [PUBLIC, PUBLIC]
    assert report.dropped == {"local-network": 10}
    assert not report.errors


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_redirects_of_a_public_page_do_so_too(spelling: str, status: int) -> None:
    async with listening() as canary, Site() as site:
        site.pages["/"] = redirect(f"http://{spelling}:{canary.port}/", status)
        items, report = await crawl(at("public.test", site))
    assert (canary.connections, items) == (0, [])
    assert report.dropped == {"local-network": 1}


async def test_a_redirect_from_one_public_page_to_the_next_makes_no_difference() -> None:
    async with listening() as canary, Site() as site:
        site.pages["/"] = redirect(at("public.test", site, "/b"))
        site.pages["/b"] = redirect(f"http://inside.test:{canary.port}/")
        _, report = await crawl(at("public.test", site))
    assert canary.connections == 0
    assert report.dropped == {"local-network": 1}


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_a_robots_txt_leads_nowhere_inside(spelling: str) -> None:
    async with listening() as canary, Site({"/": ""}) as site:
        site.pages["/robots.txt"] = redirect(f"http://{spelling}:{canary.port}/robots.txt")
        items, _ = await crawl(at("public.test", site), obey_robots=True)
    # It counts as one that isn't there (RFC 9309, 2.3.1.2).
    assert (canary.connections, len(items)) == (0, 1)


async def test_no_robots_txt_is_asked_for_on_the_way_inside() -> None:
    async with listening() as canary, Site() as site:
        site.pages["/"] = links(*all_spellings(canary))
        _, report = await crawl(at("public.test", site), obey_robots=True)
    assert canary.connections == 0
    assert report.dropped == {"local-network": 10}


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_a_sitemap_leads_nowhere_inside(spelling: str) -> None:
    inside = "http://{}:{}/{}"
    async with listening() as canary, Site() as site:
        listed = [inside.format(spelling, canary.port, name) for name in ("page", "sitemap.xml")]
        site.pages["/sitemap.xml"] = index(listed[1], at("public.test", site, "/pages.xml"))
        site.pages["/pages.xml"] = "\n".join([listed[0], at("public.test", site, "/good")]).encode()
        site.pages["/good"] = ""
        items, _ = await crawl(sitemap=at("public.test", site, "/sitemap.xml"))
    assert (canary.connections, len(items)) == (0, 1)


async def test_what_is_fetched_for_a_visit_goes_no_further_than_the_visit() -> None:
    # Every other way to fetch, be it a sitemap's or one that is yet to come, is through here.
    web = FakeTransport({"http://127.0.0.77/": "inside"})
    guarded = Guarded(web, Reach(Settings()))
    led_to.set(Space.PUBLIC)
    with ByteBudget(100).account() as account, pytest.raises(Refused, match="local-network"):
        await guarded.fetch(Request("http://127.0.0.77/"), account)
    assert web.requests == []


async def test_a_crawl_of_the_local_network_goes_on_inside_it_by_itself() -> None:
    async with Site({"/b": links("/c"), "/c": ""}) as site:
        site.pages["/"] = redirect("/b")
        items, report = await crawl(site.url())
    assert [item["address"] for item in items] == ["127.0.0.1", "127.0.0.1"]
    assert not report.dropped


async def test_a_way_out_of_the_local_network_is_no_way_back() -> None:
    async with listening() as canary, Site() as site:
        site.pages["/"] = links(at("public.test", site, "/out"))
        site.pages["/out"] = links(f"http://{CANARY}:{canary.port}/")
        items, report = await crawl(site.url())
    assert canary.connections == 0
    assert [item["address"] for item in items] == ["127.0.0.1", PUBLIC]
    assert report.dropped == {"local-network": 1}


async def test_an_open_connection_is_not_shared_with_who_may_not_open_it() -> None:
    async with Site({"/": ""}) as site:
        transport = internet(answers, Settings())
        async with transport:
            with ByteBudget(10**6).account() as account:
                home = Request(site.url())
                assert (await transport.fetch(home, account)).address == "127.0.0.1"
                with pytest.raises(Refused, match="local-network: loopback"):
                    await transport.fetch(home.at_depth(1, Space.PUBLIC), account)
                await transport.fetch(home, account)
        assert site.hits == ["/", "/"]


# ---- rebinding


Turns = list[list[str] | OSError]


def in_turn(turns: Turns) -> Answers:
    """One answer after the other, the last for ever; an OSError is raised."""
    left = itertools.chain(turns, itertools.repeat(turns[-1]))

    def resolve(_name: str) -> list[str]:
        turn = next(left)
        if isinstance(turn, OSError):
            raise turn
        return turn

    return resolve


@pytest.fixture
def no_dns_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each connection resolve anew, as it will be some minutes later."""
    monkeypatch.setattr(http, "_DNS_TTL_S", 0)
    monkeypatch.setattr(names, "TTL_S", 0)


FAILS = socket.gaierror(socket.EAI_AGAIN, "try again")
REBINDINGS: dict[str, Turns] = {
    "public first": [[PUBLIC], [CANARY]],
    "mixed": [[CANARY, PUBLIC]],
    "mixed the other way": [[PUBLIC, CANARY]],
    "failing in between": [[PUBLIC], FAILS, [CANARY]],
    "any": [[PUBLIC], [f"::ffff:{CANARY}"], ["0.0.0.0"], ["::"], ["::1"], [CANARY]],
}


@pytest.mark.usefixtures("no_dns_cache")
@pytest.mark.parametrize("guard", ["local-network-safe", "public-only"])
@pytest.mark.parametrize("kind", REBINDINGS)
async def test_a_name_that_was_public_never_leads_inside(kind: str, guard: str) -> None:
    """Even where the author of the spider has written it."""

    async def reply(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        exchange.close()

    async with serve(reply) as server, listening() as canary:
        # The same port at the canary's address, as the name doesn't change its port.
        inside = socket.create_server((CANARY, server.port))
        inside.setblocking(False)
        settings = Settings(guard=guard, guard_ports=[server.port])  # type: ignore[arg-type]
        async with internet(in_turn(REBINDINGS[kind]), settings) as transport:
            fates = [await fate(transport, f"http://rebind.test:{server.port}/") for _ in range(7)]
        with inside, pytest.raises(BlockingIOError):
            inside.accept()
    assert fates[0] == "ok"
    assert set(fates) <= {"ok", "Refused", "ConnectError"}
    assert canary.connections == 0


async def fate(transport: AnyTransport, url: str) -> str:
    try:
        with ByteBudget(1000).account() as account:
            await transport.fetch(Request(url), account)
    except (ConnectError, Refused) as error:
        return type(error).__name__
    return "ok"


# ---- URLs that strangers give


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_a_strangers_url_leads_to_public_addresses_only(spelling: str) -> None:
    async with listening() as canary:
        start = f"http://{spelling}:{canary.port}/"
        items, report = await crawl(start, guard="public-only", guard_ports=[canary.port])
    assert (canary.connections, items) == (0, [])
    assert report.dropped == {"not-public": 1}
    assert not report.ok


async def test_a_strangers_public_url_is_crawled_and_its_links_are_judged_alike() -> None:
    async with listening() as canary, Site({"/b": ""}) as site:
        site.pages["/"] = links(*all_spellings(canary), "/b")
        port = int(site.origin.rpartition(":")[2])
        ports = [port, canary.port]
        start = at("public.test", site)
        items, report = await crawl(start, guard="public-only", guard_ports=ports)
    assert canary.connections == 0
    assert len(items) == 2
    assert report.dropped == {"not-public": 10}


async def test_a_stranger_chooses_among_the_ports_of_the_web() -> None:
    async with Site({"/": ""}) as site:
        items, report = await crawl(at("public.test", site), guard="public-only")
        assert (items, site.hits) == ([], [])
    assert report.dropped == {"port": 1}


async def test_names_that_do_not_resolve_fail_closed() -> None:
    def nothing(_name: str) -> list[str]:
        return ["no address"]

    _, report = await crawl("http://odd.test:80/", names=nothing, guard="public-only")
    assert report.dropped == {"not-public": 1}


# ---- proxies


@pytest.mark.parametrize("spelling", [s for s in SPELLINGS if "test" not in s.lower()])
async def test_a_proxy_is_not_asked_for_what_is_inside(spelling: str) -> None:
    async def reply(exchange: Exchange) -> None:
        page = links(f"http://{spelling}:{canary.port}/").encode()
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page))

    async with listening() as canary, serve(reply) as proxy:
        _, report = await crawl("http://public.test/", proxy=proxy.url(""))
        assert proxy.lines == ["GET http://public.test/ HTTP/1.1"]
    assert canary.connections == 0
    assert report.dropped == {"local-network": 1}


async def test_a_proxy_of_ones_own_network_may_be_used_for_strangers_urls() -> None:
    async with serve(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as proxy:
        items, _ = await crawl("http://public.test/", proxy=proxy.url(""), guard="public-only")
    assert items == [{"url": "http://public.test/", "address": ""}]


# ---- the switch


async def test_off_means_off() -> None:
    async with listening() as canary, Site() as site:
        site.pages["/"] = links(f"http://inside.test:{canary.port}/")
        await crawl(at("public.test", site), guard="off")
    assert canary.connections == 1


@pytest.mark.parametrize("guard", ["local-network-safe", "public-only"])
async def test_a_page_of_another_transport_is_judged_by_its_url(guard: str) -> None:
    web = FakeTransport({"https://shop.test/": links("http://10.0.0.1/", "http://nas.local/")})
    spider = Follow(start_urls=["https://shop.test/"])
    settings = {"guard": guard, "guard_ports": [443]}
    async with scrapekit.crawl(spider, settings=settings, transport=web) as run:
        items = [item async for item in run]
    assert len(items) == 1
    assert sum(run.report.dropped.values()) == 2
    assert all("shop.test" in url for url in web.urls)


async def test_the_callbacks_of_a_failed_page_reach_as_far_as_it_did() -> None:
    class Tries(Follow):
        def on_error(self, failure: scrapekit.Failure) -> Request | None:
            return Request(failure.url.replace("broken", "fine"))

    async with Site({"/broken": answer(404), "/fine": ""}) as site:
        spider = Tries(start_urls=[site.url("/broken")])
        items = await scrapekit.collect(spider, settings={"obey_robots": False})
        assert [item["url"] for item in items] == [site.url("/fine")]


def test_the_guard_is_on_unless_it_is_switched_off() -> None:
    assert Settings().guard == "local-network-safe"


@pytest.mark.parametrize(
    ("url", "space"),
    [
        ("http://127.0.0.1/", Space.LOOPBACK),
        ("http://[::1]/", Space.LOOPBACK),
        ("http://intranet/", Space.LOCAL),
        ("http://a.b.internal/", Space.LOCAL),
        ("http://printer.local./", Space.LOCAL),
        ("http://localhost.example.com/", Space.PUBLIC),
        ("http://example.com/", Space.PUBLIC),
    ],
)
def test_what_a_response_leads_to_is_told_by_its_url_if_by_nothing_else(
    url: str, space: Space
) -> None:
    assert Reach(Settings()).after(url, "", Space.LOOPBACK) == space
    assert Reach(Settings()).after(url, PUBLIC, Space.LOOPBACK) == Space.PUBLIC


def flipping() -> Answers:
    """A name that can't be resolved the first time, and leads inside from then on."""
    asked: list[str] = []

    def names(name: str) -> list[str]:
        if name == "public.test":
            return [PUBLIC]
        asked.append(name)
        if len(asked) == 1:
            raise OSError("try again")
        return [CANARY]

    return names


async def test_a_robots_txt_that_is_tried_again_leads_nowhere_inside() -> None:
    settings: dict[str, Any] = {"obey_robots": True, "retries": 2, "retry_delay_s": 0.01}
    async with listening() as canary, Site() as site:
        site.pages["/"] = links(f"http://flip.test:{canary.port}/")
        items, _ = await crawl(at("public.test", site), names=flipping(), **settings)
    assert (canary.connections, len(items)) == (0, 1)


async def test_what_on_error_makes_of_a_redirect_leads_nowhere_inside() -> None:
    class Again(Follow):
        def on_error(self, failed: Failure) -> Iterator[Request]:
            assert isinstance(failed.error, SiteError)
            yield Request(failed.error.url)

    async with listening() as canary, Site() as site:
        site.pages["/"] = redirect(f"http://flip.test:{canary.port}/")
        chosen = Settings(obey_robots=False, retries=0)
        spider = Again(start_urls=[at("public.test", site)])
        transport = internet(flipping(), chosen)
        async with scrapekit.crawl(spider, settings=chosen, transport=transport) as run:
            await run.wait()
    assert canary.connections == 0
    assert run.report.dropped == {"local-network": 1}


@pytest.mark.parametrize("by", ["page", "sitemap"])
async def test_nothing_public_can_keep_the_author_from_a_local_start_url(by: str) -> None:
    class Late(Follow):
        async def start(self) -> AsyncIterator[Request]:
            if by == "page":
                yield Request(at("public.test", site))
            # What is public has been seen, with all that it names.
            while not site.hits or run.in_flight or run.pending:
                await idle()
            yield Request(local.url("/api"))

    async with Site({"/api": ""}) as local, Site() as site:
        api = local.url("/api")
        site.pages["/"] = links(api)
        site.pages["/s.xml"] = f"<urlset><url><loc>{api}</loc></url></urlset>".encode()
        chosen = Settings(obey_robots=False, retries=0)
        maps = [at("public.test", site, "/s.xml")] if by == "sitemap" else []
        transport = internet(answers, chosen)
        spider = Late(sitemap_urls=maps)
        async with scrapekit.crawl(spider, settings=chosen, transport=transport) as run:
            items = [item async for item in run]
    assert local.hits == ["/api"]
    assert items[-1]["url"] == api
    assert run.report.dropped == {"local-network": 1}
