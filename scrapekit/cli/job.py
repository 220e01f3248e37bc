"""`scrapekit job`: what a job has come to."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from scrapekit.cli import exits

if TYPE_CHECKING:
    from scrapekit.jobs import Lost, State

_HELP = "show what a job has done, what it waits for, and what failed"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "job", help=_HELP, description=f"{_HELP.capitalize()}; also while it runs."
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="what `crawl --job DIR` was given")
    parser.add_argument(
        "--failed",
        action="store_true",
        help="list the requests that were given up and the items that were lost, and why",
    )
    parser.add_argument("--json", action="store_true", help="as JSON; with --failed, as JSON Lines")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show the job. Raises UsageError if there is none."""
    from scrapekit.jobs import failed_requests, lost_items, state

    if arguments.failed:
        show = _to_json if arguments.json else _told
        for request in failed_requests(arguments.folder):
            _print(show(request))
        for lost in lost_items(arguments.folder):
            _print(show(lost))
    else:
        found = state(arguments.folder)
        _print(_to_json(found) if arguments.json else _summary(found))
    return exits.DONE


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _to_json(value: State | Lost) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def _summary(state: State) -> str:
    failed = sum(state.failed.values())
    counts = f"{state.done:,} done, {state.pending:,} pending, {failed:,} failed"
    lines = [
        f"{state.spider}: {counts}, {state.items:,} items",
        *(f"  failed     {count:,} x {reason}" for reason, count in state.failed.items()),
        *_lost(state),
        f"  last run   {_run(state)}",
        f"  runs       {state.runs:,}, the first on {_date(state.first_started)}",
    ]
    return "\n".join(lines)


def _lost(state: State) -> list[str]:
    if not state.lost:
        return []
    items = "1 item" if state.lost == 1 else f"{state.lost:,} items"
    return [f"  lost       {items}, by errors of stages and outputs; --failed shows which"]


def _run(state: State) -> str:
    started = f"{_date(state.last_started)}: {state.last_pages:,} pages"
    if state.last_ended is None:
        return f"{started}; it is running, or was killed"
    span = state.last_ended - state.last_started
    return f"{started} in {span:,.1f} s ({state.pages_per_s:,.1f}/s)"


def _date(at: float) -> str:
    try:
        return datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):
        return "an unknown date"


def _told(request: Lost) -> str:
    from scrapekit.jobs import FailedRequest
    from scrapekit.report import printable

    tries = "cost an item"
    if isinstance(request, FailedRequest):
        tries = "1 try" if request.tries == 1 else f"{request.tries} tries"
    where = f" at {request.where}" if request.where else ""
    callback = f" in {request.callback}" if request.callback else ""
    lines = [
        printable(request.url or "(an output)"),
        f"  {request.reason} ({request.during}{callback}{where}), {tries}, {_date(request.at)}",
        f"  {printable(request.message)}",
        *(f"  {printable(line)}" for line in request.traceback.splitlines()),
    ]
    return "\n".join(lines)
