"""The sites that are crawled: folders of files, served on loopback by one process on one core.

The link-light site is made here, always the same: 1,000 pages of 15 KB with 22 links each. The
link-heavy one is the Python documentation as Debian's package python3-doc installs it: about 530
pages of 95 KB with 310 links each.

nginx serves, where it is installed; else a small server in Python, which is then often the slower
side of the benchmark: trust ratios, and those only with nginx.

    python -m tests.benchmarks.sites FOLDER         serve a folder until Ctrl-C
"""

from __future__ import annotations

import argparse
import mimetypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from aiohttp import web

PAGES = 1_000
PAGE_BYTES = 15_000
LINKS = 22

DOCUMENTATION = Path("/usr/share/doc/python3.11/html")

_WORDS = ["amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty"]


def make_link_light_site(folder: Path) -> None:
    """Write the link-light site into a folder that exists. Every page can be reached from /."""
    for number in range(PAGES):
        (folder / _file_name(number)).write_text(page(number), encoding="utf-8")


def _file_name(number: int) -> str:
    return f"page-{number:04}.html" if number else "index.html"


def page(number: int) -> str:
    dice = random.Random(number)
    links = "\n".join(_link(target) for target in _targets(number, dice))
    head = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>Page {number}</title>\n</head>\n<body>\n<h1>Page {number}</h1>\n"
        f'<nav><ul class="links">\n{links}\n</ul></nav>\n<main>\n'
    )
    return head + _cards(PAGE_BYTES - len(head), dice) + "</main>\n</body>\n</html>\n"


def _targets(number: int, dice: random.Random) -> list[int]:
    """Three pages of a tree that holds all pages, and for the rest any."""
    tree = [child for child in range(3 * number + 1, 3 * number + 4) if child < PAGES]
    return tree + [dice.randrange(PAGES) for _ in range(LINKS - len(tree))]


def _link(target: int) -> str:
    # The first page has one name, so that it is one page.
    href = f"/{_file_name(target)}" if target else "/"
    return f'<li class="item"><a href="{href}" class="link">Page {target}</a></li>'


def _cards(size: int, dice: random.Random) -> str:
    """As many cards as fill `size` bytes: a shop's page has a tag for every 50 bytes or so."""
    cards: list[str] = []
    while size > 0:
        one, two, three = dice.choices(_WORDS, k=3)
        cards.append(
            f'<article class="card {one}"><h3 class="name"><em>{one}</em> {two}</h3>'
            f'<p class="price"><span class="currency">EUR</span> {dice.randrange(1000)}</p>'
            f'<ul class="tags"><li>{two}</li><li>{three}</li></ul>'
            f'<p class="text">{" ".join(dice.choices(_WORDS, k=8))}</p></article>\n'
        )
        size -= len(cards[-1])
    return "".join(cards)


@contextmanager
def link_light_site(core: int | None = None) -> Iterator[str]:
    """Make the link-light site and serve it; gives its URL."""
    with tempfile.TemporaryDirectory(prefix="scrapekit-site-") as folder:
        make_link_light_site(Path(folder))
        with serve(Path(folder), core) as url:
            yield url


def named_sites(
    core: int, only: str | None = None
) -> Iterator[tuple[str, AbstractContextManager[str]]]:
    """Give each site with its name; `only` one of them: "light" or "heavy".

    The documentation is left out where it isn't installed.
    """
    if only != "heavy":
        yield "link-light site", link_light_site(core)
    if only != "light" and DOCUMENTATION.is_dir():
        yield "link-heavy site", serve(DOCUMENTATION, core)
    elif only != "light":
        print(f"The link-heavy site is left out: no {DOCUMENTATION} (Debian: python3-doc).")


@contextmanager
def serve(folder: Path, core: int | None = None) -> Iterator[str]:
    """Serve a folder from a process of its own, on that core; gives the URL of its root.

    The socket listens before the server starts and is handed to it: no port is guessed, and
    nobody asks whether the server is up yet.
    """
    with (
        socket.create_server(("127.0.0.1", 0), backlog=4096) as listening,
        tempfile.TemporaryDirectory(prefix="scrapekit-nginx-") as scratch,
    ):
        port = listening.getsockname()[1]
        command, environment = _command(folder, listening, Path(scratch))
        server = subprocess.Popen(
            [*pinned(core), *command], env=environment, pass_fds=[listening.fileno()]
        )
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            server.wait()


def pinned(core: int | str | None) -> list[str]:
    """What to put before a command so that it runs on that core, or on several ("0,1"); nothing
    if it can't be done.
    """
    if core is None or not shutil.which("taskset"):
        return []
    there = {str(number) for number in os.sched_getaffinity(0)}
    return ["taskset", "-c", str(core)] if set(str(core).split(",")) <= there else []


def _command(
    folder: Path, listening: socket.socket, scratch: Path
) -> tuple[list[str], dict[str, str] | None]:
    descriptor = listening.fileno()
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if nginx is None:
        module = "tests.benchmarks.sites"
        return [sys.executable, "-m", module, str(folder), "--descriptor", str(descriptor)], None
    config = scratch / "nginx.conf"
    config.write_text(_nginx_config(folder, listening.getsockname()[1]), encoding="utf-8")
    # nginx takes over sockets that this variable names, as when its binary is upgraded (not with
    # `master_process off`: 1.22 then crashes).
    handover = {"NGINX": f"{descriptor};"}
    return [nginx, "-e", "start.log", "-p", str(scratch), "-c", str(config)], handover


def _nginx_config(folder: Path, port: int) -> str:
    scratch_paths = "\n".join(
        f"  {kind}_temp_path scratch;"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Started by root, workers would run as nobody, who may not read a temporary folder.
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""\
daemon off;
{user}
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 16000; }}
http {{
{scratch_paths}
  types {{
    text/html html; text/css css; text/plain txt; text/javascript js; image/png png;
    image/svg+xml svg; application/xml xml;
  }}
  access_log off;
  sendfile on;
  keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{port} backlog=4096; root "{folder}"; index index.html; }}
}}
"""


def _application(folder: Path) -> web.Application:
    """Serve the files of a folder from memory."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    pages = {name: path.read_bytes() for name, path in files.items() if path.is_file()}

    async def answer(request: web.Request) -> web.Response:
        name = request.match_info["path"]
        name = f"{name}index.html" if name in {"", "/"} or name.endswith("/") else name
        if name not in pages:
            return web.Response(status=404)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return web.Response(body=pages[name], content_type=kind)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    return application


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--descriptor", type=int, help="a listening socket that was handed over")
    known = parser.parse_args()
    if known.descriptor is not None:
        web.run_app(_application(known.folder), sock=socket.socket(fileno=known.descriptor))
        return
    with serve(known.folder) as url:
        print(url, flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
