"""The command line: one module a command. What it says is on standard error, but for results.

Until a command runs, only the standard library is imported, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from scrapekit._version import __version__
from scrapekit.cli import crawl, diff, exits, export, job, listing, new, retry, version
from scrapekit.cli.screen import Screen, closed_pipes_are_fine

_EXAMPLES = """\
examples:
  scrapekit new quotes
  scrapekit crawl quotes.py -o quotes.jsonl
  scrapekit list
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; `argv` defaults to the program's arguments. Returns the exit code.

    Raises SystemExit(2) where the arguments are wrong, and SystemExit(0) after --help.
    """
    code = exits.DONE
    with closed_pipes_are_fine():
        code = _main(argv)
    return code  # noqa: RET504  a closed pipe leaves the block early


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    try:
        code: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except Exception as error:
        from scrapekit.errors import UsageError

        if not isinstance(error, UsageError):
            raise
        Screen(sys.stderr).error(str(error))
        return exits.NOT_STARTED
    return code


def _joined(argv: Sequence[str]) -> list[str]:
    """Make `-o-:csv` of `-o -:csv`: argparse takes a value that starts with "-" for an option."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in {"-o", "-O"} and argument.startswith("-:"):
            joined[-1] += argument
        else:
            joined.append(argument)
    return joined


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scrapekit",
        description="Crawl web sites with spiders: classes that turn pages into items.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"scrapekit {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (crawl, job, retry, export, diff, listing, new, version):
        command.add_to(commands)
    return parser
