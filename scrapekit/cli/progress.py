"""How far a crawl is: a live line on a terminal, else a line in the log now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from scrapekit.api import Crawl
from scrapekit.cli.screen import Screen
from scrapekit.report import Report, printable

LIVE_EVERY_S: Final = 0.25
LOG_EVERY_S: Final = 5.0

_RATE_OVER: Final = 20
"""How many ticks back the pages per second are counted from."""

_logger = logging.getLogger("scrapekit.progress")


@asynccontextmanager
async def progress(crawl: Crawl, screen: Screen, *, live: bool) -> AsyncIterator[None]:
    """Show how far a crawl is, for as long as the block runs."""
    line = ProgressLine(crawl)
    if not live:
        async with every(LOG_EVERY_S, lambda: _logger.info("%s", line())):
            yield
        return
    with _live_line(screen) as show:
        async with every(LIVE_EVERY_S, lambda: show(line())):
            yield


class ProgressLine:
    """Puts in words how far a crawl is, each time it is called."""

    def __init__(self, crawl: Crawl) -> None:
        self._crawl = crawl
        self._past: deque[Report] = deque(maxlen=_RATE_OVER)

    def __call__(self) -> str:
        report = self._crawl.report
        self._past.append(report)
        rate = recent_rate(self._past)
        return (
            f"{printable(report.spider, 40)}: {report.pages:,} pages, {rate:,.1f}/s, "
            f"{self._crawl.pending:,} queued, {self._crawl.in_flight:,} in flight, "
            f"{report.items:,} items, {report.error_count:,} errors"
        )


def recent_rate(past: Sequence[Report]) -> float:
    """Pages per second over a series of reports, oldest first; of a single one, all in all."""
    first, last = past[0], past[-1]
    seconds = last.duration_s - first.duration_s
    return (last.pages - first.pages) / seconds if seconds > 0 else last.pages_per_s


@asynccontextmanager
async def every(interval_s: float, call: Callable[[], None]) -> AsyncIterator[None]:
    """Make a call every so often while the block runs, the first one after `interval_s`."""

    async def repeat() -> None:
        while True:
            await asyncio.sleep(interval_s)
            call()

    task = asyncio.create_task(repeat(), name="scrapekit progress")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()


@contextmanager
def _live_line(screen: Screen) -> Iterator[Callable[[str], None]]:
    """A last line on the terminal that is drawn anew; other lines go above it.

    What spiders print to the same terminal does so, too.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(file=screen.stream, no_color=not screen.has_colour, highlight=False)
    live = Live(
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )

    def show(line: str) -> None:
        # A terminal that was closed is no reason to end the crawl.
        with contextlib.suppress(OSError):
            live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)

    def write(line: str) -> None:
        with contextlib.suppress(OSError):
            console.print(Text(line), soft_wrap=True)

    with live, screen.written_by(write):
        yield show
