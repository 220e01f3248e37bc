"""`scrapekit retry`: let what failed in a job be tried again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scrapekit.cli import exits

_HELP = "put the failed requests of a job back"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "retry",
        help=_HELP,
        description=f"{_HELP.capitalize()}: the next `crawl --job DIR` fetches them again.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="what `crawl --job DIR` was given")
    parser.add_argument(
        "--only",
        metavar="REASON",
        help="those alone that failed by REASON, as `scrapekit job DIR` names it; BadStatus stands "
        "for BadStatus 500 and all others",
    )
    parser.add_argument(
        "--forget-lost",
        action="store_true",
        help="count items no more that errors of stages and outputs have cost; they can't be put "
        "back, because their pages are done",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Put them back. Raises UsageError if that can't be done."""
    from scrapekit.jobs import forget_lost, retry, state

    count = retry(arguments.folder, arguments.only)
    what = "1 request is" if count == 1 else f"{count:,} requests are"
    sys.stdout.write(f"{what} put back; the same `crawl --job` command continues\n")
    if arguments.forget_lost:
        sys.stdout.write(f"{_items(forget_lost(arguments.folder))} forgotten\n")
    elif lost := state(arguments.folder).lost:
        hint = "their pages are done; --forget-lost counts them no more"
        sys.stdout.write(f"{_items(lost)} lost by errors of stages and outputs: {hint}\n")
    return exits.DONE


def _items(count: int) -> str:
    return "1 item is" if count == 1 else f"{count:,} items are"
