"""scrapekit: an async-first scraping microframework.

The names below are imported when they are first used, so that `import scrapekit` costs little.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from scrapekit._version import __version__

if TYPE_CHECKING:
    from scrapekit.api import Crawl, collect, crawl, run
    from scrapekit.document import Document, Element
    from scrapekit.errors import (
        DropItem,
        ScrapekitError,
        SiteError,
        UsageError,
    )
    from scrapekit.failure import Failure
    from scrapekit.messages import Request, Response
    from scrapekit.report import Report
    from scrapekit.settings import Settings
    from scrapekit.spider import Spider, lane
    from scrapekit.standing import SharedLimits

__all__ = [
    "Crawl",
    "Document",
    "DropItem",
    "Element",
    "Failure",
    "Report",
    "Request",
    "Response",
    "ScrapekitError",
    "Settings",
    "SharedLimits",
    "SiteError",
    "Spider",
    "UsageError",
    "__version__",
    "collect",
    "crawl",
    "lane",
    "run",
]

_HOMES: Final = {
    "Crawl": "api",
    "Document": "document",
    "DropItem": "errors",
    "Element": "document",
    "Failure": "failure",
    "Report": "report",
    "Request": "messages",
    "Response": "messages",
    "ScrapekitError": "errors",
    "Settings": "settings",
    "SharedLimits": "standing",
    "SiteError": "errors",
    "Spider": "spider",
    "UsageError": "errors",
    "collect": "api",
    "crawl": "api",
    "lane": "spider",
    "run": "api",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
