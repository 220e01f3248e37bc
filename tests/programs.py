"""Programs of the checkout, run for real: by this interpreter, each in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `python *command` to its end; its output is in the result."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def started(*command: str | Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Start `python *command`; ends it by Ctrl-C. Both outputs come by its stdout."""
    process = subprocess.Popen(
        [sys.executable, *command],
        env=_environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def wait_for(pattern: str, stream: IO[str] | None) -> re.Match[str]:
    """Read lines up to the first that matches. Fails with all that was read if none comes."""
    assert stream is not None
    read = []
    for line in stream:
        read.append(line)
        match = re.search(pattern, line)
        if match:
            return match
    raise AssertionError(f"no line matches {pattern!r} in:\n{''.join(read)}")


def _environment() -> dict[str, str]:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    own = {n: v for n, v in os.environ.items() if not n.startswith("SCRAPEKIT_")}
    return own | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}
