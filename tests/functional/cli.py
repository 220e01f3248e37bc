"""The command `scrapekit`, called in this process or run in one of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scrapekit.cli import main
from tests.programs import ROOT

PAGES = """
from scrapekit import Spider

class Pages(Spider):
    "The headings of a site."
    settings = {"obey_robots": False, "retries": 0}
    fail_on: str = ""

    async def parse(self, response):
        title = response.get("h1", "")
        if self.fail_on and title.startswith(self.fail_on):
            raise ValueError(response.text)
        yield {"title": title}
        yield response.follow_all()
"""


class Finished(NamedTuple):
    """How a call of the command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The line that says what was wrong. Fails if there is more, or something else."""
        (line,) = self.err.splitlines()
        assert line.startswith("scrapekit: error: "), line
        return line.removeprefix("scrapekit: error: ")


class Called:
    """Calls the command in this process, in a folder of its own, and tells what it printed."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capfd = capfd

    def __call__(self, *arguments: str) -> Finished:
        try:
            code: Any = main(arguments)
        except SystemExit as end:
            code = end.code
        out, err = self._capfd.readouterr()
        return Finished(code, out, err)

    async def beside(self, *arguments: str) -> Finished:
        """Call it in a thread, so that a server of the test's loop can answer."""
        return await asyncio.to_thread(self, *arguments)

    def write(self, name: str, text: str) -> Path:
        """A file in the folder."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")


@pytest.fixture
def scrapekit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Called]:
    """The command; `pages.py` lies in its folder. What it imports from there is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in os.environ:
        if name.startswith("SCRAPEKIT_"):
            monkeypatch.delenv(name)
    called = Called(tmp_path, capfd)
    called.write("pages.py", PAGES)
    yield called
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


class Program:
    """The command in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._read = ""

    async def until(self, pattern: str) -> str:
        """Read standard error up to the first line that matches; the line."""
        assert self._process.stderr is not None
        while line := (await self._process.stderr.readline()).decode():
            self._read += line
            if re.search(pattern, line):
                return line
        raise AssertionError(f"no line matches {pattern!r} in:\n{self._read}")

    async def line(self) -> str:
        """The next line of standard output."""
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode()

    def close_output(self) -> None:
        """Read no more of its standard output, as `head` does."""
        transport: Any = self._process._transport  # type: ignore[attr-defined]
        transport.get_pipe_transport(1).close()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def end(self) -> Finished:
        """Wait for its end. What it told is there from the start, if it went into pipes."""
        out, err = await self._process.communicate()
        assert self._process.returncode is not None
        texts = ((text or b"").decode() for text in (out, err))
        return Finished(self._process.returncode, next(texts), self._read + next(texts))


@asynccontextmanager
async def started(folder: Path, *arguments: str, **streams: Any) -> AsyncIterator[Program]:
    """Start `scrapekit *arguments` in a folder; it is killed if the block leaves it running.

    Both outputs are pipes unless `streams` (stdout, stderr) say otherwise.
    """
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "scrapekit",
        *arguments,
        cwd=folder,
        env=environment(),
        **pipes | streams,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def environment() -> dict[str, str]:
    """The variables of a user at a colourful terminal."""
    unset = ("SCRAPEKIT_", "NO_COLOR", "FORCE_COLOR", "PYTHONWARNINGS")
    own = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return own | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "TERM": "xterm"}
