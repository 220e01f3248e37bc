"""What the exit codes mean. `scrapekit crawl --help` tells users the same."""

from __future__ import annotations

import signal
from typing import Final

DONE: Final = 0
"""Done, and every callback ran without an error. Also if the reader of a pipe had seen enough."""

FAILED: Final = 1
"""Done, but callbacks, stages or exports failed, or no page could be fetched."""

USAGE: Final = 2
"""The command line is wrong by itself. argparse uses the same code."""

NOT_STARTED: Final = 3
"""It could not start: a spider, setting or output that can't be used."""

INTERRUPTED: Final = 128 + signal.SIGINT
"""Ended by a signal: 128 and its number, as shells count (130 for Ctrl-C, 143 for SIGTERM)."""


def by_signal(number: int) -> int:
    """The exit code of what ended because of a signal."""
    return 128 + number
