"""Line's clock: what is due when, with one timer, in no time at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from scrapekit.transport.fast.line import Late, Line
from scrapekit.transport.fast.times import Times

START = 1_000.0
TIMES = Times(first_byte_s=3.0, header_s=45.0, silence_s=30.0, idle_s=15.0)
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Timer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self._when = when
        self.call: Callable[[], None] | None = call

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        self.call = None


class ManualLoop:
    """Time that is moved, and the timers set so far."""

    def __init__(self) -> None:
        self.now = START
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(when, call))
        return self.timers[-1]

    def create_future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def pass_s(self, seconds: float) -> None:
        """Let time pass, with each timer ringing at its date."""
        until = self.now + seconds
        while due := [t for t in self.timers if t.call is not None and t.when() <= until]:
            timer = min(due, key=Timer.when)
            call, timer.call = timer.call, None
            self.now = max(self.now, timer.when())
            assert call is not None
            call()
        self.now = until


class Sink:
    """A transport into which requests vanish, at the pace of whoever sets `left`."""

    def __init__(self) -> None:
        self.left = 0
        self.aborted = False
        self.paused = False

    def write(self, data: bytes) -> None:
        self.left = len(data) if len(data) > 1_000 else 0

    def get_write_buffer_size(self) -> int:
        return self.left

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Bench:
    """A line between a manual loop and a sink."""

    def __init__(self, times: Times = TIMES) -> None:
        self.loop, self.sink = ManualLoop(), Sink()
        self._buffer = bytearray(262_144)
        with socket.socket() as sock:
            lines: set[Line] = set()
            view = memoryview(self._buffer)
            self.line = Line(sock, "127.0.0.1", view, times, lines.add, lines.discard)
        self.line._loop = cast("Any", self.loop)
        self.line.connection_made(cast("Any", self.sink))

    def ask(self, body: bytes = b"") -> None:
        self.line.ask(b"GET / HTTP/1.1\r\n\r\n" + body, is_bodiless=False)

    def receive(self, data: bytes) -> None:
        self._buffer[: len(data)] = data
        self.line.buffer_updated(len(data))

    async def phase(self) -> str:
        """What took too long."""
        try:
            await self.line.head()
            while await self.line.read():
                pass
        except Late as error:
            return error.phase
        return "none"

    def is_cut(self) -> bool:
        return self.sink.aborted


async def test_the_first_byte_has_its_own_deadline() -> None:
    bench = Bench()
    bench.ask()
    bench.loop.pass_s(2.9)
    assert not bench.is_cut()
    bench.loop.pass_s(0.2)
    assert bench.is_cut()
    assert await bench.phase() == "first-byte"


async def test_without_one_it_is_a_silence_like_any_other() -> None:
    bench = Bench(TIMES._replace(first_byte_s=None))
    bench.ask()
    bench.loop.pass_s(30)
    assert await bench.phase() == "read"


async def test_a_header_that_drips_has_a_deadline_as_a_whole() -> None:
    bench = Bench()
    bench.ask()
    for _ in range(44):
        bench.loop.pass_s(1)
        bench.receive(b"HTTP/1.1 100 Continue\r\n\r\n" if _ % 2 else b"")
    assert not bench.is_cut()
    bench.loop.pass_s(1)
    assert await bench.phase() == "header"


async def test_a_body_that_drips_has_none_and_its_silence_has() -> None:
    bench = Bench()
    bench.ask()
    bench.receive(HELLO[:-5])
    for letter in b"hell":
        bench.loop.pass_s(29)
        bench.receive(bytes([letter]))
    assert not bench.is_cut()
    bench.loop.pass_s(30)
    assert await bench.phase() == "read"


async def test_a_server_that_has_to_wait_for_us_is_not_silent() -> None:
    bench = Bench()
    bench.ask()
    bench.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + bytes(200_000))
    paused = [bench.sink.paused]
    bench.loop.pass_s(1_000)
    assert not bench.is_cut()
    assert len(await bench.line.read()) == 200_000
    paused.append(bench.sink.paused)
    assert paused == [True, False]
    bench.loop.pass_s(29)
    assert not bench.is_cut()
    bench.loop.pass_s(1)
    assert await bench.phase() == "read"


async def test_deadlines_count_from_the_end_of_a_large_request() -> None:
    bench = Bench()
    bench.ask(bytes(1_000_000))
    for _ in range(100):
        bench.loop.pass_s(2)
        bench.sink.left -= 1_000
    bench.sink.left = 0
    bench.loop.pass_s(2)
    assert not bench.is_cut()
    bench.loop.pass_s(6)
    assert await bench.phase() == "first-byte"


async def test_a_large_request_that_nobody_takes_is_given_up() -> None:
    bench = Bench()
    bench.ask(bytes(1_000_000))
    bench.loop.pass_s(3)
    assert await bench.phase() == "first-byte"


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    bench = Bench()
    bench.ask()
    bench.receive(HELLO)
    bench.line.rest()
    bench.loop.pass_s(14)
    assert not bench.is_cut()
    bench.loop.pass_s(1)
    assert bench.is_cut()


async def test_answers_in_time_set_no_timer_of_their_own() -> None:
    bench = Bench()
    for _ in range(1_000):
        bench.ask()
        bench.loop.pass_s(0.01)
        bench.receive(HELLO)
        assert await bench.line.read() == b"hello"
        bench.line.rest()
        bench.loop.pass_s(0.01)
    # One rings every few seconds of the twenty, and finds nothing due.
    assert len(bench.loop.timers) <= 8
    assert len([timer for timer in bench.loop.timers if timer.call is not None]) == 1


async def test_what_comes_while_nobody_asks_ends_the_connection() -> None:
    bench = Bench()
    bench.ask()
    bench.receive(HELLO)
    assert bench.line.may_go_on()
    bench.receive(HELLO)
    assert bench.is_cut()
    assert not bench.line.may_go_on()
    assert await bench.line.read() == b"hello"
    assert repr(bench.line) == "<Line 127.0.0.1 complete>"
