"""A site crawled again after some of its pages were changed on purpose: what is transferred, and
whether exactly those pages are marked.

    python -m tests.benchmarks.recrawl [--folder DIR]

The site is a copy of the Python documentation (Debian's python3-doc), served by nginx, whose log
tells the bytes it has sent, headers included. The exit code is 0 only if the marks are exactly
right and the second crawl transfers less than 5 % of the first.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scrapekit import Response, Spider, run
from tests.benchmarks.sites import DOCUMENTATION

MOST_SHARE = 0.05
"""Of the first crawl's bytes."""

_CONF = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  include /etc/nginx/mime.types; log_format bytes '$status $bytes_sent $uri';
  access_log {folder}/access.log bytes; keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{port}; root {folder}/site; index index.html; }}
}}
"""


class Docs(Spider):
    """An item a page, every link to a page followed."""

    name = "docs"

    def parse(self, response: Response) -> Iterator[Any]:
        """The title, and how many words there are."""
        if "html" in response.headers.get("Content-Type", ""):
            words = len(response.get("body", "").split())
            yield {"url": response.url, "title": response.get("title"), "words": words}
            yield from response.follow_all()


class Site:
    """The copy, and what nginx has sent since it was last asked."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder / "site"
        self.url = f"http://127.0.0.1:{port}/"
        self._log = folder / "access.log"
        self._read = 0

    def sent(self) -> tuple[int, Counter[str]]:
        """Bytes, and responses by status."""
        with self._log.open() as log:
            log.seek(self._read)
            lines = [line.split() for line in log]
            self._read = log.tell()
        return sum(int(line[1]) for line in lines), Counter(line[0] for line in lines)


@contextmanager
def served(folder: Path) -> Iterator[Site]:
    # For nginx's worker, which is somebody else.
    folder.chmod(0o755)
    shutil.copytree(DOCUMENTATION, folder / "site")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    conf = folder / "nginx.conf"
    conf.write_text(_CONF.format(folder=folder, port=port))
    nginx = subprocess.Popen(["nginx", "-c", conf], stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield Site(folder, port)
    finally:
        nginx.send_signal(signal.SIGQUIT)
        nginx.wait()


CHANGED = ("library/json.html", "library/asyncio.html", "tutorial/classes.html")
TOUCHED = ("library/re.html", "glossary.html", "howto/regex.html")
REMOVED = ("library/colorsys.html", "library/uu.html")
ADDED = "library/brand-new.html"


def change(site: Path) -> dict[str, str]:
    """Change some pages on purpose; what is to be found, by path, "same" left out."""
    for name in CHANGED:
        file = site / name
        file.write_text(file.read_text().replace("</title>", " (revised)</title>", 1))
    for name in TOUCHED:
        # Another date and ETag, the same content.
        os.utime(site / name)
    for name in REMOVED:
        (site / name).unlink()
    (site / ADDED).write_text("<title>Brand new</title><p>A page that was not there.")
    linking = site / CHANGED[0]
    link = f'<a href="/{ADDED}">new</a></body>'
    linking.write_text(linking.read_text().replace("</body>", link, 1))
    return {**dict.fromkeys(CHANGED, "changed"), **dict.fromkeys(REMOVED, "gone"), ADDED: "new"}


def crawl(site: Site, folder: Path, name: str, **options: Any) -> tuple[Any, list[Any]]:
    output = folder / f"{name}.jsonl"
    report = run(
        Docs(start_urls=[site.url]),
        settings={"obey_robots": False},
        output=str(output),
        job=folder / f"{name}.job",
        **options,
    )
    return report, [json.loads(line) for line in output.read_text().splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory(dir=folder) as made, served(Path(made)) as site:
        return compare(site, Path(made))


def compare(site: Site, folder: Path) -> int:
    first, items = crawl(site, folder, "first")
    first_bytes, statuses = site.sent()
    print(
        f"first:  {first.duration_s:.1f} s, {len(items)} items, {first_bytes:,} bytes, {statuses}"
    )
    expected = change(site.folder)
    second, items = crawl(site, folder, "second", since=folder / "first.job")
    second_bytes, statuses = site.sent()
    share = second_bytes / first_bytes
    print(
        f"second: {second.duration_s:.1f} s, {len(items)} items, {second_bytes:,} bytes, {statuses}"
    )
    print(second)
    marks = {item["url"].removeprefix(site.url): item["_change"] for item in items}
    wrong = {
        path: (mark, expected.get(path, "same"))
        for path, mark in marks.items()
        if mark != expected.get(path, "same")
    }
    missing = sorted(expected.keys() - marks.keys())
    print(f"transferred again: {share:.2%} of the bytes")
    print(f"marked wrong: {wrong or 'none'}; missing: {missing or 'none'}")
    return int(bool(wrong or missing) or share >= MOST_SHARE)


if __name__ == "__main__":
    sys.exit(main())
