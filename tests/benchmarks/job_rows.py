"""What a job costs as it grows: rates, memory and the time to resume, at so many requests.

    python -m tests.benchmarks.job_rows 1000 100000 1000000 10000000

Requests are added as a crawl finds them: pages of 20 links, committed 32 at a time. For each size,
in a process of its own: requests added per second on the way there; how much RSS grew; pages per
second that are then leased and committed with 20 links each, a third of them new; and, in a new
process, the time from opening the job to the first lease, and leases per second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from scrapekit.frontier.base import Lease, Outcome
from scrapekit.frontier.sqlite import SqliteFrontier
from scrapekit.messages import Request
from tests.benchmarks.measure import rss_bytes

ORIGIN: Final = "http://127.0.0.1:8000"
LINKS: Final = 20
CONCURRENCY: Final = 32
PAGES: Final = 2_000


def link(number: int) -> Request:
    return Request.link(f"{ORIGIN}/some/folder/page-{number}.html", "parse", 3)


def lease(frontier: SqliteFrontier) -> Lease:
    found = frontier.lease(ORIGIN, time.time())
    assert found is not None
    return found


async def fill(folder: Path, rows: int) -> dict[str, float]:
    """Commit pages until so many requests are pending."""
    frontier = SqliteFrontier(folder)
    await frontier.open()
    await frontier.add([link(number) for number in range(CONCURRENCY)])
    numbers = iter(range(CONCURRENCY, rows + 1))
    before, start = rss_bytes(), time.perf_counter()

    async def work() -> None:
        while links := [link(number) for _, number in zip(range(LINKS), numbers, strict=False)]:
            await frontier.commit(Outcome(lease(frontier), links, lines=[b'{"page":1}']))

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    seconds = time.perf_counter() - start
    grown = rss_bytes() - before
    old = await pages_per_s(frontier, rows)
    await frontier.aclose()
    return {
        "added_per_s": rows / seconds,
        "rss_mb_grown": grown / 1e6,
        "rss_mb_per_100k": grown / 1e6 / rows * 1e5,
        "pages_per_s": old,
    }


async def pages_per_s(frontier: SqliteFrontier, rows: int) -> float:
    """Pages that are leased and committed, most of their links known."""
    left = iter(range(min(PAGES, rows // 10)))
    fresh = iter(range(rows + 1, 2 * rows))
    start, count = time.perf_counter(), 0

    async def work() -> None:
        nonlocal count
        for page in left:
            known = [link(page * 7919 * n % rows) for n in range(LINKS - LINKS // 3)]
            new = [link(next(fresh)) for _ in range(LINKS // 3)]
            await frontier.commit(Outcome(lease(frontier), [*known, *new], lines=[b'{"page":1}']))
            count += 1

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    return count / (time.perf_counter() - start)


async def resume(folder: Path) -> dict[str, float]:
    """Open the job, and lease."""
    start = time.perf_counter()
    frontier = SqliteFrontier(folder)
    await frontier.open()
    origins = list(frontier.origins())
    assert origins == [ORIGIN]
    lease(frontier)
    first = time.perf_counter() - start
    count = min(20_000, frontier.pending)
    for _ in range(count):
        lease(frontier)
    leased = count / (time.perf_counter() - start - first)
    await frontier.aclose()
    return {"first_lease_s": first, "leased_per_s": leased}


def child(step: str, folder: Path, rows: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.job_rows", "--step", step]
    done = subprocess.run(
        [*command, "--folder", str(folder), str(rows)], stdout=subprocess.PIPE, check=True
    )
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="+", type=int)
    parser.add_argument("--step", choices=("fill", "resume"))
    parser.add_argument("--folder", type=Path)
    known = parser.parse_args()
    if known.step is not None:
        steps = {"fill": fill(known.folder, known.rows[0]), "resume": resume(known.folder)}
        chosen = steps.pop(known.step)
        for other in steps.values():
            other.close()
        print(json.dumps(asyncio.run(chosen)))
        return
    for rows in known.rows:
        scratch = Path(tempfile.mkdtemp(prefix="scrapekit-rows-"))
        try:
            found = child("fill", scratch / "job", rows) | child("resume", scratch / "job", rows)
            size = sum(file.stat().st_size for file in (scratch / "job").iterdir())
        finally:
            shutil.rmtree(scratch)
        cells = "  ".join(f"{name} {value:,.3g}" for name, value in found.items())
        print(f"{rows:>12,} rows  {size / 1e6:,.0f} MB  {cells}", flush=True)


if __name__ == "__main__":
    main()
