"""Forms: from a page's <form> to the request that submitting it makes. Sans-IO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from scrapekit import formdata, urls
from scrapekit.controls import (
    Control,
    choose,
    controls_of,
    fill,
    nearest,
    options_of,
    texts,
)
from scrapekit.document import Document, Element
from scrapekit.errors import FormError, QueryError
from scrapekit.formdata import Entry


class Submission(NamedTuple):
    """What a browser would send. `action` is as it is written: "" for the page itself."""

    method: str
    action: str
    query: str | None
    """What takes the place of the action's query, for GET."""
    body: bytes
    content_type: str | None


def submission(
    document: Document,
    query: str,
    data: Mapping[str, Any],
    *,
    click: str | Literal[False] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Submission:
    """The submission of the first form that `query` finds, filled in with `data`.

    Raises FormError for a form, field, value or button that isn't there, QueryError.
    """
    form = _find(document, query)
    controls = controls_of(document, form)
    button = _button(controls, click)
    fields = dict(data)
    if click is None:
        button = _named_button(controls, fields) or button
    fill(controls, fields)
    attrs = {name: form.attrs.get(name, "").strip() for name in ("action", "method", "enctype")}
    if button is not None:
        own = button.element.attrs
        attrs |= {name: own[f"form{name}"].strip() for name in attrs if f"form{name}" in own}
    codec = formdata.encoding_for(form.attrs.get("accept-charset", ""), document.encoding)
    entries = _entries(controls, button, formdata.label_of(codec))
    for name, value in (extra or {}).items():
        entries += [Entry(name, text) for text in texts(name, value)]
    return _submit(attrs, entries, codec)


def provenance(page: str, target: str, method: str) -> dict[str, str]:
    """Where a form comes from, as browsers tell it and sites check it against forgery.

    Referrer Policy, "strict-origin-when-cross-origin"; Fetch, "append a request Origin header".
    """
    origin = urls.origin(page)
    headers = {"Origin": origin} if method == "POST" else {}
    if urls.origin(target) == origin:
        return headers | {"Referer": page}
    if page.startswith("https:") and target.startswith("http:"):
        return {"Origin": "null"} if headers else {}
    return headers | {"Referer": f"{origin}/"}


def _submit(attrs: Mapping[str, str], entries: list[Entry], codec: str) -> Submission:
    action, method = attrs["action"], attrs["method"].lower()
    if method == "dialog":
        raise FormError("the form closes a dialog (method=dialog) and sends nothing")
    if method != "post":
        return Submission("GET", action, formdata.urlencoded(entries, codec), b"", None)
    enctype = attrs["enctype"].lower()
    if enctype == formdata.MULTIPART:
        return Submission("POST", action, None, *formdata.multipart(entries, codec))
    if enctype == formdata.PLAIN:
        return Submission("POST", action, None, formdata.plain(entries, codec), formdata.PLAIN)
    body = formdata.urlencoded(entries, codec).encode()
    return Submission("POST", action, None, body, formdata.URLENCODED)


def _entries(controls: list[Control], button: Control | None, charset: str) -> list[Entry]:
    """The entry list: what is enabled and, of the buttons, the one that is pressed."""
    return [
        entry
        for control in controls
        if control is button or (control.takes_values and control.name and not control.disabled)
        for entry in control.entries(charset)
    ]


def _find(document: Document, query: str) -> Element:
    found = document.first(query)
    node = None if found is None else found.node
    while node is not None and node.tag != "form":
        node = node.parent
    if node is not None:
        return Element(node)
    what = f"no form matches {query!r}" if found is None else f"{query!r} is a <{found.tag}>"
    names = [_name(form) for form in document.css("form")]
    near = nearest(query, names) or "; there is no form"
    raise FormError(f"{what}{' outside of any form' if found else ''} on {document.url}{near}")


def _name(form: Element) -> str:
    """A query that finds the form, as an error can propose it."""
    attrs = form.attrs
    if attrs.get("id"):
        return f"#{attrs['id']}"
    name = next((name for name in ("name", "action", "class") if attrs.get(name)), None)
    return f'form[{name}="{attrs[name]}"]' if name else "form"


def _button(controls: list[Control], click: str | Literal[False] | None) -> Control | None:
    """The button that is pressed: the first one, unless another or none is asked for."""
    buttons = [control for control in controls if control.submits]
    if click is None:
        return buttons[0] if buttons and not buttons[0].disabled else None
    if click is False:
        return None
    pressed = next((button for button in buttons if _matches(button, click)), None)
    if pressed is None:
        names = {button.element.html[:80] for button in buttons}
        near = nearest(click, names) or "; it has none"
        raise FormError(f"no button of the form matches {click!r}{near}")
    return pressed


def _matches(button: Control, query: str) -> bool:
    try:
        return bool(button.element.node.css_matches(query))
    except Exception as exc:
        raise QueryError(query, "the CSS selector can't be parsed") from exc


def _named_button(controls: list[Control], fields: dict[str, Any]) -> Control | None:
    """The button that `fields` name among the fields: {"action": "delete"} presses it."""
    taken = {control.name for control in controls if control.takes_values}
    for name in list(fields):
        buttons = [c for c in controls if c.submits and c.name == name and name not in taken]
        if buttons and name:
            value = fields.pop(name)
            options = options_of(buttons)
            choose(name, options, [str(value)])
            return next(b for b, o in zip(buttons, options, strict=True) if o.chosen)
    return None
