"""Pages that are hard on a parser, at any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Make = Callable[[int], bytes]


def _nested(name: bytes) -> Make:
    return lambda n: (b"<%b>" % name) * n + b"x" + (b"</%b>" % name) * n


def _numbered(each: bytes, before: bytes = b"", after: bytes = b"") -> Make:
    return lambda n: before + b"".join(each % i for i in range(n)) + after


def _repeated(each: bytes, before: bytes = b"", after: bytes = b"") -> Make:
    return lambda n: before + each * n + after


_many_attributes = _numbered(b" a%d", b"<p><b", b">")

HOSTILE: Mapping[str, Make] = {
    "nested div": lambda n: _nested(b"div")(2 * n),
    "nested lists": lambda n: _repeated(b"<ul><li>")(2 * n),
    "end tags that fit nothing": lambda n: b"<span>" * n + b"</div>" * n,
    "misnested formatting": lambda n: _repeated(b"<b><div></b>")(2 * n),
    "attributes of one tag": lambda n: _numbered(b" a%d=1", b"<p", b">")(2 * n),
    "names of attributes": lambda n: _numbered(b"<p a%d=1>")(8 * n),
    "formatting without an end": _numbered(b"<i id=%d><p>"),
    "formatting of many attributes": lambda n: _many_attributes(n) + b"<p>x</p>" * n,
    "formatting with a long value": lambda n: b"<p><b title='%b'>" % (b"y" * 8 * n) + b"<p>x" * n,
}
"""Take seconds or gigabytes at 40,000."""

HARMLESS: Mapping[str, Make] = {
    "options": _repeated(b"<option selected>x</option>", b"<select>", b"</select>"),
    "nested tables": _repeated(b"<table><tr><td>"),
    "nested svg": lambda n: b"<svg>" + _nested(b"g")(n),
    "paragraphs without an end": _repeated(b"<p>x"),
    "text": lambda n: b"lorem ipsum dolor " * 28 * n,
    "a comment": lambda n: b"<!--" + b" - lorem -- ipsum" * 28 * n,
    "an attribute": lambda n: b"<p title='" + b"> x " * 100 * n + b"'>",
    "entities": _repeated(b"&amp;&#65;&notit;&CounterClockwiseContourIntegral;&"),
    "scripts": _repeated(b"<script><!--<script></script>--></script>"),
}
"""Look dangerous, or are large, and are parsed in no time."""

DOCUMENTS: Mapping[str, Make] = {**HOSTILE, **HARMLESS}
SIZE = 40_000
