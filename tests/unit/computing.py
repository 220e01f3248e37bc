"""A spider for the process lane. Worker processes import this module, so it imports little."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scrapekit import Response, Spider, lane


@dataclass
class Offer:
    title: str
    pid: int


class Demanding(Exception):
    """Can't be unpickled, not even with the help of a library that mends exceptions."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


class Unprintable(Exception):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise RuntimeError("broken too")


class Brittle:
    """Pickles, but can't be made again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


class Computing(Spider):
    factor: int = 1

    @lane("process")
    def parse(self, response: Response) -> Iterator[Any]:
        self.stats.add("parsed")
        yield Offer(response.get("h1", ""), os.getpid())
        yield {"n": response.meta["n"] * self.factor}
        yield response.follow("b", "parse")

    def nothing(self, response: Response) -> None:
        pass

    def boom(self, response: Response) -> None:
        raise ValueError("no price")  # here: boom

    def demanding(self, response: Response) -> None:
        raise Demanding(7, "strict")

    def unprintable(self, response: Response) -> None:
        raise Unprintable("x")

    def leave(self, response: Response) -> None:
        raise SystemExit(3)

    def interrupt(self, response: Response) -> None:
        raise KeyboardInterrupt

    def stop(self, response: Response) -> Any:
        return next(iter(()))

    def strange(self, response: Response) -> Iterator[Any]:
        yield "text"  # here: strange

    def unpicklable(self, response: Response) -> dict[str, Any]:
        return {"title": "Tea", "lock": threading.Lock()}

    def brittle(self, response: Response) -> dict[str, Any]:
        return {"title": Brittle()}

    def die(self, response: Response) -> None:
        os._exit(9)
