"""`scrapekit version`: what a bug report needs to say."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from scrapekit._version import __version__
from scrapekit.cli import exits

_HELP = "show the version, and with -v those of all that matters"
_EPILOG = """\
example:
  scrapekit version -v
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "version",
        help=_HELP,
        description=f"{_HELP.capitalize()}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="also Python, the platform, the dependencies and the extras",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the versions."""
    lines = _all_versions() if arguments.verbose else [f"scrapekit {__version__}"]
    for line in lines:
        print(line)  # noqa: T201  the command's result
    return exits.DONE


def _all_versions() -> Iterator[str]:
    yield f"scrapekit {__version__}"
    import platform

    yield f"{platform.python_implementation()} {platform.python_version()}"
    yield platform.platform()
    extras = _requirements()
    if not extras:
        yield "dependencies: unknown, because scrapekit runs without being installed"
    for extra, packages in extras.items():
        yield f"extra {extra}:" if extra else "dependencies:"
        width = max(map(len, packages))
        for package in packages:
            yield f"  {package:{width}}  {_version(package)}"


def _requirements() -> dict[str, list[str]]:
    """The packages that scrapekit asks for, by extra; "" is those that it can't do without."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("scrapekit") or []
    except PackageNotFoundError:
        return {}
    extras: dict[str, list[str]] = {}
    for line in lines:
        # A line is a name, versions and conditions (PEP 508), `extra == "..."` among the latter.
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"""extra\s*==\s*["']([\w.-]+)""", line)
        if name:
            extras.setdefault(extra[1] if extra else "", []).append(name[0])
    return extras


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
