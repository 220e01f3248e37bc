"""The spider classes of a source file, read and not imported. Text in, names out."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

_SPIDERS: Final = ("scrapekit.Spider", "scrapekit.spider.Spider")


class SpiderClass(NamedTuple):
    """A class as it is written: `name` is what its body assigns to `name`, if that is a constant,
    `doc` the first line of its docstring; both may be "".
    """

    cls: str
    name: str
    line: int
    doc: str


def spider_classes(source: bytes, filename: str) -> list[SpiderClass]:
    """The spider classes at the top of a file, in order.

    Those are classes whose bases lead, inside the file, to scrapekit's Spider. A leading
    underscore marks what is only a base of others. Raises SyntaxError, or ValueError or
    RecursionError for text that the parser refuses before it looks at the syntax.
    """
    with warnings.catch_warnings():
        # An invalid escape in somebody's string is told to its author on import.
        warnings.simplefilter("ignore")
        tree = ast.parse(source, filename)
    return [_described(node) for node in _spiders(tree) if not node.name.startswith("_")]


def _spiders(tree: ast.Module) -> Iterator[ast.ClassDef]:
    origins: dict[str, str] = {}
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            origins.update(_imported(node))
        elif isinstance(node, ast.ImportFrom):
            origins.update(_imported_from(node))
        elif isinstance(node, ast.ClassDef):
            is_spider = any(_origin(base, origins) in _SPIDERS for base in node.bases)
            origins[node.name] = _SPIDERS[0] if is_spider else ""
            if is_spider:
                yield node


def _statements(parent: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when the module is imported, also those under `if` and `try`."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, (ast.stmt, ast.ExceptHandler)):
            yield node
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from _statements(node)


def _imported(node: ast.Import) -> Iterator[tuple[str, str]]:
    """The names that an import binds, with what they stand for."""
    for alias in node.names:
        top = alias.name.partition(".")[0]
        yield (alias.asname, alias.name) if alias.asname else (top, top)


def _imported_from(node: ast.ImportFrom) -> Iterator[tuple[str, str]]:
    module = "." * node.level + (node.module or "")
    for alias in node.names:
        name = "Spider" if alias.name == "*" and module == "scrapekit" else alias.name
        yield alias.asname or name, f"{module}.{name}"


def _origin(base: ast.expr, origins: Mapping[str, str]) -> str:
    """The dotted name of a base class, as far as the file's imports tell."""
    if isinstance(base, ast.Name):
        return origins.get(base.id, "")
    if isinstance(base, ast.Attribute):
        return f"{_origin(base.value, origins)}.{base.attr}"
    if isinstance(base, ast.Subscript):
        return _origin(base.value, origins)
    return ""


def _described(node: ast.ClassDef) -> SpiderClass:
    doc = (ast.get_docstring(node) or "").partition("\n")[0]
    return SpiderClass(node.name, _assigned_name(node), node.lineno, doc)


def _assigned_name(node: ast.ClassDef) -> str:
    value: object = ""
    for statement in node.body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and "name" in _targets(statement):
            value = getattr(statement.value, "value", "")
    return value if isinstance(value, str) else ""


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]
