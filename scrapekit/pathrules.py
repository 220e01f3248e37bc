"""Path rules: which paths of a site a robots.txt allows (RFC 9309, 2.2.2). Sans-IO.

The rule with the longest pattern that matches decides, an Allow before a Disallow of its length. A
site can send tens of thousands of rules, and chooses the paths they are compared with. So nothing
is compared with all of them: rules without a wildcard inside are looked up, of the others only
those are tried which have something rare in common with the path: their beginning, their end or a
piece. If these are still too many, because somebody wants it so, nobody knows: `TooManyRules`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final
from urllib.parse import quote

_FEW: Final = 48
"""So many rules with wildcards are tried one by one: that takes less than looking for pieces."""
_FEW_CHARACTERS: Final = 8_192
"""If they have no more in all."""
_FEW_PREFIXES: Final = 200
_SHORT: Final = 4_096
"""Characters of a path with which so few rules are compared without counting what that takes:
some milliseconds at worst.
"""
_BEGIN, _END, _PIECE = "^", "$", "*"
_PIECE_LENGTHS: Final = (8, 4, 2, 1)
"""Few, because all that a path has of each are looked up."""
_MOST_WORK: Final = 2_000_000
"""What may be spent on one path: about so many nanoseconds."""
_PER_RULE: Final = 700
_PER_CHARACTER: Final = 12
_MOST_KEYS: Final = 16_384
"""Looked up for one path, each in some 300 nanoseconds. Of 2,000 characters there are half as many
at most, or three times that if each of them has to be escaped.
"""
_LONGEST_SPELT: Final = 32_768
"""Characters of a path whose escapes are looked at: at worst it has nothing else."""
_LONGEST_NEEDLE: Final = 100
"""From there on `str.find` takes time that doesn't grow with what is looked for."""

_SIZE_OF_RULE: Final = 100
_SIZE_OF_KEY: Final = 140
"""Bytes, as measured."""

_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_PLAIN_PATTERN: Final = re.compile(r"[A-Za-z0-9_.~/=*-]+\$?")
_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9_.~/=-]*")
_STARS: Final = re.compile(r"\*+")
_INDEX: Final = "index.html"


_Parts = tuple[str, tuple[str, ...], str, bool]
"""A pattern with wildcards: what stands before, between and behind them, and whether that is the
end.
"""


class TooManyRules(Exception):
    """A path would have to be compared with more rules than is bearable, or is itself too long."""


class PathRules:
    """Of (pattern, whether it allows) as they stand in a robots.txt."""

    def __init__(self, rules: Iterable[tuple[str, bool]]) -> None:
        # A rank is twice the length of the pattern, and one more for an Allow.
        self._prefixes: dict[str, int] = {}
        self._wholes: dict[str, int] = {}
        self._wild: dict[str, int] = {}
        for pattern, allows in rules:
            for spelling in _spellings(pattern, allows):
                self._add(spelling, allows)
        self._lengths = sorted({len(prefix) for prefix in self._prefixes})
        self._few: tuple[tuple[int, int, _Parts], ...] = ()
        self._filed: dict[str, str | list[str]] = {}
        if len(self._wild) > _FEW or sum(map(len, self._wild)) > _FEW_CHARACTERS:
            self._file()
        else:
            ranked = sorted(self._wild.items(), key=lambda rule: -rule[1])
            self._few = tuple((rank, _least(p), _split(p)) for p, rank in ranked)
        few = tuple(self._prefixes) if len(self._prefixes) <= _FEW_PREFIXES else ("",)
        self._any_prefix = few
        """What no path begins with that begins with none of them."""
        self._keys = sorted({(key[0], len(key) - 1) for key in self._filed})

    def __repr__(self) -> str:
        return f"<PathRules {len(self)}, with wildcards {len(self._wild)}>"

    def __len__(self) -> int:
        return len(self._prefixes) + len(self._wholes) + len(self._wild)

    @property
    def size(self) -> int:
        """About how many bytes of memory they take."""
        characters = sum(map(len, (*self._prefixes, *self._wholes, *self._wild)))
        return characters + _SIZE_OF_RULE * len(self) + _SIZE_OF_KEY * len(self._filed)

    def allows(self, url: str) -> bool:
        """Whether an absolute URL may be fetched. Takes milliseconds at most.

        Raises TooManyRules if that can't be said in this time.
        """
        if not len(self):
            return True
        path = _path(url)
        best = self._wholes.get(path, 0) if self._wholes else 0
        if path.startswith(self._any_prefix):
            best = max(best, self._best_prefix(path))
        if self._few and len(path) <= _SHORT:
            best = max(best, self._best_of_few(path, best))
        elif self._wild:
            best = max(best, self._best_wild(path, best))
        return best == 0 or best & 1 == 1

    def _best_prefix(self, path: str) -> int:
        best = 0
        for length in self._lengths:
            if length > len(path):
                break
            best = max(best, self._prefixes.get(path[:length], 0))
        return best

    def _best_of_few(self, path: str, best: int) -> int:
        """As `_best_wild`, where nothing has to be measured."""
        length = len(path)
        for rank, least, parts in self._few:
            if rank <= best:
                return 0
            if least <= length and _matches(parts, path):
                return rank
        return 0

    def _add(self, pattern: str, allows: bool) -> None:
        rank = 2 * len(pattern) + allows
        whole = pattern.endswith("$")
        body = pattern.removesuffix("$")
        if body.endswith("*"):
            whole, body = False, body.rstrip("*")
        if "*" in body:
            kind, body = self._wild, _STARS.sub("*", body) + "$" * whole
        else:
            kind = self._wholes if whole else self._prefixes
        kind[body] = max(kind.get(body, 0), rank)

    def _file(self) -> None:
        """Under what of each pattern fewest others have."""
        keys = {pattern: _keys(pattern) for pattern in self._wild}
        common = Counter(chain.from_iterable(keys.values()))
        for pattern, its in keys.items():
            rarest = min(its, key=common.__getitem__)
            others = self._filed.get(rarest)
            if others is None:
                # Most are alone, and a list would take as much again.
                self._filed[rarest] = pattern
            elif isinstance(others, str):
                self._filed[rarest] = [others, pattern]
            else:
                others.append(pattern)

    def _best_wild(self, path: str, best: int) -> int:
        """The rank of the first rule with wildcards that matches, of those above `best`."""
        ranks, work = self._wild, 0
        found = self._candidates(path)
        for pattern in sorted(found, key=ranks.__getitem__, reverse=True):
            if ranks[pattern] <= best:
                return 0
            work += _PER_RULE
            if _least(pattern) > len(path) or not path.startswith(_begin(pattern)):
                continue
            work += _work(pattern, path)
            if work > _MOST_WORK:
                raise TooManyRules
            if _matches(_split(pattern), path):
                return ranks[pattern]
        return 0

    def _candidates(self, path: str) -> Iterable[str]:
        if not self._filed:
            return self._wild
        found: list[str] = []
        for key in self._keys_in(path):
            patterns = self._filed[key]
            found += (patterns,) if isinstance(patterns, str) else patterns
            if len(found) * _PER_RULE > _MOST_WORK:
                raise TooManyRules
        return found

    def _keys_in(self, path: str) -> set[str]:
        found: set[str] = set()
        looked_up = 0
        for kind, length in self._keys:
            last = len(path) - length
            if last < 0:
                continue
            looked_up += last + 1 if kind == _PIECE else 1
            if looked_up > _MOST_KEYS:
                raise TooManyRules
            places = range(last + 1) if kind == _PIECE else (0 if kind == _BEGIN else last,)
            found |= {kind + path[at : at + length] for at in places} & self._filed.keys()
        return found


def _least(pattern: str) -> int:
    """No shorter path matches."""
    return len(pattern) - pattern.count("*") - pattern.endswith("$")


def _begin(pattern: str) -> str:
    return pattern[: pattern.index("*")]


def _keys(pattern: str) -> tuple[str, ...]:
    """What a path has to have to match, each with its kind before it."""
    first, *others = pattern.removesuffix("$").split("*")
    longest, last = max(others, key=len), others[-1]
    long, short = _piece_length(longest), _piece_length(last)
    end = _END + last if pattern.endswith("$") else _PIECE + last[-short:]
    pieces = _PIECE + longest[:long], _PIECE + longest[-long:]
    return tuple(dict.fromkeys((end, *pieces, _BEGIN + first)))


def _piece_length(part: str) -> int:
    return next((length for length in _PIECE_LENGTHS if length <= len(part)), 0)


def _work(pattern: str, path: str) -> int:
    needle = min(len(pattern), _LONGEST_NEEDLE)
    return _PER_CHARACTER * (len(pattern) + len(path)) + needle * len(path) // 2


def _split(pattern: str) -> _Parts:
    first, *middle, last = pattern.removesuffix("$").split("*")
    return first, tuple(middle), last, pattern.endswith("$")


def _matches(parts: _Parts, path: str) -> bool:
    """Without backtracking: the first place where a part fits leaves most for the others."""
    first, middle, last, whole = parts
    if not path.startswith(first):
        return False
    at = len(first)
    for part in middle:
        at = path.find(part, at)
        if at < 0:
            return False
        at += len(part)
    if whole:
        return len(path) - len(last) >= at and path.endswith(last)
    return path.find(last, at) >= 0


def _spellings(pattern: str, allows: bool) -> Iterator[str]:
    """A pattern in the spelling of the paths, and what else it stands for."""
    if pattern.startswith(("http://", "https://")):
        # Written by mistake, and harmless so.
        pattern = "/" + pattern
    spelt = _spelt_pattern(pattern)
    if spelt:
        yield spelt
    if allows and spelt.endswith("/" + _INDEX):
        yield spelt.removesuffix(_INDEX) + "$"


def _spelt_pattern(pattern: str) -> str:
    if _PLAIN_PATTERN.fullmatch(pattern):
        return pattern
    end = "$" if pattern.endswith("$") else ""
    return _spelt(pattern.removesuffix("$"), b"/%*", "/%*=") + end


def _path(url: str) -> str:
    """The path and query of a URL, in the spelling of the patterns. Raises TooManyRules for one
    that takes too long to spell.
    """
    host, slash, rest = url.partition("#")[0].partition("://")[2].partition("/")
    path = slash + rest
    if "?" in host:
        path = "/" + host[host.index("?") :] + path
    path = path or "/"
    if _PLAIN_PATH.fullmatch(path):
        return path
    if len(path) > _LONGEST_SPELT:
        raise TooManyRules
    return _spelt(path, b"/%", "/%=")


def _spelt(text: str, kept: bytes, safe: str) -> str:
    """Percent-encoded where it has to be and nowhere else, so that what means the same is spelt
    the same (RFC 9309, 2.2.2). Escapes of the bytes `kept` stay what they are.
    """

    def plain(escape: re.Match[bytes]) -> bytes:
        byte = bytes.fromhex(escape[1].decode())
        return escape[0].upper() if byte in kept else byte

    return quote(_ESCAPE.sub(plain, text.encode("utf-8", "replace")), safe=safe)
