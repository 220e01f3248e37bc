"""scrapekit.urls on either binding of its URL parser, so that one suite tests both."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from scrapekit import urls

BINDINGS = ("can_ada", "ada_url")


@contextmanager
def use(binding: str) -> Iterator[None]:
    """Let scrapekit.urls parse by `binding`, as it would if the other were not installed."""
    copy = _loaded_without(*(other for other in BINDINGS if other != binding))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_href", "_joiner"):
            patch.setattr(urls, name, getattr(copy, name))
        # What the other one has joined is no business of this one's.
        patch.setattr(urls, "_joined", {})
        yield


def _loaded_without(*absent: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("scrapekit._urls_copy", urls.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name in absent:
            patch.setitem(sys.modules, name, None)
        spec.loader.exec_module(module)
    return module
