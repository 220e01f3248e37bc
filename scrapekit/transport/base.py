"""Transport: one request in, one response out."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from scrapekit.budget import Account
    from scrapekit.messages import Request, Response


class Transport(Protocol):
    """What fetches. Used as `async with transport:`, which opens and closes it."""

    async def fetch(self, request: Request, account: Account) -> Response:
        """Make one hop: redirects come back as they are, for the caller to judge and follow.

        Every status is an answer, not an error. The body is whole, decoded from its
        Content-Encoding, and within `max_body_bytes`, or cut off at `account.enough`; its bytes
        are taken from `account` as they come, which may wait for room. There is no bound on the
        time as a whole: that is the caller's, who knows the other hops.

        Raises SiteError, and nothing else for what a site or the way to it may do; UsageError
        for a request that can't be put into HTTP; Refused if the address dialled is forbidden.
        Cancelled, it leaves no connection behind.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection and wait until they are closed. A second call does nothing."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
