"""FastTransport on asyncio's loop and on uvloop: a connection that is given up while it is made."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import struct
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import pytest

from scrapekit.budget import ByteBudget
from scrapekit.errors import SiteError
from scrapekit.messages import Request
from scrapekit.settings import Settings
from scrapekit.transport.fast.dialler import MakeLine
from scrapekit.transport.fast.line import Line
from scrapekit.transport.fast.pool import Pool
from scrapekit.transport.fast.transport import FastTransport
from tests.rawserver import serve

HELLO: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
# Before the connection is made, in the same turn of the loop, and in those that follow.
MOMENTS: Final = range(-1, 4)

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on that loop, and fails for what the loop complains about."""
    name = request.param
    factory = asyncio.new_event_loop if name == "asyncio" else _uvloop()
    complaints: list[dict[str, Any]] = []

    def run_it(coro: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.get_loop().set_exception_handler(lambda _, what: complaints.append(what))
            runner.run(coro)
        gc.collect()
        assert not complaints

    return run_it


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    make: Callable[[], asyncio.AbstractEventLoop] = pytest.importorskip("uvloop").new_event_loop
    return make


@contextmanager
def serving(tls: ssl.SSLContext | None) -> Iterator[str]:
    """A server on a loop of its own, so that the numbers of its sockets come when they come."""
    started, stop, url = threading.Event(), asyncio.Event(), []

    async def main() -> None:
        async with serve(HELLO, tls=tls) as server:
            url.append((server.url(), asyncio.get_running_loop()))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    started.wait()
    try:
        yield url[0][0]
    finally:
        url[0][1].call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture(params=["http", "https"])
def site(request: pytest.FixtureRequest) -> Iterator[str]:
    tls = request.getfixturevalue("tls") if request.param == "https" else None
    with serving(tls) as url:
        yield url


def in_turns(turns: int, call: Callable[[], object]) -> None:
    """Call it after so many turns of the loop; -1: now."""
    if turns < 0:
        call()
    else:
        asyncio.get_running_loop().call_soon(in_turns, turns - 1, call)


async def fetch(transport: FastTransport, url: str) -> int:
    with ByteBudget(1_000).account() as account:
        return (await transport.fetch(Request(url), account)).status


def open_transport() -> FastTransport:
    return FastTransport(Settings(guard="off", verify_tls=False))


@contextmanager
def once_made(moment: int, call: Callable[[], object]) -> Iterator[None]:
    """Call it so many turns after the first connection is there for requests."""
    with pytest.MonkeyPatch.context() as patch:
        made = Line.connection_made

        def tell(line: Line, transport: asyncio.BaseTransport) -> None:
            patch.undo()
            in_turns(moment, call)
            made(line, transport)

        patch.setattr(Line, "connection_made", tell)
        yield


def once_begun(transport: FastTransport, moment: int, call: Callable[[], object]) -> None:
    """Call it so many turns after the loop is about to get the socket of a connection."""
    dialler = transport._dialler
    assert dialler is not None
    make: MakeLine = dialler._make_line

    def make_and_tell(*args: Any) -> Line:
        dialler._make_line = make
        in_turns(moment, call)
        return make(*args)

    dialler._make_line = make_and_tell


async def check_unharmed(transport: FastTransport, url: str) -> Pool:
    """New connections get the number that the one given up had."""
    pool = transport._pool
    assert pool is not None
    for _ in range(5):
        assert await fetch(transport, url) == 200
        for line in list(pool.lines):
            line.cut()
    return pool


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_fetch_cancelled_as_its_connection_is_made_harms_no_other(
    run: Run, site: str, moment: int
) -> None:
    async def main() -> None:
        async with open_transport() as transport:
            page = asyncio.create_task(fetch(transport, site))
            with once_made(moment, page.cancel):
                await asyncio.wait([page])
            pool = await check_unharmed(transport, site)
        assert not pool.lines

    run(main())


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_fetch_cancelled_while_its_connection_is_made_harms_no_other(
    run: Run, site: str, moment: int
) -> None:
    async def main() -> None:
        async with open_transport() as transport:
            page = asyncio.create_task(fetch(transport, site))
            once_begun(transport, moment, page.cancel)
            await asyncio.wait([page])
            pool = await check_unharmed(transport, site)
        assert not pool.lines

    run(main())


@pytest.mark.parametrize("moment", MOMENTS)
def test_closing_while_a_connection_is_made_ends(run: Run, site: str, moment: int) -> None:
    async def main() -> None:
        transport = await open_transport().__aenter__()
        pool = transport._pool
        assert pool is not None
        closing: list[asyncio.Task[None]] = []
        once_begun(
            transport, moment, lambda: closing.append(asyncio.create_task(transport.aclose()))
        )
        with suppress(SiteError):  # unless it was faster
            await fetch(transport, site)
        await closing[0]
        assert not pool.lines

    run(main())


@contextmanager
def ending_at_once() -> Iterator[str]:
    """A server that resets every connection before TLS can begin."""
    linger = struct.pack("ii", 1, 0)  # on, for no time: RST instead of FIN
    listener = socket.create_server(("127.0.0.1", 0))

    def serve_all() -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                peer, _ = listener.accept()
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                peer.close()

    thread = threading.Thread(target=serve_all)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def test_the_socket_of_a_connection_that_ended_as_it_was_made_is_closed_once(run: Run) -> None:
    async def fetch_all(url: str) -> None:
        async with open_transport() as transport:
            for _ in range(30):
                await asyncio.gather(
                    *(fetch(transport, url) for _ in range(10)), return_exceptions=True
                )
            gc.collect()

    with ending_at_once() as url, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        run(fetch_all(url))
    # A socket collected with its number closes that, whosever it is by then.
    assert not [warning.message for warning in caught]


async def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrapekit.transport.fast.pool._END_S", 0.01)
    async with serve(HELLO) as server, open_transport() as transport:
        assert await fetch(transport, server.url()) == 200
        pool = transport._pool
        assert pool is not None
        (line,) = pool.lines
        line._lost = lambda line: None  # a loop that doesn't tell
        await transport.aclose()
        assert pool.lines == {line}
