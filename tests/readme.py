"""README.md taken apart: its fenced blocks, and the tables that are made of what is elsewhere.

python -m tests.readme         write the tables anew
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from scrapekit._version import __version__
from scrapekit.settings import SETTINGS
from tests.benchmarks.compare import BASELINE, cpu_us, is_ours, rate
from tests.benchmarks.measure import Measurement
from tests.programs import ROOT

README = ROOT / "README.md"
RESULTS = ROOT / "tests" / "benchmarks" / "results"

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


def speed_table() -> str:
    """The table of pages per second as README.md has it."""
    return _table("pages/s")


def made_speed_table() -> str:
    """The table of pages per second as the benchmark's results have it."""
    headings = ("pages/s", "few links a page", "CPU time a page", "many links", "CPU time a page")
    return f"| {' | '.join(headings)} |\n{'|---' * len(headings)}|\n" + "".join(_speed_rows())


def _speed_rows() -> Iterator[str]:
    sites = [_runs("light"), _runs("heavy")]
    for name in sites[0]:
        cells = [f"scrapekit, {name}" if is_ours(name) else name]
        for runs in sites:
            found, base = runs[name], runs[BASELINE]
            cells.append(f"{rate(found):,.0f} ({rate(found) / rate(base):.2f}x)")
            cells.append(f"{cpu_us(found):,.0f} us ({cpu_us(found) / cpu_us(base):.2f}x)")
        yield f"| {' | '.join(cells)} |\n"


def _runs(site: str) -> dict[str, list[Measurement]]:
    kept = json.loads((RESULTS / f"{site}.json").read_text(encoding="utf-8"))
    runs = kept["figures"].items()
    return {name: [Measurement(**run) for run in found] for name, found in runs}


def main() -> None:
    made = text().replace(settings_table(), made_settings_table())
    README.write_text(made.replace(speed_table(), made_speed_table()), encoding="utf-8")


if __name__ == "__main__":
    main()
