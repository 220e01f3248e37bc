"""Spiders whose callbacks run in worker processes, which import this module: it imports little."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from scrapekit import Request, Response, Spider, lane

lock = threading.Lock()


class Counting(Spider):
    """Counts each page twice over: by `stats`, and by an attribute."""

    pages = 0

    @lane("process")
    def parse(self, response: Response) -> Iterator[dict[str, Any]]:
        for _ in range(10):
            self.stats.add("pages")
            self.pages += 1
        self.stats.add("euros", 0.25)
        yield {"pid": os.getpid()}


@dataclass
class Product:
    name: str
    price: Any


class Untravelled(Exception):
    """Pickles, and can't be made again: its __init__ asks for more than it hands on."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Awkward(Spider):
    """What it gives or is given can't travel, each for a reason of its own: the page says which."""

    async def start(self) -> AsyncIterator[Request]:
        for url in self.start_urls:
            yield Request(url, meta={"lock": lock} if url.endswith("meta") else None)

    @lane("process")
    def parse(self, response: Response) -> Any:
        results = {
            "dict": {"name": "tea", "lock": lock},
            "dataclass": Product("tea", lock),
            "deep": Product("tea", {"each": [1, lock]}),
            "request": Request("https://site.example/next", meta={"lock": lock}),
            "error": Product("tea", Untravelled("sold out", 7)),
        }
        return results.get(response.text, {"fine": True})


class Logging(Spider):
    """Logs and warns."""

    @lane("process")
    def parse(self, response: Response) -> dict[str, Any]:
        logging.getLogger("shop").info("info of %s", response.text)
        logging.getLogger("shop.detail").debug("detail")
        logging.getLogger("noisy").warning("noise")
        logging.getLogger("shop").warning("bad %s arguments", 1, 2)  # noqa: PLE1205 -- a user's slip
        logging.getLogger("shop").warning("secret %s", "12345")
        try:
            raise LookupError("no price")  # noqa: TRY301 -- to be logged
        except LookupError:
            logging.getLogger("shop").exception("it failed", extra={"sku": 7, "lock": lock})
        warnings.warn("old attribute", UserWarning, stacklevel=1)
        return {"pid": os.getpid()}


class Following(Spider):
    """Yields requests from a worker, for a module's function."""

    @lane("process")
    def parse(self, response: Response) -> Iterator[Any]:
        yield {"pid": os.getpid(), "depth": response.request.depth}
        yield response.follow_all("a", leaf)


@lane("process")
def leaf(response: Response) -> dict[str, Any]:
    return {"pid": os.getpid(), "depth": response.request.depth, "meta": dict(response.meta)}
