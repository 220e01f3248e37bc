"""What every test may ask for: vectors, a leak check, aioresponses that works, hypothesis."""

from __future__ import annotations

import os
import signal
import ssl
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import aioresponses.core
import pytest
from aiohttp import ClientResponse, StreamReader
from aiohttp.client_proto import ResponseHandler
from hypothesis import settings

from tests import certificate, transports
from tests import leaks as leak_checks
from tests import vectors as vector_files

# A deadline measures the machine. In CI each run tries the same examples, so that a failure is the
# change's and not the dice's; at a desk the dice may find more.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# A shell that puts the tests in the background has them ignore Ctrl-C, and with them all that they
# start, of which some is ended by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


class _MockedResponse(ClientResponse):
    """The response that aioresponses makes, with the argument that aiohttp 3.14 asks for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)


class _ParserWithoutInput:
    """What a stream reader pauses and wakes, as aiohttp 3.14 does with each large body."""

    def pause_reading(self) -> None:
        pass

    def feed_data(self, data: bytes) -> tuple[tuple[()], bool, bytes]:
        """Report no message, no upgrade, no rest: the whole body is in the reader already."""
        return (), False, b""


def _stream_reader(loop: Any = None) -> StreamReader:
    protocol = ResponseHandler(loop=loop)
    protocol._parser = _ParserWithoutInput()  # type: ignore[assignment]
    return StreamReader(protocol, limit=2**16, loop=loop)


# aioresponses 0.7.9 doesn't know aiohttp 3.14 (github.com/pnuckowski/aioresponses/issues/289).
aioresponses.core.ClientResponse = _MockedResponse  # type: ignore[attr-defined]
aioresponses.core.stream_reader_factory = _stream_reader  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _own_sys_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what a test makes importable, as spider files do with their folder, from the next."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of third-party vectors; skips where there is none."""
    return vector_files.root() or pytest.skip(vector_files.ABSENT)


@pytest.fixture(params=list(transports.KINDS))
def each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with each transport; its name."""
    name: str = request.param
    transports.switch(monkeypatch, name)
    return name


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """For servers; clients that verify certificates refuse it."""
    return certificate.server_context(tmp_path)


@pytest.fixture
def no_leaks() -> Callable[[], AbstractContextManager[None]]:
    """`with no_leaks():` around code that runs a loop of its own."""
    return leak_checks.no_leaks


@pytest.fixture
def no_async_leaks() -> Callable[[], AbstractAsyncContextManager[None]]:
    """`async with no_async_leaks():` around code on the test's own loop."""
    return leak_checks.no_async_leaks
