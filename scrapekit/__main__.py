"""`python -m scrapekit` is `scrapekit`."""

from __future__ import annotations

import sys

from scrapekit.cli import main

if __name__ == "__main__":
    sys.exit(main())
