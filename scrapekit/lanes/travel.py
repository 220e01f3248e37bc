"""What can't travel between processes, in words that name the part to change."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterable
from typing import Any, Final

from scrapekit.items import is_item
from scrapekit.messages import Request, Response

_DEPTH: Final = 8


def travels(value: Any) -> bool:
    """Whether a value can be pickled."""
    try:
        pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return False
    return True


def culprit(value: Any) -> str:
    """Which part of a value can't be pickled: "Product, field 'picture', of type socket"."""
    path = ""
    part = value
    for _ in range(_DEPTH):
        found = next(((step, inner) for step, inner in _parts(part) if not travels(inner)), None)
        if found is None:
            break
        path += found[0]
        part = found[1]
    if not path:
        return type(value).__name__
    return (
        f"{type(value).__name__}, field {path.removeprefix('.')!r}, of type {type(part).__name__}"
    )


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    """The parts of a value, with how they are reached."""
    if isinstance(value, dict):
        return [(f".{key}", part) for key, part in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"[{place}]", part) for place, part in enumerate(value)]
    if not (is_item(value) or isinstance(value, (Request, Response))):
        # What else it is made of says nothing to whoever put it there.
        return []
    slots = (
        name
        for kind in type(value).__mro__
        for name, slot in vars(kind).items()
        if inspect.ismemberdescriptor(slot)
    )
    names = dict.fromkeys((*slots, *getattr(value, "__dict__", ())))
    return [
        (f".{name}", getattr(value, name))
        for name in names
        if not name.startswith("__") and hasattr(value, name)
    ]
