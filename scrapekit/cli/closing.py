"""What is left to do when a crawl is over: the report for programs, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scrapekit.cli import exits

if TYPE_CHECKING:
    from scrapekit.cli.screen import Screen
    from scrapekit.report import Report

STDOUT: Final = "-"
"""The name of a file that means standard output."""


def close(report: Report, number: int | None, files: Sequence[str], screen: Screen) -> int:
    """Write the report as JSON into `files`; the exit code of a crawl that signal `number` ended.

    Says on the screen what an exit code of 1 is for.
    """
    from scrapekit.api import why_not_ok

    done = report.ok and report.reason != "failed"
    if not done and number is None:
        screen.error(why_not_ok(report))
    written = [_write(report, file, screen) for file in files]
    if number is not None:
        return exits.by_signal(number)
    return exits.DONE if done and all(written) else exits.FAILED


def _write(report: Report, file: str, screen: Screen) -> bool:
    import msgspec

    # The standard encoder takes any str: what sites send may hold lone surrogates.
    text = json.dumps({**msgspec.to_builtins(report), "ok": report.ok})
    try:
        if file == STDOUT:
            print(text, flush=True)  # noqa: T201  it was asked for
        else:
            Path(file).write_text(f"{text}\n", encoding="utf-8")
    except BrokenPipeError:
        # Whoever reads has seen enough.
        return True
    except OSError as error:
        name = "standard output" if file == STDOUT else file
        screen.error(f"can't write {name}: {error.strerror}")
        return False
    return True
