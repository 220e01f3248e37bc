"""Guarded: the one way from a crawl to its transport. Whatever fetches goes through here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapekit.reach import Reach, led_to
from scrapekit.transport.base import Transport

if TYPE_CHECKING:
    from scrapekit.budget import Account
    from scrapekit.messages import Request, Response


class Guarded:
    """Asks a transport for what the rules let pass. Opened and closed by whoever owns that."""

    def __init__(self, transport: Transport, reach: Reach) -> None:
        self._transport = transport
        self._reach = reach

    def __repr__(self) -> str:
        return f"<Guarded {self._transport!r} by {self._reach!r}>"

    async def fetch(self, request: Request, account: Account) -> Response:
        """Like Transport.fetch. Raises Refused for a URL that may not be asked for.

        What is fetched on a visit's behalf, such as a robots.txt, goes no further than the visit.
        """
        reach = min(request.reach, led_to.get())
        self._reach.check_url(request.url, reach)
        return await self._transport.fetch(request.at_depth(request.depth, reach), account)
