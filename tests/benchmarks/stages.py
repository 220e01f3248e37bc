"""Where a page's CPU time goes, by stage: queueing, politeness, fetch, decode, parse, links, ...

    python -m tests.benchmarks.stages                           both sites, on the loop
    python -m tests.benchmarks.stages --variant def-job --site light
    python -m tests.benchmarks.stages --functions 8             and the functions of each stage

Crawls a site with scrapekit, client and server each on a core of its own, several times, by turns
without and with the sampler, and prints the medians: microseconds of CPU a page by stage, on the
loop's thread and on others, and instructions where the processor lets them be counted.
What is CPU time of the kernel (sockets, files) counts towards the stage that asked for it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import crawl_site
from tests.benchmarks.instructions import supported
from tests.benchmarks.measure import pages_in
from tests.benchmarks.sampler import GARBAGE, SAMPLING, Sampler
from tests.benchmarks.sites import named_sites, pinned
from tests.benchmarks.stage_table import STAGES, place_of

_VARIANTS = ("async", "def", "async-job", "def-job")

Profile = dict[str, Any]
"""What a crawl took a page: `cpu`, `rate`, `workers`; by stage `main`, `others`, `instructions`,
and the `functions`. Times in microseconds."""


def profile(url: str, variant: str, *, sampled: bool) -> Profile:
    """Crawl once, in this process."""
    sampler = Sampler(place_of)
    with tempfile.TemporaryDirectory(prefix="scrapekit-stages-") as scratch:
        output = Path(scratch) / "items.jsonl"
        began, cpu = time.perf_counter(), time.process_time()
        if sampled:
            with sampler:
                crawl_site.crawl(url, variant, output)
        else:
            crawl_site.crawl(url, variant, output)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        pages = len(pages_in(output))
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    main, others = sampler.by_stage(main=True), sampler.by_stage(main=False)
    in_all = sampler.by_stage()
    us = 1e6 / pages
    return {
        "pages": pages,
        "rate": pages / seconds,
        "cpu": cpu * us,
        "workers": (workers.ru_utime + workers.ru_stime) * us,
        "main": {stage: charge.seconds * us for stage, charge in main.items()},
        "others": {stage: charge.seconds * us for stage, charge in others.items()},
        "instructions": {stage: charge.instructions / pages for stage, charge in in_all.items()},
        "functions": {stage: _functions(sampler, stage, us) for stage in in_all},
    }


def _functions(sampler: Sampler, stage: str, us: float) -> dict[str, float]:
    found = sampler.by_place(stage)
    return {f"{place.file} {place.function}": seconds * us for place, seconds in found.items()}


def run_child(url: str, variant: str, core: int, *, sampled: bool) -> Profile:
    options = ["--child", url, "--variant", variant, *(["--sampled"] if sampled else [])]
    command = [sys.executable, "-m", "tests.benchmarks.stages", *options]
    done = subprocess.run([*pinned(core), *command], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def median(profiles: list[Profile], kind: str, name: str) -> float:
    return float(statistics.median(profile[kind].get(name, 0.0) for profile in profiles))


def table(plain: list[Profile], sampled: list[Profile], functions: int) -> Iterator[str]:
    """Word the medians, a line at a time."""
    cpu = statistics.median(p["cpu"] for p in plain)
    rate = statistics.median(p["rate"] for p in plain)
    with_it = statistics.median(p["cpu"] for p in sampled)
    yield (
        f"{plain[0]['pages']} pages, {rate:.0f} pages/s, {cpu:.0f} us CPU a page "
        f"({with_it:.0f} with the sampler)"
    )
    counted = any(any(p["instructions"].values()) for p in sampled)
    last = f"{'k instr.':>10}" if counted else ""
    yield f"  {'us a page':24}{'loop':>8}{'threads':>9}{'share':>8}{last}"
    rows = [*STAGES, GARBAGE, SAMPLING]
    total = sum(median(sampled, k, s) for k in ("main", "others") for s in rows if s != SAMPLING)
    for stage in rows:
        loop, threads = median(sampled, "main", stage), median(sampled, "others", stage)
        share = f"{(loop + threads) / total:7.1%}" if stage != SAMPLING else ""
        last = f"{median(sampled, 'instructions', stage) / 1e3:10.0f}" if counted else ""
        yield f"  {stage:24}{loop:8.1f}{threads:9.1f} {share:>7}{last}"
        yield from _function_lines(sampled, stage, functions)
    if workers := statistics.median(p["workers"] for p in plain):
        yield f"  {'other processes':24}{'':8}{workers:9.1f}"


def _function_lines(sampled: list[Profile], stage: str, count: int) -> Iterator[str]:
    names = {name for profile in sampled for name in profile["functions"].get(stage, ())}
    costs = {
        name: statistics.median(p["functions"].get(stage, {}).get(name, 0.0) for p in sampled)
        for name in names - {" "}
    }
    for name in sorted(costs, key=costs.__getitem__, reverse=True)[:count]:
        if costs[name] >= 0.05:
            yield f"      {costs[name]:8.1f}  {name}"


def compare(url: str, variant: str, known: argparse.Namespace) -> Iterator[str]:
    run_child(url, variant, known.client_core, sampled=False)  # warms the caches
    plain, sampled = [], []
    for _ in range(known.rounds):
        plain.append(run_child(url, variant, known.client_core, sampled=False))
        sampled.append(run_child(url, variant, known.client_core, sampled=True))
    return table(plain, sampled, known.functions)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", choices=_VARIANTS, default="async")
    parser.add_argument("--site", choices=("light", "heavy"), help="default: both")
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="N of each stage")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--client-core", type=int, default=0)
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--child", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--sampled", action="store_true", help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.child:
        print(json.dumps(profile(known.child, known.variant, sampled=known.sampled)))
        return
    print(f"Python {sys.version.split()[0]}, {known.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    if not supported():
        print("No instructions: this processor or kernel doesn't let them be counted.")
    for name, site in named_sites(known.server_core, known.site):
        with site as url:
            print(f"\n{name}, {known.variant}")
            print("\n".join(compare(url, known.variant, known)), flush=True)


if __name__ == "__main__":
    main()
