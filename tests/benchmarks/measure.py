"""What the measured programs share: their arguments, their clock and the line they print."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

CONCURRENCY = 32


class Arguments(NamedTuple):
    """What a measured program is told on its command line."""

    url: str
    variant: str
    output: Path


def arguments(doc: str | None, variants: Sequence[str] = ("only",)) -> Arguments:
    """Read sys.argv; `doc` is the program's docstring, the first variant is the default."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="where the crawl starts; it stays on that site")
    parser.add_argument("--variant", choices=variants, default=variants[0])
    parser.add_argument("output", type=Path, help="where the items go, as JSON lines")
    known = parser.parse_args()
    return Arguments(known.url, known.variant, known.output)


@dataclass(frozen=True)
class Measurement:
    """One crawl: how many pages it found, and the time and CPU time that took, in seconds."""

    pages: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Pages per second."""
        return self.pages / self.seconds

    def to_json(self) -> str:
        return json.dumps(vars(self) | {"pages_per_second": round(self.rate, 1)})

    @classmethod
    def from_json(cls, line: str) -> Measurement:
        known = json.loads(line)
        return cls(known["pages"], known["seconds"], known["cpu_seconds"])


def measured(crawl: Callable[[], object], output: Path) -> Measurement:
    """Run `crawl`, which writes an item a page to `output`, and print what it took as JSON.

    The clock runs from the first line of the crawl to its return: sessions are opened and files
    closed inside it, modules are imported before it. Raises SystemExit if no page was found: that
    measures nothing.
    """
    start, cpu_start = time.perf_counter(), time.process_time()
    crawl()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    pages = len(pages_in(output))
    if not pages:
        raise SystemExit("no page was found")
    measurement = Measurement(pages, round(seconds, 4), round(cpu_seconds, 4))
    print(measurement.to_json())
    return measurement


def pages_in(output: Path) -> list[str]:
    """The URLs of the pages that a crawl wrote an item for."""
    return [json.loads(line)["url"] for line in output.read_text(encoding="utf-8").splitlines()]
