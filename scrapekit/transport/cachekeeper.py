"""Keeper: a cache's folder for the event loop, and what a request is looked up by.

The folder is asked in threads of its own: a disk may take its time, and name lookups, which have
the loop's own threads, mustn't wait for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import msgspec
from multidict import CIMultiDict

from scrapekit.messages import Request, Response
from scrapekit.report import CacheCounts
from scrapekit.transport.cachefolder import CacheFolder, Damaged, Record
from scrapekit.transport.cacherules import Fields, Times, vary

_THREADS: Final = 4
# Bodies are kept as they were decoded, so that it makes no difference how they were sent; and "*"
# names nothing.
_NO_CHOICE: Final = frozenset({"*", "accept-encoding"})

_P = ParamSpec("_P")
_T = TypeVar("_T")

logger = logging.getLogger("scrapekit")


class Name(NamedTuple):
    """What a response is kept under: hashes of its URL, and of who asked for it."""

    url: str
    asker: str

    def __str__(self) -> str:
        return f"{self.url}-{self.asker}"


class Kept(NamedTuple):
    """A kept response; `body` None: it is large, and has to be asked for."""

    record: Record
    headers: CIMultiDict[str]
    body: bytes | None

    @property
    def times(self) -> Times:
        return Times(self.record.asked_at, self.record.came_at)


class Keeper:
    """Finds and keeps responses in the folder `path`; notes in `counts` what goes wrong.

    `sent` are the headers that go with every request, by their names in lower case. A folder that
    can't be written costs the keeping alone: it is logged once, and nothing more is kept.
    """

    def __init__(self, path: str, sent: Mapping[str, str], counts: CacheCounts) -> None:
        self.folder = CacheFolder(path)
        self._sent = sent
        self._counts = counts
        self._broken = False
        self._threads: ThreadPoolExecutor | None = None
        self._jobs: set[Future[Any]] = set()

    async def open(self) -> None:
        """Make the folder, or see that it is a cache. Raises OutputError."""
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="scrapekit cache")
        await self._run(self.folder.open)

    async def aclose(self) -> None:
        """Wait for what is being written, and end the threads. Idempotent."""
        threads, self._threads = self._threads, None
        if threads is None:
            return
        try:
            if jobs := [asyncio.wrap_future(job) for job in self._jobs.copy()]:
                await asyncio.wait(jobs)
        finally:
            threads.shutdown(cancel_futures=True)

    async def find(self, name: Name, request: Request) -> Kept | None:
        """What is kept under a name, if it fits the request."""
        try:
            found = await self._run(self.folder.look, str(name))
        except Damaged:
            self._counts.damaged += 1
            return None
        if found is None:
            return None
        record, body = found
        headers = _decoded(record.headers)
        # Of two URLs with one hash, one is a forgery.
        fits = record.url == request.url and record.choice == self._choice(headers, request)
        return Kept(record, headers, body) if fits else None

    async def body(self, name: Name, kept: Kept) -> bytes | None:
        """The body of what was found; None if it is damaged, or was replaced meanwhile."""
        if kept.body is not None:
            return kept.body
        try:
            return await self._run(self.folder.body, str(name), kept.record)
        except Damaged:
            self._counts.damaged += 1
            return None

    async def keep(
        self, name: Name, request: Request, response: Response, headers: Fields, times: Times
    ) -> None:
        """Keep a response with these headers, in place of an older one."""
        record = Record(
            url=request.url,
            status=response.status,
            headers=_encoded(headers),
            asked_at=times.asked_at,
            came_at=times.came_at,
            choice=self._choice(headers, request),
            address=response.address,
            anomalies=response.anomalies,
        )
        if await self._write(self.folder.write, str(name), record, response.body):
            self._counts.kept += 1

    async def forget(self, url: str) -> None:
        """Remove all that is kept of a URL, whoever asked for it."""
        await self._write(self.folder.forget, _hash(url))

    async def _write(self, write: Callable[_P, None], *args: _P.args, **kwargs: _P.kwargs) -> bool:
        if self._broken:
            return False
        try:
            await self._run(write, *args, **kwargs)
        except OSError as error:
            self._broken = True
            logger.warning(
                "the cache %s can't be written any more (%s); the crawl goes on without keeping",
                self.folder.path,
                error.strerror or error,
            )
            return False
        return True

    def _choice(self, headers: Fields, request: Request) -> bytes:
        """A hash of what the request said in the fields that a response's Vary names."""
        names = [name for name in vary(headers) if name not in _NO_CHOICE]
        if not names:
            return b""
        said = {**self._sent, **{name.lower(): value for name, value in request.headers.items()}}
        return _digest([(name, said.get(name)) for name in names])

    async def _run(self, job: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if self._threads is None:
            raise RuntimeError("a cache is used only inside its `async with` block")
        future = self._threads.submit(job, *args, **kwargs)
        self._jobs.add(future)
        future.add_done_callback(self._jobs.discard)
        return await asyncio.wrap_future(future)


def name_of(request: Request) -> Name:
    """What the answer to a request is kept under.

    The headers and cookies of the request itself say who asks, and so does its session: what one
    login was shown is never shown to another.
    """
    asker = (
        request.session,
        sorted((name.lower(), value) for name, value in request.headers.items()),
        sorted(request.cookies.items()),
    )
    return Name(_hash(request.url), _digest(asker).hex())


def _hash(url: str) -> str:
    return hashlib.blake2b(url.encode(), digest_size=16).hexdigest()


def _digest(value: object) -> bytes:
    # JSON, because it has a form for lone surrogates, which MessagePack hasn't.
    return hashlib.blake2b(_plain(value), digest_size=16).digest()


def _plain(value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return repr(value).encode("utf-8", "surrogatepass")


def _encoded(headers: Fields) -> tuple[tuple[bytes, bytes], ...]:
    # aiohttp reads bytes that are no UTF-8 as lone surrogates.
    return tuple((_to_bytes(name), _to_bytes(value)) for name, value in headers.items())


def _decoded(headers: tuple[tuple[bytes, bytes], ...]) -> CIMultiDict[str]:
    return CIMultiDict((_to_str(name), _to_str(value)) for name, value in headers)


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _to_str(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
