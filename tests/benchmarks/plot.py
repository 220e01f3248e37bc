"""The plots: who is how fast on the two sites, and how a page's cost grows."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from tests.benchmarks.compare import BASELINE, is_ours

OURS = "#1b6ca8"
THEIRS = "#b0b7bf"
BY_HAND = "#e08e2b"

Kept = dict[str, Any]


def draw(kept: Kept, folder: Path) -> None:
    """Write `speed.png` and `flat.png`; without matplotlib neither."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("matplotlib is not installed: no plots (it is in the dependency group bench)")
        return
    mpl.use("Agg")
    if sites := [name for name in ("light", "heavy") if kept.get(name, {}).get("figures")]:
        _speed(kept, sites, folder / "speed.png")
    if kinds := [name for name in kept if name.startswith("flat-")]:
        _flat(kept, kinds, folder / "flat.png")


def _speed(kept: Kept, sites: list[str], file: Path) -> None:
    from matplotlib import pyplot as plt

    titles = {"light": "1,000 pages, 22 links each", "heavy": "Python docs, 310 links a page"}
    figure, axes = plt.subplots(1, len(sites), figsize=(5.5 * len(sites), 4.2), squeeze=False)
    for axis, site in zip(axes[0], sites, strict=True):
        runs = kept[site]["figures"]
        rates = {
            name: statistics.median(run["pages"] / run["seconds"] for run in found)
            for name, found in runs.items()
        }
        names = list(reversed(rates))
        values = [rates[name] for name in names]
        bars = axis.barh(
            [_label(name) for name in names], values, color=[_colour(name) for name in names]
        )
        axis.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=3, fontsize=8)
        axis.axvline(rates[BASELINE], color=BY_HAND, linewidth=1, linestyle=":")
        axis.set_title(titles[site], fontsize=10)
        axis.set_xlabel("pages per second", fontsize=9)
        axis.set_xlim(right=1.15 * max(values))
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    _save(figure, file)


def _label(name: str) -> str:
    if name == BASELINE:
        return "aiohttp + selectolax, by hand"
    return f"scrapekit, {name}" if is_ours(name) else name


def _colour(name: str) -> str:
    if name == BASELINE:
        return BY_HAND
    return OURS if is_ours(name) else THEIRS


def _flat(kept: Kept, kinds: list[str], file: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2, len(kinds), figsize=(3.2 * len(kinds), 5), squeeze=False, sharex="col"
    )
    for column, name in enumerate(kinds):
        for row, (key, label) in enumerate((("cpu_us", "CPU us a page"), ("rss_mb", "RSS MB"))):
            axis = axes[row][column]
            points = kept[name]["figures"]["points"]
            for who, colour in (("scrapekit", OURS), ("by hand", BY_HAND)):
                mine = [point for point in points if point["who"] == who]
                if mine:
                    sizes = [point["size"] for point in mine]
                    values = [point[key] for point in mine]
                    axis.plot(sizes, values, "o-", color=colour, label=who, markersize=3)
            axis.set_xscale("log")
            axis.set_ylim(bottom=0)
            axis.set_ylabel(label if column == 0 else "", fontsize=8)
            axis.tick_params(labelsize=7)
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(name.removeprefix("flat-"), fontsize=10)
    axes[0][-1].legend(fontsize=7)
    _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    figure.tight_layout()
    # No date inside: the same figures make the same file.
    figure.savefig(file, dpi=110, metadata={"Software": None})
