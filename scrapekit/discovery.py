"""Finding and loading spiders: by file, by module, or by the name that `scrapekit list` shows."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from scrapekit.config import project_config
from scrapekit.errors import ScrapekitError, SettingsError, SpiderError, did_you_mean
from scrapekit.failure import place
from scrapekit.importing import import_file
from scrapekit.outline import spider_classes
from scrapekit.spider import Spider, snake_case

_GLOBS: Final = ("*.py", "spiders/**/*.py")
"""Where spiders are looked for if the project file doesn't say."""


class Found(NamedTuple):
    """A spider class that was read about, not imported.

    `target` is what `load_target` takes, `doc` the first line of the docstring.
    """

    name: str
    target: str
    file: Path
    line: int
    doc: str


OnBroken = Callable[[Path, str], None]
"""Told of a file that can't be read as Python, and why."""


def load_target(target: str) -> type[Spider]:
    """Import the spider class that `target` means. Blocks, and runs the user's module.

    That is `file.py` with one spider, `file.py:Class`, `package.module:Class`, or the name of a
    spider that `find_spiders` finds from the current folder. Of the spiders of a file, those don't
    count that it imports, nor those whose names start with an underscore, unless they are named.

    Raises SpiderError, which says what to do; SettingsError for a broken project file.
    """
    where, colon, name = target.rpartition(":") if ":" in target else (target, "", "")
    if _is_path(where):
        module = _import_file(where)
    elif colon:
        module = _import_module(where)
    else:
        return load_target(_named(target).target)
    return _class_named(name, module, where) if name else _only_class(module, where)


def build(cls: type[Spider], arguments: Mapping[str, Any]) -> Spider:
    """Make a spider of its class. Raises SpiderError, also for what its own __init__ raises."""
    try:
        return cls(**arguments)
    except ScrapekitError:
        raise
    except Exception as error:
        message = f"{cls.__name__} can't be made: {describe(error)}"
        raise SpiderError(message, target=cls.__name__) from error


def find_spiders(folder: Path, on_broken: OnBroken = lambda _file, _why: None) -> list[Found]:
    """The spiders of the project around `folder`, by name. Reads files, imports none. Blocks.

    Looks where `spiders = [globs]` in the nearest project file says, else at `*.py` and
    `spiders/**/*.py` below `folder`, without tests. Raises SettingsError for a broken project file.
    """
    return spiders_in(_project_files(folder), on_broken)


def spiders_in(
    files: Iterable[Path], on_broken: OnBroken = lambda _file, _why: None
) -> list[Found]:
    """The spiders that `files` define, by name. Reads files, imports none. Blocks.

    A base class that comes from another file isn't followed there.
    """
    found: list[Found] = []
    for file in dict.fromkeys(files):
        try:
            classes = spider_classes(file.read_bytes(), str(file))
        except OSError as error:
            on_broken(file, error.strerror or str(error))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            on_broken(file, describe(error))
        else:
            path = _shown(os.path.abspath(file))  # noqa: PTH100  links stay as they are
            for cls, name, line, doc in classes:
                found.append(Found(name or snake_case(cls), f"{path}:{cls}", file, line, doc))
    return sorted(found)


def python_files(path: Path) -> list[Path]:
    """`path` itself, or the Python files below it if it is a folder. Blocks.

    Leaves out hidden folders, such as .venv. Raises SpiderError if there is no such file or folder.
    """
    if not path.is_dir():
        return [_checked(os.fspath(path))]
    return sorted(
        file
        for file in path.rglob("*.py")
        if not any(part.startswith(".") for part in file.relative_to(path).parts)
    )


def describe(error: BaseException) -> str:
    """Say in one line what was raised, and where in the user's code."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, SyntaxError) and error.filename:
        what, where = error.msg, f"{error.filename}:{error.lineno}"
    else:
        what, where = str(error), place(error)
    message = f"{type(error).__name__}: {what}" if what else type(error).__name__
    return f"{message} ({_shown(where)})" if where else message


def _is_path(where: str) -> bool:
    return where.endswith(".py") or os.sep in where or Path(where).is_file()


def _checked(where: str) -> Path:
    """The Python file at a path. Raises SpiderError if there is none."""
    path = Path(where)
    if path.is_dir():
        message = f"{where} is a folder; name a file in it, as in {path}/file.py"
        raise SpiderError(message, target=where)
    if not path.exists():
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.py")])
        raise SpiderError(f"there is no file {where}{near}", target=where)
    if path.suffix != ".py":
        raise SpiderError(f"{where} is no Python file: its name must end in .py", target=where)
    return path


def _import_file(where: str) -> ModuleType:
    file = _checked(where)
    try:
        return import_file(file)
    except (Exception, SystemExit) as error:
        raise _not_imported(where, error) from error


def _import_module(name: str) -> ModuleType:
    # A console script doesn't look into the current folder, as `python -m` does.
    here = os.fspath(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise _not_imported(name, error) from error
        raise SpiderError(
            f"there is no module {error.name!r}, neither in {here} nor installed", target=name
        ) from error
    except (Exception, SystemExit) as error:
        raise _not_imported(name, error) from error


def _not_imported(where: str, error: BaseException) -> SpiderError:
    message = f"{where} can't be imported: {describe(error)}"
    if isinstance(error, ImportError) and "relative import" in str(error):
        message += "; give a module of a package as package.module:Class"
    return SpiderError(message, target=where)


def _classes(module: ModuleType) -> dict[str, type[Spider]]:
    """The spider classes that a module defines itself."""
    return {
        value.__name__: value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Spider)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    }


def _class_named(name: str, module: ModuleType, where: str) -> type[Spider]:
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, Spider):
        return found
    message = f"{where} has no spider class {name!r}{did_you_mean(name, _classes(module))}"
    raise SpiderError(message, target=f"{where}:{name}")


def _only_class(module: ModuleType, where: str) -> type[Spider]:
    classes = _classes(module)
    if not classes:
        message = f"{where} defines no spider: write a class that inherits from scrapekit.Spider"
        raise SpiderError(message, target=where)
    if len(classes) > 1:
        choices = ", ".join(f"{where}:{name}" for name in classes)
        message = f"{where} defines {len(classes)} spiders; choose one: {choices}"
        raise SpiderError(message, target=where)
    return next(iter(classes.values()))


def _named(name: str) -> Found:
    """The spider of that name around the current folder."""
    spiders = find_spiders(Path.cwd())
    matches = [found for found in spiders if found.name == name]
    if not matches:
        raise SpiderError(f"there is no spider named {name!r}{_hint(name, spiders)}", target=name)
    if len(matches) > 1:
        choices = ", ".join(found.target for found in matches)
        message = f"{len(matches)} spiders are named {name!r}; choose one: {choices}"
        raise SpiderError(message, target=name)
    return matches[0]


def _hint(name: str, spiders: Iterable[Found]) -> str:
    """What may have been meant by a name that no spider has."""
    if Path(f"{name}.py").is_file():
        return f"; did you mean {name}.py?"
    if name and Path(name).is_dir():
        return f"; {name} is a folder: name a file in it, as in {name}/file.py"
    known = did_you_mean(name, {found.name for found in spiders})
    return known or "; name a file, as in file.py or file.py:Class"


def _project_files(folder: Path) -> Iterator[Path]:
    config = project_config(folder)
    if config is None or not config.spiders:
        for glob in _GLOBS:
            yield from (file for file in sorted(folder.glob(glob)) if not _is_test(file))
        return
    for glob in config.spiders:
        try:
            matches = sorted(config.path.parent.glob(glob))
        except (NotImplementedError, ValueError) as error:
            message = f"{config.path}: spiders: {glob!r} is no glob below this folder"
            raise SettingsError(message, name="spiders", source=str(config.path)) from error
        for match in matches:
            yield from python_files(match) if match.is_dir() else (match,)


def _is_test(file: Path) -> bool:
    return file.name.startswith("test_") or file.name == "conftest.py"


def _shown(path: str) -> str:
    """A path as it is typed from here."""
    return path.removeprefix(f"{Path.cwd()}{os.sep}")
