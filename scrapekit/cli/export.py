"""`scrapekit export`: write the items of a job once more, in whatever format."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scrapekit.cli import exits
from scrapekit.cli.screen import Screen

if TYPE_CHECKING:
    from scrapekit.exports import Export

_HELP = "write the items of a job to a file, in whatever format"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "export", help=_HELP, description=f"{_HELP.capitalize()}; also while it runs."
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="what `crawl --job DIR` was given")
    output = parser.add_mutually_exclusive_group(required=True)
    output.add_argument(
        "-o",
        dest="output",
        metavar="FILE",
        type=lambda spec: (spec, "new"),
        help="where to: .jsonl, .json, .csv, .sqlite, or FILE:csv; - is JSON Lines on standard "
        "output; FILE must be new or empty, or see --append",
    )
    output.add_argument(
        "-O",
        dest="output",
        metavar="FILE",
        type=lambda spec: (spec, "overwrite"),
        help="the same, but FILE is overwritten",
    )
    parser.add_argument(
        "--append", action="store_true", help="add to the FILE of -o that holds items already"
    )
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the items. Raises UsageError if there is no such job, or the file can't be written."""
    import asyncio

    from scrapekit.errors import OutputError, UsageError
    from scrapekit.exports import open_spec
    from scrapekit.jobs import state

    state(arguments.folder)
    parser: argparse.ArgumentParser = arguments.parser
    spec, mode = arguments.output
    if arguments.append and mode != "new":
        parser.error("--append says how -o FILE is written, and there is no -o")
    try:
        export = open_spec(spec, mode="append" if arguments.append else mode)
    except UsageError as error:
        parser.error(str(error))
    try:
        problems = asyncio.run(_write(export, arguments.folder))
    except OutputError as error:
        if error.broken_pipe:
            return exits.DONE
        raise
    screen = Screen(sys.stderr)
    for problem in problems:
        screen.error(problem)
    screen.write(f"{export.path}: {export.count:,} items")
    return exits.FAILED if problems else exits.DONE


async def _write(export: Export, folder: Path) -> list[str]:
    """Write all items there are; what couldn't be written."""
    from scrapekit.jobs import items_of

    problems: list[str] = []
    await export.check()
    await export.open()
    try:
        for items in items_of(folder):
            problems += map(str, export.write_nowait(items))
            await export.room()
    finally:
        await export.aclose()
    return problems
