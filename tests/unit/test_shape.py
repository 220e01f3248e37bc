from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapekit import shape
from scrapekit.document import Document
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


def test_a_page_of_nul_is_suspect_wherever_it_begins() -> None:
    assert shape.is_suspect(bytes(10_000))
    assert shape.is_suspect(b"<p>tea</p>" * 1_000 + bytes(10_000))


def test_more_tags_are_let_pass_where_parsing_may_take_longer() -> None:
    html = b"<p>tea</p>" * 6_000
    assert shape.is_suspect(html, 0.1)
    assert not shape.is_suspect(html, 0.3)


@pytest.mark.parametrize("offset", range(0, 4096, 256))
def test_a_long_tag_is_seen_wherever_it_is(offset: int) -> None:
    page = b"<p>tea</p>" * 600
    assert shape.is_suspect(page[:offset] + b"<p " + b"a " * 2048 + b">" + page[offset:])


@pytest.mark.parametrize(
    "html",
    [
        b"",
        b"x" * 20_000,
        b"<p>tea</p>" * 1_000,
        b"<li class=item><a href=\"/tea?a=1\" title='green tea' hidden>tea</a>" * 200,
        b"<p>a <b>b</b> <code class=c>d</code> <EM>e</EM><br/>" * 200,
        b"<h1>tea</h1><script>" + b"if (a > b) { c('d=\"'); }" * 500 + b"</script>",
    ],
)
def test_small_plain_pages_are_quick(html: bytes) -> None:
    assert shape.is_quick(html)


@pytest.mark.parametrize(
    "html",
    [
        b"<p>tea</p>" * 3_000,
        b"<div>" * 3_000,
        ("<p>tea</p>" * 500).encode("utf-16"),
        b"<p><b %b>" % b" ".join(b"a%d" % n for n in range(1_000)) + b"<p>x</p>" * 1_000,
        b"<p><a %b>" % b" ".join(b"a%d" % n for n in range(1_000)) + b"<p>x</p>" * 1_000,
        b"".join(b"<i id=%d></b><p>" % n for n in range(500)),
        b'<p><b a=">" %b>' % b" ".join(b"a%d" % n for n in range(900)) + b"<p>x</p>" * 1_000,
        b'<p><b a"=">" %b>' % b" ".join(b"a%d" % n for n in range(900)) + b"<p>x</p>" * 1_000,
    ],
)
def test_pages_that_are_large_or_odd_are_not(html: bytes) -> None:
    assert not shape.is_quick(html)


PARTS = """<p> </p> <b> </b> <i_id=1> <i_id=2_a_b> <div> </div> <a_x> <table> <td> </table> x <code_
    " ' = > < <!-- -->"""


@given(st.lists(st.sampled_from(PARTS.split()), min_size=50, max_size=400))
@settings(deadline=None, max_examples=50)
def test_what_is_quick_makes_few_elements(parts: list[str]) -> None:
    html = "".join(parts * 4).replace("_", " ").encode().ljust(shape.FREE_BYTES + 1)
    if shape.is_quick(html):
        assert len(Document(html).css("*")) < 100_000
