"""The parts of the command line that need neither a process nor a site."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import pty
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest

from scrapekit.api import crawl
from scrapekit.cli.logs import logging_to
from scrapekit.cli.progress import ProgressLine, every, recent_rate
from scrapekit.cli.screen import Screen
from scrapekit.errors import OutputError
from scrapekit.report import Report
from scrapekit.spider import Spider
from scrapekit.testing import FakeTransport


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    reader, writer = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with os.fdopen(writer, "w") as stream, os.fdopen(reader):
        yield stream


def test_a_terminal_has_colour(terminal: TextIO) -> None:
    screen = Screen(terminal)
    assert screen.is_terminal
    assert screen.has_colour
    assert repr(screen) == "<Screen terminal=True colour=True>"


def test_no_color_is_heeded_if_it_is_not_empty(
    terminal: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Screen(terminal).has_colour
    monkeypatch.setenv("NO_COLOR", "")
    assert Screen(terminal).has_colour


def test_a_dumb_terminal_is_none(terminal: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not Screen(terminal).is_terminal


def test_an_error_is_one_line_whatever_it_says() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    assert not screen.is_terminal
    screen.error("first\nsecond \x1b[31m")
    assert stream.getvalue() == "scrapekit: error: first\\nsecond \\x1b[31m\n"


def test_a_process_without_standard_error_is_told_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen(None)
    screen.error("unheard")
    assert not screen.is_terminal
    assert capsys.readouterr() == ("", "")


def test_lines_go_to_who_draws_on_the_screen_while_he_does() -> None:
    stream, drawn = io.StringIO(), list[str]()
    screen = Screen(stream)
    with screen.written_by(drawn.append):
        screen.write("above")
    screen.write("after")
    assert (drawn, stream.getvalue()) == (["above"], "after\n")


def test_lines_that_nobody_reads_are_lost_without_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        screen = Screen(stream)
        screen.write("one")
        screen.write("two")


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    stream = io.StringIO()
    with logging_to(Screen(stream), None, "info"):
        yield stream.getvalue


def test_a_log_line_holds_nothing_that_a_terminal_would_obey(logged: Callable[[], str]) -> None:
    logging.getLogger("mine").info("a\x1b[2Jb\rc\u202ed\n\te")
    line, rest = logged().splitlines()
    assert line.endswith("INFO     mine: a\\x1b[2Jb\\rc\\u202ed")
    assert rest == "        e"


def test_a_log_file_that_cannot_be_opened_is_told() -> None:
    with (
        pytest.raises(OutputError, match="this is a directory; name a file"),
        logging_to(Screen(None), ".", "info"),
    ):
        pass


async def test_calls_are_made_again_and_again_and_end_with_the_block() -> None:
    twice = asyncio.Event()
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        if len(calls) == 2:
            twice.set()

    async with every(0.0001, call):
        await twice.wait()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_a_call_raises_comes_out_at_the_end_of_the_block() -> None:
    called = asyncio.Event()

    def call() -> None:
        called.set()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with every(0.0001, call):
            await called.wait()


def test_the_rate_is_that_of_late() -> None:
    past = [Report(pages=n * 10, duration_s=float(n)) for n in range(1, 4)]
    assert recent_rate(past[:1]) == 10.0
    assert recent_rate(past) == 10.0
    stalled = [Report(pages=30, duration_s=float(n)) for n in range(3, 6)]
    assert recent_rate(stalled) == 0.0
    assert recent_rate([Report(), Report()]) == 0.0


async def test_the_line_tells_what_waits_and_what_is_under_way() -> None:
    async with crawl(Spider(), transport=FakeTransport({})) as run:
        line = ProgressLine(run)
        await run.wait()
    assert line() == "spider: 0 pages, 0.0/s, 0 queued, 0 in flight, 0 items, 0 errors"
