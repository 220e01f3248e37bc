"""Where the third-party test vectors are: `$SCRAPEKIT_VECTORS`, or shared/vectors beside us."""

from __future__ import annotations

import os
from pathlib import Path

_BESIDE_THE_CHECKOUT = Path(__file__).parents[2] / "shared" / "vectors"

ABSENT = "the third-party vectors are absent: set SCRAPEKIT_VECTORS to their folder"


def root() -> Path | None:
    """The vectors' folder, or None where there is none; a test then skips with ABSENT.

    Raises FileNotFoundError if SCRAPEKIT_VECTORS is set to what is no folder: who names a place
    means it, and a skip would hide the typing error.
    """
    named = os.environ.get("SCRAPEKIT_VECTORS")
    if named and not Path(named).is_dir():
        raise FileNotFoundError(f"SCRAPEKIT_VECTORS is no folder: {named}")
    if named:
        return Path(named)
    return _BESIDE_THE_CHECKOUT if _BESIDE_THE_CHECKOUT.is_dir() else None
