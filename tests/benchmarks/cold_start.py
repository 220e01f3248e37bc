"""How long it takes to start: `import scrapekit`, and `scrapekit --help`.

    python -m tests.benchmarks.cold_start --rounds 20

The import is timed inside of its process, the command from its start to its end; for comparison
also Python itself and what a crawl imports. Medians of processes that take turns; CPU time is what
it takes on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

from tests.benchmarks.measure import cpu_seconds

_TIMED: Final = """
import time
began, cpu = time.perf_counter(), time.process_time()
import {module}
print(time.perf_counter() - began, time.process_time() - cpu)
"""

IMPORTS: Final = ("scrapekit", "scrapekit.transport.http", "aiohttp")
COMMANDS: Final = {
    "python -c pass": ["-c", "pass"],
    "scrapekit --help": ["-m", "scrapekit", "--help"],
}


Times = tuple[float, float]
"""Seconds, and seconds of CPU time."""


def importing(module: str) -> Times:
    command = [sys.executable, "-c", _TIMED.format(module=module)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, cpu = map(float, done.stdout.split())
    return seconds, cpu


def running(arguments: list[str]) -> Times:
    began, before = time.perf_counter(), cpu_seconds()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began, cpu_seconds() - before


def measure(rounds: int) -> dict[str, list[Times]]:
    """The times of each, round by round, after one that only warms the caches."""
    found: dict[str, list[Times]] = {}
    for number in range(rounds + 1):
        timed = {f"import {module}": importing(module) for module in IMPORTS}
        timed |= {name: running(arguments) for name, arguments in COMMANDS.items()}
        for name, times in timed.items() if number else ():
            found.setdefault(name, []).append(times)
    return found


def table(found: dict[str, list[Times]]) -> Iterator[str]:
    yield f"{'ms':34}{'median':>9}{'best':>9}{'CPU':>9}"
    for name, times in found.items():
        seconds, cpu = zip(*times, strict=True)
        cells = statistics.median(seconds), min(seconds), statistics.median(cpu)
        yield f"{name:34}" + "".join(f"{1e3 * cell:9.1f}" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    print("\n".join(table(measure(parser.parse_args().rounds))))


if __name__ == "__main__":
    main()
