"""On what it was measured: machine, versions, date."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks import environments

_LIBRARIES = ("aiohttp", "selectolax", "can-ada", "msgspec")


def describe() -> Iterator[str]:
    """A few lines that belong to every table."""
    yield f"{datetime.now(UTC):%Y-%m-%d}, load {os.getloadavg()[0]:.1f} when it began"
    yield f"{os.cpu_count()} x {_processor()}, {platform.system()} {platform.release()}"
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    yield f"CPython {platform.python_version()}, scrapekit {version('scrapekit')}, {libraries}"
    found = {name: environments.version_of(name) for name in environments.REQUIREMENTS}
    peers = [f"{name.title()} {number}" for name, number in found.items() if number]
    tools = [_first_line("wget2", "--version"), _first_line("nginx", "-v")]
    yield ", ".join([*peers, *filter(None, tools)])


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown processor"
    found = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _first_line(*command: str) -> str:
    """What a program says it is; "" if it isn't there."""
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        return ""
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    text = (done.stdout or done.stderr).strip().splitlines()
    words = re.search(r"(\w+)\D*?([\d.]+\d)", text[0]) if text else None
    return f"{command[0]} {words[2]}" if words else ""
