"""Seen: which fingerprints a crawl has met. All are on disk, the latest in memory as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

GENERATION = 12_000
"""Fingerprints in a generation; two are kept, at about 80 bytes each."""


class Seen:
    """A set that grows on disk. `known(fingerprints)` reads which of them the disk has.

    `recent`: what the disk holds already; `complete` if that is all. As long as everything is in
    memory the disk is never asked.
    """

    def __init__(
        self,
        known: Callable[[Sequence[int]], Iterable[int]],
        recent: Iterable[int] = (),
        *,
        complete: bool = True,
        generation: int = GENERATION,
    ) -> None:
        self._known = known
        self._complete = complete
        self._generation = generation
        self._young: set[int] = set(recent)
        self._old: set[int] = set()
        self._unsaved: set[int] = set()

    def __contains__(self, fingerprint: int) -> bool:
        return not self.missing((fingerprint,))

    def at_hand(self, fingerprint: int) -> bool:
        """Whether memory alone tells that it was met."""
        return (
            fingerprint in self._young or fingerprint in self._unsaved or fingerprint in self._old
        )

    def missing(self, fingerprints: Sequence[int]) -> set[int]:
        """Those of `fingerprints` that weren't met. May read from disk."""
        missing = set(fingerprints)
        missing -= self._young
        missing -= self._old
        missing -= self._unsaved
        if missing and not self._complete:
            found = set(self._known(list(missing)))
            missing -= found
            self._note(found)
        return missing

    def add(self, fingerprints: Iterable[int]) -> None:
        """They are met, and about to be put on disk."""
        self._unsaved.update(fingerprints)

    def saved(self, fingerprints: Iterable[int]) -> None:
        """They are on disk now."""
        self._unsaved.difference_update(fingerprints)
        self._note(fingerprints)

    def _note(self, fingerprints: Iterable[int]) -> None:
        self._young.update(fingerprints)
        if len(self._young) > self._generation:
            self._complete = self._complete and not self._old
            self._young, self._old = set(), self._young
