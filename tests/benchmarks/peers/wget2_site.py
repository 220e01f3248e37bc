"""The site mirrored by wget2, which is written in C: what the machine can do.

    python -m tests.benchmarks.peers.wget2_site http://127.0.0.1:8000/ items.jsonl

It fetches all that the pages need as well, such as images, and keeps it; it makes no items.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.benchmarks.measure import CONCURRENCY, arguments, measured, mirrored_by_wget2

# Where there is a file system in memory, the disk isn't measured.
_MEMORY = Path("/dev/shm")


def crawl(url: str, output: Path) -> None:
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as mirror:
        names = mirrored_by_wget2(url, Path(mirror), f"--max-threads={CONCURRENCY}")
        lines = (json.dumps({"url": url + name}) + "\n" for name in names)
        output.write_text("".join(lines), encoding="utf-8")


def main() -> None:
    url, _, output = arguments(__doc__)
    measured(lambda: crawl(url, output), output)


if __name__ == "__main__":
    main()
