from __future__ import annotations

import collections
import dataclasses
import enum
import gc
import ipaddress
import json
import subprocess
import sys
import types
import weakref
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, ClassVar
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.items import as_dict, encode_json, encode_value, is_item, type_name


@dataclasses.dataclass
class Data:
    name: str = "a"
    price: int = 1
    kind: ClassVar[str] = "not a field"
    late: int = dataclasses.field(init=False)


@attrs.define
class Attrs:
    name: str = "a"
    price: int = 1
    _secret: int = 2


@attrs.define(slots=False)
class AttrsWithDict:
    name: str = "a"
    price: int = 1


class Struct(msgspec.Struct):
    name: str = "a"
    price: int = 1


class Model(pydantic.BaseModel):
    name: str = "a"
    price: int = 1


@pydantic.dataclasses.dataclass
class PydanticData:
    name: str = "a"
    price: int = 1


class Ordered(dict[str, Any]):
    pass


ITEMS = [
    {"name": "a", "price": 1},
    Ordered(name="a", price=1),
    Data(),
    Attrs(),
    AttrsWithDict(),
    Struct(),
    Model(),
    PydanticData(),
]
CLASSES = [type(item) for item in ITEMS]


def refusal(item: object) -> str:
    with pytest.raises(TypeError) as caught:
        encode_json(item)
    return str(caught.value)


@pytest.mark.parametrize("item", ITEMS, ids=type_name)
def test_instances_of_each_kind_are_items(item: object) -> None:
    assert is_item(item)


@pytest.mark.parametrize("cls", CLASSES)
def test_classes_are_no_items(cls: type) -> None:
    assert not is_item(cls)


@pytest.mark.parametrize("value", [None, 1, "text", b"", [], (), object(), [{}], iter(())])
def test_other_values_are_no_items(value: object) -> None:
    assert not is_item(value)


def test_classes_made_on_the_fly_are_not_kept_alive() -> None:
    first = weakref.ref(_made())

    for _ in range(1024):
        _made()

    gc.collect()
    assert first() is None


def _made() -> type:
    cls = type("Made", (Ordered,), {})
    assert is_item(cls())
    return cls


def test_neither_attrs_nor_pydantic_is_imported() -> None:
    program = "import sys, scrapekit.items; print({'attr', 'attrs', 'pydantic'} & set(sys.modules))"

    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert out.stdout == "set()\n"


@pytest.mark.parametrize("item", ITEMS, ids=type_name)
def test_fields_come_in_the_order_of_the_class(item: object) -> None:
    assert list(as_dict(item).items()) == [("name", "a"), ("price", 1)]


@pytest.mark.parametrize("item", ITEMS, ids=type_name)
def test_json_has_the_same_fields(item: object) -> None:
    assert encode_json(item) == b'{"name":"a","price":1}'


def test_fields_are_shallow() -> None:
    nested = Data()

    assert as_dict({"a": nested})["a"] is nested


def test_changing_the_fields_leaves_the_item_alone() -> None:
    item = {"a": 1}

    as_dict(item)["a"] = 2

    assert item == {"a": 1}


def test_keys_of_a_dict_become_text() -> None:
    assert as_dict({1: "a"}) == {"1": "a"}


def test_asking_no_item_for_its_fields_fails() -> None:
    with pytest.raises(TypeError, match="a value of type int is not an item"):
        as_dict(1)


class Camel(msgspec.Struct, rename="camel", tag="camel", tag_field="kind"):
    list_price: int
    tax: int | msgspec.UnsetType = msgspec.UNSET


def test_a_struct_has_its_encoded_names_its_tag_and_no_unset_fields() -> None:
    assert (
        as_dict(Camel(3)) == json.loads(encode_json(Camel(3))) == {"kind": "camel", "listPrice": 3}
    )


class Rich(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    url: pydantic.HttpUrl
    key: pydantic.SecretStr
    hidden: int = pydantic.Field(default=1, exclude=True)
    inner: Model = Model()

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2


def test_a_model_is_dumped_with_its_own_types_as_text() -> None:
    item = Rich.model_validate({"url": "http://a.test", "key": "k", "more": [1]})

    written = json.loads(encode_json(item))

    assert list(written) == list(as_dict(item)) == ["url", "key", "inner", "more", "double"]
    assert written["url"] == "http://a.test/"
    assert written["key"] == "**********"
    assert written["inner"] == {"name": "a", "price": 1}


def test_a_root_model_is_one_field() -> None:
    assert as_dict(pydantic.RootModel[list[int]]([1])) == {"root": [1]}


def test_a_model_whose_serializer_fails_says_so() -> None:
    class Broken(pydantic.BaseModel):
        a: int = 1

        @pydantic.field_serializer("a")
        def refuse(self, value: int) -> int:
            raise ValueError("no form for this")

    assert "no form for this" in refusal(Broken())


class Colour(enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Real(float):
    pass


class Octets(bytes):
    pass


class Stamp(datetime):
    pass


class Day(date):
    pass


class Clock(time):
    pass


class Span(timedelta):
    pass


class Money(Decimal):
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), '"2026-01-02T03:04:00Z"'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (Decimal("1.10"), '"1.10"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (b"\xff\x00", '"/wA="'),
        (bytearray(b"\xff\x00"), '"/wA="'),
        (Colour.RED, '"red"'),
        ({1}, "[1]"),
        (frozenset({1}), "[1]"),
        ((1, "a"), '[1,"a"]'),
        (collections.deque([1]), "[1]"),
        (range(2), "[0,1]"),
        ({"a": 1}.keys(), '["a"]'),
        (types.MappingProxyType({"a": 1}), '{"a":1}'),
        (Data(), '{"name":"a","price":1}'),
        (Text("a"), '"a"'),
        (Number(7), "7"),
        (Real(1.5), "1.5"),
        (Octets(b"\xff\x00"), '"/wA="'),
        (Stamp(2026, 1, 2), '"2026-01-02T00:00:00"'),
        (Day(2026, 1, 2), '"2026-01-02"'),
        (Clock(3, 4), '"03:04:00"'),
        (Span(days=1), '"P1D"'),
        (Money("1.10"), '"1.10"'),
        (PurePosixPath("/a/b"), '"/a/b"'),
        (ipaddress.ip_address("::1"), '"::1"'),
        ({Text("key"): 1}, '{"key":1}'),
        ({2: 1}, '{"2":1}'),
    ],
)
def test_values_have_a_json_form(value: object, text: str) -> None:
    assert encode_json({"a": value}).decode() == f'{{"a":{text}}}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_floats_that_json_lacks_become_null(value: float) -> None:
    assert encode_json({"a": value}) == b'{"a":null}'


@pytest.mark.parametrize("value", [2**64, -(2**64), 10**4000])
def test_integers_may_have_any_size(value: int) -> None:
    assert json.loads(encode_json({"a": value})) == {"a": value}


LONE = "caf\xe9 \udc80"


def test_a_lone_surrogate_makes_the_round_trip() -> None:
    written = encode_json({"a": LONE, LONE: 1})

    assert b"\\udc80" in written
    assert "caf\xe9" in written.decode()
    assert json.loads(written) == {"a": LONE, LONE: 1}


def test_what_stands_beside_a_lone_surrogate_is_written_as_ever() -> None:
    item = {"n": [float("nan"), 10**30], "d": date(2026, 1, 2), "m": Model(), "t": (1.5, None)}

    plain, beside = encode_json(item), encode_json(item | {"x": LONE})

    assert json.loads(beside) == json.loads(plain) | {"x": LONE}


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_any_json_value_makes_the_round_trip_in_one_line(item: dict[str, Any]) -> None:
    written = encode_json(item)

    assert b"\n" not in written
    # By way of the standard library, which reads two lone surrogates that make a pair as the pair.
    assert json.loads(written) == json.loads(json.dumps(item))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"ok": 1, "bad": 1j}, "field 'bad': a value of type complex has no JSON form"),
        ({"bad": [{"deep": object()}]}, "field 'bad': a value of type object has no JSON form"),
        ({"bad": iter(())}, "field 'bad': a value of type tuple_iterator has no JSON form"),
        ({"bad": {(1, 2): 3}}, "field 'bad': a dict key of type tuple has no JSON form"),
        ({"bad": {None: 3}}, "field 'bad': a dict key of type NoneType has no JSON form"),
        ({(1, 2): 3}, "a dict key of type tuple has no JSON form"),
        ({"bad": (LONE, 1j)}, "field 'bad': a value of type complex has no JSON form"),
        (Data(price=1j), "field 'price': a value of type complex has no JSON form"),  # type: ignore[arg-type]
        (Struct(price=1j), "field 'price': a value of type complex has no JSON form"),  # type: ignore[arg-type]
    ],
)
def test_what_has_no_json_form_is_named_with_its_field(item: object, message: str) -> None:
    assert refusal(item) == message


def test_what_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)

    assert refusal({"bad": loop}) == "field 'bad': it is nested too deeply, or contains itself"


def test_an_integer_too_long_for_python_is_refused() -> None:
    assert refusal({"bad": 10**5000}).startswith("field 'bad': Exceeds the limit")


def test_a_bare_value_is_refused_without_a_field() -> None:
    with pytest.raises(TypeError, match=r"^a value of type complex has no JSON form$"):
        encode_value(1j)


def test_type_names_show_where_a_type_is_from() -> None:
    assert type_name({}) == "dict"
    assert type_name(Data()) == f"{__name__}.Data"
