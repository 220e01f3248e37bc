"""Measure everything, and write it down as text and as plots.

    python -m tests.benchmarks                      all parts, one after the other
    python -m tests.benchmarks light heavy --add    more rounds of two of them
    python -m tests.benchmarks --report             only write down anew what is kept

What is measured is kept in the folder of results, a JSON file a part; from those `speed.txt`,
`speed.png` and `flat.png` are made (plots where matplotlib is installed).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import machine, plot
from tests.benchmarks.parts import PARTS

RESULTS = Path(__file__).parent / "results"


def measure(name: str, known: argparse.Namespace) -> None:
    """Measure a part and keep what was found."""
    file = known.results / f"{name}.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if known.add and file.exists() else {}
    where = list(machine.describe())
    figures = PARTS[name].measure(known, kept.get("figures", {}))
    record = {"where": where, "figures": figures}
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def kept_in(folder: Path) -> dict[str, Any]:
    """What was found, by part, in the order of the parts."""
    files = {name: folder / f"{name}.json" for name in PARTS}
    return {
        name: json.loads(file.read_text(encoding="utf-8"))
        for name, file in files.items()
        if file.exists()
    }


def report(kept: dict[str, Any]) -> Iterator[str]:
    """Word all that is kept, a line at a time, and where it was measured."""
    where: list[str] = []
    for name, record in kept.items():
        # The load differs every time, and is no other machine.
        if record["where"][1:] != where[1:]:
            where = record["where"]
            yield from where
        yield ""
        yield f"{PARTS[name].title} ({record['where'][0]})"
        yield from PARTS[name].lines(record["figures"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--add", action="store_true", help="to what is kept")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--client-core", type=int, default=0)
    parser.add_argument("--server-core", type=int, default=1)
    known = parser.parse_args()
    if unknown := [name for name in known.parts if name not in PARTS]:
        parser.error(f"no part is named {', '.join(unknown)}; there are {', '.join(PARTS)}")
    known.results.mkdir(parents=True, exist_ok=True)
    for name in () if known.report else known.parts or PARTS:
        measure(name, known)
        record = kept_in(known.results)[name]
        print(f"\n{PARTS[name].title}")
        print("\n".join(PARTS[name].lines(record["figures"])), flush=True)
    kept = kept_in(known.results)
    text = "\n".join(report(kept)) + "\n"
    (known.results / "speed.txt").write_text(text, encoding="utf-8")
    plot.draw(kept, known.results)


if __name__ == "__main__":
    main()
