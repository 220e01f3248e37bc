"""What needs no site: help, versions, lists, and all that keeps a crawl from starting."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scrapekit._version import __version__
from tests.functional.cli import Called, environment, scrapekit

__all__ = ["scrapekit"]

HELP_LOADS = """
import sys
before = set(sys.modules)
from scrapekit.cli import main
try:
    main(["crawl", "--help"])
except SystemExit:
    pass
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print("loaded:", *sorted(loaded - sys.stdlib_module_names), file=sys.stderr)
"""


def test_help_loads_nothing_but_the_standard_library() -> None:
    program = subprocess.run(
        [sys.executable, "-c", HELP_LOADS],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert program.stderr == "loaded: scrapekit\n"
    assert "usage: scrapekit crawl" in program.stdout


@pytest.mark.parametrize("command", [[], ["crawl"], ["list"], ["new"], ["version"]])
def test_every_help_has_examples_and_exits_with_0(scrapekit: Called, command: list[str]) -> None:
    told = scrapekit(*command, "--help")
    assert (told.code, told.err) == (0, "")
    assert "example" in told.out
    assert max(map(len, told.out.splitlines())) <= 88


def test_help_of_crawl_tells_the_exit_codes(scrapekit: Called) -> None:
    told = scrapekit("crawl", "--help")
    assert "130, 143  interrupted by Ctrl-C, by SIGTERM" in told.out


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version(scrapekit: Called, arguments: list[str]) -> None:
    assert scrapekit(*arguments) == (0, f"scrapekit {__version__}\n", "")


def test_version_v_tells_what_a_bug_report_needs(
    scrapekit: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = scrapekit.folder / "scrapekit-0.0.dist-info"
    requires = (
        "aiohttp>=3.14.4",
        "absent-package>=1",
        "uvloop>=0.22; sys_platform != 'win32' and extra == 'speed'",
    )
    lines = ["Metadata-Version: 2.4", "Name: scrapekit", "Version: 0.0"]
    lines += [f"Requires-Dist: {line}" for line in requires]
    info.mkdir()
    (info / "METADATA").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(scrapekit.folder)
    told = scrapekit("version", "-v")
    assert (told.code, told.err) == (0, "")
    first, python, _, *rest = told.out.splitlines()
    assert first == f"scrapekit {__version__}"
    assert python.endswith(sys.version.split()[0])
    assert rest[0] == "dependencies:"
    assert rest[1].startswith("  aiohttp         3.")
    assert rest[2] == "  absent-package  not installed"
    assert rest[3] == "extra speed:"
    assert rest[4].startswith("  uvloop  ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "required: COMMAND"),
        ("craw pages.py", "invalid choice: 'craw'"),
        ("crawl", "required: TARGET"),
        ("crawl pages.py --jsn", "unrecognized arguments: --jsn"),
        ("crawl pages.py -a name", "-a: 'name' should be NAME=VALUE"),
        ("crawl pages.py -a =value", "-a: '=value' should be NAME=VALUE"),
        ("crawl pages.py -s concurrency", "-s: 'concurrency' should be NAME=VALUE"),
        ("crawl pages.py -L loud", "invalid choice: 'loud'"),
        ("crawl pages.py -o", "-o: expected one argument"),
        ("crawl pages.py -o a.xls", "the output a.xls has the unknown format 'xls'; known: csv"),
        ("crawl pages.py -o a", "the output a has no extension that names a format"),
        ("crawl pages.py -o - --json", "-o - and --json would mix on standard output"),
        ("crawl pages.py -o -:csv --report -", "-o - and --json would mix on standard output"),
        ("crawl pages.py -o a.csv -O ./a.csv", "a.csv and ./a.csv are the same file"),
        ("crawl pages.py -o - -o -", "- and - are the same file"),
        ("crawl pages.py -o a.json --report a.json", "are the same file"),
        ("crawl pages.py -o a.jsonl --log-file a.jsonl", "are the same file"),
        ("crawl pages.py --append", "there is no -o"),
        ("crawl pages.py --append -O a.jsonl", "there is no -o"),
        ("list --all", "unrecognized arguments"),
        ("new", "required: NAME"),
        ("version 1", "unrecognized arguments: 1"),
    ],
)
def test_a_wrong_command_line_exits_with_2(scrapekit: Called, line: str, said: str) -> None:
    before = sorted(scrapekit.folder.iterdir())
    told = scrapekit(*line.split())
    assert (told.code, told.out) == (2, "")
    assert said in told.err
    assert told.err.startswith("usage: scrapekit")
    assert sorted(scrapekit.folder.iterdir()) == before


LIFESPAN = """
from scrapekit import Spider

class Locked(Spider):
    start_urls = ["http://127.0.0.1:9/"]
    async def lifespan(self):
        raise PermissionError("no key\\n\\x1b[2J")
        yield

class Picky(Spider):
    def __init__(self, size):
        self.size = int(size)
"""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("absent.py", "there is no file absent.py"),
        ("absent", "there is no spider named 'absent'; known: locked, pages, picky"),
        ("page", "there is no spider named 'page'; did you mean 'pages'?"),
        ("pages.py:Page", "pages.py has no spider class 'Page'; did you mean 'Pages'?"),
        ("odd.py", "odd.py defines 2 spiders; choose one: odd.py:Locked, odd.py:Picky"),
        ("none.py", "none.py defines no spider: write a class that inherits from scrapekit.Spider"),
        ("broken.py", ("broken.py can't be imported: ZeroDivisionError: division by zero "
         "(broken.py:2)")),
        ("absent.module:X", "there is no module 'absent'"),
        ("pages.py -a fail=x", "spider 'pages' has no argument 'fail'; did you mean 'fail_on'?"),
        ("odd.py:Picky -a size=big", ("Picky can't be made: ValueError: invalid literal for int() "
         "with base 10: 'big' (odd.py:12)")),
        ("pages.py -s concurency=2", ("-s: unknown setting 'concurency'; did you mean "
         "'concurrency'?")),
        ("pages.py -s concurrency=many", "concurrency"),
        ("pages.py -a start_urls=example.com", ("'example.com' is not a URL that can be fetched: "
         "it has no scheme; write https://example.com")),
        ("pages.py -o absent/items.csv", ("can't write absent/items.csv: the directory absent does "
         "not exist; create it first")),
        ("pages.py -O .:csv", "can't write .: this is a directory; name a file"),
        ("pages.py -o old.jsonl", ("can't write old.jsonl: the file holds data; overwrite it with "
         "-O, add to it with --append, or choose another name")),
        ("pages.py --report absent/report.json", ("can't write absent/report.json: the directory "
         "absent does not exist; create it first")),
        ("pages.py --log-file absent/log", ("can't write absent/log: the directory absent does not "
         "exist; create it first")),
        ("odd.py:Locked", ("locked could not start: PermissionError: no key\\n\\x1b[2J (odd.py:7); "
         "-L debug shows the traceback")),
    ],
)  # fmt: skip
def test_what_cannot_start_exits_with_3_and_says_why_in_one_line(
    scrapekit: Called, line: str, said: str
) -> None:
    scrapekit.write("odd.py", LIFESPAN)
    scrapekit.write("none.py", "import scrapekit\n")
    scrapekit.write("broken.py", "def f():\n    1 / 0\nf()\n")
    scrapekit.write("old.jsonl", "precious\n")
    told = scrapekit("crawl", *line.split())
    assert (told.code, told.out) == (3, "")
    assert said in told.error
    assert scrapekit.read("old.jsonl") == "precious\n"


def test_the_traceback_of_what_cannot_start_is_there_for_the_asking(scrapekit: Called) -> None:
    scrapekit.write("broken.py", "1 / 0\n")
    told = scrapekit("crawl", "broken.py", "-L", "DEBUG")
    assert told.code == 3
    assert "ZeroDivisionError: division by zero\n" in told.err
    assert told.err.splitlines()[-1].startswith("scrapekit: error: broken.py can't be imported")


def test_settings_of_the_project_and_the_environment_are_checked_too(
    scrapekit: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRAPEKIT_DELAY", "1")
    told = scrapekit("crawl", "pages.py")
    assert (told.code, told.error) == (
        3,
        "SCRAPEKIT_DELAY: no such setting; did you mean 'SCRAPEKIT_DELAY_S'?",
    )


def test_ctrl_c_before_the_crawl_ends_without_a_word(scrapekit: Called) -> None:
    scrapekit.write("slow.py", "raise KeyboardInterrupt\n")
    assert scrapekit("crawl", "slow.py") == (130, "", "")


def test_list_shows_name_target_and_description(scrapekit: Called) -> None:
    scrapekit.write("spiders/a_shop.py", "import scrapekit\nclass A(scrapekit.Spider): pass\n")
    told = scrapekit("list")
    assert told == (
        0,
        "a      spiders/a_shop.py:A\npages  pages.py:Pages       The headings of a site.\n",
        "",
    )
    assert scrapekit("list", "spiders").out == "a  spiders/a_shop.py:A\n"
    assert scrapekit("list", "pages.py").out.startswith("pages  pages.py:Pages  The")


def test_list_names_files_that_are_broken_and_exits_with_1(scrapekit: Called) -> None:
    scrapekit.write("broken.py", "class\n")
    told = scrapekit("list")
    assert told.code == 1
    assert told.out.startswith("pages  pages.py:Pages")
    assert told.error == "broken.py can't be read: SyntaxError: invalid syntax (broken.py:1)"


def test_list_without_spiders_says_how_to_begin(scrapekit: Called) -> None:
    (scrapekit.folder / "pages.py").unlink()
    assert scrapekit("list") == (0, "", "no spiders found; `scrapekit new NAME` writes one\n")
    told = scrapekit("list", "absent")
    assert (told.code, told.error) == (3, "there is no file absent")


def test_what_is_listed_has_nothing_that_a_terminal_would_obey(scrapekit: Called) -> None:
    scrapekit.write("evil.py", "from scrapekit import *\nclass E(Spider):\n    '\\x1b[2J'\n")
    assert "\x1b" not in scrapekit("list", "evil.py").out


@pytest.mark.parametrize("arguments", [["--help"], ["version", "-v"], ["crawl"]])
def test_a_reader_that_has_gone_is_no_error(tmp_path: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        program = subprocess.run(
            [sys.executable, "-m", "scrapekit", *arguments],
            cwd=tmp_path,
            env=environment(),
            stdout=writer,
            stderr=writer if "crawl" in arguments else subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert program.returncode == (2 if "crawl" in arguments else 0)
    assert not program.stderr
