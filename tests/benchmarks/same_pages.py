"""Does scrapekit find the pages that wget2 finds? (`apt-get install wget2`)

    python -m tests.benchmarks.same_pages http://127.0.0.1:8000/

Mirrors the site with `wget2 -r -l inf --no-robots -np`, crawls it with scrapekit (or, with
`--program handwritten`, by hand), and prints the pages that only one of the two has. Exit code 0 if
there are none, 1 if there are, 2 if one of the two could not run.

wget2 names what it saves after the URL, `/` and `/index.html` alike, so pages are compared by the
name of the file they would be saved in.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.measure import mirrored_by_wget2, page_name, pages_in


def found_by(program: str, url: str, folder: Path) -> set[str]:
    """Crawl the site with one of the measured programs; the names its pages would be saved as."""
    output = folder / "items.jsonl"
    command = [sys.executable, "-m", f"tests.benchmarks.{program}", url, str(output)]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        raise SystemExit(f"{program} failed: {' '.join(command)}")
    return {page_name(page) for page in pages_in(output)}


def report(only_here: set[str], only_there: set[str], program: str, common: int) -> None:
    print(f"{common} pages in both")
    for who, names in ((program, only_here), ("wget2", only_there)):
        print(f"{len(names)} pages only with {who}")
        print("".join(f"  {name}\n" for name in sorted(names)), end="")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--program", choices=("crawl_site", "handwritten"), default="crawl_site")
    known = parser.parse_args()
    if not shutil.which("wget2"):
        print("wget2 is not installed (Debian: apt-get install wget2)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as mirror, tempfile.TemporaryDirectory() as scratch:
        there = mirrored_by_wget2(known.url, Path(mirror))
        here = found_by(known.program, known.url, Path(scratch))
    report(here - there, there - here, known.program, len(here & there))
    return int(here != there)


if __name__ == "__main__":
    sys.exit(main())
