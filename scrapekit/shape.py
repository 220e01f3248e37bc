"""A quick look at a page's bytes, for how long parsing it could take, and how much memory.

Parsing takes some 10 ns a byte, but Lexbor's time and memory grow with the square of some shapes.
Figures from selectolax 1.0.2, on one core:

- elements open at once: 40,000 nested `<div>` (195 KB) 2 s; 40,000 end tags that fit none of 40,000
  open elements 6 s
- attributes: 40,000 of one tag 2.4 s; 200,000 different names 15 s
- formatting elements (`<b>`, `<code>` ...) that are not closed: each is made again in each block
  that follows, with its attributes. A thousand (13 KB) take 0.1 s and 240 MB, 5,000 (69 KB) 14 s;
  one with 4,000 attributes before as many paragraphs (48 KB) takes 10 s and 3.7 GB

An exact answer has to do what the parser does: following HTML's rules tag by tag in Python takes
three times as long as parsing. So there are two looks that can do without. `is_quick` is sure, but
says yes to small and plain pages alone: those may be parsed on the event loop. `is_suspect` is
coarse: what it picks out is parsed on trial, see `scrapekit.lanes.trial`. A page that is made to
deceive it can have a thread work for seconds: what must be safe from that belongs in the process
lane.
"""

from __future__ import annotations

import re
from typing import Final

FREE_BYTES: Final = 4096
"""Smaller pages need no look: the worst of them takes 40 ms and 70 MB."""
_QUICK_BYTES: Final = 24 * 1024
"""Holds 5,000 attributes, which take 50 ms if one tag has them all."""
_QUICK_TAGS: Final = 2_500
"""Nested, they take 10 ms."""
_QUICK_COPIES: Final = 200_000
"""Elements and attributes made again; they take 50 ms and 50 MB."""
_SHORTEST: Final = 3
"""Bytes of an attribute, where there are many."""
_KEPT: Final = 3
"""Of equal formatting elements that aren't closed, three are made again (WHATWG HTML, 13.2.4.3); of
links one, because the next one closes it (13.2.6.4.7)."""

# All formatting elements (a, b, big, code, em, font, i, nobr, s, small, strike, strong, tt, u), and
# a few names that don't exist: to look at fewer letters takes a third less time.
_FORMATTING: Final = re.compile(
    rb"<[abceinstufABCEINSTUF]"
    rb"(?:(?=[ \t\n\r\f/>])|[mMtT](?=[ \t\n\r\f/>])|(?<=[bB])[iI][gG]|[oO][dDnNbB]"
    rb"|[mM][aA][lL]|[tT][rR][iIoO])[^>]*+"
)
# Stricter than HTML: no "<" or ">" anywhere, no quote but around a value.
_PLAIN_TAGS: Final = re.compile(
    rb"""(?:<[a-zA-Z]++
    (?:[ \t\n\r\f]++[a-zA-Z0-9_:.@-]++(?:=(?:"[^"<]*+"|'[^'<]*+'|[^ \t\n\r\f"'<=`]++))?+)*+
    [ \t\n\r\f]*+/?+)*+""",
    re.VERBOSE,
)

_NESTED_S: Final = 1.5e-9
"""Seconds, times the square of the number of tags: what they take if all are nested."""
_UNCLOSED: Final = 1_000
"""Formatting elements, they take 0.1 s."""
_STRETCH: Final = 2048
"""Bytes. Ordinary tags are shorter by far; text and scripts aren't always."""


def is_quick(html: bytes) -> bool:
    """Whether parsing can't take more than 50 ms, however hostile the page is.

    Takes a quarter of the time that parsing takes. `html` is in any encoding that is a superset of
    ASCII; in another one (UTF-16) what is looked for is never found, so it is false.
    """
    size = len(html)
    if size <= FREE_BYTES:
        return True
    if size > _QUICK_BYTES or html.find(b"\0", 0, 1024) >= 0:
        return False
    tags = html.count(b"<")
    return tags <= _QUICK_TAGS and tags * _made_again(html) <= _QUICK_COPIES


def _made_again(html: bytes) -> float:
    """At most how many formatting elements and attributes can be made again at each tag."""
    different = set(_FORMATTING.findall(html))
    if not _PLAIN_TAGS.fullmatch(b"".join(different)):
        # A tag may end somewhere else than it seems to.
        return float("inf")
    links = [len(tag) for tag in different if tag[1] in b"aA"]
    formatting = [tag for tag in different if tag[1] not in b"aA"]
    attributes = max(links, default=0) // _SHORTEST
    return attributes + _KEPT * sum(len(tag.split()) for tag in formatting)


def is_suspect(html: bytes, limit_s: float = 0.15) -> bool:
    """Whether a page should be parsed on trial first: it has so many tags that, nested, they would
    take longer than `limit_s`, many more start tags than end tags, or a long stretch that may be
    one tag.

    Takes a tenth of the time that parsing takes, or less. `html` is in any encoding; one that isn't
    a superset of ASCII (UTF-16) is always suspect.
    """
    size = len(html)
    if size <= FREE_BYTES:
        return False
    # Lexbor makes three bytes of each NUL, and of a page of them a tree of 17 times its size.
    if b"\0" in html:
        return True
    tags = html.count(b"<")
    if not tags:
        return False
    if tags * tags * _NESTED_S > limit_s or tags - 2 * html.count(b"</") > _UNCLOSED:
        return True
    return _has_long_stretch(html)


def _has_long_stretch(html: bytes) -> bool:
    """Whether any stretch of two _STRETCH has no ">", and perhaps shorter ones."""
    find = html.find
    return any(
        find(b">", at, at + _STRETCH) < 0 for at in range(_STRETCH, len(html) - _STRETCH, _STRETCH)
    )
