"""Scrapy's published advisories: what was possible there and isn't here.

One test for each, named after its CVE, or after its GHSA number where it has no CVE. From Scrapy's
release notes up to 2.19 and the advisory databases of GitHub and PyPI (November 2026).

Does not apply: CVE-2026-84366 (GHSA-76g3-c3x4-crvx, S3 over plain HTTP), but for its class, a
scheme that is rewritten: there are no schemes but http and https, and none is changed.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import AsyncIterator
from typing import Any

import brotli  # type: ignore[import-untyped]
import psutil
import pytest

import scrapekit
from scrapekit import Request, Response, Settings, Spider, guard
from scrapekit.errors import InvalidURL, RedirectError
from scrapekit.testing import FakeTransport
from tests.functional.site import Site, answer, links, redirect
from tests.rawserver import Exchange, serve
from tests.security.measure import MEBIBYTE, memory
from tests.security.pretend import Names
from tests.transports import make_transport

pytestmark = pytest.mark.usefixtures("each_transport")

SECRET = "hunter2"


class Asks(Spider):
    """Asks for its start URLs with a secret, and follows every link."""

    allowed_domains = ("*",)
    with_: str = "Authorization"

    async def start(self) -> AsyncIterator[Request]:
        for url in self.start_urls:
            if self.with_ == "cookies":
                yield Request(url, cookies={"session": SECRET})
            else:
                yield Request(url, headers={self.with_: SECRET})

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        yield {"url": response.url, "status": response.status}
        for request in response.follow_all():
            yield request


async def crawled(spider: Spider, **options: Any) -> Any:
    settings = {"obey_robots": False, "retries": 0, **options.pop("settings", {})}
    async with scrapekit.crawl(spider, settings=settings, **options) as run:
        await run.wait()
    return run.report


async def led_elsewhere(way: str, with_: str) -> tuple[str, str]:
    """What two origins get, of which the first leads to the second."""
    async with Site({"/": ""}) as other, Site() as site:
        site.pages["/"] = redirect(other.url()) if way == "redirect" else links(other.url())
        await crawled(Asks(start_urls=[site.url()], with_=with_))
        got = [str(dict(request.headers)) for request in (*site.requests, *other.requests)]
    assert len(got) == 2
    return got[0], got[1]


async def test_cve_2017_14158_large_files_fill_the_memory() -> None:
    """Files without end were read whole, as many at once as were linked."""
    budget = 16 * MEBIBYTE

    async def endless(exchange: Exchange) -> None:
        if exchange.line.startswith("GET / "):
            page = links(*[f"/{number}" for number in range(20)]).encode()
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page)
            return
        await exchange.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await exchange.send(bytes(65_536))

    settings = {"max_bytes_in_flight": budget, "max_body_bytes": 4 * MEBIBYTE}
    async with serve(endless) as server, memory() as peak:
        report = await crawled(Asks(start_urls=[server.url()]), settings=settings)
    assert [(group.error, group.count) for group in report.errors] == [("BodyTooLarge", 20)]
    assert peak.grown <= budget + 64 * MEBIBYTE


async def test_release_1_5_2_a_console_listens_on_a_port() -> None:
    """The telnet console let web pages run code. It had no CVE. Here nothing listens at all."""

    def listening() -> set[int]:
        connections = psutil.Process().net_connections("inet")
        return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}

    seen: list[set[int]] = []

    class Looks(Spider):
        async def parse(self, response: Response) -> None:
            seen.append(listening())

    async with Site({"/": ""}) as site:
        before = listening()
        await crawled(Looks(start_urls=[site.url()]))
    assert seen == [before]


async def test_cve_2021_41125_credentials_of_the_settings_go_to_every_site() -> None:
    """GHSA-jwqp-28gf-p498: also with requests for robots.txt, and by redirects."""
    settings = {
        "headers": {"Authorization": f"Basic {SECRET}"},
        "cookies": {"a": SECRET},
        "obey_robots": True,
    }
    async with serve(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as other, Site() as site:
        site.pages["/"] = links(other.url("/linked"), "/away")
        site.pages["/away"] = redirect(other.url("/redirected"))
        spider = Asks(start_urls=[site.url()], with_="Accept-Language")
        await crawled(spider, settings=settings)
    assert {line.split(" ")[1] for line in other.lines} == {
        "/robots.txt",
        "/linked",
        "/redirected",
    }
    assert SECRET.encode() not in b"".join(request.head for request in other.requests)
    assert SECRET in str(site.requests[0].headers)


@pytest.mark.parametrize("with_", ["cookies", "Cookie"])
async def test_cve_2022_0577_cookies_of_a_request_are_redirected(with_: str) -> None:
    """GHSA-cjvr-mfj7-j4j8."""
    home, elsewhere = await led_elsewhere("redirect", with_)
    assert SECRET in home
    assert SECRET not in elsewhere


@pytest.mark.parametrize("suffix", ["test", "co.uk", "github.io"])
async def test_ghsa_mfjm_vh54_3f96_cookies_of_a_public_suffix_reach_other_sites(
    suffix: str,
) -> None:
    """A site set a cookie for all of co.uk."""
    cookie = f"planted={SECRET}; Domain={suffix}; Path=/"
    async with Site({"/b": ""}) as other, Site() as site:
        port = other.origin.rpartition(":")[2]
        there = f"http://other.{suffix}:{port}/b"
        site.pages["/"] = answer(200, links(there), Set_Cookie=cookie, Content_Type="text/html")
        start = f"http://evil.{suffix}:{site.origin.rpartition(':')[2]}/"
        names = Names(lambda _name: ["127.0.0.1"])
        await crawled(
            Asks(start_urls=[start], with_="Accept-Language"),
            transport=make_transport(Settings(), resolver=names),
        )
        assert other.hits == ["/b"]
        assert SECRET not in str(other.requests[0].headers)


async def test_ghsa_9x8m_2xpf_crp3_one_proxy_gets_the_credentials_of_another() -> None:
    """They had become a header of the request, and outlived a change of the proxy."""
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with serve(ok) as first, serve(ok) as second:
        request = Request("http://site.test/")
        for proxy, pair in ((first, f"a:{SECRET}"), (second, "b:other")):
            settings = Settings(proxy=proxy.url("").replace("//", f"//{pair}@"))
            async with make_transport(settings) as transport:
                with scrapekit.budget.ByteBudget(100).account() as account:
                    response = await transport.fetch(request, account)
            assert response.request.headers == {}
        header = second.requests[0].header("Proxy-Authorization") or ""
    assert base64.b64decode(header.removeprefix("Basic ")) == b"b:other"
    assert request.headers == {}


def test_cve_2024_1892_a_regular_expression_backtracks_over_a_page() -> None:
    """GHSA-cc65-xxvf-f7r9. `test_parsers` measures every reader; this is the shape from there."""
    body = b"<" + b"\t" * 500_000 + b"<meta " + b"a " * 500_000
    response = Response("https://shop.test/", 200, {"Content-Type": "text/html"}, body)
    # Were it quadratic, this would take hours.
    assert response.encoding == "utf-8"
    assert response.urljoin("/a") == "https://shop.test/a"


async def bombed(size: int, limit: int) -> None:
    """A page of `size` bytes, which are few on the wire, costs hardly more than `limit`."""
    data = brotli.compress(bytes(size), quality=1)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: %d\r\n\r\n" % len(data)
    async with serve(head + data) as server, memory() as peak:
        spider = Asks(start_urls=[server.url()])
        report = await crawled(spider, settings={"max_body_bytes": limit})
    assert report.errors[0].error == "BodyTooLarge"
    assert peak.grown <= limit + 32 * MEBIBYTE


async def test_cve_2024_3572_a_small_page_inflates_without_bound() -> None:
    """GHSA-7j7m-v7m3-jqm7: the limit was for what was sent, not for what came of it."""
    await bombed(64 * MEBIBYTE, 4 * MEBIBYTE)


async def test_cve_2024_3574_authorization_is_redirected_to_another_domain() -> None:
    """GHSA-cw9j-q3vf-hrrv."""
    home, elsewhere = await led_elsewhere("redirect", "Authorization")
    assert SECRET in home
    assert SECRET not in elsewhere


@pytest.mark.parametrize("there", ["http://shop.test/", "https://shop.test:8443/"])
def test_cve_2024_1968_authorization_is_redirected_to_another_scheme_or_port(there: str) -> None:
    """GHSA-4qqq-9vqf-3h3f."""
    request = Request("https://shop.test/", headers={"Authorization": SECRET})
    assert guard.redirect(request, request.url, 302, there).headers == {}


@pytest.mark.parametrize(
    "there", ["file:///etc/passwd", "data:text/html,x", "ftp://x/", "s3://bucket/key", "blob:x"]
)
async def test_ghsa_23j4_mw76_5v7h_a_redirect_leads_to_local_files(there: str) -> None:
    with pytest.raises(RedirectError):
        guard.redirect(Request("http://shop.test/"), "http://shop.test/", 302, there)
    with pytest.raises(InvalidURL):
        Request(there)
    async with Site({"/": redirect(there)}) as site:
        report = await crawled(Asks(start_urls=[site.url()]))
    assert report.errors[0].error == "RedirectError"


async def test_ghsa_jm3v_qxmh_hxwv_a_redirect_goes_through_the_wrong_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The proxy of one scheme was kept for the other. Here there is one proxy or none, and the
    environment has no say.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{listener.getsockname()[1]}")
        async with Site({"/": redirect("/b"), "/b": ""}) as site:
            report = await crawled(Asks(start_urls=[site.url()]))
        assert report.pages == 1
        with pytest.raises(BlockingIOError):
            listener.accept()


async def test_cve_2025_6176_brotli_inflates_in_one_step() -> None:
    """GHSA-2qfp-q593-8484: the limit was looked at after a chunk had been decompressed."""
    await bombed(512 * MEBIBYTE, MEBIBYTE)


async def test_cve_2026_105782_a_header_names_what_is_imported_and_called() -> None:
    """GHSA-cwxj-rr6w-m6w7: `Referrer-Policy: sys.exit` ended the crawl. No Referer is sent here,
    no header is looked at for it, and `test_parsers` sees to it that nothing is imported.
    """
    async with Site({"/b": ""}) as site:
        site.pages["/"] = answer(
            200, links("/b"), Referrer_Policy="sys.exit", Content_Type="text/html"
        )
        report = await crawled(Asks(start_urls=[site.url()]))
        assert site.hits == ["/", "/b"]
        assert "Referer" not in site.requests[1].headers
    assert report.pages == 2


async def test_cve_2026_84366_a_scheme_is_rewritten_to_plain_http() -> None:
    """GHSA-76g3-c3x4-crvx: requests to s3:// went out as http://, with the credentials."""
    with pytest.raises(InvalidURL, match="only http and https"):
        Request("s3://bucket/key", headers={"Authorization": SECRET})
    web = FakeTransport({"https://shop.test/": links("s3://bucket/key", "s3:key")})
    await crawled(Asks(start_urls=["https://shop.test/"]), transport=web)
    assert web.urls == ["https://shop.test/"]


@pytest.mark.parametrize("status", [301, 302])
def test_release_2_14_2_a_form_is_redirected_with_its_body(status: int) -> None:
    """It had no number: POST stayed POST, and took its body along to another origin."""
    form = Request("https://shop.test/login", data={"password": SECRET})
    after = guard.redirect(form, form.url, status, "https://evil.test/")
    assert (after.method, after.body, after.headers) == ("GET", b"", {})


def test_release_2_11_2_entities_are_resolved_in_feeds() -> None:
    """It had no number. There is no XML parser here; see `test_parsers` for HTML."""
    body = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><p>&x;</p>'
    response = Response("https://shop.test/", 200, {"Content-Type": "text/xml"}, body)
    assert response.get("p") == "&x;"
