"""Failure: an exception with all that is needed to find its cause."""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Literal

import msgspec

from scrapekit.errors import (
    BadStatus,
    CallbackCrashed,
    DocumentRefused,
    NotAResult,
    ScrapekitError,
    UsageError,
)
from scrapekit.messages import Request, Response

During = Literal[
    "fetch",
    "callback",
    "on_error",
    "start",
    "pipeline",
    "export",
    "lifespan",
    "observer",
    "quarantine",
    "job",
]

_FRAMEWORK: Final = str(Path(__file__).resolve().parent) + os.sep
_LIBRARIES: Final = tuple(
    path + os.sep
    for name, path in sysconfig.get_paths().items()
    if name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_adopted: set[str] = set()
_COMPILED: Final = (".pyx", ".pxd", ".pxi")
"""Frames of Cython modules have relative paths, which don't show where they are installed."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Something that went wrong for good, as `Spider.on_error` and the report get it."""

    error: BaseException
    during: During
    """Which part of the crawl it happened in."""
    request: Request | None = None
    response: Response | None = None
    """None if the page could not be fetched."""
    callback: str | None = None
    where: str = ""
    """The place in the user's code nearest to the cause, as "file:line"."""
    traceback: str = ""
    tries: int = 1
    """How often the page was tried."""

    @property
    def url(self) -> str:
        return self.request.url if self.request else ""

    @property
    def message(self) -> str:
        """What the exception says; its class if it says nothing, as MemoryError does."""
        return text_of(self.error)

    @property
    def of_user_code(self) -> bool:
        """Whether code given to scrapekit failed, rather than a site or a rule."""
        if isinstance(self.error, DocumentRefused):
            # It comes up where the page is first asked something, but the page is to blame.
            return False
        if self.during != "fetch":
            return True
        # What is no error of ours is a bug in a part that was handed in, or in scrapekit.
        return getattr(self.error, "fault", "you") not in ("the site", "the rules")

    def __str__(self) -> str:
        callback = f" in {self.callback}" if self.callback else ""
        where = f" ({self.where})" if self.where else ""
        return f"{type(self.error).__name__}{callback}{where}: {self.message}"


def failure(
    error: BaseException,
    during: During,
    *,
    request: Request | None = None,
    response: Response | None = None,
    callback: str | None = None,
    tries: int = 1,
) -> Failure:
    """Describe a caught exception.

    The traceback is kept as text, so that no frame stays alive, and only if the user's code is in
    it: one of nothing but scrapekit helps nobody to mend a crashed callback or a full disk.
    """
    expected = during == "fetch" and isinstance(error, ScrapekitError)
    where = "" if expected else place(error)
    unexpected = during == "fetch" and not expected
    return Failure(
        error=error,
        during=during,
        request=request,
        response=response,
        callback=callback,
        where=where,
        traceback=render(error) if where or unexpected else "",
        tries=tries,
    )


class contained:  # noqa: N801  used as a function is, in a `with`
    """Around user code on the event loop: turn what would do more than fail into a UsageError.

    SystemExit would end the loop, which may not be ours. A cancellation that comes from within,
    such as that of a task which was awaited, would pass for ours and end the crawl in silence.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Nothing is needed before."""

    def __exit__(
        self, _: object, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, (Exception, KeyboardInterrupt)):
            done = _done_by(error)
            if done:
                raise UsageError(f"{self._what} {done}") from error


def _done_by(error: BaseException) -> str:
    """What somebody did who raised what is no Exception; "" if it was done to him."""
    if isinstance(error, GeneratorExit):
        # Outside of a task, the coroutine that we are in is being closed.
        return "raised GeneratorExit" if _in_task() else ""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        is_ours = task is not None and task.cancelling()
        return "" if is_ours else "awaited something that was cancelled"
    if isinstance(error, SystemExit):
        return "called sys.exit()"
    return f"raised {type(error).__name__}: {error}"


def _in_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def text_of(error: BaseException) -> str:
    """What an exception says; its class if it says nothing. Never raises: a broken __str__ must
    not cost the report.
    """
    name = type(error).__name__
    try:
        return str(error) or name
    except Exception as exc:
        return f"{name}, whose text can't be had ({type(exc).__name__})"


def place(error: BaseException) -> str:
    """Find "file:line" of the innermost frame of the user's own code; "" if none is known.

    An exception that we made of another has none of its own: then it is the other's.
    """
    for link in _chain(error):
        if isinstance(link, NotAResult):
            return link.where
        found = getattr(link, "remote_place", "") or _place_in(link.__traceback__)
        if found:
            return str(found)
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    passed: set[int] = set()
    while link is not None and id(link) not in passed:
        yield link
        passed.add(id(link))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _place_in(tb: TracebackType | None) -> str:
    found = ""
    while tb is not None:
        if is_user_code(tb.tb_frame):
            found = f"{tb.tb_frame.f_code.co_filename}:{tb.tb_lineno}"
        tb = tb.tb_next
    return found


def adopt(module: str) -> None:
    """Count a module's package as the user's code though it is installed: it has a spider."""
    package = sys.modules.get(module.partition(".")[0])
    folders = getattr(package, "__path__", None)
    file = getattr(package, "__file__", None) or ""
    paths = [folder + os.sep for folder in folders] if folders is not None else [file]
    _adopted.update(path for path in paths if path.startswith(_LIBRARIES))


def is_user_code(frame: FrameType) -> bool:
    """Whether a frame belongs neither to scrapekit nor to Python's or installed libraries."""
    path = frame.f_code.co_filename
    if path.startswith(("<", _FRAMEWORK)) or path.endswith(_COMPILED):
        return False
    return not path.startswith(_LIBRARIES) or path.startswith(tuple(_adopted))


def render(error: BaseException) -> str:
    """The traceback as text; that of the worker process if the error comes from one."""
    remote = getattr(error, "remote_traceback", "")
    return str(remote) or "".join(traceback.format_exception(error))


def error_name(error: BaseException) -> str:
    """How errors of a kind are called: the class, with the number where that is the point: the
    status, or how a worker process ended.
    """
    name = type(error).__name__
    if isinstance(error, BadStatus):
        return f"{name} {error.status}"
    if isinstance(error, CallbackCrashed) and error.exitcode is not None:
        return f"{name} {error.exitcode}"
    return name
