from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.jobs.changes import MARK, OldItems, marked, unmarked

Pages = dict[int, list[dict[str, Any]]]


def old(pages: Pages, *key: str) -> OldItems:
    items = OldItems(lambda page: pages[page], key)
    for number, its in pages.items():
        items.add(number, its)
    return items


def changes(items: OldItems, page: int, *found: dict[str, Any]) -> str:
    """The first letters of what was found; those of the old items that are left, behind a bar."""
    return "".join(match.change[0] for match in items.match(found, page))


def left(items: OldItems) -> list[int]:
    return list(items.left())


def test_the_same_content_is_the_same_item_on_whatever_page() -> None:
    items = old({1: [{"a": 1}, {"a": 2}], 2: [{"a": 3}]})
    assert changes(items, 2, {"a": 2}, {"a": 3}) == "ss"
    assert changes(items, 1, {"a": 1}) == "s"
    assert left(items) == []


def test_the_order_of_fields_and_old_marks_make_no_difference() -> None:
    items = old({1: [{"a": 1, "b": [2.5, None], MARK: "new"}]})
    assert changes(items, 1, {"b": [2.5, None], "a": 1}) == "s"


def test_an_item_is_met_again_as_often_as_it_was_there() -> None:
    items = old({1: [{"a": 1}, {"a": 1}], 2: [{"b": 1}]})
    assert changes(items, 1, {"a": 1}, {"a": 1}, {"a": 1}) == "ssn"


def test_the_only_item_of_a_page_is_changed_whatever_it_is() -> None:
    items = old({1: [{"title": "A"}]})
    assert changes(items, 1, {"name": "B"}) == "c"
    assert left(items) == []


def test_another_page_has_no_say_in_it() -> None:
    items = old({1: [{"title": "A"}]})
    assert changes(items, 0, {"title": "B"}) == "n"
    assert left(items) == [0]


def test_items_of_a_list_are_changed_if_half_of_their_fields_are_equal() -> None:
    pages = {1: [{"name": "A", "price": 1}, {"name": "B", "price": 2}, {"name": "C", "price": 3}]}
    items = old(pages)
    found = items.match([{"name": "B", "price": 9}, {"name": "D", "price": 8}], 1)
    assert [match.change for match in found] == ["changed", "new"]
    assert found[0].old == 1
    assert left(items) == [0, 2]


def test_what_comes_closest_goes_first() -> None:
    pages = {1: [{"a": 1, "b": 1, "c": 1, "d": 1}, {"a": 1, "b": 1, "c": 2, "d": 2}]}
    items = old(pages)
    near = {"a": 1, "b": 1, "c": 2, "d": 3}
    far = {"a": 1, "b": 1, "c": 7, "d": 7}
    assert [match.old for match in items.match([far, near], 1)] == [0, 1]


def test_a_list_that_moves_on_by_one_has_one_new_item() -> None:
    items = old({1: [{"n": 1}, {"n": 2}], 2: [{"n": 3}, {"n": 4}]})
    assert changes(items, 1, {"n": 0}, {"n": 1}) == "ns"
    assert changes(items, 2, {"n": 2}, {"n": 3}) == "ss"
    assert changes(items, 0, {"n": 4}) == "s"
    assert left(items) == []


def test_what_was_taken_for_another_is_still_the_same_where_it_has_moved() -> None:
    items = old({1: [{"kind": "tea", "n": 1}], 2: [{"kind": "tea", "n": 2}]})
    assert changes(items, 1, {"kind": "tea", "n": 3}) == "c"
    assert changes(items, 2, {"kind": "tea", "n": 1}, {"kind": "tea", "n": 2}) == "ss"
    assert left(items) == []


def test_a_key_tells_which_is_which_on_whatever_page() -> None:
    pages: Pages = {1: [{"sku": "a", "price": 1}, {"sku": "b", "price": 2}], 2: [{"sku": "c"}]}
    items = old(pages, "sku")
    found = [{"sku": "c", "price": 9}, {"sku": "d", "price": 1}, {"sku": "a", "price": 1}]
    assert changes(items, 1, *found) == "cns"
    assert left(items) == [1]


def test_of_two_with_one_key_the_second_is_new() -> None:
    items = old({1: [{"sku": "a", "price": 1}]}, "sku")
    assert changes(items, 1, {"sku": "a", "price": 2}, {"sku": "a", "price": 3}) == "cn"


def test_an_item_without_the_key_is_compared_as_if_there_were_none() -> None:
    items = old({1: [{"name": "A"}]}, "sku")
    assert changes(items, 1, {"name": "B"}) == "c"


def test_very_long_lists_are_compared_by_content_alone() -> None:
    pages = {1: [{"kind": "x", "n": n} for n in range(200)]}
    items = old(pages)
    found = [{"kind": "x", "n": n} for n in range(100, 300)]
    assert changes(items, 1, *found) == "s" * 100 + "c" * 100
    longer = old({1: [{"kind": "x", "n": n} for n in range(400)]})
    assert changes(longer, 1, *[{"kind": "x", "n": -n} for n in range(1, 101)]) == "n" * 100


def test_numbers_and_texts_of_any_kind_can_be_compared() -> None:
    odd = {"huge": 10**40, "lone": "\ud800", "none": None, "deep": {"b": 1, "a": [2]}}
    items = old({1: [odd]})
    assert changes(items, 1, dict(reversed(odd.items()))) == "s"


def test_a_mark_is_the_last_field_and_comes_off() -> None:
    item = marked({"a": 1, MARK: "new"}, "same")
    assert list(item.items()) == [("a", 1), (MARK, "same")]
    assert unmarked(item) == {"a": 1}


ITEM = st.fixed_dictionaries({"k": st.integers(0, 5)}, optional={"v": st.integers(0, 3)})
SITE = st.dictionaries(st.integers(1, 4), st.lists(ITEM, max_size=5), max_size=4)


@pytest.mark.parametrize("key", [(), ("k",)])
@given(before=SITE, after=SITE)
def test_every_old_item_is_met_once_at_most_and_nothing_is_lost(
    key: tuple[str, ...], before: Pages, after: Pages
) -> None:
    items = old(before, *key)
    flat = [item for its in before.values() for item in its]
    taken: list[int] = []
    for page, its in after.items():
        for item, match in zip(its, items.match(its, page), strict=True):
            if match.change == "same":
                assert flat[match.old] == item
                taken.append(match.old)
            assert (match.old >= 0) == (match.change != "new")
    assert len(taken) == len(set(taken))
    assert not set(taken) & set(items.left())


@given(site=SITE)
def test_a_site_that_is_as_it_was_has_nothing_but_the_same(site: Pages) -> None:
    items = old(site)
    for page, its in site.items():
        assert {match.change for match in items.match(its, page)} <= {"same"}
    assert left(items) == []
