"""README.md taken apart: its fenced blocks, and the table that is made of the settings.

python -m tests.readme         write the table anew
"""

from __future__ import annotations

import re
from typing import NamedTuple

from scrapekit._version import __version__
from scrapekit.settings import SETTINGS
from tests.programs import ROOT

README = ROOT / "README.md"

_BLOCK = re.compile(
    r"(?:<!-- (?P<note>[^>]+) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A fenced block; `note` is the comment before it, which says how it is tested."""

    note: str
    kind: str
    text: str


def text() -> str:
    return README.read_text(encoding="utf-8")


def blocks(kind: str) -> list[Block]:
    """The blocks of a kind ("python", "console", ...), in order."""
    found = (Block(m["note"] or "", m["kind"], m["text"]) for m in _BLOCK.finditer(text()))
    return [block for block in found if block.kind == kind]


def rows(heading: str) -> list[str]:
    """The rows of the table whose first column has that heading."""
    return _table(heading).splitlines()[2:]


def settings_table() -> str:
    """The table of settings as README.md has it."""
    return _table("setting")


def _table(heading: str) -> str:
    found = re.search(rf"^\| {heading} \|.*?\n(?=\n)", text(), re.MULTILINE | re.DOTALL)
    return found[0] if found else ""


def made_settings_table() -> str:
    """The table of settings as it has to be."""
    rows = [
        f"| `{setting.name}` | {_default(setting.default)} | {setting.expected} "
        f"| {setting.description} |\n"
        for setting in SETTINGS.values()
    ]
    return "| setting | default | takes | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _default(value: object) -> str:
    match value:
        case None | bool():
            return str(value).lower()
        case tuple() | dict() if not value:
            return "empty"
        case str():
            return f"`{value.replace(__version__, 'VERSION')}`"
        case int():
            return f"{value:,}"
        case _:
            return f"{value}"


def main() -> None:
    README.write_text(text().replace(settings_table(), made_settings_table()), encoding="utf-8")


if __name__ == "__main__":
    main()
