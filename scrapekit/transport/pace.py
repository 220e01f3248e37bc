"""Pace: whether a body comes fast enough. Judges when bytes arrive; silence has its own timer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from scrapekit.errors import FetchTimeout

GRACE_S: Final = 10.0
"""Waited for a body before its pace is judged, in seconds: short waits say nothing."""


class Pace:
    """Reads by another `read`, as long as that gives at least `least` bytes per second.

    The time spent waiting for bytes counts, and no other: whoever reads may take its time.
    `clock` gives seconds that never go back.
    """

    def __init__(
        self, read: Callable[[], Awaitable[bytes]], least: float, clock: Callable[[], float]
    ) -> None:
        self._read = read
        self._least = least
        self._clock = clock
        self._waited_s = 0.0
        self._size = 0

    def __repr__(self) -> str:
        return f"<Pace {self._size} bytes in {self._waited_s:.1f} s>"

    async def read(self) -> bytes:
        """What has arrived. Raises FetchTimeout, and whatever the other `read` raises."""
        began = self._clock()
        chunk = await self._read()
        self._waited_s += self._clock() - began
        self._size += len(chunk)
        if self._waited_s > GRACE_S and self._size < self._waited_s * self._least and chunk:
            message = (
                f"{self._size} bytes in {self._waited_s:.0f} s are fewer than the "
                f"{self._least:g} per second of min_bytes_per_s"
            )
            raise FetchTimeout(message, url="", phase="rate", after_s=self._waited_s)
        return chunk
