from __future__ import annotations

import pytest

from scrapekit import shape
from tests import torture


@pytest.mark.parametrize("name", torture.HOSTILE)
def test_hostile_pages_are_suspect(name: str) -> None:
    assert shape.is_suspect(torture.HOSTILE[name](torture.SIZE))


@pytest.mark.parametrize(
    "html",
    [
        b"",
        b"<p>tea</p>" * 4_000,
        b"<li>tea" * 900,
        b"lorem ipsum " * 1_000_000,
        b"<h1>tea</h1><script>" + b"if (a > b) { c(); }" * 10_000 + b"</script>",
        b"<div>" * 800,
    ],
)
def test_ordinary_pages_are_not(html: bytes) -> None:
    assert not shape.is_suspect(html)


def test_what_is_no_superset_of_ascii_is_suspect() -> None:
    assert shape.is_suspect(("<p>tea</p>" * 1_000).encode("utf-16"))
    assert not shape.is_suspect(("<p>tea</p>" * 10).encode("utf-16"))


@pytest.mark.parametrize("offset", range(0, 4096, 256))
def test_a_long_tag_is_seen_wherever_it_is(offset: int) -> None:
    page = b"<p>tea</p>" * 600
    assert shape.is_suspect(page[:offset] + b"<p " + b"a " * 2048 + b">" + page[offset:])
