"""A few of the kill points, on every run of the tests; `python -m tests.crash` tries hundreds."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys

import pytest

from tests.programs import ROOT

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace isn't installed (Debian: strace)"
)


async def crash(*arguments: str) -> str:
    """Run the harness to its end; what it printed. Fails if anything was lost."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.crash",
        *arguments,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_crawls_that_are_killed_again_and_again_lose_nothing() -> None:
    table = await crash("--points", "40", "--kills", "10", "--formats", "jsonl", "csv", "sqlite")

    assert "jsonl          5" in table


async def test_single_kills_at_random_moments_lose_nothing() -> None:
    await crash("--points", "6", "--seed", "2", "--formats", "jsonl", "csv", "sqlite", "json")


@needs_strace
async def test_kills_at_a_write_lose_nothing() -> None:
    await crash("--points", "6", "--at", "writes", "--growth", "2", "--pages", "60")


@needs_strace
async def test_a_start_anew_that_is_killed_leaves_the_old_job_or_the_new_one() -> None:
    await crash("--points", "4", "--at", "fresh", "--growth", "2.5", "--pages", "20")
