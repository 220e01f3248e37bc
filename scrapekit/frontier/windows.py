"""Windows: the next requests of every origin, in memory within a bound for all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from scrapekit import urls
from scrapekit.frontier.damage import sound
from scrapekit.frontier.records import origin_key
from scrapekit.frontier.store import Store
from scrapekit.frontier.window import Waiting, Window

_TOTAL: Final = 8_192
"""Requests in memory, of all origins together, and roughly."""

_LEAST: Final = 4
"""Requests of an origin in memory, however many origins there are."""


class Windows:
    """Opens a window when an origin is asked for, and closes it when nothing of it is left.

    `size`: requests of an origin in memory, at most. `any_kept`: whether the store has requests
    from before. `held`: the numbers of requests that must not be read from it again.
    `release(number)` is told which dated ones may go but have no room in memory.
    """

    def __init__(
        self,
        store: Store,
        *,
        size: int,
        any_kept: bool,
        held: set[int],
        release: Callable[[int], None],
    ) -> None:
        self._store = store
        self._size = size
        self._all_known = not any_kept
        self._held = held
        self._release = release
        self._open: dict[str, Window] = {}
        self._stale: set[str] = set()

    def __len__(self) -> int:
        return len(self._open)

    def origins(self, is_allowed: Callable[[str, int], bool]) -> Iterator[str]:
        """The origins with requests from before, found as they are asked for. Those that aren't
        allowed, by name and key, are never asked for.
        """
        after = -(2**63)
        while not self._all_known:
            found = self._store.next_origin(after)
            if found is None:
                self._all_known = True
                return
            after, url = found
            with sound(self._store.path.parent, "a request that waits"):
                origin = urls.origin(url)
                if origin_key(origin) != after:
                    # Whoever looked for it would find nothing, and wait for ever.
                    raise ValueError("its URL is that of another site")
            if not is_allowed(origin, after):
                continue
            # Before they are all known: without a window it would pass for an empty one.
            self._window(origin)
            yield origin

    def head(self, origin: str, now: float, group: int) -> tuple[float, Waiting] | None:
        """An origin's next request, and when it may go; 0 for now. `group` is the open one."""
        if origin not in self._open and self._all_known:
            return None
        found = self._window(origin).head(now, group, self._limit)
        if found is None:
            del self._open[origin]
        return found

    def pop(self, origin: str) -> Waiting:
        """Take out what `head` gave, which may go now."""
        window = self._open[origin]
        waiting = window.ready.pop()
        if window.is_empty:
            del self._open[origin]
        return waiting

    def file(self, origin: str, waiting: Waiting, group: int) -> None:
        """Put in a request that is on disk once `group` is."""
        self._window(origin).add(waiting, group, self._limit)
        self._stale.add(origin)

    def saved(self, group: int) -> None:
        """The disk has what was filed up to that group."""
        stale, self._stale = self._stale, set()
        for origin in stale:
            window = self._open.get(origin)
            if window is not None:
                window.saved(group)
                if window.has_unsaved:
                    self._stale.add(origin)

    def clear(self) -> None:
        """Let go of all of them."""
        self._open.clear()

    @property
    def _limit(self) -> int:
        return max(_LEAST, min(self._size, _TOTAL // (len(self._open) or 1)))

    def _window(self, origin: str) -> Window:
        window = self._open.get(origin)
        if window is None:
            key = origin_key(origin)
            window = self._open[origin] = Window(
                partial(self._store.load_ready, key),
                partial(self._store.load_dated, key),
                on_disk=not self._all_known,
                held=self._not_to_read,
                release=self._release,
            )
        return window

    def _not_to_read(self) -> set[int]:
        return self._held
