"""Every error scrapekit raises, and who is at fault.

    ScrapekitError
    ├── UsageError              you: something you wrote or passed can't work
    │   ├── SettingsError         a setting that is unknown or has an unusable value
    │   ├── SpiderError           a spider that can't be found, imported or built
    │   ├── InvalidURL            a string that is no http(s) URL
    │   ├── QueryError            a CSS query that doesn't parse
    │   ├── FormError             a form, or a field, value or button of it, that isn't there
    │   ├── UnknownCallback       a callback name the spider doesn't have
    │   ├── NotAResult            a callback yielded what is neither Request nor item
    │   ├── StageError            a pipeline stage that broke its contract
    │   ├── ItemError             an item that an export can't write
    │   ├── OutputError           an output that can't be opened or would be overwritten
    │   ├── JobError              a job's folder that can't be used, or not any more
    │   └── MissingExtra          a feature whose optional dependency isn't installed
    ├── SiteError               the site: it could not be fetched, or sent nonsense
    │   ├── ConnectError          no connection (DNS, refused, TLS)
    │   │   └── ProxyError          the proxy can't be reached, or doesn't lead to the site
    │   ├── FetchTimeout          it took too long; `phase` says which part
    │   ├── ProtocolError         what came back is no valid HTTP
    │   ├── BodyTooLarge          the decoded body passed `max_body_bytes`
    │   ├── BodyTruncated         the body ended early
    │   ├── BodyUndecodable       the Content-Encoding is unknown or its data is broken
    │   ├── BadStatus             a status that is not handed to callbacks
    │   ├── RedirectError         a redirect that leads nowhere, in a circle or too far
    │   ├── SitemapError          a sitemap that is broken or too large; it is read up to there
    │   ├── RobotsUnavailable     robots.txt can't be had, so nothing may be fetched
    │   ├── OriginDown            it failed so often in a row that it is left alone for a while
    │   ├── DocumentRefused       a page that is not parsed, for what that would cost
    │   └── InvalidJSON           a body that is no JSON
    ├── Refused                 the rules: a request that the crawl may not make
    ├── CrawlFailed             collect() has no complete list to return
    └── CrawlError              scrapekit: the crawl itself went wrong
        ├── OutOfFiles            too many open files for another connection
        ├── CallbackCrashed       a worker process died under a callback
        └── CallbackTimedOut      a callback ran past `callback_timeout_s`

`DropItem` stands outside the tree: a pipeline stage raises it to drop an item.

Errors carry their facts as attributes and survive pickling, because they travel between
processes and are kept in reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar, Final, Literal

Fault = Literal["you", "the site", "the rules", "scrapekit"]


def _revive(
    cls: type[BaseException], args: tuple[Any, ...], facts: dict[str, Any]
) -> BaseException:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(facts)
    return error


class ScrapekitError(Exception):
    """The root of all errors raised on purpose. `fault` says who can mend it."""

    fault: ClassVar[Fault] = "scrapekit"

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException's own recipe calls the class with `args`, which fails for every class
        # whose __init__ asks for more than the message.
        return _revive, (type(self), self.args, self.__dict__.copy())


class DropItem(Exception):
    """Raised by a pipeline stage to drop the item it was given; the message is the reason."""


class UsageError(ScrapekitError):
    """You: what was written or passed can't work. The message says what to do instead."""

    fault: ClassVar[Fault] = "you"


class SettingsError(UsageError):
    """A setting that doesn't exist or has an unusable value.

    `name` is the setting, `source` where it was set ("pyproject.toml", "SCRAPEKIT_THREADS", ...).
    """

    def __init__(self, message: str, *, name: str, source: str) -> None:
        super().__init__(message)
        self.name = name
        self.source = source


class SpiderError(UsageError):
    """A spider that can't be found, imported or built; `target` is what was asked for."""

    def __init__(self, message: str, *, target: str = "") -> None:
        super().__init__(message)
        self.target = target


class InvalidURL(UsageError, ValueError):
    """A string that is no absolute http or https URL. `url` is without user name and password."""

    def __init__(self, url: str, reason: str) -> None:
        url = without_userinfo(url)
        super().__init__(f"{url!r} is not a URL that can be fetched: {reason}")
        self.url = url
        self.reason = reason


class QueryError(UsageError, ValueError):
    """A CSS query that doesn't parse."""

    def __init__(self, query: str, reason: str) -> None:
        super().__init__(f"the query {query!r} is not valid: {reason}")
        self.query = query
        self.reason = reason


class FormError(UsageError, ValueError):
    """A form can't be filled in as asked; `field` is the one that can't, if it is a field."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnknownCallback(UsageError):
    """A request names a callback that its spider doesn't have."""

    def __init__(self, name: str, spider: str, known: Iterable[str]) -> None:
        super().__init__(f"spider {spider!r} has no callback {name!r}{did_you_mean(name, known)}")
        self.name = name
        self.spider = spider


class NotAResult(UsageError, TypeError):
    """A callback produced a value that is neither a Request nor an item; or start() one that is
    no Request.
    """

    def __init__(self, callback: str, where: str, value_type: str, *, hint: str = "") -> None:
        place = f" ({where})" if where else ""
        hint = hint or (
            "a result is a Request or an item: a dict, dataclass, attrs, pydantic or msgspec "
            "Struct instance"
        )
        super().__init__(f"{callback}{place} produced a value of type {value_type}; {hint}")
        self.callback = callback
        self.where = where
        self.value_type = value_type


class StageError(UsageError):
    """A pipeline stage broke its contract (it returned None, or is not callable)."""

    def __init__(self, message: str, *, stage: str) -> None:
        super().__init__(message)
        self.stage = stage


class ItemError(UsageError):
    """An item can't be written by an export; the other items of the page were."""

    def __init__(self, message: str, *, output: str, item_type: str) -> None:
        super().__init__(message)
        self.output = output
        self.item_type = item_type


class OutputError(UsageError):
    """An output can't be opened or written, or holds data that would be overwritten.

    `broken_pipe` is true if its reader has gone (`... | head`), which is no fault of anybody's.
    """

    def __init__(self, message: str, *, path: str, broken_pipe: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.broken_pipe = broken_pipe


class JobError(UsageError):
    """A job's folder can't be used: another process has it, it is of another format or another
    spider, or can't be written (any more). What was committed is safe. `path` is the folder.
    """

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class MissingExtra(UsageError, ImportError):
    """A feature needs a package that isn't installed; the message says how to install it."""

    def __init__(self, feature: str, install: str) -> None:
        super().__init__(f"{feature} needs a package that is not installed: pip install {install}")
        self.feature = feature
        self.install = install


class SiteError(ScrapekitError):
    """The site: it could not be fetched, or what it sent can't be used."""

    fault: ClassVar[Fault] = "the site"

    def __init__(self, message: str, *, url: str = "") -> None:
        super().__init__(message)
        self.url = url


class ConnectError(SiteError):
    """No connection: the name doesn't resolve, the port refuses, TLS fails, the peer hangs up.

    `stage` is "name", "tls" or "way" (no network, or none that leads there) where it failed for
    another reason than that the site is busy or down.
    """

    def __init__(self, message: str, *, url: str = "", stage: str = "") -> None:
        super().__init__(message, url=url)
        self.stage = stage


class ProxyError(ConnectError):
    """The proxy can't be reached, or doesn't lead to the site.

    `status` is what it answered, None if it didn't; 407 says that it wants other credentials.
    """

    def __init__(self, message: str, *, url: str, status: int | None = None) -> None:
        super().__init__(message, url=url)
        self.status = status


class FetchTimeout(SiteError):
    """The fetch took too long.

    `phase` is "connect", "first-byte", "header", "read" (a silence), "rate" (too slow on the whole)
    or "total"; `after_s` the limit, for "rate" the time waited. `stage` is "name" if that was what
    took so long.
    """

    def __init__(
        self, message: str, *, url: str, phase: str, after_s: float, stage: str = ""
    ) -> None:
        super().__init__(message, url=url)
        self.stage = stage
        self.phase = phase
        self.after_s = after_s


class ProtocolError(SiteError):
    """What came back is no valid HTTP."""


class BodyTooLarge(SiteError):
    """The decoded body passed `limit_bytes`; reading stopped there."""

    def __init__(self, message: str, *, url: str, limit_bytes: int) -> None:
        super().__init__(message, url=url)
        self.limit_bytes = limit_bytes


class BodyTruncated(SiteError):
    """The body ended before its Content-Length, last chunk or compressed stream did."""


class BodyUndecodable(SiteError):
    """The Content-Encoding is unknown here, or its data is broken."""


class BadStatus(SiteError):
    """A status outside 2xx that `accept_statuses` doesn't list."""

    def __init__(self, status: int, *, url: str, retry_after: str | None = None) -> None:
        super().__init__(f"status {status}", url=url)
        self.status = status
        self.retry_after = retry_after
        """The Retry-After header, as it was sent."""


class RedirectError(SiteError):
    """A redirect without a usable target, in a circle, or one too many."""


class RobotsUnavailable(SiteError):
    """robots.txt answered 5xx or not at all: nothing may be fetched (RFC 9309, 2.3.1.4)."""

    def __init__(self, message: str, *, url: str = "", retry_after: str | None = None) -> None:
        super().__init__(message, url=url)
        self.retry_after = retry_after
        """The Retry-After header, as it was sent."""


class OriginDown(SiteError):
    """The origin failed `failures` times in a row, with longer and longer pauses between; what
    still waits for it isn't tried for a while. The message names the last failure.
    """

    def __init__(self, message: str, *, url: str, failures: int) -> None:
        super().__init__(message, url=url)
        self.failures = failures


class DocumentRefused(SiteError):
    """A page that is not parsed, because of what that would cost or could; `reason` says it."""

    def __init__(self, reason: str, *, url: str) -> None:
        super().__init__(f"not parsed: {reason}", url=url)
        self.reason = reason


class SitemapError(SiteError):
    """A sitemap or feed that can't be read to its end; `count` URLs of it were."""

    def __init__(self, message: str, *, url: str, count: int) -> None:
        super().__init__(message, url=url)
        self.count = count


class InvalidJSON(SiteError, ValueError):
    """`Response.json()` was called on a body that is no JSON."""


class Refused(ScrapekitError):
    """The rules of the crawl forbid this request; `reason` is "robots", "off-domain", ..."""

    fault: ClassVar[Fault] = "the rules"

    def __init__(self, reason: str, *, url: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.url = url


class CrawlFailed(ScrapekitError):
    """collect() can't return a complete list: user code failed, or no page could be fetched.

    `items` are those that there are, `report` tells what happened.
    """

    fault: ClassVar[Fault] = "you"

    def __init__(self, message: str, *, items: list[Any], report: Any) -> None:
        super().__init__(message)
        self.items = items
        self.report = report


class CrawlError(ScrapekitError):
    """scrapekit: the crawl itself went wrong. Please report it."""


class OutOfFiles(CrawlError):
    """No further connection could be made, because the system allows no more open files.

    It is no fault of the site's, so a page that is lost by it makes the crawl fail.
    """

    fault: ClassVar[Fault] = "you"

    def __init__(self, message: str, *, url: str = "") -> None:
        super().__init__(message)
        self.url = url


class CallbackCrashed(CrawlError):
    """A worker process died under a callback. `exitcode` is negative for a signal's number."""

    fault: ClassVar[Fault] = "you"

    def __init__(
        self, message: str, *, callback: str, url: str, exitcode: int | None = None
    ) -> None:
        super().__init__(message)
        self.callback = callback
        self.url = url
        self.exitcode = exitcode


class CallbackTimedOut(CrawlError):
    """A callback ran longer than `after_s` seconds, and its worker process was stopped."""

    fault: ClassVar[Fault] = "you"

    def __init__(self, message: str, *, callback: str, url: str, after_s: float) -> None:
        super().__init__(message)
        self.callback = callback
        self.url = url
        self.after_s = after_s


_AT: Final = re.compile(r"@|%(?:25)*+40")
_NO_NAME: Final = re.compile(r"[^\w.-]")
_START: Final = re.compile(r"https?:[/\\]*+|[a-z][a-z0-9+.-]*+://", re.IGNORECASE)


def without_userinfo(url: str) -> str:
    """A URL, or what was meant to be one, as it may be shown: without user name and password.

    Whatever is no text is returned as it is.
    """
    if not isinstance(url, str) or url.startswith("mailto:"):
        return url
    # Up to the last "@": a password may hold any sign, and the URL may be malformed. Where all of
    # it was percent-encoded, the "@" was so as well, maybe more than once.
    *hidden, shown = _AT.split(url)
    if not hidden:
        return url
    start = _START.match(url)
    return f"{start[0] if start else ''}***@{shown}"


def name_in(text: object) -> str:
    """What was given for a name and can't be one, as it may be shown: up to what no name has in it,
    for what follows may be a value, and secret.
    """
    if not isinstance(text, str):
        return repr(text) if isinstance(text, (int, float)) else type(text).__name__
    name = _NO_NAME.split(text, maxsplit=1)[0]
    return repr(name if name == text else f"{name}...")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """End an error message: the nearest known name, or else all of them."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
