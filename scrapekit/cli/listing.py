"""`scrapekit list`: the spiders there are."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scrapekit.cli import exits
from scrapekit.cli.screen import Screen

if TYPE_CHECKING:
    from scrapekit.discovery import Found, OnBroken

_HELP = "show the spiders of a project"
_DESCRIPTION = f"""\
{_HELP.capitalize()}: name, target and description of each, one a line.
Files are read, not imported. Without PATH they are those that the nearest
pyproject.toml or scrapekit.toml names (spiders = ["bots/*.py"], in a pyproject.toml
below [tool.scrapekit]), else *.py and spiders/**/*.py in the current folder."""
_EPILOG = """\
examples:
  scrapekit list
  scrapekit list bots/ quotes.py

exit codes:
  0 all files could be read   1 some could not   3 there is no such PATH
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "list",
        help=_HELP,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        type=Path,
        help="a Python file, or a folder to be looked through",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the spiders. Raises UsageError."""
    screen = Screen(sys.stderr)
    broken: list[Path] = []

    def on_broken(file: Path, why: str) -> None:
        broken.append(file)
        screen.error(f"{os.path.relpath(file)} can't be read: {why}")

    found = _find(arguments.paths, on_broken)
    for line in _table(found):
        print(line)  # noqa: T201  the command's result
    if not found:
        screen.write("no spiders found; `scrapekit new NAME` writes one")
    return exits.FAILED if broken else exits.DONE


def _find(paths: list[Path], on_broken: OnBroken) -> list[Found]:
    from scrapekit import discovery

    if not paths:
        return discovery.find_spiders(Path.cwd(), on_broken)
    files = [file for path in paths for file in discovery.python_files(path)]
    return discovery.spiders_in(files, on_broken)


def _table(found: list[Found]) -> list[str]:
    from scrapekit.report import printable

    rows = [tuple(printable(cell) for cell in (f.name, f.target, f.doc)) for f in found]
    names = max((len(name) for name, _, _ in rows), default=0)
    targets = max((len(target) for _, target, _ in rows), default=0)
    return [f"{name:{names}}  {target:{targets}}  {doc}".rstrip() for name, target, doc in rows]
