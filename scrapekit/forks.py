"""Forks: what is locked by this process must not stay locked by a copy of it.

A lock of the kind that files have here (flock) belongs to the opened file, and a forked process
has that file as well: a pool that forks would keep a job locked after the crawl was killed.
"""

from __future__ import annotations

import os

_held: set[int] = set()


def hold(descriptor: int) -> None:
    """From now on, processes that are forked get something harmless in the place of this file."""
    _held.add(descriptor)


def let_go(descriptor: int) -> None:
    """The file is closed, or about to be. Idempotent."""
    _held.discard(descriptor)


def _replace_held() -> None:
    if not _held:
        return
    # Not closed: its number would be given to another file, which whoever holds it would close.
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in _held:
        os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)
    _held.clear()


os.register_at_fork(after_in_child=_replace_held)
