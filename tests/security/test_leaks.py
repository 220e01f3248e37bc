"""Credentials stay home: eight secrets, six ways to another origin, six ways to be led there."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import logging
import ssl
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scrapekit
from scrapekit import Request, Response, Settings, Spider
from scrapekit.config import Source, merge, parse_assignments
from scrapekit.errors import InvalidURL, RedirectError, without_userinfo
from scrapekit.guard import Credentials, Scope, public_headers, redirect
from scrapekit.limits import LimitsTable
from scrapekit.sitemapfeed import SitemapFeed
from scrapekit.starts import check as check_starts
from tests.rawserver import Exchange, RawServer, serve
from tests.security.pretend import Names
from tests.transports import make_transport

pytestmark = pytest.mark.usefixtures("each_transport")

SECRET = "hunter2"
"""In each secret; nothing else that is sent contains it."""


class Change(NamedTuple):
    """Where the secret is at home, and where it is led."""

    home: str
    other: str


CHANGES = {
    "downgrade": Change("https://shop.test", "http://shop.test"),
    "upgrade": Change("http://shop.test", "https://shop.test"),
    "port": Change("http://shop.test", "http://shop.test"),
    "host": Change("http://shop.test", "http://evil.test"),
    "subdomain": Change("http://shop.test", "http://api.shop.test"),
    "parent": Change("https://www.shop.test", "https://shop.test"),
}
SECRETS: dict[str, dict[str, Any]] = {
    "authorization": {"headers": {"Authorization": f"Bearer {SECRET}"}},
    "cookie": {"cookies": {"session": SECRET}},
    "custom header": {"headers": {"X-Api-Key": SECRET}},
    "body": {"body": f'{{"password": "{SECRET}"}}', "method": "PUT"},
    "proxy credentials": {},
    "proxy of the request": {},
    "auth": {"auth": ("me", SECRET)},
    "cookie of the site": {},
}
SHARED = {("cookie of the site", "upgrade"), ("cookie of the site", "port")}
"""Cookies that a site sets belong to a host, whatever its port (RFC 6265, 8.5). What came by http
may go to https, but not the other way round."""
TRIGGERS = ("redirect", "retry", "meta refresh", "robots", "proxy switch", "sitemap")
CELLS = list(itertools.product(SECRETS, CHANGES, TRIGGERS))


def answer(status: str, *headers: str, body: str = "") -> bytes:
    fields = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*fields, "", body]).encode()


class Recorder:
    """A server that keeps every byte it gets, and answers by path; several answers in turn."""

    def __init__(self) -> None:
        self.pages: dict[str, list[bytes]] = {}
        self.got: list[bytes] = []
        self.server: RawServer

    async def reply(self, exchange: Exchange) -> None:
        size = int(exchange.header("Content-Length") or 0)
        self.got.append(exchange.head + await exchange.reader.readexactly(size))
        path = exchange.line.split(" ")[1]
        answers = self.pages.get(path, [answer("404 Not Found")])
        await exchange.send(answers.pop(0) if len(answers) > 1 else answers[0])

    @property
    def text(self) -> str:
        """All that came, and what of it was Basic, in clear."""
        raw = b"".join(self.got)
        basic = [line.split()[-1] for line in raw.splitlines() if b" Basic " in line]
        return raw.decode("latin-1") + b" ".join(map(base64.b64decode, basic)).decode("latin-1")


class Proxy:
    """A forwarding proxy that leads every name to loopback, and keeps what is meant for itself."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.port = 0

    @property
    def credentials(self) -> list[str]:
        """The user names and passwords that came."""
        values = [line for line in b"".join(self.heads).splitlines() if b"Proxy-Auth" in line]
        return [base64.b64decode(value.split()[-1]).decode() for value in values]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
            address = target if method == b"CONNECT" else target.split(b"/")[2]
            there_reader, there = await asyncio.open_connection(
                "127.0.0.1", int(address.rpartition(b":")[2])
            )
            if method == b"CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(reader, there))
                    both.create_task(_pump(there_reader, writer))
                return
            there.write(_forwarded(head) + await _body(head, reader))
            answered = await there_reader.readuntil(b"\r\n\r\n")
            writer.write(answered + await _body(answered, there_reader))
            there.close()


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    """What follows a header that tells its length, or doesn't."""
    lengths = [line for line in head.splitlines() if line.lower().startswith(b"content-length:")]
    return await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)


def _forwarded(head: bytes) -> bytes:
    """RFC 9110, 11.7.2: a proxy consumes the credentials that are meant for it."""
    first, *fields = head.split(b"\r\n")
    method, target, version = first.split(b" ")
    path = b"/" + target.split(b"/", 3)[3]
    kept = [field for field in fields if not field.lower().startswith(b"proxy-")]
    return b"\r\n".join([b" ".join([method, path, version]), *kept])


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


@asynccontextmanager
async def proxying() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await proxy.handle(reader, writer)
        except (asyncio.CancelledError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Cell:
    """Two origins, and the way from the one to the other."""

    def __init__(self, secret: str, change: str, trigger: str) -> None:
        self.secret, self.change, self.trigger = secret, CHANGES[change], trigger
        self.home, self.other = Recorder(), Recorder()
        self.proxies: list[Proxy] = []

    async def open(self, stack: AsyncExitStack, tls: ssl.SSLContext) -> None:
        for origin, recorder in ((self.change.home, self.home), (self.change.other, self.other)):
            context = tls if origin.startswith("https") else None
            recorder.server = await stack.enter_async_context(serve(recorder.reply, tls=context))
        if self.secret.startswith("proxy") or self.trigger == "proxy switch":
            self.proxies = [await stack.enter_async_context(proxying()) for _ in range(2)]

    @property
    def start(self) -> str:
        return f"{self.change.home}:{self.home.server.port}/"

    @property
    def target(self) -> str:
        return f"{self.change.other}:{self.other.server.port}/"

    def script(self) -> None:
        """What the origins answer."""
        self.other.pages["/"] = [answer("200 OK", body="there")]
        self.home.pages["/sets"] = [answer("303 See Other", "Location: /", *self.sets())]
        self.home.pages["/robots.txt"] = [answer("404 Not Found")]
        way = answer("303 See Other", f"Location: {self.target}")
        if self.trigger == "redirect":
            way = answer("307 Temporary Redirect", f"Location: {self.target}")
        elif self.trigger == "retry":
            self.home.pages["/"] = [answer("503 Busy"), way]
            self.other.pages["/"].insert(0, answer("503 Busy"))
            return
        elif self.trigger == "meta refresh":
            refresh = f'<meta http-equiv=refresh content="0; url={self.target}">'
            way = answer("200 OK", body=refresh)
        elif self.trigger == "robots":
            there = f"Location: {self.target}robots.txt"
            self.home.pages["/robots.txt"] = [answer("302 Found", there)]
        elif self.trigger == "sitemap":
            listed = f"<urlset><url><loc>{self.target}</loc></url></urlset>"
            self.home.pages["/sitemap.xml"] = [answer("200 OK", *self.sets(), body=listed)]
            way = answer("200 OK")
        self.home.pages["/"] = [way]

    def sets(self) -> list[str]:
        """The header by which the site sets its cookie, if that is the secret."""
        is_secret = self.secret == "cookie of the site"
        return [f"Set-Cookie: session={SECRET}"] if is_secret else []

    def settings(self, number: int = 0, secret: str = SECRET) -> Settings:
        chosen: dict[str, Any] = {
            "obey_robots": self.trigger == "robots",
            "retry_delay_s": 0.0,
            "verify_tls": False,
        }
        if self.secret == "cookie":
            chosen["cookies"] = {"of_settings": secret}
        if self.secret == "custom header":
            chosen["headers"] = {"X-Of-Settings": secret}
        if self.secret == "auth":
            chosen["auth"] = {self.start: f"me:{secret}"}
        if self.secret == "proxy of the request":
            chosen["proxy"] = self.proxy(1, "another")
        elif self.proxies:
            chosen["proxy"] = self.proxy(number, secret)
        return Settings(**chosen)

    def proxy(self, number: int, secret: str) -> str:
        return f"http://me:{secret}@127.0.0.1:{self.proxies[number].port}"

    def spider(self) -> Spider:
        """Goes where it is led; `given` is what makes its first request private."""
        given = dict(SECRETS[self.secret])
        if self.secret == "proxy of the request":
            given["proxy"] = self.proxy(0, SECRET)
        start = f"{self.start}sets" if self.secret == "cookie of the site" else self.start
        sitemaps = [f"{self.start}sitemap.xml"] if self.trigger == "sitemap" else []
        return Led(start_urls=[start], given=given, sitemap_urls=sitemaps)

    async def crawl(self) -> None:
        await self._crawl(self.spider(), self.settings())
        if self.trigger == "proxy switch":
            again = Led(start_urls=[self.target])
            await self._crawl(again, self.settings(1, "another"))

    async def _crawl(self, spider: Spider, settings: Settings) -> None:
        # The transport gets what crawl() gives to its own: the rest is for the crawl to hand out.
        public = msgspec.structs.replace(settings, headers=public_headers(settings.headers))
        transport = make_transport(public, resolver=Names(lambda _name: ["127.0.0.1"]))
        async with scrapekit.crawl(spider, settings=settings, transport=transport) as run:
            await run.wait()


class Led(Spider):
    """Asks for a page with a secret, and follows where that leads."""

    allowed_domains = ("*",)
    given: Mapping[str, Any] = MappingProxyType({})

    async def start(self) -> AsyncIterator[Request]:
        yield Request(self.start_urls[0], **self.given)

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        refresh = response.get("meta[http-equiv=refresh]::attr(content)")
        if refresh:
            yield response.follow(refresh.partition("url=")[2])


def test_there_are_nearly_three_hundred_cells() -> None:
    assert len(CELLS) == len(set(CELLS)) == 288


@pytest.mark.parametrize(("secret", "change", "trigger"), CELLS)
async def test_no_secret_changes_its_origin(
    tls: ssl.SSLContext, secret: str, change: str, trigger: str
) -> None:
    cell = Cell(secret, change, trigger)
    async with AsyncExitStack() as stack:
        await cell.open(stack, tls)
        cell.script()
        await cell.crawl()
    assert (SECRET in cell.other.text) is ((secret, change) in SHARED)
    # The cell would be empty if nothing came where it may, or nobody was led away.
    if secret.startswith("proxy"):
        assert f"me:{SECRET}" in cell.proxies[0].credentials
        assert SECRET not in cell.home.text
    else:
        assert SECRET in cell.home.text
    if cell.proxies:
        assert all("another" in pair for pair in cell.proxies[1].credentials)
    if not (secret == "body" and trigger == "redirect"):
        assert cell.other.got


# ---- user names and passwords in URLs

PAIR = f"someone:{SECRET}"
BASIC = base64.b64encode(PAIR.encode()).decode()


class Curious(Spider):
    """Writes down what it sees of a page, and fails on every other one."""

    def parse(self, response: Response) -> Any:
        yield {"url": response.url, "request": repr(response.request), "links": len(response.body)}
        yield from response.follow_all()
        if response.url.endswith("/fails"):
            raise ValueError(response.url)


async def test_user_and_password_of_a_url_are_sent_and_nowhere_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    caplog.set_level(logging.DEBUG)
    async with serve(recorder.reply) as server:
        host = f"127.0.0.1:{server.port}"
        page = f'<a href="http://{PAIR}@{host}/fails">a</a><a href="/away">b</a>'
        recorder.pages["/"] = [answer("200 OK", body=page)]
        recorder.pages["/fails"] = [answer("200 OK")]
        recorder.pages["/away"] = [answer("302 Found", f"Location: http://{PAIR}@[/")]
        starts = [f"http://{PAIR}@{host}/", f"http://{PAIR}@{host}/broken"]
        outputs = [tmp_path / "items.jsonl", tmp_path / "items.csv", tmp_path / "items.json"]
        options: dict[str, Any] = {"settings": {"obey_robots": False, "retries": 0}}
        async with scrapekit.crawl(Curious(start_urls=starts), output=outputs, **options) as run:
            await run.wait()
    shown = [caplog.text, str(run.report), repr(run), repr(run.report)]
    written = [path.read_text() for path in outputs]
    assert all(SECRET not in text and BASIC not in text for text in shown + written)
    assert recorder.got[0].count(BASIC.encode()) == 1
    assert b"Referer" not in b"".join(recorder.got)
    assert {group.error for group in run.report.errors} == {
        "ValueError",
        "RedirectError",
        "BadStatus 404",
    }
    assert all("127.0.0.1" in json.loads(line)["url"] for line in written[0].splitlines())


@pytest.mark.parametrize(
    "url",
    [
        f"http://{PAIR}@exa mple.com/",
        f"http://{PAIR}@[::1/",
        f"http:\\\\{PAIR}@[",
        f"//{PAIR}@example.com/",
        f"{PAIR}@example.com/",
        f"ftp://{PAIR}@example.com/",
        f"http://someone:pass@word:x/{SECRET}@example.com:99999/",
        f"someone:1{SECRET}@example.com",
        f"  http://{PAIR}@/",
    ],
)
def test_a_url_that_is_none_is_told_without_user_and_password(url: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        Request(url)
    assert SECRET not in str(caught.value) + caught.value.url + caught.value.reason
    assert "someone" not in str(caught.value) + caught.value.url


# Between user name and password, and behind them: as they are meant, as they are encoded, and as
# somebody may get them wrong.
SEPARATORS = st.sampled_from([":", "%3A", "%3a", "::"])
ATS = st.sampled_from(["@", "%40", "%2540", "@@", "@x@"])
STARTS = st.sampled_from(
    ["http://", "https:/", "HTTP:\\\\", "//", "", "ftp://", " http://", "http:///"]
)
ENDS = st.sampled_from(
    ["h", "h:99999", "[", "h h", "", "h\n", "h/%", "[::1", "h:x/", "\x00", "h#?"]
)
WRONG_URLS = st.tuples(STARTS, st.just("me"), SEPARATORS, st.just(SECRET), ATS, ENDS).map("".join)

MISTAKES: dict[str, Callable[[str], object]] = {
    "request": Request,
    "redirect": lambda url: redirect(Request("http://a.test/"), "http://a.test/", 302, url),
    "body": lambda url: redirect(
        Request("http://a.test/", method="PUT", body="x"), "http://a.test/", 307, url
    ),
    "follow": lambda url: Response("http://a.test/", 200, {}, b"").follow(url),
    "start_urls": lambda url: check_starts(Spider(start_urls=url)),
    "start_urls in a list": lambda url: check_starts(Spider(start_urls=[url])),
    "start_urls as bytes": lambda url: check_starts(Spider(start_urls=[url.encode()])),
    "sitemap_urls": lambda url: SitemapFeed(Spider(sitemap_urls=url), print).prepare(),
    "allowed_domains": Scope,
    "allowed_domains in a list": lambda url: Scope([url]),
    "request's proxy": lambda url: Request("http://a.test/", proxy=url),
    "proxy": lambda url: Settings(proxy=url),
    "proxies": lambda url: Settings(proxies=(url,)),
    "proxies as text": lambda url: Settings(proxies=cast("Any", url)),
    "auth": lambda url: Credentials({}, {}, Settings(auth={url: "a:b"}).auth),
    "domains": lambda url: LimitsTable(Settings(domains=cast("Any", {url: {"delay_s": 1}}))),
    "proxy by -s": lambda url: settle(parse_assignments([f"proxy={url}"])),
    "no assignment": lambda url: parse_assignments([f"proxy:{url}".replace("=", "")]),
}


@pytest.mark.parametrize("name", MISTAKES)
@given(url=WRONG_URLS)
def test_no_mistake_in_a_url_shows_its_user_and_password(name: str, url: str) -> None:
    # What has no scheme may be a path, and that of a page is no secret.
    is_path = url[0] not in "hH/" and name in ("redirect", "body", "follow")
    assert SECRET not in outcome(MISTAKES[name], url) or is_path


WRONG_VALUES = st.sampled_from(
    [f"{SECRET}\nX: y", f"{SECRET}\r", f"{SECRET}\0", f"{SECRET}\udcff", f"{SECRET};\x7f"]
)
WITH_VALUES: dict[str, Callable[[str], object]] = {
    "header": lambda value: Request("http://a.test/", headers={"X-Any": value}),
    "header as a name": lambda value: Request("http://a.test/", headers={f"X-Any: {value}": "a"}),
    "cookie": lambda value: Request("http://a.test/", cookies={"any": value}),
    "cookie as a name": lambda value: Request("http://a.test/", cookies={f"any={value}": "a"}),
    "auth": lambda value: Request("http://a.test/", auth=("me", value)),
    "auth as text": lambda value: Request("http://a.test/", auth=f"Bearer {value}"),
    "headers": lambda value: Settings(headers={"X-Any": value}),
    "headers as names": lambda value: Settings(headers={f"X-Any: {value}": "a"}),
    "headers as text": lambda value: Settings(headers=cast("Any", value)),
    "headers as a list": lambda value: Settings(headers=cast("Any", [("X-Any", value)])),
    "cookies": lambda value: Settings(cookies={"any": value}),
    "cookies as names": lambda value: Settings(cookies={f"any={value}": "a"}),
    "auth of settings": lambda value: Settings(auth={"https://a.test": value}),
    "auth of no origin": lambda value: Settings(
        auth=cast("Any", {f"a.test:{value}": "a:b", "x": 1})
    ),
    "a proxy in the other order": lambda value: Settings(proxy=f"h:8080:me:{value}"),
    "proxies in the other order": lambda value: Settings(proxies=(f"h:8080:me:{value}",)),
    "headers by -s": lambda value: settle(parse_assignments([f"headers=X-Any: {value}"])),
    "json by -s": lambda value: settle(parse_assignments([f'headers={{"X-Any": "{value}"'])),
    "no assignment": lambda value: parse_assignments([f"headers: {value}"]),
}


@pytest.mark.parametrize("name", WITH_VALUES)
@given(value=WRONG_VALUES)
def test_no_mistake_in_a_secret_shows_it(name: str, value: str) -> None:
    assert SECRET not in outcome(WITH_VALUES[name], value)


def outcome(make: Callable[[str], object], given: str) -> str:
    """All that is shown of what was made, or why it couldn't be."""
    try:
        return repr(make(given))
    except Exception as error:
        return told(error)


def told(error: BaseException) -> str:
    """All that a traceback shows of an error, and what it carries."""
    facts = repr(error) + repr(vars(error))
    return facts + "".join(line for line in traceback.format_exception_only(error))


def settle(source: Source) -> Settings:
    return merge(source)


def test_a_redirect_that_leads_nowhere_is_told_without_them_as_well() -> None:
    with pytest.raises(RedirectError) as caught:
        redirect(Request("http://shop.test/"), "http://shop.test/", 302, f"ftp://{PAIR}@x/")
    assert str(caught.value) == "status 302 leads to 'ftp://***@x/'"


@pytest.mark.parametrize("same", ["", "http://example.com/", "/a/b", "mailto:"])
def test_a_url_without_them_is_shown_as_it_is(same: str) -> None:
    assert without_userinfo(same) == same
