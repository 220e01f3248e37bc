"""The peers, each installed into an environment of its own, so that none changes another.

They go below `.tox/peers`, which isn't tracked, and stay there; delete it to install anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.programs import ROOT

FOLDER = ROOT / ".tox" / "peers"

REQUIREMENTS = {
    "scrapy": "scrapy",
    "crawlee": "crawlee[parsel]",
    "scrapling": "scrapling[fetchers]",
}


def python_of(peer: str) -> Path | None:
    """The interpreter that has a peer, which is installed if need be; None if that fails."""
    folder = FOLDER / f"{peer}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        print(f"installing {REQUIREMENTS[peer]} into {folder}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", REQUIREMENTS[peer]]
        if subprocess.run(command, check=False).returncode:
            print(f"{peer} is left out: it can't be installed", file=sys.stderr)
            return None
        done.touch()
    return python


def have_wget2() -> bool:
    """Whether wget2 is there; installs it where that is Debian's, and ours to do."""
    if shutil.which("wget2") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "wget2"], check=False)
    return shutil.which("wget2") is not None


def environment() -> dict[str, str]:
    """The environment variables with which a peer finds its program."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def version_of(peer: str) -> str:
    """The version that is installed; "" if there is none."""
    python = python_of(peer)
    if python is None:
        return ""
    code = f"from importlib.metadata import version; print(version({peer!r}))"
    return subprocess.run(
        [python, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
