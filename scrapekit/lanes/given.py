"""The executor that the settings give for the process lane: itself, or by name."""

from __future__ import annotations

import importlib
from concurrent.futures import Executor
from typing import Any

from scrapekit.errors import SettingsError


def make_executor(named: str) -> Executor:
    """What the function `named` ("package.module:function") returns. May block for long.

    Raises SettingsError if there is no such function, or if what it returns is no executor;
    whatever importing and calling it raises goes through.
    """
    module_name, _, name = named.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise _wrong(named, f"there is no module {error.name}") from error
    make: Any = getattr(module, name, None)
    if not callable(make):
        raise _wrong(named, f"module {module_name} has no function {name!r}")
    executor = make()
    if not (hasattr(executor, "submit") and hasattr(executor, "shutdown")):
        raise _wrong(named, f"it returned {executor!r:.80}, which is no Executor")
    return executor  # type: ignore[no-any-return]


def _wrong(named: str, why: str) -> SettingsError:
    message = f"setting 'executor' is {named!r}: {why}"
    return SettingsError(message, name="executor", source="executor")
