from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scrapekit.importing import import_file, module_name


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    modules, path = set(sys.modules), [*sys.path]
    yield
    for name in sys.modules.keys() - modules:
        del sys.modules[name]
    sys.path[:] = path


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(text)
    return file


def test_a_file_is_imported_once(tmp_path: Path) -> None:
    file = write(tmp_path, "shop.py", "VALUES = []\n")
    module = import_file(file)
    module.VALUES.append(1)
    assert import_file(str(file)) is module
    assert import_file(tmp_path / ".." / tmp_path.name / "shop.py") is module
    assert module.VALUES == [1]


def test_files_called_alike_do_not_meet(tmp_path: Path) -> None:
    first = import_file(write(tmp_path / "a", "shop.py", "WHERE = 'a'\n"))
    second = import_file(write(tmp_path / "b", "shop.py", "WHERE = 'b'\n"))
    assert (first.WHERE, second.WHERE) == ("a", "b")


def test_a_file_called_like_a_library_hides_nothing(tmp_path: Path) -> None:
    import json

    module = import_file(write(tmp_path, "json.py", "ours = True\n"))
    assert module.ours
    assert sys.modules["json"] is json


def test_the_name_says_the_file_and_is_the_same_everywhere(tmp_path: Path) -> None:
    file = write(tmp_path, "my-shop 1.py", "")
    name = module_name(file)
    assert name.startswith("my_shop_1_")
    assert name.isidentifier()
    assert import_file(file).__name__ == name
    # A job that was begun by an earlier version looks for its callbacks under this name.
    assert module_name(Path("/a/shop.py")) == "shop_4bdd0933"


def test_files_beside_it_can_be_imported(tmp_path: Path) -> None:
    write(tmp_path, "beside_the_shop.py", "PRICE = 5\n")
    module = import_file(write(tmp_path, "shop.py", "from beside_the_shop import PRICE\n"))
    assert module.PRICE == 5
    assert sys.path.count(str(tmp_path)) == 1
    import_file(write(tmp_path, "other.py", ""))
    assert sys.path.count(str(tmp_path)) == 1


def test_what_it_defines_pickles(tmp_path: Path) -> None:
    module = import_file(write(tmp_path, "shop.py", "class Item:\n    pass\n"))
    assert type(pickle.loads(pickle.dumps(module.Item()))) is module.Item


@pytest.mark.parametrize(
    ("text", "error"),
    [("1 / 0", ZeroDivisionError), ("def", SyntaxError), ("raise SystemExit(3)", SystemExit)],
)
def test_what_the_file_raises_comes_out_and_nothing_stays(
    tmp_path: Path, text: str, error: type[BaseException]
) -> None:
    file = write(tmp_path, "shop.py", text)
    with pytest.raises(error):
        import_file(file)
    assert module_name(file) not in sys.modules
    file.write_text("fixed = True")
    assert import_file(file).fixed


def test_what_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        import_file(tmp_path / "nothing.py")
    with pytest.raises(OSError, match="is no Python file"):
        import_file(tmp_path)


def test_what_is_no_python_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"shop\.txt is no Python file"):
        import_file(write(tmp_path, "shop.txt", ""))
