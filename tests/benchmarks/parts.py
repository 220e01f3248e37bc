"""What is measured by the one command: parts, each of which can be measured by itself.

A part gives the lines that are printed of it, and the figures that plots are made of.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

from tests.benchmarks import cold_start, compare, connections, flat, lanes, overhead
from tests.benchmarks.measure import Measurement
from tests.benchmarks.sites import named_sites

Figures = dict[str, Any]


class Part(NamedTuple):
    """`measure` gives figures, or more of them: it is handed those that are kept."""

    title: str
    measure: Callable[[argparse.Namespace, Figures], Figures]
    lines: Callable[[Figures], Iterator[str]]


def _compare(site: str) -> Callable[[argparse.Namespace, Figures], Figures]:
    def measure(known: argparse.Namespace, kept: Figures) -> Figures:
        cores = compare.Cores(known.client_core, known.server_core)
        names = compare.available(compare.CONTENDERS)
        for _, opened in named_sites(cores.server, site):
            with opened as url:
                for name, found in compare.take_turns(url, names, known.rounds, cores).items():
                    kept.setdefault(name, []).extend(asdict(run) for run in found)
        return kept

    return measure


def _runs(figures: Figures) -> dict[str, list[Measurement]]:
    return {name: [Measurement(**run) for run in runs] for name, runs in figures.items()}


def _compared(figures: Figures) -> Iterator[str]:
    if figures:
        yield from compare.table(_runs(figures))


def _overhead(known: argparse.Namespace, kept: Figures) -> Figures:
    for name, site in named_sites(known.server_core):
        with site as url:
            times, core = overhead.TIMES[name], known.client_core
            runs = overhead.take_turns(url, known.rounds, times, core)
        found = kept.setdefault(name, {})
        for contender, measured in runs.items():
            found.setdefault(contender, []).extend(asdict(run) for run in measured)
    return kept


def _overhead_lines(figures: Figures) -> Iterator[str]:
    for name, runs in figures.items():
        yield name
        yield from overhead.table(_runs(runs))


def _connections(known: argparse.Namespace, kept: Figures) -> Figures:
    options = argparse.Namespace(**vars(known), connections=10_000, seconds=3.0)
    for _ in range(min(3, known.rounds)):
        for name in connections.CONTENDERS:
            kept.setdefault(name, []).append(connections.measure(name, options))
    return kept


def _printed(*command: str) -> Callable[[argparse.Namespace, Figures], Figures]:
    """Of a program that prints its table itself."""

    def measure(known: argparse.Namespace, _: Figures) -> Figures:
        whole = [sys.executable, "-m", *command]
        done = subprocess.run(whole, stdout=subprocess.PIPE, text=True, check=True)
        return {"lines": done.stdout.splitlines()}

    return measure


def _flat(kind: str) -> Callable[[argparse.Namespace, Figures], Figures]:
    def measure(known: argparse.Namespace, _: Figures) -> Figures:
        options = argparse.Namespace(**vars(known), up_to=1_000_000)
        return {"points": list(flat.curve(kind, options))}

    return measure


def _flat_lines(kind: str) -> Callable[[Figures], Iterator[str]]:
    return lambda figures: flat.table(kind, figures["points"])


PARTS = {
    "light": Part("Link-light site: 1,000 pages of 15 KB", _compare("light"), _compared),
    "heavy": Part("Link-heavy site: Python's documentation", _compare("heavy"), _compared),
    "overhead": Part("The framework's share", _overhead, _overhead_lines),
    "connections": Part("Answers after three seconds", _connections, connections.table),
    "computing": Part(
        "Callbacks that compute",
        lambda known, _: {"lines": list(lanes.computing_table(min(3, known.rounds)))},
        lambda figures: iter(figures["lines"]),
    ),
    "origins": Part(
        "A page of each origin, from a server in Python",
        _printed("tests.benchmarks.origins", "--crawl", "--sizes", "1000", "10000", "100000"),
        lambda figures: iter(figures["lines"]),
    ),
    "start": Part(
        "Cold start", lambda known, _: cold_start.measure(4 * known.rounds), cold_start.table
    ),
} | {
    f"flat-{kind}": Part(f"Flat cost: {kind}", _flat(kind), _flat_lines(kind))
    for kind in flat.SIZES
}
