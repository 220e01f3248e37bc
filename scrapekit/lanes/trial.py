"""Parsing on trial: in a process that a hostile page can take down instead of the crawl.

The tree can't come back from there, so a page that passes is parsed again, which is known to be
quick by then. The process is a plain one, not one of multiprocessing's: those run the program's
main script again, which only those who asked for worker processes are prepared for.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import struct
import subprocess
import sys
from typing import Final

from scrapekit.document import Document

_HEADER: Final = struct.Struct("!dQ")
"""Before each page: the CPU time it may take, in seconds, and its length in bytes."""
_PASSED: Final = b"+"
_TOO_LARGE: Final = b"-"
MEMORY_BYTES: Final = 512 << 20
"""What the tree of a page may take; ordinary trees take 3 to 10 times the page's size."""
_BASE: Final = 0.2
_FULL_BYTES: Final = 2_000_000
"""Small pages get less time: a fifth of `max_parse_s`, and all of it at so many bytes. Plain pages
take a twentieth of that, and what is nested deep, but harmless, a tenth."""
_FAULTS: Final = 3
"""After so many of an origin's pages, its further ones aren't tried: each costs time that pages of
others may be waiting for."""
_ORIGINS: Final = 10_000
_PATIENCE: Final = 10
"""On a busy machine a page gets so many times its CPU time, and as many seconds more."""
_NICE: Final = 10
"""Pages on trial wait for all other work."""
_START: Final = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from scrapekit.lanes import trial; trial.serve(int(sys.argv[1]))"
)


class Trial:
    """Tries pages one after another, in a process that is started when the first one comes.

    To be used on one event loop. A large page may take `max_parse_s` seconds of CPU time, a small
    one less.
    """

    def __init__(self, max_parse_s: float) -> None:
        self.max_parse_s = max_parse_s
        self._one_by_one = asyncio.Lock()
        self._process: _ParserProcess | None = None
        self._faults: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Trial {'idle' if self._process is None else self._process.pid}>"

    async def fault(self, html: bytes, origin: str = "") -> str:
        """Parse a page of an origin; why it may not be parsed again, or "" if it may.

        Raises OSError if no process can be had.
        """
        async with self._one_by_one:
            if self._faults.get(origin, 0) >= _FAULTS:
                return f"it looks like {_FAULTS} earlier pages of {origin}, which took too long"
            fault = await self._try(html)
        if fault and origin:
            if len(self._faults) >= _ORIGINS:
                self._faults.clear()
            self._faults[origin] = self._faults.get(origin, 0) + 1
        return fault

    def limit_s(self, size: int) -> float:
        """What the parsing of a page of `size` bytes may take, in seconds of CPU time."""
        return self.max_parse_s * min(_BASE + size / _FULL_BYTES, 1.0)

    async def _try(self, html: bytes) -> str:
        limit_s = self.limit_s(len(html))
        process, self._process = self._process or _ParserProcess(), None
        verdict = b""
        try:
            async with asyncio.timeout(_PATIENCE * (limit_s + 1)):
                verdict = await process.ask(_HEADER.pack(limit_s, len(html)), html)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            if verdict:
                self._process = process
            else:
                # It is dead, or in the middle of this page.
                process.end()
        if verdict == _PASSED:
            return ""
        if verdict == _TOO_LARGE:
            return f"it takes more than {MEMORY_BYTES >> 20} MiB of memory"
        return _why(process.exitcode, limit_s)

    def close(self) -> None:
        """End the process. Whoever waits for a page must have been cancelled before."""
        if self._process is not None:
            self._process.end()
            self._process = None


def _why(exitcode: int, limit_s: float) -> str:
    if exitcode in (-signal.SIGPROF, -signal.SIGKILL):
        return f"it takes longer than {limit_s:.2g} s, what max_parse_s allows a page of its size"
    return f"it crashes the parser (exit code {exitcode})"


class _ParserProcess:
    """One process and its socket."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        command = [sys.executable, "-c", _START, str(theirs.fileno()), *sys.path]
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 -- it is our own
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    # Out of reach of the terminal's Ctrl-C: when to stop is the crawl's decision.
                    start_new_session=True,
                )
        except BaseException:
            self._ours.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exitcode(self) -> int:
        """How it ended; it must have been ended."""
        return self._process.wait()

    async def ask(self, *message: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        for part in message:
            await loop.sock_sendall(self._ours, part)
        return await loop.sock_recv(self._ours, 1)

    def end(self) -> None:
        """Kill it, unless it is dead already, and wait for that: a moment."""
        self._ours.close()
        self._process.kill()
        self._process.wait()


def serve(descriptor: int) -> None:
    """The process's whole life: parse what comes, until the other end is closed."""
    import os

    os.nice(_NICE)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    # When the crawl has ended there is nobody to answer to.
    with (
        contextlib.suppress(ConnectionError),
        socket.socket(fileno=descriptor) as end,
        end.makefile("rb") as pages,
    ):
        while header := pages.read(_HEADER.size):
            limit_s, size = _HEADER.unpack(header)
            end.sendall(_try(pages.read(size), limit_s))


def _try(html: bytes, limit_s: float) -> bytes:
    """Parse a page. If it takes too long, a signal ends the process: that can't be caught."""
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        _ = Document(html).parser
    except Exception:
        # The parser has an error of its own for memory that it doesn't get.
        return _TOO_LARGE
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return _PASSED
