"""Fetcher: one hop of a page, as the rules of a crawl allow. Guard, robots.txt and redirects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from scrapekit import guard, retry
from scrapekit.adaptive import Asked
from scrapekit.budget import Account
from scrapekit.claims import Claims
from scrapekit.clock import Clock
from scrapekit.cookies.jars import Jars
from scrapekit.deadlines import Deadlines
from scrapekit.errors import BadStatus, FetchTimeout, RedirectError, Refused, SiteError
from scrapekit.frontier.base import Hop, Lease
from scrapekit.messages import Request, Response
from scrapekit.outage import PLAIN, STRONG
from scrapekit.reach import Reach, led_to
from scrapekit.robots import RobotsBook
from scrapekit.sending import Sender
from scrapekit.settings import Settings
from scrapekit.transport.base import Transport
from scrapekit.transport.guarded import Guarded
from scrapekit.traps import Traps

_OWN_SHARE: Final = 0.1
"""Answers that waited for our own event loop for more than this share of their time tell nothing
of the site."""


class Listener(Protocol):
    """Who wants to know how origins answer: `Politeness`."""

    def check(self, name: str, url: str, now: float) -> None: ...

    def latest(self, name: str) -> Asked: ...

    def answered(self, name: str, asked: Asked, elapsed_s: float | None) -> None: ...

    def overloaded(
        self, name: str, asked: Asked, now: float, what: str, *, spoke: bool, rests: bool
    ) -> None: ...

    def failed(self, name: str, asked: Asked, now: float, what: str, *, weight: int) -> None: ...


class Fetcher:
    """Fetches pages as the rules of one crawl allow, a hop at a time.

    `seen(url, session)` tells whether the crawl has filed a URL: a redirect there is a duplicate.
    `lag_s()` is how long, all in all, the event loop has kept others waiting so far. `traps` and
    `robots` are asked before a request is made, unless they are None. `conditions(request)` are
    headers that ask whether a page is as it was: a 304 is an answer then. `hold(origin, until)`
    is told of each Retry-After.
    """

    def __init__(
        self,
        transport: Transport,
        scope: guard.Scope,
        settings: Settings,
        clock: Clock,
        *,
        seen: Callable[[str, str], bool],
        listener: Listener,
        hold: Callable[[str, float], None] = lambda _origin, _until: None,
        robots: RobotsBook | None = None,
        traps: Traps | None = None,
        lag_s: Callable[[], float] = lambda: 0.0,
        conditions: Callable[[Request], Mapping[str, str]] = lambda _: {},
    ) -> None:
        self.reach = Reach(settings)
        self._sender = Sender(Guarded(transport, self.reach), settings, clock)
        self._scope = scope
        self._settings = settings
        self._clock = clock
        self.claims = Claims(seen)
        self._listener = listener
        self._hold = hold
        self._robots = robots
        self._traps = traps
        self._lag_s = lag_s
        self._deadlines = Deadlines()
        self._conditions = conditions
        self._listed: set[str] = set()
        """URLs from sitemaps that wait: as many as there is room for."""

    def add_start(self, url: str) -> None:
        """A start request's origin gets the credentials of the settings. It is no trap."""
        self._sender.add_start(url)
        self._listed.discard(url)

    def add_listed(self, url: str) -> None:
        """A site lists that URL: it may be a trap, although nothing links there."""
        if self._traps is not None:
            self._listed.add(url)

    @property
    def cookies(self) -> Jars:
        """What sites have set so far; it can be exported and restored."""
        return self._sender.cookies

    async def fetch(self, lease: Lease, account: Account) -> Response | Hop:
        """The page, or the hop that a redirect leads to, to be fetched in a turn of its own.

        All hops together get `timeout_s`; waits for turns and for room in the budget don't count.
        Raises Refused if a rule forbids a hop, SiteError if it can't be had.
        """
        hop = lease.hop or Hop(lease.request)
        if lease.hop is not None:
            # What was filed or claimed by another page, while the redirect waited for its turn.
            self.claims.claim(lease, hop.request.url)
            if self.claims.must_wait(lease, hop):
                return hop
        self._check(hop, is_new=lease.tries == 1 and self._is_led_to(lease.request))
        lease.sent = True
        response, elapsed_s = await self.ask(
            self._conditional(hop), account, fresh=lease.tries == 1
        )
        lease.sent = response.cached != "hit"
        location = response.headers.get("Location")
        if response.status not in guard.REDIRECTS or location is None:
            return self._as_of(response, lease.request, elapsed_s, hop)
        following = self.next_hop(hop, response, elapsed_s, self._settings.max_redirects)
        self._scope.check(following.request.url)
        self.claims.claim(lease, following.request.url)
        return following

    def _conditional(self, hop: Hop) -> Hop:
        """The first hop of a page that is known, asking whether that has changed."""
        conditions = self._conditions(hop.request) if not hop.passed else {}
        if not conditions:
            return hop
        return Hop(hop.request.replace(headers={**hop.request.headers, **conditions}))

    def next_hop(self, hop: Hop, response: Response, elapsed_s: float, limit: int) -> Hop:
        """Where a redirect leads. Raises RedirectError, also for one that passes the limit or comes
        back to where it was.
        """
        location = response.headers.get("Location")
        request = guard.redirect(hop.request, response.url, response.status, location)
        passed = (*hop.passed, hop.request.url)
        if len(passed) > limit:
            raise RedirectError(f"more than {limit} redirects", url=passed[0])
        # With a cookie that was set on the way, the same page may well be another.
        new_cookies = hop.new_cookies or self._sender.keeps_cookies_of(response)
        if request.url in passed and request.method == "GET" and not new_cookies:
            raise RedirectError(f"redirected in a circle by {request.url}", url=passed[0])
        request = request.at_depth(request.depth, self._after(hop, response))
        now = self._clock.now()
        rest_s = 0.0 if response.cached == "hit" else self._rest_s(response, now)
        return Hop(request, passed, elapsed_s, new_cookies, now + rest_s if rest_s else 0.0)

    def _rest_s(self, response: Response, now: float) -> float:
        return retry.rest_s(response.headers, now, self._settings)

    def _after(self, hop: Hop, response: Response) -> int:
        """The reach of what a response leads to."""
        return self.reach.after(response.url, response.address, hop.request.reach)

    def _as_of(self, response: Response, request: Request, elapsed_s: float, hop: Hop) -> Response:
        return Response(
            response.url,
            response.status,
            response.headers,
            response.body,
            request,
            elapsed_s=elapsed_s,
            redirects=hop.passed,
            address=response.address,
            anomalies=response.anomalies,
            cached=response.cached,
            reach=self._after(hop, response),
        )

    async def ask(
        self, hop: Hop, account: Account, *, measured: bool = True, fresh: bool = False
    ) -> tuple[Response, float]:
        """Make one request; the response, and the seconds that it and the hops before took.

        The origin's limits learn from how it went; from how long it took only if `measured`.
        `fresh`: it is tried for the first time; what failed before needn't fail by its site.
        Raises SiteError, and what else the transport raises.
        """
        led_to.set(hop.request.reach)
        began, lost_s = self._clock.now(), self._lag_s()
        asked = self._listener.latest(hop.origin)
        if not fresh:
            asked = asked._replace(is_again=True)
        try:
            response = await self._in_time(hop, account)
        except SiteError as error:
            if sign := retry.overload_sign(error):
                self._note_trouble(hop.origin, asked, sign)
                self._note_failure(hop.origin, asked, sign, fresh=fresh)
            raise
        now = self._clock.now()
        elapsed_s = now - began
        if response.cached == "hit":
            return response, hop.elapsed_s + elapsed_s
        if rest_s := self._rest_s(response, now):
            self._hold(hop.origin, now + rest_s)
        if response.status == 429 or response.status >= 500:
            self._note_status(hop.origin, asked, response, fresh=fresh)
        elif measured:
            is_own = account.waited or self._lag_s() - lost_s > _OWN_SHARE * elapsed_s
            self._listener.answered(hop.origin, asked, None if is_own else elapsed_s)
        return response, hop.elapsed_s + elapsed_s

    def close(self) -> None:
        """Leave no timer behind, once nothing is fetched any more."""
        self._deadlines.close()

    def landed(self, lease: Lease, response: Response) -> None:
        """A page has come. Raises Refused if it is a duplicate by now."""
        if response.redirects:
            accepted = accepts(response.status, self._settings)
            self.claims.landed(lease, response.url, accepted=accepted)

    async def _in_time(self, hop: Hop, account: Account) -> Response:
        limit_s = self._settings.timeout_s
        try:
            with self._deadlines.within(max(0.0, limit_s - hop.elapsed_s)) as account.deadline:
                return await self._sender.send(hop.request, account)
        except TimeoutError as exc:
            message, url = f"not done after {limit_s:g} s", hop.request.url
            raise FetchTimeout(message, url=url, phase="total", after_s=limit_s) from exc

    def _note_status(self, origin: str, asked: Asked, response: Response, *, fresh: bool) -> None:
        status, accepted = response.status, accepts(response.status, self._settings)
        if sign := retry.OVERLOAD_STATUSES.get(status):
            rests = "Retry-After" in response.headers
            self._note_trouble(origin, asked, sign, spoke=True, rests=rests)
        elif not accepted and (sign := retry.SILENT_STATUSES.get(status)):
            self._note_trouble(origin, asked, sign)
        if not accepted and status in retry.OUTAGE_STATUSES:
            plain = status == 500
            self._note_failure(origin, asked, f"status {status}", fresh=fresh, plain=plain)

    def _note_trouble(
        self, origin: str, asked: Asked, sign: str, *, spoke: bool = False, rests: bool = False
    ) -> None:
        now = self._clock.now()
        self._listener.overloaded(origin, asked, now, sign, spoke=spoke, rests=rests)

    def _note_failure(
        self, origin: str, asked: Asked, what: str, *, fresh: bool, plain: bool = False
    ) -> None:
        weight = (PLAIN if plain else STRONG) if fresh else 0
        self._listener.failed(origin, asked, self._clock.now(), what, weight=weight)

    def _is_led_to(self, request: Request) -> bool:
        """Whether a site led there, not the author."""
        if request.depth > 0:
            return True
        is_listed = request.url in self._listed
        self._listed.discard(request.url)
        return is_listed

    def _check(self, hop: Hop, *, is_new: bool) -> None:
        """`is_new`: it is a link that is tried for the first time; start requests are no traps.

        Raises Refused, and RobotsUnavailable or OriginDown where nothing may be fetched for a
        while.
        """
        request = hop.request
        self._scope.check(request.url)
        if self._traps is not None and is_new:
            # Before it is compared with what robots.txt says: that takes time.
            self._traps.check_length(request.url)
        if self._robots is not None and not self._robots.allows(hop.origin, request.url):
            raise Refused("robots", url=request.url)
        self._listener.check(hop.origin, request.url, self._clock.now())
        if self._traps is not None and is_new:
            self._traps.check(hop.origin, request.url, hop.passed)


def accepts(status: int, settings: Settings) -> bool:
    """Whether a response of that status goes to its callback."""
    return 200 <= status < 300 or status in settings.accept_statuses


def bad_status(response: Response) -> BadStatus:
    """The error that a response is, if its status isn't accepted."""
    retry_after = response.headers.get("Retry-After")
    return BadStatus(response.status, url=response.url, retry_after=retry_after)
