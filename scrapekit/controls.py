"""The controls of an HTML form, and what they send (HTML standard, 4.10.15 and 4.10.21.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from scrapekit.document import Document, Element
from scrapekit.errors import FormError, did_you_mean
from scrapekit.formdata import Entry
from scrapekit.formtree import placed_controls

_SUBMITS: Final = frozenset({"submit", "image"})
_NEVER_SENT: Final = frozenset({"button", "reset"})
_CHOICES: Final = frozenset({"checkbox", "radio", "select"})
_MULTILINE: Final = frozenset({"textarea", "hidden"})
_MAX_HINT: Final = 300


@dataclass(slots=True)
class Option:
    """One value that can be chosen: an <option>, a checkbox or a radio button."""

    value: str
    label: str
    chosen: bool
    disabled: bool = False


@dataclass(slots=True)
class Control:
    """A field or a button of a form. `kind` is its type, "select" or "textarea"."""

    element: Element
    kind: str
    name: str
    value: str
    disabled: bool
    multiple: bool = False
    options: list[Option] = field(default_factory=list)

    @property
    def submits(self) -> bool:
        return self.kind in _SUBMITS

    @property
    def takes_values(self) -> bool:
        """Whether the user can fill it in."""
        return not self.submits and self.kind not in _NEVER_SENT

    def entries(self, charset: str) -> Iterator[Entry]:
        """What it sends, if it isn't disabled."""
        if self.kind in _CHOICES:
            for option in self.options:
                if option.chosen and not option.disabled:
                    yield Entry(self.name, option.value)
        elif self.kind == "image":
            prefix = f"{self.name}." if self.name else ""
            yield Entry(f"{prefix}x", "0")
            yield Entry(f"{prefix}y", "0")
        elif self.kind == "hidden" and self.name.lower() == "_charset_":
            yield Entry(self.name, charset)
        elif self.name:
            yield Entry(self.name, self.value, is_file=self.kind == "file")


def controls_of(document: Document, form: Element) -> list[Control]:
    """All that belongs to a form, in document order."""
    return [
        _control(placed.element, disabled=placed.disabled)
        for placed in placed_controls(document)
        if placed.owner == form.node.mem_id and not placed.in_datalist
    ]


def fill(controls: list[Control], data: Mapping[str, Any]) -> None:
    """Set the fields of those names. Raises FormError for what isn't there.

    A text, a number, True or False for a checkbox, a list for several values; None leaves the
    field out, as if it were disabled.
    """
    for name, value in data.items():
        fields = [control for control in controls if control.name == name and control.takes_values]
        if not fields:
            raise _no_field(name, controls)
        for control in fields:
            control.disabled = value is None
        if value is not None:
            _set(name, fields, value)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error: what comes nearest, or all there is, however much a page has."""
    near = did_you_mean(name, known)
    return near if len(near) <= _MAX_HINT else f"{near[:_MAX_HINT]}..."


def texts(name: str, value: Any) -> list[str]:
    """One value or several, as they are sent. Raises FormError."""
    values = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
    for one in values:
        if isinstance(one, bool) or not isinstance(one, (str, int, float)):
            kind = type(one).__name__
            raise FormError(f"the field {name!r} takes a str or a number, not {kind}", field=name)
    return [str(one) for one in values]


def choose(name: str, options: Iterable[Option], wanted: list[str]) -> None:
    """Choose those values of the options, or of their labels, and no others. Raises FormError."""
    known = list(options)
    for option in known:
        option.chosen = False
    for text in wanted:
        fits = [o for o in known if o.value == text] or [o for o in known if o.label == text]
        if not fits:
            near = nearest(text, {option.value for option in known})
            raise FormError(f"the field {name!r} can't be {text!r}{near}", field=name)
        fits[0].chosen, fits[0].disabled = True, False


def options_of(buttons: Iterable[Control]) -> list[Option]:
    """Buttons as the options that they are for whoever presses one by its value."""
    return [Option(button.value, button.element.text, chosen=False) for button in buttons]


def _set(name: str, fields: list[Control], value: Any) -> None:
    choices = [control for control in fields if control.kind in _CHOICES]
    if choices:
        options = [option for control in choices for option in control.options]
        wanted = _wanted(name, choices, options, value)
        one_only = all(c.kind == "radio" or not _many(c) for c in choices)
        if one_only and len(wanted) > 1:
            raise FormError(f"the field {name!r} takes one value, not {wanted}", field=name)
        choose(name, options, wanted)
        return
    if any(control.kind == "file" for control in fields):
        raise FormError(f"the field {name!r} takes a file; files can't be sent", field=name)
    filled = texts(name, value)
    if len(filled) > len(fields):
        message = f"the field {name!r} is there {len(fields)} times, not {len(filled)}"
        raise FormError(message, field=name)
    for control, text in zip(fields, filled, strict=False):
        control.value = text


def _many(control: Control) -> bool:
    return control.kind == "checkbox" or control.multiple


def _wanted(name: str, controls: list[Control], options: list[Option], value: Any) -> list[str]:
    if not isinstance(value, bool):
        return texts(name, value)
    if not value:
        return []
    if len(options) != 1 or controls[0].kind != "checkbox":
        values = [option.value for option in options]
        raise FormError(f"the field {name!r} can't be True; it takes one of {values}", field=name)
    return [options[0].value]


def _no_field(name: str, controls: list[Control]) -> FormError:
    names = {control.name for control in controls if control.takes_values and control.name}
    near = nearest(str(name), names) or "; it has none"
    return FormError(f"the form has no field {name!r}{near}", field=str(name))


def _control(element: Element, *, disabled: bool) -> Control:
    attrs, tag = element.attrs, element.tag
    kind = attrs.get("type", "").lower() if tag in ("input", "button") else tag
    if tag == "button" and kind not in ("button", "reset"):
        kind = "submit"
    control = Control(
        element,
        kind or "text",
        attrs.get("name", ""),
        attrs.get("value", ""),
        disabled or "disabled" in attrs,
        multiple="multiple" in attrs,
    )
    if kind == "select":
        control.options = _options(element, multiple=control.multiple)
    elif kind in ("checkbox", "radio"):
        value = attrs.get("value", "on")
        control.options = [Option(value, value, "checked" in attrs)]
    elif kind == "textarea":
        control.value = element.node.text()
    elif kind not in _MULTILINE:
        # 4.10.5.1: a line break in a field of one line is dropped.
        control.value = re.sub(r"[\r\n]", "", control.value)
    return control


def _options(select: Element, *, multiple: bool) -> list[Option]:
    options = [
        Option(
            option.attrs.get("value", option.text),
            option.text,
            "selected" in option.attrs,
            "disabled" in option.attrs or _in_disabled_group(option),
        )
        for option in select.css("option")
    ]
    if multiple:
        return options
    chosen = [option for option in options if option.chosen]
    for option in chosen[:-1]:
        option.chosen = False
    if not chosen and not _shows_many(select):
        first = next((option for option in options if not option.disabled), None)
        if first is not None:
            first.chosen = True
    return options


def _shows_many(select: Element) -> bool:
    size = select.attrs.get("size", "").strip()
    return size.isdecimal() and int(size[:9]) > 1


def _in_disabled_group(option: Element) -> bool:
    group = option.node.parent
    return group is not None and group.tag == "optgroup" and "disabled" in group.attrs
