"""Import a Python file by its path, under the same name in every process."""

from __future__ import annotations

import importlib.util
import sys
import zlib
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType

being_imported: ContextVar[str | None] = ContextVar("being_imported", default=None)
"""The file that import_file() is importing just now."""


def import_file(path: str | Path) -> ModuleType:
    """The module of a .py file. Imported once; its folder joins sys.path, as for a script.

    Raises whatever the file raises while it is imported, and OSError if it can't be read.
    """
    file = Path(path).resolve()
    name = module_name(file)
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise OSError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    sys.modules[name] = module
    token = being_imported.set(str(path))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        being_imported.reset(token)
    return module


def module_name(file: Path) -> str:
    """The name under which a file is imported. Ends with a checksum of its path, so that two
    files called alike, or one called like a library, don't get in each other's way.
    """
    stem = "".join(c if c.isalnum() else "_" for c in file.stem)
    return f"{stem}_{zlib.crc32(str(file).encode()):08x}"
