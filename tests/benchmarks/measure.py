"""What the measured programs share: their arguments, their clock and the line they print."""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

CONCURRENCY = 32


class Arguments(NamedTuple):
    """What a measured program is told on its command line."""

    url: str
    variant: str
    output: Path


def arguments(doc: str | None, variants: Sequence[str] = ("only",)) -> Arguments:
    """Read sys.argv; `doc` is the program's docstring, the first variant is the default."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="where the crawl starts; it stays on that site")
    parser.add_argument("--variant", choices=variants, default=variants[0])
    parser.add_argument("output", type=Path, help="where the items go, as JSON lines")
    known = parser.parse_args()
    return Arguments(known.url, known.variant, known.output)


@dataclass(frozen=True)
class Measurement:
    """One crawl: how many pages it found, and the time and CPU time that took, in seconds.

    CPU time is that of all its processes. Equal digests tell that the same pages were found.
    """

    pages: int
    seconds: float
    cpu_seconds: float
    digest: str = ""

    @property
    def rate(self) -> float:
        """Pages per second."""
        return self.pages / self.seconds

    def to_json(self) -> str:
        return json.dumps(vars(self) | {"pages_per_second": round(self.rate, 1)})

    @classmethod
    def from_json(cls, line: str) -> Measurement:
        known = json.loads(line)
        return cls(known["pages"], known["seconds"], known["cpu_seconds"], known["digest"])


def measured(crawl: Callable[[], object], output: Path) -> Measurement:
    """Run `crawl`, which writes an item a page to `output`, and print what it took as JSON.

    The clock runs from the first line of the crawl to its return: sessions are opened and files
    closed inside it, modules are imported before it. Raises SystemExit if no page was found: that
    measures nothing.
    """
    start, cpu_start = time.perf_counter(), cpu_seconds()
    crawl()
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu_start
    pages = sorted({page_name(url) for url in pages_in(output)})
    if not pages:
        raise SystemExit("no page was found")
    digest = hashlib.sha256("\n".join(pages).encode()).hexdigest()[:12]
    measurement = Measurement(len(pages), round(seconds, 4), round(cpu, 4), digest)
    print(measurement.to_json())
    return measurement


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def rss_bytes() -> int:
    """The memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def allow_files() -> None:
    """Let this process open as many files as it may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def pages_in(output: Path) -> list[str]:
    """The URLs of the pages that a crawl wrote an item for."""
    return [json.loads(line)["url"] for line in output.read_text(encoding="utf-8").splitlines()]


def page_name(url: str) -> str:
    """Which page of its site a URL means: the name of the file that wget2 saves it in.

    `/` and `/index.html` are alike there.
    """
    parts = urlsplit(url)
    name = unquote(parts.path).lstrip("/")
    name = f"{name}index.html" if not name or name.endswith("/") else name
    name = f"{name}?{parts.query}" if parts.query else name
    return name if name.endswith((".html", ".htm")) else f"{name}.html"


# wget2's code for "the server answered with an error": a broken link on the site.
_BROKEN_LINK = 8


def mirrored_by_wget2(url: str, folder: Path, *options: str) -> set[str]:
    """Mirror a site into a folder; the names of the HTML files, relative to its root.

    Raises SystemExit if wget2 fails.
    """
    # --adjust-extension, so that HTML is told by what the server said it is.
    always = ["-q", "-r", "-l", "inf", "--no-robots", "-np", "-nH", "--adjust-extension"]
    command = ["wget2", *always, *options, "-P", str(folder), url]
    code = subprocess.run(command, check=False).returncode
    if code not in {0, _BROKEN_LINK}:
        raise SystemExit(f"wget2 failed with exit code {code}: {' '.join(command)}")
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.html")}
