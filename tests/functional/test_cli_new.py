"""`scrapekit new`: what it writes works at once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from scrapekit.cli.new import _class_name
from tests.functional.cli import Called, environment, scrapekit
from tests.programs import ROOT

__all__ = ["scrapekit"]

# A name that no example has: those are imported in the same process.
NEW = "fish_market"


def run(folder: Path, *command: str) -> str:
    """The output of `python -m *command`, which has to succeed."""
    program = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment() | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert program.returncode == 0, program.stdout
    return program.stdout


def needs(tool: str) -> None:
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")


def test_new_writes_a_spider_and_a_test_and_says_what_is_next(scrapekit: Called) -> None:
    told = scrapekit("new", "corner_shop")
    assert (told.code, told.out) == (0, "")
    first, *steps = told.err.splitlines()
    assert first == "wrote corner_shop.py and test_corner_shop.py. Next:"
    assert "  scrapekit crawl corner_shop.py -o corner_shop.jsonl" in steps
    assert "  pytest test_corner_shop.py" in steps
    assert "corner_shop.py:CornerShop" in scrapekit("list").out


def test_the_new_test_passes(scrapekit: Called) -> None:
    scrapekit("new", NEW)
    assert "1 passed" in run(scrapekit.folder, "pytest", "-q", "-p", "no:cacheprovider")


def test_the_new_files_pass_ruff(scrapekit: Called) -> None:
    needs("ruff")
    scrapekit("new", NEW)
    (scrapekit.folder / "pages.py").unlink()
    # Implicit packages are for the project to decide on, not for a file.
    config = ("--no-cache", "--config", str(ROOT / "pyproject.toml"))
    run(scrapekit.folder, "ruff", "check", *config, "--ignore", "INP001", ".")
    run(scrapekit.folder, "ruff", "format", "--check", *config, ".")


def test_the_new_files_pass_mypy(scrapekit: Called) -> None:
    needs("mypy")
    scrapekit("new", NEW)
    # What scrapekit itself is made of is checked elsewhere.
    options = (
        "--strict",
        "--follow-imports=silent",
        "--cache-dir",
        str(ROOT / ".mypy_cache" / "new"),
    )
    run(scrapekit.folder, "mypy", *options, f"{NEW}.py", f"test_{NEW}.py")


@pytest.mark.parametrize("existing", [f"{NEW}.py", f"test_{NEW}.py"])
def test_new_overwrites_nothing(scrapekit: Called, existing: str) -> None:
    scrapekit.write(existing, "mine\n")
    told = scrapekit("new", NEW)
    assert told.code == 3
    assert told.error == f"{existing} exists already; move it away or choose another name"
    assert scrapekit.read(existing) == "mine\n"
    assert {file.name for file in scrapekit.folder.iterdir()} == {"pages.py", existing}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Shop", ("'Shop' is no name for a spider: use lower-case letters, digits and _; did you "
         "mean shop?")),
        ("CornerShop", "did you mean corner_shop?"),
        ("corner-shop", "did you mean corner_shop?"),
        ("shop.py", "did you mean shop?"),
        ("../shop", "did you mean shop?"),
        ("1shop", "use lower-case letters, digits and _"),
        ("", "use lower-case letters, digits and _"),
        ("class", "'class' is a word of Python's own; add another to it"),
        ("json", "json.py would hide a module that exists already; add a word, as in json_spider"),
        ("aiohttp", "aiohttp.py would hide a module"),
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_a_module_is_refused(scrapekit: Called, name: str, said: str) -> None:
    told = scrapekit("new", name)
    assert told.code == 2
    assert said in told.err
    assert [file.name for file in scrapekit.folder.iterdir()] == ["pages.py"]


@pytest.mark.parametrize(
    ("name", "cls"),
    [("shop", "Shop"), ("corner_shop2", "CornerShop2"), ("spider", "SpiderSpider"),
     ("request", "RequestSpider"), ("fake_transport", "FakeTransportSpider")],
)  # fmt: skip
def test_the_class_is_called_like_the_file_unless_that_is_taken(name: str, cls: str) -> None:
    assert _class_name(name) == cls
