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

from scrapekit.errors import SettingsError, did_you_mean
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
    start = folder.absolute()
    for place in (start, *start.parents):
        for path in (place / "scrapekit.toml", place / "pyproject.toml"):
            table = _table(path) if path.is_file() else None
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
            raise SettingsError(message, name=_bare(variable), source=variable)
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
            message = f"{source} {assignment!r}: expected NAME=VALUE"
            raise SettingsError(message, name=name, source=source)
        values[name.strip()] = value
    return Source(source, values, is_text=True)


def _bare(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower()


def _config(path: Path, table: dict[str, Any]) -> ProjectConfig:
    values = dict(table)
    globs = values.pop("spiders", [])
    try:
        spiders = msgspec.convert(globs, tuple[str, ...])
    except msgspec.ValidationError as error:
        message = f"{path}: 'spiders' is {globs!r}; expected a list of globs"
        raise SettingsError(message, name="spiders", source=str(path)) from error
    return ProjectConfig(path, Source(str(path), values), spiders)


def _table(path: Path) -> dict[str, Any] | None:
    """Read scrapekit's own table in a project file; None if a pyproject.toml has none."""
    document = _load(path)
    if path.name == "scrapekit.toml":
        return document
    tool = document.get("tool")
    table = tool.get("scrapekit") if isinstance(tool, dict) else None
    if table is None or isinstance(table, dict):
        return table
    message = f"{path}: tool.scrapekit is {table!r}; expected a table"
    raise SettingsError(message, name="tool.scrapekit", source=str(path))


def _load(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path}: can't be read: {error.strerror}"
        raise SettingsError(message, name="", source=str(path)) from error
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"{path}: not UTF-8 (at line {line})"
        raise SettingsError(message, name="", source=str(path)) from error
    except tomllib.TOMLDecodeError as error:
        message = f"{path}: not valid TOML: {_with_line(str(error), data)}"
        raise SettingsError(message, name="", source=str(path)) from error


def _with_line(reason: str, data: bytes) -> str:
    """The parser's words; it names the line of an error, but not that of the document's end."""
    last = len(data.splitlines()) or 1
    return reason.replace("at end of document", f"at end of document, line {last}")
