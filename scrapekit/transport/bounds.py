"""Bounds of one answer, whichever client takes it. Bodies have theirs in `body`."""

from __future__ import annotations

from typing import Final

MAX_HEAD_BYTES: Final = 262_144
"""A whole header, interim answers included: twice what curl takes, and no less than browsers do."""
MAX_FIELD_BYTES: Final = 32_768
"""One field: the Content-Security-Policy of real sites alone is longer than 8 KB."""
MAX_FIELDS: Final = 256
MAX_INTERIM: Final = 32
"""One 100 and some 102s and 103s are usual; curl and Go stop at a handful, too."""

# What may come for each byte of a body: chunks of one byte take six.
_FRAMING: Final = 8
_SPARE_BYTES: Final = 524_288


def is_bloated(received: int, body: int) -> bool:
    """Whether `received` bytes are far too many for so many of a body: chunk lines, trailers."""
    return received > _SPARE_BYTES + _FRAMING * body
