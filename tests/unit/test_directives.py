from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.directives import forbids_following


@pytest.mark.parametrize(
    ("value", "forbids"),
    [
        ("nofollow", True),
        ("NOINDEX, NoFollow", True),
        (" none ", True),
        ("*: nofollow", True),
        ("noindex", False),
        ("", False),
        ("follow", False),
        ("nofollower", False),
        ("otherbot: nofollow", False),
        ("otherbot: noindex, nofollow", False),
        ("unavailable_after: 25 Jun 2010 15:00:00 PST", False),
        ("max-snippet: 20", False),
        ("max-snippet:-1, nofollow", True),
        ("max-image-preview:large, nofollow", True),
        ("max-video-preview: 3, none", True),
        ("unavailable_after: 25 Jun 2030 15:00:00 GMT, nofollow", True),
        ("unavailable_after: Tuesday, 25-Jun-30 15:00:00 GMT, nofollow", True),
        ("max-snippet: nofollow", False),
        ("scrapekit: nofollow", True),
        ("ScrapeKit: noindex, nofollow", True),
        ("otherbot: max-snippet:-1, nofollow", False),
        ("360bot: noindex, nofollow", False),
        ("otherbot: noindex, *: nofollow", True),
    ],
)
def test_a_list_of_directives(value: str, forbids: bool) -> None:
    assert forbids_following([value]) is forbids


def test_one_of_several_lists_is_enough() -> None:
    assert forbids_following(["noindex", "nofollow"])
    assert not forbids_following([])


@given(st.lists(st.text()))
def test_no_text_is_an_error(values: list[str]) -> None:
    assert forbids_following(values) in (True, False)
