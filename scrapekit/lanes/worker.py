"""The worker process: takes jobs from a socket one after another, answers each.

Runs in a process of its own; imports little, because a crashed worker is replaced by starting
this again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import signal
import socket
import struct
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import connection, parent_process
from typing import Any, Final, Protocol

from scrapekit.errors import CallbackCrashed, UsageError
from scrapekit.failure import place, render, text_of
from scrapekit.lanes.drain import drain
from scrapekit.lanes.meter import Cost, timed
from scrapekit.lanes.records import Fields, collect
from scrapekit.lanes.travel import culprit, travels

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
    records: list[Fields]


class OutOfMemory(Exception):
    """A job has passed the limit; `answer` tells of it."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


def serve(end: socket.socket, memory_bytes: int | None, levels: dict[str, int]) -> None:
    """The worker's whole life: until the other end of the socket is closed.

    `levels` are those of the parent's loggers. What it is sent first is the pickled source of the
    spider. Its first message is b"" once the spider is imported; if it can't be, the error. After
    that each job has its answer, but for one that passes `memory_bytes`: the answer to that is b"",
    then what came of it, and the worker's end.
    """
    _end_with_parent()
    records = collect(levels)
    # When the crawl has ended there is nobody to answer to.
    with (
        contextlib.suppress(BrokenPipeError, ConnectionResetError),
        end,
        end.makefile("rb", 1 << 18) as messages,
    ):
        try:
            source: SpiderSource = pickle.loads(_receive(messages) or b"")
            source.load()
        except BaseException as exc:
            _send(end, answer_error(Answer([], None, Cost(), {}, []), exc))
            return
        _limit_memory(memory_bytes)
        _send(end, b"")
        _answer_all(end, messages, source, memory_bytes, records)


def _answer_all(
    end: socket.socket,
    jobs: Any,
    source: SpiderSource,
    memory_bytes: int | None,
    records: list[Fields],
) -> None:
    last_words = b""
    process = os.getpid()
    try:
        while (message := _receive(jobs)) is not None:
            answer = answer_job(source, message, records, memory_bytes)
            del message
            if os.getpid() != process:
                # A callback has forked, and this is the copy: the answer is the other one's.
                os._exit(0)
            _send(end, answer)
        return
    except OutOfMemory as exc:
        last_words = exc.answer
    except MemoryError:
        # It didn't even get as far as the callback.
        pass
    _send(end, b"")
    _send(end, last_words)
    # At once: threads that the callback has started would be waited for.
    os._exit(1)


def answer_job(
    source: SpiderSource, job: bytes, records: list[Fields], memory_bytes: int | None = None
) -> bytes:
    """Run a pickled (callback name, argument); what came of it, pickled.

    Raises OutOfMemory if there is a limit and it was passed.
    """
    name = url = ""

    def work() -> list[Any]:
        nonlocal name, url
        asked, argument = pickle.loads(job)
        name, url = asked or "parse", str(getattr(argument, "url", ""))
        callback = source.callback(asked)
        return drain(callback(argument), callback)

    results, raised, cost = timed(work)
    answer = Answer(results or [], None, cost, _counts(source), records[:])
    records.clear()
    if raised is None:
        try:
            return _pack(answer, name)
        except Exception as exc:
            raised = exc
    if memory_bytes is None or not isinstance(raised, MemoryError):
        return answer_error(answer, raised)
    # The frames hold what took the memory.
    traceback.clear_frames(raised.__traceback__)
    message = f"{name} allocated more than callback_memory_bytes, {memory_bytes:,} bytes"
    error = CallbackCrashed(message, callback=name, url=url)
    raise OutOfMemory(answer_error(answer, error.with_traceback(raised.__traceback__)))


def _pack(answer: Answer, name: str) -> bytes:
    try:
        return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        raise
    except Exception as exc:
        worst = next((result for result in answer.results if not travels(result)), answer.results)
        message = f"a result of {name} can't leave its process: {culprit(worst)}: {exc}"
        raise UsageError(message) from exc


def _counts(source: SpiderSource) -> dict[str, float]:
    try:
        return source.take_counts()
    except Exception:
        # The spider couldn't be built, which is what the answer tells already.
        return {}


def answer_error(answer: Answer, error: BaseException) -> bytes:
    """The answer that tells of an exception, with its place and traceback as text."""
    details = place(error), render(error)
    if not isinstance(error, Exception) or isinstance(error, StopIteration):
        # What would end the crawl's loop, or can't leave a coroutine.
        error = UsageError(f"{type(error).__name__} was raised in a worker process")
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        packed = _packed_error(answer, error, *details)
        pickle.loads(packed)
    except Exception:
        substitute = UsageError(f"{type(error).__name__}: {text_of(error)}")
        packed = _packed_error(answer, substitute, *details)
    return packed


def _packed_error(answer: Answer, error: Exception, place: str, trace: str) -> bytes:
    told = replace(answer, results=[], raised=(error, place, trace))
    return pickle.dumps(told, pickle.HIGHEST_PROTOCOL)


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
    """Be killed as soon as the parent has ended, and with the worker all that it has started.

    The worker gets a process group of its own. That is also out of reach of the terminal's Ctrl-C,
    because when to stop is the parent's decision.
    """
    parent = parent_process()
    if parent is None:
        return
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if hasattr(fcntl, "F_SETSIG"):
        # By the kernel, so that not even C code that never lets go of the interpreter can stay.
        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(parent.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
    else:
        watch = partial(_end_after, parent.sentinel)
        threading.Thread(target=watch, name="scrapekit parent watch", daemon=True).start()


def _end_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os.killpg(0, signal.SIGKILL)


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
