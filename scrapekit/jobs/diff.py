"""Diff: the items of two jobs, compared when both are done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from scrapekit.jobs.changes import Change, Item, OldItems
from scrapekit.jobs.earlier import Earlier
from scrapekit.jobs.state import state


class Difference(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An item that is in one job alone, or is another one than it was."""

    change: Change
    item: dict[str, Any]
    """As it is in the later job; a gone one as it was."""
    was: dict[str, Any] | None = None
    """A changed one as it was."""

    @property
    def fields(self) -> dict[str, tuple[Any, Any]]:
        """Of a changed item, what its fields were and are; None for a field that isn't there."""
        was = self.was or {}
        names = dict.fromkeys((*was, *self.item))
        pairs = {name: (was.get(name), self.item.get(name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def differences(before: Path, after: Path, key: Sequence[str] = ()) -> Iterator[Difference | None]:
    """What has changed from one job to another, page by page; None for each item that is the same.

    `key` names the fields that tell which item is which. Blocks. Raises JobError.
    """
    for path in (before, after):
        state(path)
    old, new = Earlier(before), Earlier(after)
    try:
        old.open()
        new.open()
        yield from _compared(old, new, key)
    finally:
        old.close()
        new.close()


def _compared(old: Earlier, new: Earlier, key: Sequence[str]) -> Iterator[Difference | None]:
    items = OldItems(old.items, key)
    for number, its in old.all_items():
        items.add(number, its)
    was_on = {identity: number for identity, number, _ in old.page_numbers()}
    page_of = {number: was_on.get(identity, 0) for identity, number, _ in new.page_numbers()}

    def item(number: int) -> Item:
        page = items.page_of(number)
        return old.items(page)[number - items.of_page(page).start]

    for number, its in new.all_items():
        for found, match in zip(its, items.match(its, page_of.get(number, 0)), strict=True):
            if match.change == "same":
                yield None
            else:
                was = dict(item(match.old)) if match.old >= 0 else None
                yield Difference(change=match.change, item=dict(found), was=was)
    for left in items.left():
        yield Difference(change="gone", item=dict(item(left)))
