"""The same site by scrapekit, by hand and by other frameworks: in turn, on cores of their own.

    python -m tests.benchmarks.compare --rounds 5 --site light
    python -m tests.benchmarks.compare --only hand-written "async def"

Prints the median of each contender's pages per second and CPU time a page, and how many times the
hand-written loop's speed that is. The contenders take turns, so that a slow minute of the machine
is everybody's. A contender that finds other pages is told apart: it did other work.

Each has one core, and the server the other; those of "two cores" have both, and the server its
share of one. scrapekit has its defaults, but for 32 requests at a time to the one origin: robots
are obeyed, limits adapt, pages are looked at before they are parsed. The others do without.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import environments
from tests.benchmarks.measure import Measurement
from tests.benchmarks.sites import named_sites, pinned

BASELINE = "hand-written"
OURS = "async def"
"""What the peers are compared with."""


class Contender(NamedTuple):
    """A program of this folder; `peer` names the environment it needs."""

    program: tuple[str, ...]
    two_cores: bool = False
    peer: str = ""


CONTENDERS = {
    BASELINE: Contender(("handwritten",)),
    OURS: Contender(("crawl_site", "--variant", "async")),
    "def, in threads": Contender(("crawl_site", "--variant", "def")),
    "async def, fast": Contender(("crawl_site", "--variant", "async-fast")),
    "def, fast": Contender(("crawl_site", "--variant", "def-fast")),
    "async def, job": Contender(("crawl_site", "--variant", "async-job")),
    "def, job": Contender(("crawl_site", "--variant", "def-job")),
    "async def, two cores": Contender(("crawl_site", "--variant", "async"), two_cores=True),
    "def, two cores": Contender(("crawl_site", "--variant", "def"), two_cores=True),
    "async def, fast, two cores": Contender(
        ("crawl_site", "--variant", "async-fast"), two_cores=True
    ),
    "def, fast, two cores": Contender(("crawl_site", "--variant", "def-fast"), two_cores=True),
    "in processes, two cores": Contender(("crawl_site", "--variant", "process"), two_cores=True),
    "Scrapy": Contender(("peers.scrapy_site",), peer="scrapy"),
    "Crawlee": Contender(("peers.crawlee_site",), peer="crawlee"),
    "Scrapling": Contender(("peers.scrapling_site",), peer="scrapling"),
    "wget2 (C)": Contender(("peers.wget2_site",), peer="wget2"),
}

_PEERS = frozenset(name for name, contender in CONTENDERS.items() if contender.peer)

Runs = dict[str, list[Measurement]]


def is_ours(name: str) -> bool:
    """Whether a contender is scrapekit in some way; also one that was measured once."""
    return name != BASELINE and name not in _PEERS


class Cores(NamedTuple):
    """Where client and server run."""

    client: int = 0
    server: int = 1


def available(names: Iterable[str]) -> list[str]:
    """Those contenders whose programs are there; installs peers that aren't."""
    return [name for name in names if _is_there(CONTENDERS[name].peer)]


def _is_there(peer: str) -> bool:
    if peer == "wget2":
        return environments.have_wget2()
    return not peer or environments.python_of(peer) is not None


def measure(url: str, contender: Contender, cores: Cores) -> Measurement:
    """Run one contender in a process of its own. Raises CalledProcessError if it fails."""
    name, *options = contender.program
    is_python = contender.peer in environments.REQUIREMENTS
    python = environments.python_of(contender.peer) if is_python else sys.executable
    where = f"{cores.client},{cores.server}" if contender.two_cores else str(cores.client)
    with tempfile.TemporaryDirectory(prefix="scrapekit-items-") as scratch:
        output = str(Path(scratch) / "items.jsonl")
        command = [str(python), "-m", f"tests.benchmarks.{name}", url, output, *options]
        done = subprocess.run(
            [*pinned(where), *command],
            env=environments.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return Measurement.from_json(done.stdout.splitlines()[-1])


def take_turns(url: str, names: Iterable[str], rounds: int, cores: Cores) -> Runs:
    """Measure every contender, round by round, after one run that only warms the caches."""
    runs: Runs = {name: [] for name in names}
    measure(url, CONTENDERS[BASELINE], cores)
    for _ in range(rounds):
        for name, found in runs.items():
            found.append(measure(url, CONTENDERS[name], cores))
    return runs


def rate(runs: list[Measurement]) -> float:
    """The median of the pages per second."""
    return statistics.median(run.rate for run in runs)


def cpu_us(runs: list[Measurement]) -> float:
    """The median of the microseconds of CPU time a page."""
    return statistics.median(run.cpu_seconds / run.pages for run in runs) * 1e6


def table(runs: Runs) -> Iterator[str]:
    """Word the runs, a line at a time."""
    base, ours = runs[BASELINE], runs.get(OURS, runs[BASELINE])
    yield (
        f"{'':28}{'pages':>6}{'pages/s':>9}{'range':>15}{'x by hand':>11}"
        f"{'CPU us/page':>13}{'x by hand':>11}{'of ours':>9}"
    )
    for name, found in runs.items():
        rates = [run.rate for run in found]
        spread = f"{min(rates):.0f} to {max(rates):.0f}"
        yield (
            f"{name:28}{found[0].pages:6}{rate(found):9.0f}{spread:>15}"
            f"{rate(found) / rate(base):11.2f}{cpu_us(found):13.0f}"
            f"{cpu_us(base) / cpu_us(found):11.2f}{cpu_us(found) / cpu_us(ours):9.2f}"
        )
    usual = base[0].digest
    other = [name for name, found in runs.items() if {run.digest for run in found} != {usual}]
    if other:
        yield f"Other pages than by hand, so other work: {', '.join(other)}."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--site", choices=("light", "heavy"), help="default: both")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--client-core", type=int, default=0)
    parser.add_argument("--server-core", type=int, default=1)
    known = parser.parse_args()
    cores = Cores(known.client_core, known.server_core)
    names = available(dict.fromkeys([BASELINE, *known.only]))
    print(f"Python {sys.version.split()[0]}, {known.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    for name, site in named_sites(cores.server, known.site):
        with site as url:
            print(f"\n{name}")
            print("\n".join(table(take_turns(url, names, known.rounds, cores))), flush=True)


if __name__ == "__main__":
    main()
