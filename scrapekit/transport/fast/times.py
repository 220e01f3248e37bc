"""How long a connection waits for what. Sans-IO; dates are those of the event loop's clock."""

from __future__ import annotations

from typing import NamedTuple

from scrapekit.transport.fast.answer import BODY, COMPLETE, Stage
from scrapekit.transport.wording import Phase


class Times(NamedTuple):
    """In seconds; `first_byte_s` None: as `silence_s`."""

    first_byte_s: float | None
    header_s: float
    silence_s: float
    idle_s: float
    """Between two requests."""

    @property
    def shortest_s(self) -> float:
        """Nothing is due earlier than that."""
        return min(self.first_byte_s or self.silence_s, self.header_s, self.silence_s, self.idle_s)


def due(
    times: Times, stage: Stage, received: int, asked_at: float, heard_at: float
) -> tuple[float, Phase]:
    """Until when the rest of an answer, or the next request, is waited for, and what is late then.

    So far `received` bytes have come, the last ones at `heard_at`; the request went out at
    `asked_at`.
    """
    if stage == COMPLETE:
        return heard_at + times.idle_s, "read"
    silence: tuple[float, Phase] = (heard_at + times.silence_s, "read")
    if stage == BODY:
        return silence
    if not received and times.first_byte_s is not None:
        silence = (heard_at + times.first_byte_s, "first-byte")
    return min(silence, (asked_at + times.header_s, "header"))
