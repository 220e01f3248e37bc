"""Spider: the user's class; and lane(), which says where a callback runs."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import os
import re
import sys
import typing
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, TypeVar

import msgspec

from scrapekit.counters import Counters
from scrapekit.errors import SpiderError, UnknownCallback, UsageError, did_you_mean
from scrapekit.failure import Failure, adopt
from scrapekit.importing import import_file, module_name
from scrapekit.messages import Request
from scrapekit.settings import Settings

LaneName = Literal["loop", "thread", "process"]
LANES: Final[tuple[LaneName, ...]] = ("loop", "thread", "process")

_MARK: Final = "__scrapekit_lane__"
_Function = TypeVar("_Function", bound=Callable[..., Any])


def lane(name: LaneName) -> Callable[[_Function], _Function]:
    """Say where a callback runs: "loop", "thread" (a plain def's default) or "process".

    The function is marked and returned as it is, so it can still be imported, called and
    pickled. Raises UsageError for an unknown lane, and for an `async def` off the loop.
    """
    if name not in LANES:
        raise UsageError(f"there is no lane {name!r}{did_you_mean(str(name), LANES)}")

    def mark(function: _Function) -> _Function:
        if name != "loop" and _is_async(function):
            raise UsageError(
                f"{function.__qualname__} is async and runs on the event loop; "
                f"a plain def can run in the {name} lane"
            )
        # A static or class method hands out its function, not its own attributes.
        setattr(getattr(function, "__func__", function), _MARK, name)
        return function

    return mark


def lane_of(callback: Callable[..., Any]) -> LaneName:
    """Where a callback runs: what `lane()` says, else the loop for async, a thread for plain."""
    marked: LaneName | None = getattr(callback, _MARK, None)
    if marked is not None:
        return marked
    return "loop" if _is_async(callback) else "thread"


def _is_async(function: Callable[..., Any]) -> bool:
    # A decorator that forgot `async` still returns the coroutine of what it wraps.
    inner = inspect.unwrap(function)
    return inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)


class Spider:
    """Where to start and how to turn pages into results. Subclass it.

    Keyword arguments become attributes: those that the class declares, by annotation or by a
    default value. Strings are converted to the declared type. Raises SpiderError for others.
    """

    name: str = ""
    """Defaults to the class name in snake case."""
    start_urls: Sequence[str] = ()
    sitemap_urls: Sequence[str] = ()
    """Sitemaps, sitemap indexes, RSS or Atom feeds, lists of URLs, also as .gz; of a robots.txt
    its `Sitemap:` lines. What they list is requested beside the start requests, as there is
    room."""
    sitemap_rules: Sequence[tuple[str, Any]] = ()
    """Pairs of a regular expression and a callback: the first that is found in a URL of a sitemap
    says who gets the page; a URL without any is left out. No rules: all go to `parse`."""
    sitemap_since: str | datetime | None = None
    """Leave out what a sitemap says was last changed before ("2026-11-26", UTC)."""
    allowed_domains: Sequence[str] | None = None
    """Hosts below these domains may be fetched. None: the registrable domains of the start
    requests and of `sitemap_urls`. ["*"]: anywhere."""
    settings: Mapping[str, Any] | Settings | None = None
    """Settings of this spider; those given to crawl(), run() or -s win."""
    pipeline: Sequence[Any] = ()
    """The stages that items pass, in order."""

    _construction: tuple[tuple[Any, ...], dict[str, Any]]
    _counters: Counters
    _default_name: ClassVar[str] = "spider"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._default_name = snake_case(cls.__name__)
        adopt(cls.__module__)

    def __new__(cls, *args: Any, **kwargs: Any) -> typing.Self:
        spider = super().__new__(cls)
        spider._construction = (args, kwargs)
        spider._counters = Counters()
        if "name" not in cls.__dict__ or not cls.name:
            spider.name = cls._default_name
        return spider

    def __init__(self, **arguments: Any) -> None:
        known = declared_arguments(type(self))
        for name, value in arguments.items():
            if name not in known:
                raise SpiderError(
                    f"spider {self.name!r} has no argument {name!r}{did_you_mean(name, known)}",
                    target=self.name,
                )
            setattr(self, name, _convert(self.name, name, value, known[name]))

    def __repr__(self) -> str:
        _, kwargs = self._construction
        arguments = ", ".join(f"{name}={value!r}" for name, value in kwargs.items())
        return f"{type(self).__name__}({arguments})"

    @property
    def stats(self) -> Counters:
        """Counters that are right from every lane: `self.stats.add("name")`."""
        return self._counters

    async def start(self) -> AsyncIterator[Request]:
        """The first requests. Override it to generate them: they are pulled as there is room."""
        for url in self.start_urls:
            yield Request(url)

    def lifespan(self) -> AbstractAsyncContextManager[Any] | AsyncIterator[Any]:
        """What surrounds the crawl: code before `yield` runs first, code after it last."""
        return _nothing()

    def on_error(self, failure: Failure) -> Any:
        """Called when a page is given up or its callback failed. May yield results, like a
        callback, and may be `def` or `async def`.
        """
        return None

    def callback(self, name: str | None) -> Callable[..., Any]:
        """The callback of that name ("parse" if None). Raises UnknownCallback."""
        name = name or "parse"
        if ":" in name:
            return _function(name, self.name)
        method = getattr(self, name, None)
        if name.startswith("__") or not callable(method):
            raise UnknownCallback(name, self.name, callback_names(type(self)))
        return typing.cast("Callable[..., Any]", method)


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


def lifespan_of(spider: Spider) -> AbstractAsyncContextManager[Any]:
    """The spider's lifespan as a context manager, also if it is a bare async generator."""
    span: Any = spider.lifespan()
    if isinstance(span, AbstractAsyncContextManager):
        return span
    if inspect.isasyncgen(span):
        return asynccontextmanager(lambda: span)()
    if inspect.iscoroutine(span):
        span.close()
    raise SpiderError(
        f"{type(spider).__name__}.lifespan() must be an async generator that yields once "
        "(or an async context manager)",
        target=spider.name,
    )


def snake_case(name: str) -> str:
    """QuotesSpider -> quotes_spider."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def callback_names(cls: type[Spider]) -> list[str]:
    """The methods a spider class has of its own."""
    return sorted(
        name
        for name in dir(cls)
        if not name.startswith("_") and not hasattr(Spider, name) and callable(getattr(cls, name))
    )


def process_callbacks(cls: type[Spider]) -> list[str]:
    """The methods that `@lane("process")` marks."""
    return [n for n in callback_names(cls) if getattr(getattr(cls, n), _MARK, None) == "process"]


def declared_arguments(cls: type[Spider]) -> dict[str, Any]:
    """The public data attributes of a spider class, with their types (Any if not known)."""
    hints = _type_hints(cls)
    known: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        for name in (*getattr(base, "__annotations__", {}), *vars(base)):
            if not name.startswith("_") and _is_data(cls, name, hints):
                known[name] = hints.get(name, _type_of_default(getattr(cls, name, None)))
    return known


def _is_data(cls: type[Spider], name: str, hints: Mapping[str, Any]) -> bool:
    if typing.get_origin(hints.get(name)) is ClassVar:
        return False
    value = inspect.getattr_static(cls, name, None)
    return not callable(value) and not isinstance(value, (property, classmethod, staticmethod))


def _type_hints(cls: type[Spider]) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        names = vars(sys.modules.get(base.__module__, sys))
        for name, hint in inspect.get_annotations(base).items():
            # A hint that can't be resolved (a name imported for type checkers only) costs the
            # conversion of that argument, not the crawl, nor the other arguments.
            with contextlib.suppress(Exception):
                hints[name] = _resolved(hint, names)
    return hints


def _resolved(hint: Any, names: Mapping[str, Any]) -> Any:
    carrier = type("_", (), {"__annotations__": {"hint": hint}})
    return typing.get_type_hints(carrier, dict(names))["hint"]


def _type_of_default(default: object) -> Any:
    return type(default) if isinstance(default, (bool, int, float)) else Any


def _convert(spider: str, name: str, value: Any, wanted: Any) -> Any:
    if not isinstance(value, str) or wanted in (Any, str):
        return value
    for candidate in _readings(value):
        try:
            return msgspec.convert(candidate, wanted, strict=False, dec_hook=_construct)
        except msgspec.ValidationError:
            continue
        except TypeError:
            # A type that no string can be converted to: the spider gets the string.
            return value
    raise SpiderError(
        f"argument {name!r} of spider {spider!r} must be {_type_name(wanted)}, not {value!r}",
        target=spider,
    )


def _construct(kind: type, value: Any) -> Any:
    """Make a value of a class that msgspec doesn't know, such as pathlib.Path."""
    return kind(value)


def _readings(text: str) -> Iterable[Any]:
    yield text
    with suppress(msgspec.DecodeError):
        yield msgspec.json.decode(text)
    yield [part.strip() for part in text.split(",")]


def _type_name(wanted: Any) -> str:
    return wanted.__name__ if isinstance(wanted, type) else str(wanted).replace("typing.", "")


def _function(name: str, spider: str) -> Callable[..., Any]:
    module_path, _, attribute = name.partition(":")
    try:
        module = sys.modules.get(module_path) or importlib.import_module(module_path)
    except (ImportError, ValueError) as exc:
        raise UnknownCallback(name, spider, ()) from exc
    function = getattr(module, attribute, None)
    if not callable(function):
        raise UnknownCallback(name, spider, ())
    return typing.cast("Callable[..., Any]", function)


_keys = itertools.count()


@dataclass(frozen=True)
class SpiderRef:
    """How another process builds the same spider: class by name, and constructor arguments.

    Attributes set after construction stay at home.
    """

    module: str
    qualname: str
    file: str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: str = field(default_factory=lambda: f"{os.getpid()}-{next(_keys)}")

    @classmethod
    def of(cls, spider: Spider) -> SpiderRef:
        """Raises SpiderError if the class can't be imported by another process."""
        kind = type(spider)
        if kind.__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
            raise SpiderError(
                f"{kind.__name__} has a process-lane callback, so worker processes must be able "
                "to import it: define the class in a file",
                target=spider.name,
            )
        if "<locals>" in kind.__qualname__:
            raise SpiderError(
                f"{kind.__name__} has a process-lane callback, so worker processes must be able "
                "to import it: define the class at the top level of its module",
                target=spider.name,
            )
        return cls(kind.__module__, kind.__qualname__, _file_of(kind), *spider._construction)

    def load(self) -> type[Spider]:
        """Import the class. For a worker's start."""
        found: Any = importlib.import_module(self.module) if not self.file else self._from_file()
        for part in self.qualname.split("."):
            found = getattr(found, part)
        return typing.cast("type[Spider]", found)

    def _from_file(self) -> Any:
        main = sys.modules["__main__"]
        if self.module == "__main__" and hasattr(main, self.qualname.partition(".")[0]):
            return main
        # A worker of another executor has a main module of its own.
        return import_file(str(self.file))

    def callback(self, name: str | None) -> Callable[..., Any]:
        """The callback of a spider built here, once per process."""
        return self._spider().callback(name)

    def take_counts(self) -> dict[str, float]:
        """What the spider built here has counted since the last time."""
        return self._spider().stats.take()

    def _spider(self) -> Spider:
        spider = _built.get(self.key)
        if spider is None:
            # Another thread of a given executor may have been faster: there is one spider.
            spider = _built.setdefault(self.key, self.load()(*self.args, **self.kwargs))
            if len(_built) > _MOST_BUILT:
                _built.pop(next(iter(_built)), None)
        return spider


_MOST_BUILT: Final = 64
"""Processes of an executor may outlive many crawls."""
_built: dict[str, Spider] = {}


def _file_of(kind: type[Spider]) -> str | None:
    """The file of a class that was imported by path, which `import` alone wouldn't find."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file is None:
        return None
    from pathlib import Path

    path = Path(file).resolve()
    return str(path) if kind.__module__ in ("__main__", module_name(path)) else None
