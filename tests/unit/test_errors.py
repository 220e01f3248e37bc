from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args, get_origin

import pytest

from scrapekit import errors
from scrapekit.errors import BadStatus, DropItem, Fault, ScrapekitError, did_you_mean


def classes() -> Iterator[type[ScrapekitError]]:
    waiting = [ScrapekitError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__ == errors.__name__:
            yield kind


ERRORS = sorted(classes(), key=lambda kind: kind.__name__)


def build(kind: type[ScrapekitError]) -> ScrapekitError:
    """An instance with a value of its own for every argument."""
    if kind.__init__ is Exception.__init__:
        return kind("the message")
    values: dict[str, Any] = {}
    parameters = inspect.signature(kind, eval_str=True).parameters.values()
    for number, parameter in enumerate(parameters):
        values[parameter.name] = example(parameter.annotation, f"{parameter.name} {number}")
    return kind(**values)


def example(annotation: Any, text: str) -> Any:
    if get_origin(annotation) in (list, Iterable):
        return [text]
    types = get_args(annotation) or (annotation,)
    for kind, value in ((bool, True), (int, 418), (float, 2.5), (str, text)):
        if kind in types:
            return value
    return [text]


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize(
    "twin_of", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy]
)
def test_an_error_survives_with_its_text_and_facts(
    kind: type[ScrapekitError], twin_of: Callable[[ScrapekitError], ScrapekitError]
) -> None:
    error = build(kind)
    error.add_note("found in the morning")
    twin = twin_of(error)
    assert type(twin) is kind
    assert str(twin) == str(error)
    assert twin.args == error.args
    assert vars(twin) == vars(error)
    assert twin.__notes__ == ["found in the morning"]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_argument_is_an_attribute_or_in_the_text(kind: type[ScrapekitError]) -> None:
    if kind.__init__ is Exception.__init__:
        return
    error = build(kind)
    for number, parameter in enumerate(inspect.signature(kind, eval_str=True).parameters.values()):
        value = example(parameter.annotation, f"{parameter.name} {number}")
        text = value[0] if isinstance(value, list) else str(value)
        assert text in str(error) or getattr(error, parameter.name) == value


def test_the_tree_in_the_docstring_is_that_of_the_classes() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for branch, name in re.findall(r"^ {4}([│ ├└─]*)(\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(branch) // 4
        path[depth:] = [name]
        drawn[name] = path[depth - 1] if depth else "Exception"
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in ERRORS}


def test_every_error_says_whose_fault_it_is() -> None:
    assert {kind.fault for kind in ERRORS} == set(get_args(Fault))


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_says_what_it_means(kind: type[ScrapekitError]) -> None:
    assert kind.__doc__


def test_drop_item_stands_outside_the_tree() -> None:
    assert not issubclass(DropItem, ScrapekitError)


def test_an_error_of_a_users_own_class_survives_too() -> None:
    error = Strict("gone", code=7)
    twin = pickle.loads(pickle.dumps(error))
    assert (str(twin), twin.code) == ("gone", 7)


class Strict(ScrapekitError):
    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


def test_a_status_is_in_the_text() -> None:
    assert str(BadStatus(503, url="https://shop.test/", retry_after="5")) == "status 503"


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("colour", ["color", "size"], "; did you mean 'color'?"),
        ("xyz", ["size", "color"], "; known: color, size"),
        ("xyz", [], ""),
    ],
)
def test_an_unknown_name_gets_the_nearest_or_all_that_are_known(
    name: str, known: list[str], hint: str
) -> None:
    assert did_you_mean(name, known) == hint
