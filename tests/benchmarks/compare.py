"""scrapekit beside the hand-written loop: the same sites, in turn, each client on the same core.

    python -m tests.benchmarks.compare --rounds 5

Prints, for each site, the median of each contender's pages per second and CPU time a page, and how
many times the hand-written loop's speed that is. The contenders take turns, so that a slow minute
of the machine is everybody's. A contender that finds other pages is told apart: it did other work.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measure import Measurement
from tests.benchmarks.sites import named_sites, pinned

CONTENDERS = {
    "hand-written": ["handwritten"],
    "scrapekit, async def": ["crawl_site", "--variant", "async"],
    "scrapekit, def": ["crawl_site", "--variant", "def"],
    "async def, with a job": ["crawl_site", "--variant", "async-job"],
    "def, with a job": ["crawl_site", "--variant", "def-job"],
}
BASELINE = "hand-written"

Results = dict[str, list[Measurement]]


def measure(url: str, program: list[str], core: int) -> Measurement:
    """Run one contender in a process of its own. Raises CalledProcessError if it fails."""
    name, *options = program
    with tempfile.TemporaryDirectory(prefix="scrapekit-items-") as scratch:
        output = str(Path(scratch) / "items.jsonl")
        command = [sys.executable, "-m", f"tests.benchmarks.{name}", url, output, *options]
        done = subprocess.run(
            [*pinned(core), *command], stdout=subprocess.PIPE, text=True, check=True
        )
    return Measurement.from_json(done.stdout.splitlines()[-1])


def take_turns(url: str, rounds: int, core: int) -> Results:
    """Measure every contender, round by round, after one round that only warms the caches."""
    results: Results = {name: [] for name in CONTENDERS}
    for number in range(rounds + 1):
        for name, program in CONTENDERS.items():
            measurement = measure(url, program, core)
            if number:
                results[name].append(measurement)
    return results


def table(results: Results) -> Iterator[str]:
    """Word the results, a line at a time."""
    baseline = results[BASELINE]
    yield f"{'':24}{'pages':>7}{'pages/s':>10}{'range':>16}{'CPU us/page':>13}{'ratio':>8}"
    for name, runs in results.items():
        rates = [run.rate for run in runs]
        cpu = statistics.median(run.cpu_seconds / run.pages for run in runs) * 1e6
        ratio = statistics.median(rates) / statistics.median(run.rate for run in baseline)
        spread = f"{min(rates):.0f} to {max(rates):.0f}"
        yield (
            f"{name:24}{runs[0].pages:7}{statistics.median(rates):10.0f}{spread:>16}"
            f"{cpu:13.0f}{ratio:8.2f}"
        )
    if len({run.pages for runs in results.values() for run in runs}) > 1:
        yield "They found different numbers of pages: these ratios compare different work."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--client-core", type=int, default=0)
    parser.add_argument("--server-core", type=int, default=1)
    known = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {Path(sys.executable)}, {known.rounds} rounds")
    for name, site in named_sites(known.server_core):
        with site as url:
            print(f"\n{name}")
            print("\n".join(table(take_turns(url, known.rounds, known.client_core))), flush=True)


if __name__ == "__main__":
    main()
