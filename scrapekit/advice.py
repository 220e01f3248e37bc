"""Advice: which callback belongs in another lane, and what that would save. Numbers in, sentences
out; none where nothing would help.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from scrapekit.report import CallbackCost

_WORTH: Final = 0.2
"""A callback is worth a word if it takes this share of the crawl's time."""
_HEAVY_S: Final = 0.002
"""CPU time a call from which a worker process pays: a hop costs 0.1 ms, and some more a page."""
_LIGHT_S: Final = 0.000_3
"""CPU time a call under which the hop to a worker process costs more than it frees."""
_BLOCKING_S: Final = 0.1
"""A callback that keeps the loop from other work for so long at a time is felt by all pages."""
_ENOUGH_CALLS: Final = 20


def advise(
    callbacks: Iterable[CallbackCost], duration_s: float, cpus: int | None = None
) -> list[str]:
    """A sentence for each callback that another lane would serve better.

    `cpus` is how many there are to compute on; by default those that this process may use.
    """
    cpus = cpus or usable_cpus()
    sentences = [_verdict(cost, duration_s, cpus) for cost in callbacks]
    return [sentence for sentence in sentences if sentence]


def usable_cpus() -> int:
    """How many CPUs this process may run on, which in a container may be few of the machine's."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _verdict(cost: CallbackCost, duration_s: float, cpus: int) -> str:
    if not cost.calls or duration_s <= 0:
        return ""
    if cost.lane == "process":
        return _process_verdict(cost)
    computes = cost.cpu_s / cost.calls >= _HEAVY_S and cost.cpu_s >= _WORTH * duration_s
    # More CPU time than there was: C code that lets other threads run beside it. Nothing to gain.
    parallel = cost.lane == "thread" and cost.cpu_s > 1.1 * duration_s
    if computes and not parallel and (cpus > 1 or cost.lane == "loop"):
        return _computing_verdict(cost, duration_s, cpus)
    waits = cost.blocked_s >= _BLOCKING_S and cost.cpu_s / cost.calls < cost.blocked_s / 2
    if cost.lane == "loop" and waits:
        return (
            f"{cost.callback} kept the event loop waiting, for up to {cost.blocked_s:.2f} s at a "
            "time: write it as a plain def, which runs in a thread."
        )
    return ""


def _computing_verdict(cost: CallbackCost, duration_s: float, cpus: int) -> str:
    where = "on the event loop" if cost.lane == "loop" else "in threads, one at a time"
    saved_s = cost.cpu_s * (1 - 1 / cpus)
    saves = f" and save up to {saved_s:.1f} s on {cpus} CPUs" if cpus > 1 else ""
    return (
        f"{cost.callback} computed {1000 * cost.cpu_s / cost.calls:.1f} ms a page {where}, "
        f"{min(100, 100 * cost.cpu_s / duration_s):.0f} % of the crawl's time: as a plain def with "
        f'@lane("process") it would let other pages go on{saves}.'
    )


def _process_verdict(cost: CallbackCost) -> str:
    if cost.calls < _ENOUGH_CALLS or cost.cpu_s / cost.calls >= _LIGHT_S:
        return ""
    return (
        f"{cost.callback} took {1000 * cost.cpu_s / cost.calls:.2f} ms a page in worker processes, "
        'less than the way there: without @lane("process") it would be cheaper.'
    )
