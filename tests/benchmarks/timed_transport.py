"""The HTTP transport with a stop watch."""

from __future__ import annotations

import time

from scrapekit.budget import Account
from scrapekit.messages import Request, Response
from scrapekit.transport.http import HttpTransport


class Timed(HttpTransport):
    """Keeps when the latest fetch began."""

    began = 0.0

    async def fetch(self, request: Request, account: Account) -> Response:
        self.began = time.perf_counter()
        return await super().fetch(request, account)
