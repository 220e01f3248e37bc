"""`scrapekit new`: a spider to begin with, and a test of it that passes."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
import sys
from pathlib import Path
from string import Template

from scrapekit.cli import exits
from scrapekit.cli.screen import Screen

_HELP = "write a spider to begin with, and its test"
_EPILOG = """\
example:
  scrapekit new quotes        writes quotes.py and test_quotes.py into this folder

Files that exist are never overwritten (exit code 3).
"""

_SPIDER = Template('''\
"""A spider for example.com; `scrapekit crawl $name.py -o $name.jsonl` runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scrapekit import Request, Response, Spider


class $cls(Spider):
    """The heading of each page, and of those that it links to as the next one."""

    start_urls = ("https://example.com/",)

    def parse(self, response: Response) -> Iterator[dict[str, Any] | Request]:
        """Make an item of a page, and follow its link to the next one."""
        yield {"url": response.url, "title": response.get("h1")}
        yield from response.follow_all("a.next")
''')

_TEST = Template('''\
"""Tests of $name.py, on pages that are made up; `pytest` runs them."""

from __future__ import annotations

import asyncio

from scrapekit import collect
from scrapekit.testing import FakeTransport

from $name import $cls

PAGES = {
    "https://example.com/": '<h1>First</h1> <a class="next" href="/2">Next</a>',
    "https://example.com/2": "<h1>Second</h1>",
}


def test_each_page_is_an_item_and_leads_to_the_next() -> None:
    """The crawl begins at the first page and ends at the last one."""
    spider = $cls(start_urls=["https://example.com/"])
    items = asyncio.run(collect(spider, transport=FakeTransport(PAGES)))
    assert [item["title"] for item in items] == ["First", "Second"]
''')

_IMPORTS = _SPIDER.template + _TEST.template


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "new",
        help=_HELP,
        description=f"{_HELP.capitalize()}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "name", metavar="NAME", type=_name, help="the name of the spider, in snake case: my_shop"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write both files and say what to do next. Raises UsageError."""
    from scrapekit.errors import OutputError

    name: str = arguments.name
    words = {"name": name, "cls": _class_name(name)}
    texts = {
        Path(f"{name}.py"): _SPIDER.substitute(words),
        Path(f"test_{name}.py"): _TEST.substitute(words),
    }
    for file in texts:
        if file.exists() or file.is_symlink():
            message = f"{file} exists already; move it away or choose another name"
            raise OutputError(message, path=str(file))
    for file, text in texts.items():
        _write(file, text)
    screen = Screen(sys.stderr)
    screen.write(f"wrote {' and '.join(map(str, texts))}. Next:")
    screen.write(f"  edit {name}.py               your start_urls, and what parse() yields")
    screen.write(f"  scrapekit crawl {name}.py -o {name}.jsonl")
    screen.write(f"  pytest test_{name}.py")
    return exits.DONE


def _class_name(name: str) -> str:
    cls = "".join(word.capitalize() for word in name.split("_"))
    return f"{cls}Spider" if re.search(rf"\bimport .*\b{cls}\b", _IMPORTS) else cls


def _write(file: Path, text: str) -> None:
    from scrapekit.errors import OutputError

    try:
        # "x": a file that came into being a moment ago isn't overwritten either.
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise OutputError(f"can't write {file}: {error.strerror}", path=str(file)) from error


def _name(text: str) -> str:
    """A name for a module. Raises ArgumentTypeError, which says what would be one."""
    better = re.sub(r"\W+|(?<=[a-z0-9])(?=[A-Z])", "_", text.removesuffix(".py")).strip("_").lower()
    hint = f"; did you mean {better}?" if better.isidentifier() and better != text else ""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name for a spider: use lower-case letters, digits and _{hint}"
        )
    if keyword.iskeyword(text) or keyword.issoftkeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is a word of Python's own; add another to it")
    if not Path(f"{text}.py").exists() and _is_module(text):
        raise argparse.ArgumentTypeError(
            f"{text}.py would hide a module that exists already; add a word, as in {text}_spider"
        )
    return text


def _is_module(name: str) -> bool:
    return name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None
