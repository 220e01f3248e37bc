from __future__ import annotations

import pytest

from scrapekit.budget import ByteBudget
from scrapekit.clock import ManualClock
from scrapekit.errors import ConnectError, ProxyError
from scrapekit.messages import Request, Response
from scrapekit.sending import Sender
from scrapekit.settings import Settings
from scrapekit.testing import FakeTransport

URL = "https://shop.test/"
A, B = "http://a", "http://b"


class Web:
    """A site behind two proxies, of which some are `down`."""

    def __init__(self, **settings: object) -> None:
        self.clock = ManualClock()
        self.down: dict[str, Exception] = {}
        self.transport = FakeTransport({URL: self._answer})
        known = Settings(proxies=(A, B), proxy_bench_s=60.0, **settings)  # type: ignore[arg-type]
        self.sender = Sender(self.transport, known, self.clock)

    def _answer(self, request: Request) -> Response | Exception:
        return self.down.get(request.proxy or "") or Response(URL, 200)

    async def send(self, request: Request | None = None) -> Response:
        with ByteBudget(1).account() as account:
            return await self.sender.send(request or Request(URL), account)

    @property
    def ways(self) -> list[str | None]:
        ways = [request.proxy for request in self.transport.requests]
        self.transport.requests.clear()
        return ways


async def test_a_dead_proxy_is_passed_over_until_its_date() -> None:
    web = Web()
    web.down[A] = ProxyError("refused", url=URL)
    await web.send()
    assert web.ways == [A, B]
    await web.send()
    assert web.ways == [B]
    web.clock.advance(60)
    await web.send()
    await web.send()
    assert sorted(filter(None, web.ways)) == [A, B, B]
    web.clock.advance(119)
    web.down.clear()
    await web.send()
    assert web.ways == [B]
    web.clock.advance(1)
    await web.send()
    await web.send()
    assert set(web.ways) == {A, B}


async def test_all_dead_is_the_last_ones_error() -> None:
    web = Web()
    web.down = {A: ProxyError("no a", url=URL), B: ProxyError("no b", url=URL)}
    with pytest.raises(ProxyError, match="no b"):
        await web.send()
    assert web.ways == [A, B]


async def test_what_may_have_reached_the_site_is_not_sent_again() -> None:
    web = Web()
    web.down[A] = ConnectError("the site hung up", url=URL)
    with pytest.raises(ConnectError):
        await web.send()
    assert web.ways == [A]


async def test_without_cookies_and_credentials_the_request_goes_as_it_is() -> None:
    web = Web()
    request = Request(URL, proxy="http://own")
    await web.send(request)
    assert web.transport.requests[0] is request


def test_repr_shows_no_secrets() -> None:
    sender = Sender(
        FakeTransport({}),
        Settings(proxies=("http://me:secret@a",), auth={URL: "me:secret"}),
        ManualClock(),
    )
    assert "secret" not in repr(sender)
