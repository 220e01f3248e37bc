"""How much memory and how much time something takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

MEBIBYTE = 1 << 20


class Peak:
    grown = 0


@asynccontextmanager
async def memory() -> AsyncIterator[Peak]:
    """How much the process has grown at most, asked every few milliseconds."""
    process, peak = psutil.Process(), Peak()
    before = process.memory_info().rss

    async def watch() -> None:
        while True:
            peak.grown = max(peak.grown, process.memory_info().rss - before)
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    try:
        yield peak
    finally:
        peak.grown = max(peak.grown, process.memory_info().rss - before)
        watching.cancel()
