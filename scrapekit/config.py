"""Where settings come from, and which of them wins.

Later wins, setting by setting:

    defaults < project file < SCRAPEKIT_* variables < the spider < the call, or -s NAME=VALUE

A table such as `headers` is one setting: the later table replaces the earlier one whole.
Only the command line and `run()` read project files and the environment; an embedded crawl merges
what the spider and the call say, and depends on nothing around it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from scrapekit.errors import SettingsError, did_you_mean, name_in
from scrapekit.settings import SETTINGS, Settings, changed, check

PREFIX: Final = "SCRAPEKIT_"
# Variables that steer scrapekit's own tests are no settings.
RESERVED: Final = ("SCRAPEKIT_VECTORS", "SCRAPEKIT_TEST_", "SCRAPEKIT_BENCH_")


class Source(NamedTuple):
    """Settings from one place, not checked yet.

    `name` is the place as messages call it, `places` a closer one for some settings. `is_text`
    says that the values are strings, to be converted by the type of their setting.
    """

    name: str
    values: Mapping[str, object]
    is_text: bool = False
    places: Mapping[str, str] = MappingProxyType({})


def merge(*sources: Source | None) -> Settings:
    """Make Settings of the defaults and `sources`: a later one wins. None stands for no source.

    Raises SettingsError for an unknown name or a value of wrong type or range in any source, even
    where a later one would have won.
    """
    values: dict[str, Any] = {}
    for source in filter(None, sources):
        for name, value in source.values.items():
            place = source.places.get(name, source.name)
            values[name] = check(name, value, place, is_text=source.is_text)
    return Settings(**values)


def as_source(name: str, value: Settings | Mapping[str, object] | None) -> Source:
    """Make a source of what a spider or a call gave as its settings.

    Of a Settings instance only what differs from the defaults counts; a mapping counts whole, so
    it can also set something back to its default. Raises SettingsError for anything else.
    """
    if isinstance(value, Settings):
        return Source(name, changed(value))
    try:
        return Source(name, dict({} if value is None else value))
    except (TypeError, ValueError) as error:
        message = f"{name}: settings are a Settings or a dict, not {type(value).__name__}"
        raise SettingsError(message, name="settings", source=name) from error


class ProjectConfig(NamedTuple):
    """What a project file says: `spiders` are globs relative to the folder of `path`."""

    path: Path
    settings: Source
    spiders: tuple[str, ...]


def project_config(folder: Path) -> ProjectConfig | None:
    """Read the nearest project file, from `folder` upwards; None if there is none. Blocks.

    That is a `scrapekit.toml`, or a `pyproject.toml` with a table `[tool.scrapekit]`; in one
    folder the former wins, and the latter isn't read. Raises SettingsError for a file that can't
    be read or parsed.
    """
    # Resolved, because the parents of "a/../b" would include "a".
    start = folder.resolve()
    for place in (start, *start.parents):
        for path in (place / "scrapekit.toml", place / "pyproject.toml"):
            table = _table(path)
            if table is not None:
                return _config(path, table)
    return None


def from_project(folder: Path) -> Source | None:
    """The settings of the nearest project file; see `project_config`. Blocks."""
    config = project_config(folder)
    return config.settings if config else None


def from_environment(environ: Mapping[str, str]) -> Source:
    """The settings in SCRAPEKIT_* variables: the name of the setting in capitals.

    Raises SettingsError for a SCRAPEKIT_ variable that names no setting.
    """
    known = {PREFIX + name.upper(): name for name in SETTINGS}
    found = [name for name in environ if name.startswith(PREFIX) and not name.startswith(RESERVED)]
    for variable in found:
        if variable not in known:
            message = f"{variable}: no such setting{did_you_mean(variable, known)}"
            name = variable.removeprefix(PREFIX).lower()
            raise SettingsError(message, name=name, source=variable)
    values = {known[variable]: environ[variable] for variable in found}
    places = {known[variable]: variable for variable in found}
    return Source("the environment", values, is_text=True, places=places)


def parse_assignments(assignments: Iterable[str], source: str = "-s") -> Source:
    """The settings in strings NAME=VALUE; of two for one name the later wins.

    Raises SettingsError for a string without "=".
    """
    values = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            message = f"{source} {name_in(assignment)}: expected NAME=VALUE"
            raise SettingsError(message, name=name_in(name), source=source)
        values[name.strip()] = value
    return Source(source, values, is_text=True)


def _config(path: Path, table: dict[str, Any]) -> ProjectConfig:
    values = dict(table)
    globs = values.pop("spiders", [])
    try:
        spiders = msgspec.convert(globs, tuple[str, ...])
    except msgspec.ValidationError as error:
        raise _broken(path, f"spiders is {globs!r}; expected a list of globs", "spiders") from error
    return ProjectConfig(path, Source(str(path), values), spiders)


def _table(path: Path) -> dict[str, Any] | None:
    """Read scrapekit's own table in a project file; None if there is no such file or table."""
    document = _load(path)
    if document is None or path.name == "scrapekit.toml":
        return document
    tool = document.get("tool")
    table = tool.get("scrapekit") if isinstance(tool, dict) else None
    if table is None or isinstance(table, dict):
        return table
    raise _broken(
        path,
        f"tool.scrapekit is {name_in(table)}; expected a table",
        "tool.scrapekit",
    )


def _load(path: Path) -> dict[str, Any] | None:
    try:
        data = path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise _broken(path, f"can't be read: {error.strerror}") from error
    if data is None:
        return None
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _broken(path, f"not UTF-8 (at line {line})") from error
    except tomllib.TOMLDecodeError as error:
        raise _broken(path, f"not valid TOML: {_with_line(str(error), data)}") from error


def _with_line(reason: str, data: bytes) -> str:
    """Complete the parser's words, which name every line but the last."""
    last = len(data.splitlines())
    return reason.replace("at end of document", f"at end of document, line {last}")


def _broken(path: Path, reason: str, name: str = "") -> SettingsError:
    return SettingsError(f"{path}: {reason}", name=name, source=str(path))
