"""`scrapekit diff`: which items changed between two jobs."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scrapekit.cli import exits
from scrapekit.cli.screen import Screen

if TYPE_CHECKING:
    from scrapekit.jobs.diff import Difference

_HELP = "show which items are new, changed or gone from one job to another"
_SIGNS: Final = {"new": "+", "changed": "~", "gone": "-"}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "diff",
        help=_HELP,
        description=f"{_HELP.capitalize()}: lines with +, ~ and - on standard output, the counts "
        "on standard error.",
    )
    for name, what in (("before", "the earlier job"), ("after", "the later one")):
        parser.add_argument(name, metavar=f"JOB_{'AB'[name == 'after']}", type=Path, help=what)
    parser.add_argument(
        "--key",
        metavar="FIELD",
        action="append",
        default=[],
        help="a field that tells which item is which, such as sku; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="as JSON Lines")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show the differences. Raises UsageError if one of them is no job."""
    from scrapekit.items import encode_value
    from scrapekit.jobs.diff import differences

    counts: Counter[str] = Counter()
    for found in differences(arguments.before, arguments.after, arguments.key):
        if found is None:
            counts["same"] += 1
            continue
        counts[found.change] += 1
        text = encode_value(found).decode() if arguments.json else _told(found)
        sys.stdout.write(f"{text}\n")
    told = ", ".join(
        f"{counts[change]:,} {change}" for change in ("new", "changed", "same", "gone")
    )
    Screen(sys.stderr).write(told)
    return exits.DONE


def _told(found: Difference) -> str:
    line = f"{_SIGNS[found.change]} {_json(found.item)}"
    fields = (
        f"    {_json(name)}: {_json(was)} -> {_json(now)}"
        for name, (was, now) in found.fields.items()
        if found.was is not None
    )
    return "\n".join([line, *fields])


def _json(value: Any) -> str:
    from scrapekit.items import encode_value
    from scrapekit.report import printable

    return printable(encode_value(value).decode(), 2_000)
