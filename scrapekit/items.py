"""What counts as an item, and what it looks like as fields and as JSON.

An item is a dict or an instance of a dataclass, an attrs class, a pydantic model (version 2) or
a msgspec Struct. attrs and pydantic are recognised by the marks they leave on their classes, so
neither has to be installed.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import PurePath
from types import NoneType
from typing import Any

import msgspec

_Reader = Callable[[Any], dict[str, object]]

# Types that msgspec doesn't know and whose str() is what their JSON should say.
_TEXTUAL = (
    PurePath,
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)


def is_item(value: object) -> bool:
    """Whether `value` is an item; an instance, never a class. Costs one cached look-up.

    A message may be a dataclass or Struct as well: ask whether a result is a Request first.
    """
    return _reader(type(value)) is not None


def as_dict(item: object) -> dict[str, object]:
    """The fields of `item` and their values, in the order of the class; a new, shallow dict.

    The names are those of the JSON form: a Struct's `rename` and tag count, as do a pydantic
    model's computed and excluded fields (its values come out dumped). Like the JSON form it
    leaves out attrs fields that start with an underscore, and fields without a value.

    Raises TypeError if `item` is no item.
    """
    reader = _reader(type(item))
    if reader is None:
        raise TypeError(f"a value of type {type_name(item)} is not an item")
    return reader(item)


def encode_json(item: object) -> bytes:
    r"""`item` as one line of JSON in UTF-8, without the newline. Doesn't block.

    Dates and times are ISO 8601, bytes base64, Decimals and UUIDs text, Enums their values and
    sets arrays. Integers may have any size. NaN and the infinities, for which JSON has no form
    (RFC 8259, 6), become null. A lone surrogate, which UTF-8 has no form for, is escaped
    (`\udc80`), so the text survives a round trip through readers that allow it (RFC 8259, 8.2).

    Raises TypeError naming the field at fault when a value has no JSON form.
    """
    try:
        return encode_value(item)
    except TypeError as error:
        raise TypeError(_blame(item) or str(error)) from error


def encode_value(value: object) -> bytes:
    """Like `encode_json`, for any value; its TypeError says what is wrong, but not where."""
    try:
        return _encoder.encode(value)
    except (OverflowError, UnicodeEncodeError):
        return _encode_slowly(value)
    except Exception as error:
        raise TypeError(_reason(error)) from error


def decode_json(data: bytes | str) -> Any:
    """What `encode_json` or `encode_value` encoded, as plain values."""
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        # Lone surrogates, which are escaped.
        return json.loads(data)


def type_name(value: object) -> str:
    """The name of the type of `value` as a message should show it: "dict", "shop.Product"."""
    cls = type(value)
    if cls.__module__ in ("builtins", "__main__"):
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def _find_reader(cls: type) -> _Reader | None:
    if issubclass(cls, dict):
        return _dict_fields
    if issubclass(cls, msgspec.Struct):
        return _struct_fields
    if _is_pydantic(cls):
        return _pydantic_fields
    if hasattr(cls, "__dataclass_fields__"):
        return _dataclass_fields
    if hasattr(cls, "__attrs_attrs__"):
        return _attrs_fields
    return None


# Bounded, because classes made on the fly would otherwise live as long as the process.
_reader: Callable[[type], _Reader | None] = lru_cache(maxsize=1024)(_find_reader)


def _is_pydantic(cls: type) -> bool:
    # `model_dump` keeps pydantic's dataclasses out, which are ordinary dataclasses to us.
    return hasattr(cls, "__pydantic_validator__") and hasattr(cls, "model_dump")


def _dict_fields(item: dict[Any, object]) -> dict[str, object]:
    return {name if isinstance(name, str) else str(name): item[name] for name in item}


def _struct_fields(item: msgspec.Struct) -> dict[str, object]:
    config = item.__struct_config__
    fields: dict[str, object] = {}
    if config.tag_field is not None:
        fields[config.tag_field] = config.tag
    for attribute, name in zip(item.__struct_fields__, item.__struct_encode_fields__, strict=True):
        value = getattr(item, attribute, msgspec.UNSET)
        if value is not msgspec.UNSET:
            fields[name] = value
    return fields


def _pydantic_fields(item: Any) -> dict[str, object]:
    dumped = item.model_dump(mode="python")
    return dumped if isinstance(dumped, dict) else {"root": dumped}


def _dataclass_fields(item: Any) -> dict[str, object]:
    names = (field.name for field in dataclasses.fields(item))
    return {name: getattr(item, name) for name in names if hasattr(item, name)}


def _attrs_fields(item: Any) -> dict[str, object]:
    names = (field.name for field in item.__attrs_attrs__)
    return {
        name: getattr(item, name)
        for name in names
        if not name.startswith("_") and hasattr(item, name)
    }


def _simplify(value: Any) -> object:
    """Turn what msgspec doesn't know into what it does; the encoder's hook."""
    if isinstance(value, _NEVER_KEYS):
        raise TypeError(f"a dict key of type {type_name(value)} has no JSON form")
    if _is_pydantic(type(value)):
        return value.model_dump(mode="python")
    for base, plain in _PLAIN.items():
        if isinstance(value, base):
            return plain(value)
    # URLs, secrets and the like, which pydantic keeps as objects in a dump.
    if type(value).__module__.partition(".")[0] in ("pydantic", "pydantic_core"):
        return str(value)
    raise TypeError(f"a value of type {type_name(value)} has no JSON form")


# As values these are msgspec's own business, so the hook meets them as the keys of dicts alone.
_NEVER_KEYS = (tuple, list, dict, set, frozenset, bool, NoneType)

# msgspec takes the exact types only, and parsers like to return subclasses. The first match
# counts: a datetime is a date, and text and bytes are sequences.
_PLAIN: dict[type, Callable[[Any], object]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: bytes,
    bytearray: bytes,
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: lambda value: timedelta(value.days, value.seconds, value.microseconds),
    Decimal: str,
    Mapping: dict,
    Sequence: list,
    AbstractSet: list,
    **dict.fromkeys(_TEXTUAL, str),
}

_encoder = msgspec.json.Encoder(enc_hook=_simplify)


def _encode_slowly(value: object) -> bytes:
    """Encode with the standard library, which knows huge integers and lone surrogates."""
    try:
        plain = _finite(msgspec.to_builtins(value, str_keys=True, enc_hook=_simplify))
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except Exception as error:
        raise TypeError(_reason(error)) from error
    # Surrogates are all that UTF-8 can't encode, and Python escapes them just as JSON does.
    return text.encode("utf-8", "backslashreplace")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(member) for member in value]
    return value


def _blame(item: object) -> str | None:
    """Find the field that can't be encoded; None if it is the item as a whole."""
    if not is_item(item):
        return None
    try:
        fields = as_dict(item)
    except Exception as error:
        return _reason(error)
    for name, value in fields.items():
        try:
            encode_value(value)
        except TypeError as error:
            return f"field {name!r}: {error}"
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or contains itself"
    return str(error) or type(error).__name__
