"""Changes: which items of a crawl were there in an earlier one. Sans-IO.

An item is the same if its content is, on whatever page: lists move from page to page. One that
isn't is a changed one, if an old item has the same key; without a key, if it is the only item of
its page, then and now, or if it has at least half of its fields in common with one of that page.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
import xxhash

Change = Literal["new", "changed", "same", "gone"]
Item = Mapping[str, Any]

MARK: Final = "_change"
"""The field that says it in exports."""

_ENOUGH_IN_COMMON: Final = 0.5
_MOST_PAIRS: Final = 10_000
"""More items of one page aren't compared with each other: it takes the square of their number."""

_FREE, _PAIRED, _TAKEN = range(3)


class Match(NamedTuple):
    """What an item is, and the number of the old one; -1 for none."""

    change: Change
    old: int = -1


class OldItems:
    """The items of an earlier crawl, each recognised once at most.

    `key` names the fields that tell which item is which. `read(page)` gives the items of a page
    again: only hashes are in memory, about 150 bytes an item.
    """

    def __init__(self, read: Callable[[int], Sequence[Item]], key: Sequence[str] = ()) -> None:
        self._read = read
        self._key = tuple(key)
        self._pages = array("q")
        self._states = bytearray()
        self._first: dict[int, int] = {}
        self._by_content: dict[int, int | list[int]] = {}
        self._by_key: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<OldItems {len(self)}, {self._states.count(_FREE)} not recognised yet>"

    def __len__(self) -> int:
        return len(self._pages)

    def add(self, page: int, items: Sequence[Item]) -> None:
        """Note the items of a page."""
        self._first[page] = len(self._pages)
        for item in items:
            number = len(self._pages)
            self._pages.append(page)
            self._states.append(_FREE)
            content = _content(item)
            known = self._by_content.get(content)
            if known is None:
                self._by_content[content] = number
            elif isinstance(known, int):
                self._by_content[content] = [known, number]
            else:
                known.append(number)
            key = self._key_of(item)
            if key is not None:
                self._by_key.setdefault(key, number)

    def of_page(self, page: int) -> range:
        """The numbers of a page's items."""
        start = end = self._first.get(page, 0)
        while end < len(self._pages) and page in self._first and self._pages[end] == page:
            end += 1
        return range(start, end)

    def page_of(self, number: int) -> int:
        """The page that an item was on."""
        return self._pages[number]

    def take(self, numbers: Sequence[int]) -> None:
        """These are recognised."""
        for number in numbers:
            if number < len(self._states):
                self._states[number] = _TAKEN

    def left(self) -> Iterator[int]:
        """The items that nobody has recognised."""
        return (number for number, state in enumerate(self._states) if state == _FREE)

    def match(self, items: Sequence[Item], page: int) -> list[Match]:
        """What the items of a page are; `page` is its number in the earlier crawl, or 0."""
        found: dict[int, Match] = {}
        for place, item in enumerate(items):
            if (old := self._same(item, page)) is not None:
                self._states[old] = _TAKEN
                found[place] = Match("same", old)
        rest = [place for place in range(len(items)) if place not in found]
        for place in rest:
            key = self._key_of(items[place])
            if key is not None:
                found[place] = self._by_its_key(key)
        rest = [place for place in rest if place not in found]
        for place, old in self._pair({place: items[place] for place in rest}, page):
            self._states[old] = _PAIRED
            found[place] = Match("changed", old)
        return [found.get(place, Match("new")) for place in range(len(items))]

    def _same(self, item: Item, page: int) -> int | None:
        """An old item with that content, on the same page if possible.

        One that was taken for the former state of another one may have moved instead.
        """
        known = self._by_content.get(_content(item), ())
        numbers = (known,) if isinstance(known, int) else known
        free = [number for number in numbers if self._states[number] != _TAKEN]
        return min(free, key=lambda number: self._pages[number] != page, default=None)

    def _by_its_key(self, key: int) -> Match:
        old = self._by_key.get(key)
        if old is None or self._states[old] == _TAKEN:
            return Match("new")
        self._states[old] = _TAKEN
        return Match("changed", old)

    def _pair(self, rest: Mapping[int, Item], page: int) -> Iterator[tuple[int, int]]:
        """Which items without a key come closest to which old ones of their page."""
        numbers = self.of_page(page)
        free = [number for number in numbers if self._states[number] == _FREE]
        if not rest or not free:
            return
        if len(rest) == len(free) == len(numbers) == 1:
            yield next(iter(rest)), free[0]
            return
        if len(rest) * len(free) > _MOST_PAIRS:
            return
        old_items = self._read(page)
        pairs = sorted(
            (-share, place, number)
            for place, item in rest.items()
            for number in free
            if (share := _in_common(item, old_items[number - numbers.start])) >= _ENOUGH_IN_COMMON
        )
        done: set[tuple[str, int]] = set()
        for _, place, number in pairs:
            if ("new", place) not in done and ("old", number) not in done:
                done |= {("new", place), ("old", number)}
                yield place, number

    def _key_of(self, item: Item) -> int | None:
        if not self._key or any(name not in item for name in self._key):
            return None
        return _hash([item[name] for name in self._key])


def marked(item: Item, change: Change) -> dict[str, Any]:
    """The item as exports write it."""
    return {**unmarked(item), MARK: change}


def unmarked(item: Item) -> dict[str, Any]:
    """The item as it was."""
    return {name: value for name, value in item.items() if name != MARK}


def _content(item: Item) -> int:
    return _hash(unmarked(item))


def _hash(value: object) -> int:
    try:
        encoded = _in_order.encode(value)
    except (OverflowError, UnicodeEncodeError):
        # Huge integers and lone surrogates, which the standard library knows.
        encoded = json.dumps(value, sort_keys=True).encode()
    return xxhash.xxh3_64_intdigest(encoded)


_in_order = msgspec.json.Encoder(order="deterministic")


def _in_common(one: Item, other: Item) -> float:
    """The share of fields that are equal."""
    one, other = unmarked(one), unmarked(other)
    equal = [name for name, value in one.items() if name in other and other[name] == value]
    return len(equal) / max(len(one), len(other), 1)
