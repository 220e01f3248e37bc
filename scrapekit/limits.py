"""Limits: how much one origin may be asked for, by the settings and those of its domain."""

from __future__ import annotations

from typing import NamedTuple

from scrapekit import urls
from scrapekit.errors import InvalidURL, SettingsError, without_userinfo
from scrapekit.settings import DomainSettings, Settings


class Rate(NamedTuple):
    """So many requests in any span of so many seconds, at most."""

    requests: int
    per_s: float


class Limits(NamedTuple):
    """What the settings allow for one origin."""

    concurrency: int
    delay_s: float = 0.0
    """Least time from the start of one request to that of the next."""
    delay_jitter: float = 0.0
    """Up to this share of the delay is added at random."""
    rate: Rate | None = None
    adaptive: bool = False
    """Whether the site's answers lower the concurrency."""
    max_outage_s: float = 900.0
    """How long the site is waited for when it is down."""

    def pause_s(self, site_delay_s: float, random: float) -> float:
        """The time to the next request, if the site itself asks for `site_delay_s`."""
        return max(self.delay_s, site_delay_s) * (1 + self.delay_jitter * random)


class LimitsTable:
    """The limits of every origin: those of its domain, or of the nearest one above it that has
    any; for the rest the settings themselves.

    Raises SettingsError for what is no domain.
    """

    def __init__(self, settings: Settings) -> None:
        self._default = _limits(settings)
        self._domains = {
            _domain(name): _limits(settings, table) for name, table in settings.domains.items()
        }

    def __repr__(self) -> str:
        return f"<LimitsTable {' '.join(self._domains) or 'the same for all'}>"

    def of(self, origin: str) -> Limits:
        """The limits of an origin."""
        if not self._domains:
            return self._default
        name = urls.host(f"{origin}/").rstrip(".")
        while name:
            found = self._domains.get(name)
            if found is not None:
                return found
            name = name.partition(".")[2]
        return self._default


def _limits(settings: Settings, table: DomainSettings | None = None) -> Limits:
    def of(name: str) -> float | None:
        value = getattr(table, name, None)
        return getattr(settings, name) if value is None else value  # type: ignore[no-any-return]

    requests = of("requests_per_minute")
    return Limits(
        concurrency=int(of("concurrency_per_origin") or 1),
        delay_s=of("delay_s") or 0.0,
        delay_jitter=of("delay_jitter") or 0.0,
        rate=None if requests is None else Rate(int(requests), 60.0),
        adaptive=bool(of("adaptive")),
        max_outage_s=settings.max_outage_s,
    )


def _domain(name: str) -> str:
    try:
        href = urls.normalize(f"http://{name}/")
    except InvalidURL:
        href = ""
    host = urls.host(href) if href else ""
    if not host.strip(".") or href != f"http://{host}/":
        message = (
            f"domains: {without_userinfo(name)!r} is no host name; write it like 'example.com', "
            "which includes its subdomains"
        )
        raise SettingsError(message, name="domains", source="domains")
    return host.strip(".")
