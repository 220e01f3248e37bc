"""`scrapekit crawl`: run one spider to its end."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scrapekit.cli.closing import STDOUT
from scrapekit.cli.screen import Screen
from scrapekit.errors import name_in

if TYPE_CHECKING:
    from scrapekit.api import Crawl
    from scrapekit.exports import Mode
    from scrapekit.report import Report

_HELP = "run a spider to its end"
_EPILOG = """\
examples:
  scrapekit crawl quotes.py -o quotes.jsonl
  scrapekit crawl quotes.py:Quotes -a tag=love -s delay_s=0.5 -O quotes.csv
  scrapekit crawl bots.shop:Shop -o items.jsonl -o table.txt:csv --report report.json
  scrapekit crawl quotes -o - | jq .author
  scrapekit crawl quotes.py -o quotes.csv --job quotes.job

Ctrl-C or SIGTERM once: fetch nothing more, finish the pages in flight (within the
setting drain_s), write them, report. Twice: stop now; what was finished is written.
With --job the same command continues, also after a kill.

exit codes:
  0  done, every callback ran without an error; or the reader of -o - had enough
  1  done, but callbacks, stages or exports failed, or no page could be fetched
  2  the command line is wrong
  3  could not start: a spider, setting or output that can't be used
  130, 143  interrupted by Ctrl-C, by SIGTERM
"""
_logger = logging.getLogger("scrapekit.cli")


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "crawl",
        help=_HELP,
        description=f"{_HELP.capitalize()}. Logs, progress and the report go to standard error.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="file.py, file.py:Class, package.module:Class, or a name from `scrapekit list`",
    )
    _add_inputs(parser)
    _add_outputs(parser.add_argument_group("items"))
    _add_job(parser.add_argument_group("jobs"))
    _add_messages(parser.add_argument_group("messages"))
    parser.set_defaults(run=run, parser=parser, outputs=[], reports=[], arguments=[], settings=[])


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-a",
        dest="arguments",
        metavar="NAME=VALUE",
        action="append",
        type=_assignment,
        help="an argument of the spider; repeatable",
    )
    parser.add_argument(
        "-s",
        dest="settings",
        metavar="NAME=VALUE",
        action="append",
        type=_assignment,
        help="a setting, such as concurrency=64; wins over all other places; repeatable",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="keep what is fetched in the folder DIR, and fetch nothing that is there, until it is "
        "deleted; with -s cache_mode=rules only as long as HTTP allows",
    )


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-o",
        dest="outputs",
        metavar="FILE",
        action="append",
        type=lambda spec: (spec, "new"),
        help="write items to FILE (.jsonl, .json, .csv, .sqlite; or FILE:csv), which must be new "
        "or empty; - is JSON Lines on standard output; repeatable",
    )
    group.add_argument(
        "-O",
        dest="outputs",
        metavar="FILE",
        action="append",
        type=lambda spec: (spec, "overwrite"),
        help="the same, but FILE is overwritten; repeatable",
    )
    group.add_argument(
        "--append", action="store_true", help="add to the files of -o that hold items already"
    )


def _add_job(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--job",
        metavar="DIR",
        help="keep the crawl in the folder DIR, so that it survives being killed: the same "
        "command continues it, and the files of -o with it",
    )
    group.add_argument(
        "--since",
        metavar="DIR",
        help="compare with the finished job in DIR: unchanged pages aren't parsed again, and "
        "each item says in its field _change whether it is new, changed, same or gone",
    )
    group.add_argument(
        "--fresh", action="store_true", help="throw away what DIR holds, and start anew"
    )
    group.add_argument("--yes", action="store_true", help="don't ask before --fresh does so")


def _add_messages(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-L",
        "--log-level",
        metavar="LEVEL",
        type=str.lower,
        choices=("debug", "info", "warning", "error", "critical"),
        help="debug, info, warning, error or critical; by default info, but warning beside the "
        "live progress of a terminal and with --quiet",
    )
    group.add_argument("--log-file", metavar="FILE", help="add the log to FILE instead")
    group.add_argument(
        "-q", "--quiet", action="store_true", help="no progress, no report; warnings and errors"
    )
    group.add_argument(
        "--profile",
        action="store_true",
        help="also a table of what each callback cost in each lane, after the report",
    )
    group.add_argument(
        "--json",
        dest="reports",
        action="append_const",
        const=STDOUT,
        help="the report as JSON on standard output",
    )
    group.add_argument(
        "--report",
        dest="reports",
        metavar="FILE",
        action="append",
        help="the report as JSON into FILE, which is overwritten",
    )


def _assignment(text: str) -> str:
    name, equals, _ = text.partition("=")
    if not (name.strip() and equals):
        raise argparse.ArgumentTypeError(
            f"{repr(text) if equals else name_in(text)} should be NAME=VALUE"
        )
    return text


def run(arguments: argparse.Namespace) -> int:
    """Run the crawl and tell how it went. Raises UsageError if it can't start."""
    from scrapekit.cli.closing import close
    from scrapekit.cli.logs import logging_to
    from scrapekit.errors import UsageError
    from scrapekit.report import profile

    _check_outputs(arguments)
    _check_job(arguments)
    screen = Screen(sys.stderr)
    live = screen.is_terminal and not arguments.quiet and not _items_on_terminal(arguments)
    level = arguments.log_level or ("warning" if live or arguments.quiet else "info")
    with logging_to(screen, arguments.log_file, level):
        try:
            crawl = _prepare(arguments)
            _start_anew(arguments, screen)
            report, number = _run(crawl, screen, live=live)
        except UsageError:
            _logger.debug("it could not start", exc_info=True)
            raise
    if not arguments.quiet:
        screen.write(str(report))
    if arguments.profile:
        screen.write(profile(report))
    return close(report, number, arguments.reports, screen)


def _check_outputs(arguments: argparse.Namespace) -> None:
    """End the program if what the command line says on outputs contradicts itself."""
    from scrapekit.errors import UsageError
    from scrapekit.exports import check_distinct, open_spec

    parser: argparse.ArgumentParser = arguments.parser
    logs = [arguments.log_file] if arguments.log_file else []
    others = [f"{file}:json" for file in (*arguments.reports, *logs) if file != STDOUT]
    try:
        exports = [open_spec(spec, mode=mode) for spec, mode in arguments.outputs]
        check_distinct([*(spec for spec, _ in arguments.outputs), *others])
    except UsageError as error:
        parser.error(str(error))
    if STDOUT in arguments.reports and any(export.path == STDOUT for export in exports):
        parser.error("-o - and --json would mix on standard output; use --report FILE")
    if arguments.append and not any(mode == "new" for _, mode in arguments.outputs):
        parser.error("--append says how -o FILE is written, and there is no -o")


def _check_job(arguments: argparse.Namespace) -> None:
    parser: argparse.ArgumentParser = arguments.parser
    if arguments.fresh and not arguments.job:
        parser.error("--fresh starts a job anew, and there is no --job DIR")
    if arguments.yes and not arguments.fresh:
        parser.error("--yes answers what --fresh asks, and there is no --fresh")


def _start_anew(arguments: argparse.Namespace, screen: Screen) -> None:
    """Throw the old job away if that was asked for. Ends the program if it isn't confirmed."""
    from scrapekit.jobs import start_anew, waste

    if not arguments.fresh:
        return
    folder = Path(arguments.job)
    lost = waste(folder)
    if lost is not None:
        screen.write(f"--fresh throws away the job {folder}: {lost}")
        if not arguments.yes:
            _confirm(arguments)
    start_anew(folder)


def _confirm(arguments: argparse.Namespace) -> None:
    parser: argparse.ArgumentParser = arguments.parser
    if sys.stdin is None or not sys.stdin.isatty():
        parser.error("nobody is at a terminal to confirm that; --fresh --yes does it unasked")
    sys.stderr.write("Throw it away? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        parser.error("nothing was thrown away")


def _mode(mode: Mode, arguments: argparse.Namespace) -> Mode:
    return "append" if mode == "new" and arguments.append else mode


def _items_on_terminal(arguments: argparse.Namespace) -> bool:
    on_stdout = any(spec == STDOUT or spec.startswith("-:") for spec, _ in arguments.outputs)
    return on_stdout and sys.stdout is not None and sys.stdout.isatty()


def _prepare(arguments: argparse.Namespace) -> Crawl:
    from scrapekit import api, discovery
    from scrapekit.exports.files import check

    for file in arguments.reports:
        check(file, "overwrite", appendable=False)
    cls = discovery.load_target(arguments.target)
    pairs = (argument.split("=", 1) for argument in arguments.arguments)
    spider = discovery.build(cls, {name.strip(): value for name, value in pairs})
    assignments = [*arguments.settings, *_cache_of(arguments)]
    settings = api.merge_settings(spider, project=True, assignments=assignments)
    outputs = [(spec, _mode(mode, arguments)) for spec, mode in arguments.outputs]
    return api.prepare(
        spider,
        settings,
        outputs=outputs,
        job=arguments.job,
        since=arguments.since,
        iterated=False,
    )


def _cache_of(arguments: argparse.Namespace) -> list[str]:
    return [] if arguments.cache is None else [f"cache={arguments.cache}"]


def _run(crawl: Crawl, screen: Screen, *, live: bool) -> tuple[Report, int | None]:
    """Run the crawl to its end; its report, and which signal came. Raises UsageError."""
    import asyncio

    from scrapekit.discovery import describe
    from scrapekit.errors import SpiderError, UsageError

    try:
        return asyncio.run(_to_end(crawl, screen, live=live))
    except Exception as error:
        report = crawl.report
        if not report.started_at:
            if isinstance(error, UsageError):
                raise
            name = crawl.spider.name
            message = f"{name} could not start: {describe(error)}; -L debug shows the traceback"
            raise SpiderError(message, target=name) from error
        _logger.critical("the crawl broke off", exc_info=True)
        screen.error(
            f"{describe(error)}: this is a mistake in scrapekit; please report it, "
            "with the traceback and what `scrapekit version -v` says"
        )
        report.reason = "failed"
        return report, None


async def _to_end(crawl: Crawl, screen: Screen, *, live: bool) -> tuple[Report, int | None]:
    from scrapekit.api import run_to_end
    from scrapekit.cli.progress import progress

    async with progress(crawl, screen, live=live):
        if live:
            # The log says so as well, but isn't shown beside live progress.
            return await run_to_end(crawl, resuming=screen.write)
        return await run_to_end(crawl)
