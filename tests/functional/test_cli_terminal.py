"""What a person sees: the command on a pseudo-terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.cli import PAGES, started
from tests.functional.site import Page, Site, held, links

CHATTY = """
import logging, sys
from pages import Pages

class Chatty(Pages):
    async def parse(self, response):
        if response.url.endswith("/two"):
            logging.getLogger("mine").warning("a log line")
            print("a printed line")
            raise ValueError("ouch")
        yield response.follow_all()
"""


class Terminal:
    """A terminal of 120 columns; `device` is what programs write to."""

    def __init__(self) -> None:
        self._reader, self.device = pty.openpty()
        fcntl.ioctl(self.device, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        self.seen = ""

    async def until(self, pattern: str) -> None:
        """Read until what was written matches. Fails if all programs have closed it before."""
        while not re.search(pattern, self.seen):
            text = await asyncio.to_thread(self._read)
            assert text, f"no {pattern!r} in {self.seen!r}"
            self.seen += text

    async def rest(self) -> str:
        """All that was written, when no program has it open any more."""
        while text := await asyncio.to_thread(self._read):
            self.seen += text
        return self.seen

    def let_go(self) -> None:
        """Close `device` on our side, so that the end of the programs is the end of the text."""
        if self.device >= 0:
            os.close(self.device)
            self.device = -1

    def close(self) -> None:
        self.let_go()
        os.close(self._reader)

    def _read(self) -> str:
        try:
            return os.read(self._reader, 4096).decode()
        except OSError:  # Linux: nobody has the other side open
            return ""


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


async def test_a_live_line_shows_progress_and_is_gone_in_the_end(
    tmp_path: Path, terminal: Terminal
) -> None:
    (tmp_path / "pages.py").write_text(PAGES)
    (tmp_path / "chatty.py").write_text(CHATTY)
    gate, end = asyncio.Event(), asyncio.Event()
    pages: dict[str, Page] = {"/": links("/two", "/three"), "/two": held(gate), "/three": held(end)}
    device = terminal.device
    async with (
        Site(pages) as site,
        started(
            tmp_path, "crawl", "chatty.py", "-a", f"start_urls={site.url()}",
            stdout=device, stderr=device,
        ) as program,
    ):  # fmt: skip
        terminal.let_go()
        await terminal.until(r"chatty: 1 pages, [\d.]+/s, 0 queued, 2 in flight, 0 items, 0 errors")
        gate.set()
        await terminal.until(r"chatty: 2 pages, [\d.]+/s, 0 queued, 1 in flight, 0 items, 1 errors")
        end.set()
        told = await program.end()
        seen = await terminal.rest()
    assert told.code == 1
    # What is told meanwhile begins where the live line was wiped out.
    wiped = r"\r\x1b\[2K"
    assert re.search(rf"{wiped}[\d-]+ [\d:,]+ WARNING  mine: a log line\r\n", seen)
    assert re.search(rf"{wiped}a printed line\r\n", seen)
    assert re.search(r"\x1b\[1A\x1b\[2Kchatty: finished after .*: 3 pages .*, 1 error\r\n", seen)
    assert "\x1b[31merror:\x1b[0m 1 error in callbacks" in seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1  # the cursor is shown again


async def test_items_on_the_same_terminal_leave_no_room_for_a_live_line(
    tmp_path: Path, terminal: Terminal
) -> None:
    (tmp_path / "pages.py").write_text(PAGES)
    device = terminal.device
    async with (
        Site({"/": "<h1>Home</h1>"}) as site,
        started(
            tmp_path, "crawl", "pages.py", "-o", "-", "-a", f"start_urls={site.url()}",
            stdout=device, stderr=device,
        ) as program,
    ):  # fmt: skip
        terminal.let_go()
        told = await program.end()
        seen = await terminal.rest()
    assert told.code == 0
    assert seen.startswith('{"title":"Home"}\r\npages: finished after')
    assert "\x1b" not in seen


async def test_a_job_says_what_it_resumes_above_the_live_line(
    tmp_path: Path, terminal: Terminal
) -> None:
    (tmp_path / "pages.py").write_text(PAGES)
    device = terminal.device
    async with Site({"/": f"<h1>1</h1>{links('/two')}", "/two": "<h1>2</h1>"}) as site:
        words = ("crawl", "pages.py", "-a", f"start_urls={site.url()}", "--job", "job")
        for more in (("-s", "max_pages=1"), ()):
            async with started(tmp_path, *words, *more, stdout=device, stderr=device) as program:
                await program.end()
        terminal.let_go()
        seen = await terminal.rest()
    assert seen.count("resuming: 1 done, 1 pending, 0 failed\r\n") == 1
