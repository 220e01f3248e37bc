"""Counters: numbers that callbacks count up, right from every lane."""

from __future__ import annotations

import threading
from collections.abc import Mapping


class Counters:
    """What `spider.stats` is: named numbers that end in the report.

    `self.count += 1` reads, adds and writes: two threads that do it at once count once, and a
    worker process counts for itself alone. `self.stats.add("count")` is right from the loop, from
    threads and from worker processes. Never blocks for longer than an addition.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, float] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Counters {self._numbers}>"

    def add(self, name: str, n: float = 1) -> None:
        """Count `n` more, which may be negative or a float."""
        with self._lock:
            self._numbers[name] = self._numbers.get(name, 0) + n

    def get(self, name: str) -> float:
        """What was counted so far, in this process; 0 for a name never used."""
        return self._numbers.get(name, 0)

    def snapshot(self) -> dict[str, float]:
        """All numbers, as they are now."""
        with self._lock:
            return dict(self._numbers)

    def take(self) -> dict[str, float]:
        """All numbers, which start again from nothing: how a worker hands over what it counted."""
        if not self._numbers:
            return {}
        with self._lock:
            taken, self._numbers = self._numbers, {}
        return taken

    def merge(self, numbers: Mapping[str, float]) -> None:
        """Add what a worker counted."""
        for name, n in numbers.items():
            self.add(name, n)
