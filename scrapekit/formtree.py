"""Which form a control belongs to, and where it stands (HTML standard, 4.10.15 and 4.10.18.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from scrapekit.document import Document, Element

_TABLE_PARTS: Final = frozenset({"table", "tbody", "thead", "tfoot", "tr"})


class PlacedControl(NamedTuple):
    """A control of a page. Elements are named by their `mem_id`."""

    element: Element
    owner: int
    disabled: bool
    """By a fieldset around it."""
    in_datalist: bool


class _Place(NamedTuple):
    """What stands around a node: the nearest form and table, and what counts from any height."""

    form: int | None = None
    table: int | None = None
    disabled: bool = False
    in_datalist: bool = False


def placed_controls(document: Document) -> Iterator[PlacedControl]:
    """Every control of the page that belongs to a form, in document order.

    Takes time linear in the size of the page, however deep it is nested.
    """
    forms: dict[str, int] = {}
    for element in document.css("form[id]"):
        forms.setdefault(element.attrs["id"], element.node.mem_id)
    places: dict[int, _Place] = {}
    torn: tuple[int, int] | None = None
    for element in document.css("form, button, input, select, textarea"):
        place = _place(element.node, places)
        if element.tag == "form":
            torn = _torn(element, place)
            continue
        owner = place.form
        if "form" in element.attrs:
            owner = forms.get(element.attrs["form"])
        elif owner is None and torn is not None and place.table == torn[1]:
            owner = torn[0]
        if owner is not None:
            yield PlacedControl(element, owner, place.disabled, place.in_datalist)


def _torn(form: Element, place: _Place) -> tuple[int, int] | None:
    """A form that begins between the rows of a table, and that table.

    The parser closes it at once; the controls that follow it in the table are its own all the same.
    """
    parent = form.node.parent
    if parent is None or parent.tag not in _TABLE_PARTS or place.table is None:
        return None
    return form.node.mem_id, place.table


def _place(node: Any, known: dict[int, _Place]) -> _Place:
    """The place of a node. What is `known` of its ancestors isn't found out again."""
    path = []
    while node is not None and node.mem_id not in known:
        path.append(node)
        node = node.parent
    place = known[node.mem_id] if node is not None else _Place()
    for below in reversed(path):
        place = known[below.mem_id] = _below(node, below, place) if node is not None else place
        node = below
    return place


def _below(parent: Any, node: Any, place: _Place) -> _Place:
    """The place of a node whose parent has that place."""
    match parent.tag:
        case "form":
            return place._replace(form=parent.mem_id)
        case "table":
            return place._replace(table=parent.mem_id)
        case "datalist":
            return place._replace(in_datalist=True)
        case "fieldset" if "disabled" in parent.attrs and not _is_first_legend(node, parent):
            return place._replace(disabled=True)
        case _:
            return place


def _is_first_legend(node: Any, fieldset: Any) -> bool:
    """The first legend of a disabled fieldset stays enabled."""
    if node.tag != "legend":
        return False
    child = fieldset.child
    while child is not None and child.tag != "legend":
        child = child.next
    return child is not None and child.mem_id == node.mem_id
