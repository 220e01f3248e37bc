"""A quick look at a page's bytes, for whether parsing it could take seconds, or gigabytes.

Parsing takes some 10 ns a byte, but Lexbor's time and memory grow with the square of some shapes.
Figures from selectolax 1.0.2, on one core:

- elements open at once: 40,000 nested `<div>` (195 KB) 2 s; 40,000 end tags that fit none of 40,000
  open elements 6 s
- attributes: 40,000 of one tag 2.4 s; 200,000 different names 15 s
- formatting elements (`<b>`, `<code>` ...) that are not closed: each is made again in each block
  that follows, with its attributes. A thousand (13 KB) take 0.1 s and 240 MB, 5,000 (69 KB) 14 s;
  one with 4,000 attributes before as many paragraphs (48 KB) takes 10 s and 3.7 GB

An exact answer has to do what the parser does: following HTML's rules tag by tag in Python takes
three times as long as parsing. So this look is a coarse one, and what it doesn't wave through is
parsed on trial, see `scrapekit.lanes.trial`. A page that is made to deceive it can still have a
thread work for seconds: what must be safe from that too belongs in the process lane.
"""

from __future__ import annotations

from typing import Final

FREE_BYTES: Final = 4096
"""Smaller pages need no look: the worst of them takes 40 ms and 70 MB."""
_TAGS: Final = 10_000
"""Nested, they take 0.15 s."""
_UNCLOSED: Final = 1_000
"""Formatting elements, they take 0.1 s."""
_STRETCH: Final = 2048
"""Bytes. Ordinary tags are shorter by far; text and scripts aren't always."""


def is_suspect(html: bytes) -> bool:
    """Whether a page should be parsed on trial first: it has very many tags, many more start tags
    than end tags, or a long stretch that may be one tag.

    Takes a tenth of the time that parsing takes, or less. `html` is in any encoding; one that isn't
    a superset of ASCII (UTF-16) is always suspect.
    """
    size = len(html)
    if size <= FREE_BYTES:
        return False
    tags = html.count(b"<")
    if not tags:
        return False
    if tags > _TAGS or tags - 2 * html.count(b"</") > _UNCLOSED:
        return True
    return html.find(b"\0", 0, 1024) >= 0 or _has_long_stretch(html)


def _has_long_stretch(html: bytes) -> bool:
    """Whether any stretch of two _STRETCH has no ">", and perhaps shorter ones."""
    find = html.find
    return any(
        find(b">", at, at + _STRETCH) < 0 for at in range(_STRETCH, len(html) - _STRETCH, _STRETCH)
    )
