"""What a crawl could leave behind (tasks, threads, child processes, descriptors), counted."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import chain
from multiprocessing import resource_tracker
from pathlib import Path

import psutil

_DESCRIPTORS = Path("/proc/self/fd")

# A closed transport lets go of its socket two callbacks later, and a closing one behind it two
# more; a loop that has nothing to do passes as many rounds in microseconds.
_ROUNDS = 10


class Census:
    """What is alive: each thing's identity, with words to find it by."""

    def __init__(self) -> None:
        """Count now. Collects garbage first, so that what only awaits collection doesn't count."""
        gc.collect()
        self._alive = dict(chain(_tasks(), _threads(), _processes(), _descriptors()))

    def added_since(self, before: Census) -> list[str]:
        """One line for each thing that is alive now and was not before."""
        return [self._alive[new] for new in self._alive.keys() - before._alive.keys()]


def _tasks() -> Iterator[tuple[object, str]]:
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no loop is running, so no task is
        return
    for task in tasks:
        yield task, f"task {task.get_name()}: {task.get_coro()}"


def _threads() -> Iterator[tuple[object, str]]:
    for thread in threading.enumerate():
        # The loop's default executor resolves host names; it is the loop's to end.
        if not thread.name.startswith("asyncio_"):
            yield thread, f"thread {thread.name}"


def _processes() -> Iterator[tuple[object, str]]:
    for child in psutil.Process().children(recursive=True):
        try:
            yield child, f"process {child.pid}: {' '.join(child.cmdline())[:200]}"
        except psutil.ZombieProcess:
            yield child, f"process {child.pid}: ended, and nobody waited for it"
        except psutil.NoSuchProcess:
            continue


def _descriptors() -> Iterator[tuple[object, str]]:
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208  names are shorter
        try:
            descriptor = name, os.readlink(_DESCRIPTORS / name)  # noqa: PTH115  "socket:[7]"
        except FileNotFoundError:  # the one that listed the folder
            continue
        yield descriptor, f"descriptor {name}: {descriptor[1]}"


def _judge(before: Census) -> None:
    left = Census().added_since(before)
    assert not left, "left behind:\n" + "\n".join(sorted(left))


@contextmanager
def no_leaks() -> Iterator[None]:
    """Fail if the body leaves anything behind; for code that runs a loop of its own."""
    resource_tracker.ensure_running()  # the interpreter's own helper lives until its end
    before = Census()
    yield
    _judge(before)


@asynccontextmanager
async def no_async_leaks() -> AsyncIterator[None]:
    """Fail if the body leaves anything behind; for a body that runs on the test's loop."""
    resource_tracker.ensure_running()
    before = Census()
    yield
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
    _judge(before)
