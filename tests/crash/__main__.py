"""Kill crawls at many moments, continue them, and compare what they wrote with what they should.

    python -m tests.crash --points 500 --formats jsonl csv sqlite
    python -m tests.crash --points 100 --at writes       the N-th write, by strace
    python -m tests.crash --points 100 --at fresh        the N-th write of a start anew
    python -m tests.crash --points 100 --kills 20        20 kills in one crawl

Prints a table. The exit code is 1 if an item was missing, there twice or torn, or if more pages
were fetched again than were in flight.

Crawls start by a fork of this process, which has imported everything: half a second less each.
Those under strace start as users start them.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import scrapekit.transport.http  # noqa: F401  imported once, for all forks
from scrapekit.cli import main as command_line
from tests.crash.site import order_kill, serving, take_hits

SPIDER: Final = Path(__file__).with_name("spider.py")
CONCURRENCY: Final = 8
SYSCALLS: Final = "pwrite64,write,writev,ftruncate,fsync,fdatasync,rename,unlink,mkdir"
_LIMIT_S: Final = 60.0

Item = tuple[int, int]
"""The page of an item, and its number there."""


@dataclass
class Tally:
    """What came of the kill points of one kind."""

    crawls: int = 0
    kills: int = 0
    missing: int = 0
    duplicated: int = 0
    torn: int = 0
    refetched: int = 0
    most_refetched: float = 0.0
    """Pages fetched again per kill, in the worst crawl."""
    bad_exits: int = 0

    @property
    def is_clean(self) -> bool:
        lost = self.missing + self.duplicated + self.torn + self.bad_exits
        return not lost and self.most_refetched <= CONCURRENCY


class Crawl:
    """One crawl in a folder of its own, killed and continued."""

    def __init__(self, folder: Path, site: str, formats: Sequence[str]) -> None:
        self.folder = folder
        outputs = itertools.chain(*(("-o", str(folder / f"items.{name}")) for name in formats))
        job = str(folder / "job")
        arguments = ("-a", f"site={site}", "--job", job, "-q", *outputs)
        self.command = ["crawl", str(SPIDER), *arguments]
        self.formats = formats

    def start(self) -> int:
        """Start it, or continue it, in a child; its process ID."""
        child = os.fork()
        if child:
            return child
        log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 99
        try:
            code = command_line(self.command)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)

    def finish(self) -> int:
        """Run it to its end; the exit code."""
        return _exit_code(self.start())

    def kill_after(self, seconds: float) -> bool:
        """Run it for so long; whether it had to be killed."""
        child = self.start()
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        return _exit_code(child) < 0

    def kill_after_hits(self, site: str, hits: int, seconds: float) -> bool:
        """Run it until so long after it asked for so many pages; whether it got there."""
        child = self.start()
        order_kill(site, child, hits, seconds)
        return _exit_code(child) < 0

    def kill_at_write(self, number: int, *more: str) -> bool:
        """Run it up to its N-th write; whether there was one."""
        trace = ["strace", "-f", "-qq", "-o", "/dev/null"]
        inject = [f"-etrace={SYSCALLS}", f"-einject={SYSCALLS}:signal=SIGKILL:when={number}"]
        command = [*trace, *inject, sys.executable, "-m", "scrapekit", *self.command, *more]
        with (self.folder / "log").open("ab") as log:
            done = subprocess.run(command, stdout=log, stderr=log, check=False, timeout=_LIMIT_S)
        return done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)

    def items(self, name: str) -> tuple[list[Item], int]:
        """The items of an output, and how many lines of it were torn."""
        return _READERS[name](self.folder / f"items.{name}")


def _exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _read_jsonl(file: Path) -> tuple[list[Item], int]:
    items, torn = [], 0
    for line in file.read_bytes().split(b"\n")[:-1]:
        try:
            item = json.loads(line)
            items.append((item["page"], item["number"]))
        except (ValueError, KeyError):
            torn += 1
    return items, torn + (not file.read_bytes().endswith(b"\n"))


def _read_csv(file: Path) -> tuple[list[Item], int]:
    items, torn = [], 0
    with file.open(encoding="utf-8", newline="") as opened:
        for row in csv.DictReader(opened):
            try:
                items.append((int(row["page"]), int(row["number"])))
                torn += not str(row["text"]).startswith(f"fact {row['number']} of {row['page']}")
            except (ValueError, TypeError):
                torn += 1
    return items, torn + (not file.read_bytes().endswith(b"\n"))


def _read_sqlite(file: Path) -> tuple[list[Item], int]:
    with closing(sqlite3.connect(file)) as database:
        rows = database.execute("SELECT page, number, text FROM items").fetchall()
        sound = database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    torn = sum(not str(text).startswith(f"fact {number} of {page}") for page, number, text in rows)
    return [(page, number) for page, number, _ in rows], torn + (not sound)


def _read_json(file: Path) -> tuple[list[Item], int]:
    return [(item["page"], item["number"]) for item in json.loads(file.read_bytes())], 0


_READERS: Final = {
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "sqlite": _read_sqlite,
    "json": _read_json,
}


class Harness:
    """Crawls of one site, compared with an undisturbed one."""

    def __init__(self, site: str, formats: Sequence[str], pages: int, scratch: Path) -> None:
        self._site = site
        self._formats = formats
        self._pages = pages
        self._scratch = scratch
        self._numbers = itertools.count()
        self.tally = {name: Tally() for name in formats}
        crawl = self._crawl()
        start = time.perf_counter()
        code = crawl.finish()
        self._span = time.perf_counter() - start
        if code:
            raise SystemExit(f"the undisturbed crawl failed:\n{(crawl.folder / 'log').read_text()}")
        self._expected = {(p, n) for p in range(pages) for n in range(p % 4)}
        self._judge(crawl, kills=0, code=code)
        self._forget(crawl)

    def at_random(self, kills: int, dice: random.Random) -> None:
        """A crawl that is killed some times at random moments: most of them while pages are
        fetched, some at any time since the start.
        """
        crawl, killed = self._crawl(), 0
        for _ in range(kills):
            if kills == 1 and dice.random() < 0.2:
                killed += crawl.kill_after(dice.uniform(0.0, self._span))
            else:
                hits = dice.randint(1, max(1, self._pages // kills))
                killed += crawl.kill_after_hits(self._site, hits, dice.uniform(0.0, 0.02))
        self._judge(crawl, kills=killed, code=crawl.finish())
        self._forget(crawl)

    def at_write(self, number: int) -> bool:
        """A crawl that is killed at its N-th write; whether it had so many."""
        crawl = self._crawl()
        killed = crawl.kill_at_write(number)
        self._judge(crawl, kills=int(killed), code=crawl.finish())
        self._forget(crawl)
        return killed

    def at_fresh(self, number: int) -> bool:
        """A crawl that is over, and killed at the N-th write of being started anew."""
        crawl = self._crawl()
        code = crawl.finish()
        killed = crawl.kill_at_write(number, "--fresh", "--yes")
        take_hits(self._site)
        code = code or crawl.finish()
        # It is the old one, or the new one: a page is fetched once, or not at all.
        self._judge(crawl, kills=int(killed), code=code, counted=False)
        self._forget(crawl)
        return killed

    def _crawl(self) -> Crawl:
        folder = self._scratch / str(next(self._numbers))
        folder.mkdir()
        take_hits(self._site)
        return Crawl(folder, self._site, self._formats)

    def _judge(self, crawl: Crawl, *, kills: int, code: int, counted: bool = True) -> None:
        hits = take_hits(self._site)
        again = sum(hits.values()) - self._pages if counted else 0
        for name, tally in self.tally.items():
            tally.crawls += 1
            tally.kills += kills
            tally.bad_exits += code != 0
            tally.refetched += again
            tally.most_refetched = max(tally.most_refetched, again / max(1, kills))
            items, torn = crawl.items(name) if code == 0 else ([], 0)
            counts = Counter(items)
            missing = len(self._expected - counts.keys())
            duplicated = sum(count - 1 for count in counts.values())
            tally.missing += missing
            tally.duplicated += duplicated
            tally.torn += torn
            if missing or duplicated or torn or code or again > CONCURRENCY * kills:
                print(
                    f"{crawl.folder}: {name}: {missing} missing, {duplicated} duplicated, "
                    f"{torn} torn, exit code {code}, {again} fetched again after {kills} kills",
                    flush=True,
                )

    def _forget(self, crawl: Crawl) -> None:
        if all(tally.is_clean for tally in self.tally.values()):
            shutil.rmtree(crawl.folder)


def table(tally: dict[str, Tally]) -> Iterator[str]:
    """Word the results, a line at a time."""
    names = ("format", "crawls", "kills", "missing", "duplicated", "torn", "bad exits")
    yield "".join(f"{name:>11}" for name in names) + "  again/kill: mean, worst"
    for name, its in tally.items():
        counts = (its.crawls, its.kills, its.missing, its.duplicated, its.torn, its.bad_exits)
        mean = its.refetched / max(1, its.kills)
        cells = "".join(f"{count:>11}" for count in counts)
        yield f"{name:>11}{cells}  {mean:10.2f}, {its.most_refetched:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=50, help="kills, in all crawls together")
    parser.add_argument("--kills", type=int, default=1, help="kills in one crawl")
    parser.add_argument("--at", choices=("random", "writes", "fresh"), default="random")
    parser.add_argument("--growth", type=float, default=1.02, help="of the way between two writes")
    parser.add_argument("--formats", nargs="+", default=["jsonl", "csv", "sqlite"])
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    known = parser.parse_args()
    start = time.perf_counter()
    scratch = Path(tempfile.mkdtemp(prefix="scrapekit-crash-"))
    with serving(known.pages) as site:
        harness = Harness(site, known.formats, known.pages, scratch)
        if known.at == "writes":
            _at_writes(harness.at_write, known.points, known.growth)
        elif known.at == "fresh":
            _at_writes(harness.at_fresh, known.points, known.growth)
        else:
            dice = random.Random(known.seed)
            for _ in range(-(-known.points // known.kills)):
                harness.at_random(known.kills, dice)
    print("\n".join(table(harness.tally)))
    print(f"in {time.perf_counter() - start:.0f} s", flush=True)
    if all(tally.is_clean for tally in harness.tally.values()):
        shutil.rmtree(scratch)
        return 0
    print(f"what is left of the crawls that failed is in {scratch}")
    return 1


def _at_writes(kill: Callable[[int], bool], points: int, growth: float) -> None:
    """Kill at that many writes: the first ones each, then `growth` times as far apart."""
    number, step = 1, 1.0
    for _ in range(points):
        if not kill(int(number)):
            return
        number, step = number + int(step), step * growth


if __name__ == "__main__":
    sys.exit(main())
