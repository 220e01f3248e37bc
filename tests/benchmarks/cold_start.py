"""How long it takes to start: `import scrapekit`, and `scrapekit --help`.

    python -m tests.benchmarks.cold_start --rounds 20

The import is timed inside of its process, the command from its start to its end; for comparison
also Python itself and what a crawl imports. Medians of processes that take turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

_TIMED: Final = """
import time
began = time.perf_counter()
import {module}
print(time.perf_counter() - began)
"""

IMPORTS: Final = ("scrapekit", "scrapekit.transport.http", "aiohttp")
COMMANDS: Final = {
    "python -c pass": ["-c", "pass"],
    "scrapekit --help": ["-m", "scrapekit", "--help"],
}


def import_s(module: str) -> float:
    command = [sys.executable, "-c", _TIMED.format(module=module)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def command_s(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of each, round by round, after one that only warms the caches."""
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        timed = {f"import {module}": import_s(module) for module in IMPORTS}
        timed |= {name: command_s(arguments) for name, arguments in COMMANDS.items()}
        for name, seconds in timed.items() if number else ():
            found.setdefault(name, []).append(seconds)
    return found


def table(found: dict[str, list[float]]) -> Iterator[str]:
    yield f"{'ms':34}{'median':>9}{'best':>9}"
    for name, seconds in found.items():
        yield f"{name:34}{1e3 * statistics.median(seconds):9.1f}{1e3 * min(seconds):9.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    print("\n".join(table(measure(parser.parse_args().rounds))))


if __name__ == "__main__":
    main()
