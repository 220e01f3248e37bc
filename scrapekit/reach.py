"""Reach: which addresses a crawl may connect to. The setting `guard` as rules; no I/O.

- "local-network-safe": what a public page leads to, by link, redirect or rebound name, must be
  public as well; what a page of the local network leads to may be local. Start requests may go
  anywhere: whoever writes the spider writes them. Browsers guard their users' networks the same
  way (Private Network Access, a WICG draft).
- "public-only": every address must be public, and every port one of `guard_ports`. For URLs that
  strangers give.
- "off": anything goes.

A request carries its `reach`, the most private space that it may enter. It is judged twice: by its
URL, before anything is sent by whichever way, and by the address when that is dialled, because only
then it is known what a name stands for. Behind a proxy there is no second time: the proxy resolves
and dials.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, NamedTuple

from scrapekit import urls
from scrapekit.addresses import Space, Verdict, judge, judge_host
from scrapekit.errors import Refused
from scrapekit.settings import Settings

LOCAL_NETWORK: Final = "local-network"
NOT_PUBLIC: Final = "not-public"
PORT: Final = "port"
"""The reasons of Refused."""


_MOST_VERDICTS: Final = 100_000


class Asking(NamedTuple):
    """For which request a connection is made."""

    url: str
    reach: int
    proxied: bool = False
    """The connection is one to a proxy, which the author has chosen and which resolves names."""


_NOBODY: Final = Asking("", Space.PUBLIC)
asking: ContextVar[Asking] = ContextVar("asking", default=_NOBODY)
"""Set by a transport for whatever in it dials. Nothing set: nothing but public addresses."""

led_to: ContextVar[int] = ContextVar("led_to", default=int(Space.PUBLIC))
"""The reach of the visit under way: whatever a crawl fetches on its behalf goes no further. What
a crawl fetches on no visit's behalf goes to public addresses.
"""


class Reach:
    """The rules of one crawl."""

    def __init__(self, settings: Settings) -> None:
        self.off = settings.guard == "off"
        self._public_only = settings.guard == "public-only"
        self._ports = frozenset(settings.guard_ports)
        self._verdicts: dict[tuple[str, int], Refused | None] = {}
        """By origin and reach."""

    def __repr__(self) -> str:
        return f"<Reach {'off' if self.off else 'public' if self._public_only else 'local'}>"

    def check_url(self, url: str, reach: int) -> None:
        """Raise Refused for a canonical URL that may not be asked for, as far as it tells."""
        if self.off or (reach == Space.LOOPBACK and not self._public_only):
            return
        verdict = judge_host(urls.host(url))
        if verdict is not None:
            self._check(verdict, reach, url)
        if self._public_only and urls.port(url) not in self._ports:
            raise Refused(PORT, url=url, detail=f"{urls.port(url)} is none of guard_ports")

    def refusal(self, url: str, reach: int) -> Refused | None:
        """Why a canonical URL may not be asked for, if so, and as far as it tells. Quick for many
        URLs of few origins.
        """
        if self.off or (reach == Space.LOOPBACK and not self._public_only):
            return None
        key = urls.origin(url), reach
        if key not in self._verdicts:
            if len(self._verdicts) >= _MOST_VERDICTS:
                self._verdicts.clear()
            self._verdicts[key] = self._refusal(url, reach)
        return self._verdicts[key]

    def _refusal(self, url: str, reach: int) -> Refused | None:
        try:
            self.check_url(url, reach)
        except Refused as refused:
            return refused
        return None

    def check_address(self, address: str, asked: Asking) -> None:
        """Raise Refused for an IP address that may not be dialled, or talked to again."""
        if not self.off and not asked.proxied:
            self._check(judge(address), asked.reach, asked.url)

    def after(self, url: str, address: str, reach: int) -> int:
        """The reach of what a response leads to; `address` "" if it isn't known where it was."""
        if address:
            return min(reach, judge(address).space)
        verdict = judge_host(urls.host(url))
        return min(reach, verdict.space if verdict else Space.PUBLIC)

    def _check(self, verdict: Verdict, reach: int, url: str) -> None:
        if verdict.space <= (Space.PUBLIC if self._public_only else reach):
            return
        reason = NOT_PUBLIC if self._public_only else LOCAL_NETWORK
        rule = verdict.rule
        raise Refused(reason, url=url, detail=f"{rule.what} ({rule.source})")


def refused_as_rebound(asked: Asking) -> Refused:
    """The error for a name that was public before and is no longer."""
    return Refused(LOCAL_NETWORK, url=asked.url, detail="a name that was public has become local")
