"""robots.txt: text in, verdict out (RFC 9309). Sans-IO; fetching it is the engine's."""

from __future__ import annotations

from typing import Final, Literal

from protego import Protego

from scrapekit.agents import only_for

MAX_BYTES: Final = 500 * 1024
"""What is read of a robots.txt (RFC 9309, 2.5 asks for at least 500 KiB)."""

Reading = Literal["parse", "allow", "unavailable"]


def reading_of_status(status: int) -> Reading:
    """What a robots.txt's status means (RFC 9309, 2.3.1): 4xx allows all, 5xx nothing for now."""
    if 200 <= status < 300:
        return "parse"
    return "allow" if 300 <= status < 500 and status != 429 else "unavailable"


class Robots:
    """What one robots.txt says to one user agent."""

    def __init__(self, text: str, user_agent: str) -> None:
        self._agent = product_token(user_agent)
        self._rules = Protego.parse(only_for(self._agent, text)) if text.strip() else None

    def __repr__(self) -> str:
        return f"<Robots for {self._agent}: {'rules' if self._rules else 'all allowed'}>"

    def allows(self, url: str) -> bool:
        return self._rules is None or bool(self._rules.can_fetch(url, self._agent))

    @property
    def delay_s(self) -> float:
        """The Crawl-delay in seconds; 0 if there is none."""
        delay = self._rules.crawl_delay(self._agent) if self._rules else None
        return max(0.0, float(delay)) if delay is not None else 0.0


def decode(body: bytes) -> str:
    """The text of a robots.txt: UTF-8 (RFC 9309, 2.3), a BOM and what is over the limit cut."""
    return body[:MAX_BYTES].decode("utf-8-sig", "replace")


def product_token(user_agent: str) -> str:
    """What a robots.txt calls us: "scrapekit" of "scrapekit/0.1 (+https://...)"."""
    return user_agent.split("/", 1)[0].split(" ", 1)[0].strip() or "*"


ALLOW_ALL: Final = Robots("", "")
