from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scrapekit.discovery import build, describe, find_spiders, load_target, python_files, spiders_in
from scrapekit.errors import SettingsError, SpiderError, UsageError
from scrapekit.spider import Spider

HEAD = "from scrapekit import Spider\n"
SHOP = f"{HEAD}class Shop(Spider): pass\n"
TWO = f"{HEAD}class Shop(Spider): pass\nclass Cafe(Spider): pass\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write(path: str, text: str = SHOP) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def refusal(target: str) -> str:
    with pytest.raises(SpiderError) as caught:
        load_target(target)
    return str(caught.value)


def test_a_file_with_one_spider_is_target_enough() -> None:
    write("shop.py")
    assert load_target("shop.py").__name__ == "Shop"
    assert load_target("./shop.py") is load_target("shop.py:Shop")


def test_a_class_of_a_module_is_found_in_the_current_folder() -> None:
    write("bots/__init__.py", "")
    write("bots/base.py", SHOP)
    write("bots/shop.py", "from .base import Shop\nclass Corner(Shop): pass\n")
    assert load_target("bots.shop:Corner").__name__ == "Corner"


def test_a_name_is_looked_up_among_the_spiders_of_the_project() -> None:
    write("spiders/shop.py", f'{HEAD}class Shop(Spider):\n    name = "corner-shop"\n')
    assert load_target("corner-shop").__name__ == "Shop"


def test_an_imported_or_private_spider_does_not_count_unless_it_is_named() -> None:
    write("base.py")
    write("shop.py", f"{HEAD}from base import Shop\nclass _B(Spider): pass\nclass Mine(_B): pass\n")
    assert load_target("shop.py").__name__ == "Mine"
    assert load_target("shop.py:Shop").__name__ == "Shop"
    assert load_target("shop.py:_B").__name__ == "_B"


def test_a_second_name_of_a_spider_is_no_second_spider() -> None:
    write("shop.py", f"{SHOP}Other = Shop\n")
    assert load_target("shop.py").__name__ == "Shop"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("none.py", "none.py defines no spider: write a class that inherits from scrapekit.Spider"),
        ("two.py", "two.py defines 2 spiders; choose one: two.py:Shop, two.py:Cafe"),
        ("two.py:", "two.py defines 2 spiders; choose one: two.py:Shop, two.py:Cafe"),
        ("two.py:Shp", "two.py has no spider class 'Shp'; did you mean 'Shop'?"),
        ("two.py:HEAD", "two.py has no spider class 'HEAD'; known: Cafe, Shop"),
        ("none.py:x", "none.py has no spider class 'x'"),
        ("tow.py", "there is no file tow.py; did you mean 'two.py'?"),
        ("sub/unlike.py", "there is no file sub/unlike.py; known: two.py"),
        ("absent/x.py", "there is no file absent/x.py"),
        ("./sub", "./sub is a folder; name a file in it, as in sub/file.py"),
        ("folder.py", "folder.py is a folder; name a file in it, as in folder.py/file.py"),
        ("notes.txt", "notes.txt is no Python file: its name must end in .py"),
        ("notes.txt:Shop", "notes.txt is no Python file: its name must end in .py"),
        ("tow", "there is no spider named 'tow'; known: cafe, shop"),
        ("caffe", "there is no spider named 'caffe'; did you mean 'cafe'?"),
        ("two", "there is no spider named 'two'; did you mean two.py?"),
        ("sub", ("there is no spider named 'sub'; sub is a folder: name a file in it, as in "
                "sub/file.py")),
        ("absent.module:X", "there is no module 'absent', neither in {} nor installed"),
        ("json.absent:X", "there is no module 'json.absent', neither in {} nor installed"),
        ("json:X", "json has no spider class 'X'"),
        ("", "there is no spider named ''; known: cafe, shop"),
    ],
)  # fmt: skip
def test_a_target_that_leads_nowhere_is_told_with_what_to_do(target: str, said: str) -> None:
    write("none.py", "x = 1\n")
    write("two.py", TWO + "HEAD = 1\n")
    write("sub/two.py", TWO)
    write("folder.py/x.py")
    write("notes.txt")
    assert refusal(target) == said.format(Path.cwd())


def test_without_any_spider_a_name_leads_to_files() -> None:
    said = "there is no spider named 'shop'; name a file, as in file.py or file.py:Class"
    assert refusal("shop") == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nimport absent_module\n",
         "ModuleNotFoundError: No module named 'absent_module' (broken.py:2)"),
        ("def f(:\n", "SyntaxError: invalid syntax (broken.py:1)"),
        ("import json\n\n\njson.loads('')\n",
         "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (broken.py:4)"),
        ("from helper import check\ncheck()\n", "ValueError: never (helper.py:2)"),
        ("import sys\nsys.exit('bye')\n", "SystemExit: bye (broken.py:2)"),
        ("raise KeyError\n", "KeyError (broken.py:1)"),
        (f"{SHOP}Shop(colour=1)\n",
         ("SpiderError: spider 'shop' has no argument 'colour'; known: allowed_domains, name, "
         "pipeline, settings, sitemap_rules, sitemap_since, sitemap_urls, start_urls "
         "(broken.py:3)")),
        ("from . import base\n",
         ("ImportError: attempted relative import with no known parent package (broken.py:1); "
         "give a module of a package as package.module:Class")),
    ],
)  # fmt: skip
def test_a_file_that_fails_is_told_with_the_line_that_failed(text: str, said: str) -> None:
    write("helper.py", "def check():\n    raise ValueError('never')\n")
    write("broken.py", text)
    assert refusal("broken.py") == f"broken.py can't be imported: {said}"


def test_a_module_that_fails_is_told_with_the_line_that_failed() -> None:
    write("bad.py", "import absent_module\n")
    write("worse.py", "1 / 0\n")
    assert refusal("bad:X") == (
        "bad can't be imported: ModuleNotFoundError: No module named 'absent_module' (bad.py:1)"
    )
    said = "worse can't be imported: ZeroDivisionError: division by zero (worse.py:1)"
    assert refusal("worse:X") == said


def test_a_file_that_failed_can_be_loaded_once_it_is_mended() -> None:
    write("shop.py", "1 / 0\n")
    refusal("shop.py")
    write("shop.py", SHOP)
    assert load_target("shop.py").__name__ == "Shop"


def test_two_spiders_of_one_name_are_both_told() -> None:
    write("a.py")
    write("spiders/b.py", f'{HEAD}class B(Spider):\n    name = "shop"\n')
    assert refusal("shop") == ("2 spiders are named 'shop'; choose one: a.py:Shop, spiders/b.py:B")


def test_spiders_are_found_at_the_top_and_below_spiders_but_not_in_tests() -> None:
    for path in ("b.py", "spiders/c.py", "spiders/deep/d.py", "test_e.py", "conftest.py"):
        write(path, f"{HEAD}class {Path(path).stem.title()}(Spider): pass\n")
    write("other/f.py")
    write("notes.txt")
    found = find_spiders(Path.cwd())
    assert [(f.name, f.target) for f in found] == [
        ("b", "b.py:B"), ("c", "spiders/c.py:C"), ("d", "spiders/deep/d.py:D"),
    ]  # fmt: skip


def test_what_is_found_says_where_and_what() -> None:
    file = write("shop.py", f'{HEAD}\nclass CornerShop(Spider):\n    """Milk and more."""\n')
    (found,) = find_spiders(Path.cwd())
    assert found == ("corner_shop", "shop.py:CornerShop", file.resolve(), 3, "Milk and more.")


@pytest.mark.parametrize("glob", ["bots/*.py", "bots", "**/sh*.py", "bots/../bots/shop.py"])
def test_a_project_file_says_where_spiders_are_also_from_a_folder_below(glob: str) -> None:
    write("scrapekit.toml", f'spiders = ["{glob}"]\n')
    write("bots/shop.py")
    write("cafe.py", TWO)
    os.chdir("bots")
    assert [found.target for found in find_spiders(Path.cwd())] == ["shop.py:Shop"]
    os.chdir("..")
    assert [found.target for found in find_spiders(Path.cwd())] == ["bots/shop.py:Shop"]


@pytest.mark.parametrize("glob", ["/etc/*.py", ""])
def test_a_glob_that_leads_out_of_the_project_is_refused(glob: str) -> None:
    write("scrapekit.toml", f'spiders = ["{glob}"]\n')
    with pytest.raises(SettingsError, match="is no glob below this folder"):
        find_spiders(Path.cwd())


def test_broken_files_are_told_and_the_others_are_found() -> None:
    write("a.py", "class (\n")
    write("b.py")
    write("c.py", "x = '\0'\n")
    told: list[tuple[str, str]] = []
    found = find_spiders(Path.cwd(), lambda file, why: told.append((file.name, why)))
    assert [f.name for f in found] == ["shop"]
    assert [name for name, _ in told] == ["a.py", "c.py"]
    assert told[0][1] == "SyntaxError: invalid syntax (a.py:1)"


def test_a_file_that_has_gone_is_told() -> None:
    told: list[str] = []
    assert spiders_in([Path("gone.py")], lambda _, why: told.append(why)) == []
    assert told == ["No such file or directory"]


def test_nothing_is_imported_to_find_spiders() -> None:
    write("shop.py", f"{SHOP}raise RuntimeError\n")
    assert [found.name for found in find_spiders(Path.cwd())] == ["shop"]


def test_python_files_of_a_folder_leave_out_what_is_hidden() -> None:
    for path in ("a.py", "deep/b.py", ".venv/lib/c.py", "deep/.git/d.py", "e.txt"):
        write(path)
    assert python_files(Path()) == [Path("a.py"), Path("deep/b.py")]
    assert python_files(Path("deep/b.py")) == [Path("deep/b.py")]
    with pytest.raises(SpiderError, match=r"there is no file absent\.py"):
        python_files(Path("absent.py"))


class Shop(Spider):
    limit: int = 3


def test_a_spider_is_built_with_its_arguments() -> None:
    spider = build(Shop, {"limit": "7"})
    assert isinstance(spider, Shop)
    assert spider.limit == 7
    with pytest.raises(SpiderError, match="did you mean 'limit'"):
        build(Shop, {"limt": "7"})


def test_what_a_constructor_raises_is_told_with_its_line() -> None:
    class Picky(Spider):
        def __init__(self, colour: str) -> None:
            super().__init__()
            raise LookupError(colour)

    with pytest.raises(SpiderError, match=r"Picky can't be made: LookupError: red \(.*:\d+\)"):
        build(Picky, {"colour": "red"})
    with pytest.raises(SpiderError, match="unexpected keyword argument 'size'"):
        build(Picky, {"size": 1})


def test_an_error_alone_in_its_group_is_described_instead_of_the_group() -> None:
    group = ExceptionGroup("tasks", [ExceptionGroup("more", [ValueError("the one")])])
    assert describe(group) == "ValueError: the one"
    assert describe(ExceptionGroup("two", [ValueError(), KeyError()])).startswith("ExceptionGroup")


def test_a_file_that_crawls_while_it_is_imported_is_told_where_that_belongs(
    tmp_path: Path,
) -> None:
    file = tmp_path / "eager.py"
    file.write_text(
        "import scrapekit\nclass Eager(scrapekit.Spider): ...\nscrapekit.run(Eager())\n",
        encoding="utf-8",
    )
    with pytest.raises(UsageError, match=r"eager\.py calls run\(\) while it is imported"):
        load_target(str(file))
