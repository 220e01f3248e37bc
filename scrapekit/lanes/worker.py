"""The worker process: takes jobs from a socket one after another, answers each.

Runs in a process of its own; imports little, because a crashed worker is replaced by starting
this again.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import connection, parent_process
from typing import Any, Final, Protocol

from scrapekit.errors import UsageError
from scrapekit.failure import place, render
from scrapekit.lanes.drain import drain
from scrapekit.lanes.meter import Cost, timed

HEADER: Final = struct.Struct("!Q")
"""Before each message, in both directions: its length in bytes."""


class SpiderSource(Protocol):
    """How a worker gets the spider: see `scrapekit.spider.SpiderRef`."""

    def load(self) -> Any:
        """Import the spider's class."""

    def callback(self, name: str | None) -> Callable[..., Any]:
        """A callback of the spider built in this process."""

    def take_counts(self) -> dict[str, float]:
        """What that spider has counted since the last time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a job. It travels pickled.

    `raised` is the exception with its place and traceback as text; `records` are log records'
    fields.
    """

    results: list[Any]
    raised: tuple[Exception, str, str] | None
    cost: Cost
    counts: dict[str, float]
    records: list[dict[str, Any]]


def serve(end: socket.socket, source: SpiderSource, memory_bytes: int | None, level: int) -> None:
    """The worker's whole life: until the other end of the socket is closed.

    `level` is that of the parent's root logger. The first message is b"" once the spider is
    imported; if it can't be, the error.
    """
    _end_with_parent()
    # Ctrl-C goes to the whole terminal group; when to stop is the parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    records = _collect_records(level)
    try:
        source.load()
    except BaseException as exc:
        _send(end, answer_error(Answer([], None, Cost(), {}, []), exc))
        return
    _limit_memory(memory_bytes)
    _send(end, b"")
    with end, end.makefile("rb", 1 << 18) as jobs:
        while (message := _receive(jobs)) is not None:
            answer = answer_job(source, message, records)
            del message
            _send(end, answer)


def answer_job(source: SpiderSource, job: bytes, records: list[dict[str, Any]]) -> bytes:
    """Run a pickled (callback name, argument); what came of it, pickled."""
    name: str | None = None

    def work() -> list[Any]:
        nonlocal name
        name, argument = pickle.loads(job)
        callback = source.callback(name)
        return drain(callback(argument), callback)

    results, raised, cost = timed(work)
    answer = Answer(results or [], None, cost, _counts(source), records[:])
    records.clear()
    if raised is not None:
        return answer_error(answer, raised)
    try:
        return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    except Exception as exc:
        error = UsageError(
            f"a result of {name or 'parse'} can't leave its process: {culprit(results)}: {exc}"
        )
        return answer_error(answer, error)


def _counts(source: SpiderSource) -> dict[str, float]:
    try:
        return source.take_counts()
    except Exception:
        # The spider couldn't be built, which is what the answer tells already.
        return {}


def answer_error(answer: Answer, error: BaseException) -> bytes:
    """The answer that tells of an exception, with its place and traceback as text."""
    details = place(error), render(error)
    if not isinstance(error, Exception):
        error = UsageError(f"{type(error).__name__} was raised in a worker process")
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        packed = _packed_error(answer, error, *details)
        pickle.loads(packed)
    except Exception:
        substitute = UsageError(f"{type(error).__name__}: {error}")
        packed = _packed_error(answer, substitute, *details)
    return packed


def _packed_error(answer: Answer, error: Exception, place: str, trace: str) -> bytes:
    told = replace(answer, results=[], raised=(error, place, trace))
    return pickle.dumps(told, pickle.HIGHEST_PROTOCOL)


def culprit(value: Any) -> str:
    """Which part of a value can't be pickled: "Product.picture is a socket"."""
    for result in value if isinstance(value, list) else [value]:
        if _travels(result):
            continue
        fields = result if isinstance(result, dict) else getattr(result, "__dict__", {})
        for field, part in fields.items():
            if not _travels(part):
                return f"{type(result).__name__}, field {field!r}, of type {type(part).__name__}"
        return type(result).__name__
    return "all of it together"


def _travels(value: Any) -> bool:
    try:
        pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return False
    return True


def _receive(jobs: Any) -> bytes | None:
    """The next message of a buffered binary file; None at its end."""
    header = jobs.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (size,) = HEADER.unpack(header)
    message: bytes = jobs.read(size)
    return message if len(message) == size else None


def _send(end: socket.socket, message: bytes) -> None:
    header = HEADER.pack(len(message))
    if len(message) < 1 << 16:
        end.sendall(header + message)
    else:
        end.sendall(header)
        end.sendall(message)


def _end_with_parent() -> None:
    """Exit as soon as the parent has, even in the middle of a callback that never returns."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="scrapekit parent watch", daemon=True).start()


def _limit_memory(memory_bytes: int | None) -> None:
    """Let allocations fail that go further than `memory_bytes` beyond what is in use now."""
    try:
        # If the kernel has to kill something for memory, then not the crawl.
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 -- not a real file
            file.write("1000")
    except OSError:
        pass
    if memory_bytes is None:
        return
    import resource

    used = _data_bytes()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = used + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _data_bytes() -> int:
    try:
        with open("/proc/self/status") as file:  # noqa: PTH123 -- not a real file
            for line in file:
                if line.startswith("VmData:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


class _Collector(logging.Handler):
    def __init__(self, records: list[dict[str, Any]]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        fields = dict(record.__dict__, msg=record.getMessage(), args=None)
        if record.exc_info:
            fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
            fields["exc_info"] = None
        self._records.append({n: v for n, v in fields.items() if _travels(v)})


def _collect_records(level: int) -> list[dict[str, Any]]:
    """Log records and warnings go to the parent's logging, with the next answer."""
    records: list[dict[str, Any]] = []
    root = logging.getLogger()
    root.addHandler(_Collector(records))
    root.setLevel(level)
    logging.captureWarnings(True)
    return records
