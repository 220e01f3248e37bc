"""CachingTransport: answers from a folder what it may, and leaves the rest to another transport.

It stands between the fetcher and the network. So the rules of the crawl are asked before it, hop
by hop, also for what is kept; and whether the site was really asked stands in `Response.cached`:
what was not doesn't count towards delays and limits.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from multidict import CIMultiDict, CIMultiDictProxy

from scrapekit.clock import Clock
from scrapekit.errors import UsageError
from scrapekit.messages import Cached, Request, Response
from scrapekit.reach import Asking, Reach
from scrapekit.report import CacheCounts
from scrapekit.settings import Settings
from scrapekit.transport import cacherules as rules
from scrapekit.transport.body import CUT, too_large
from scrapekit.transport.cachekeeper import Keeper, Kept, Name, name_of

if TYPE_CHECKING:
    from scrapekit.budget import Account
    from scrapekit.transport.base import Transport

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class CachingTransport:
    """The transport `inner` with a cache in the folder `settings.cache`, made if need be.

    `cache_mode` "replay": what is there is used, however old, until the folder is deleted; answers
    that ask to come back later (429, 503 and the like) aren't kept. "rules": RFC 9111, for a cache
    of one user; nothing stale is served without asking. Only GETs are kept, decoded, one file each;
    nothing else bounds the folder. `counts` tells what the cache did.

    Entering raises OutputError for a folder that can't be used.
    """

    def __init__(self, inner: Transport, settings: Settings, clock: Clock) -> None:
        path = settings.cache
        if path is None:
            raise UsageError("a CachingTransport needs a folder: the setting `cache`")
        self.counts = CacheCounts(path=path)
        sent = {"user-agent": settings.user_agent}
        sent |= {name.lower(): value for name, value in settings.headers.items()}
        self._inner = inner
        self._keeper = Keeper(path, sent, self.counts)
        self._limit = settings.max_body_bytes
        self._reach = Reach(settings)
        self._clock = clock
        self._by_rules = settings.cache_mode == "rules"

    def __repr__(self) -> str:
        return f"<CachingTransport {self.counts.path} around {self._inner!r}>"

    async def __aenter__(self) -> Self:
        try:
            await self._keeper.open()
            await self._inner.__aenter__()
        except BaseException:
            await self._keeper.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            await self._keeper.aclose()

    async def fetch(self, request: Request, account: Account) -> Response:
        asked = CIMultiDict(request.headers)
        if request.method != "GET" or (self._by_rules and not rules.may_look_up(asked)):
            return await self._pass_by(request, account)
        name = name_of(request)
        kept = await self._keeper.find(name, request)
        # Whoever wants the whole isn't served with a beginning.
        if kept and account.enough is None and CUT in kept.record.anomalies:
            kept = None
        verdict = self._verdict(kept, asked) if kept else "unusable"
        if kept and verdict == "fresh":
            body = await self._body(name, kept, request, account)
            if body is not None:
                self.counts.hits += 1
                return self._answer(kept, body, request)
        if kept and verdict == "stale":
            return await self._revalidate(name, kept, request, account)
        return await self._fetch(name, request, account)

    def _verdict(self, kept: Kept, asked: rules.Fields) -> rules.Verdict:
        if not self._by_rules:
            return "fresh"
        now = self._clock.now()
        return rules.verdict(kept.record.status, kept.headers, asked, kept.times, now)

    async def _body(
        self, name: Name, kept: Kept, request: Request, account: Account
    ) -> bytes | None:
        """The body, taken from the account; None if it is damaged.

        What came from an address that this request may not lead to is refused as it would be there.
        """
        if kept.record.address:
            self._reach.check_address(kept.record.address, Asking(request.url, request.reach))
        size = kept.record.body_bytes
        if size > max(self._limit, account.enough or 0):
            error = too_large(self._limit)
            error.url = request.url
            raise error
        await account.take(size)
        return await self._keeper.body(name, kept)

    def _answer(self, kept: Kept, body: bytes, request: Request) -> Response:
        headers = kept.headers
        if self._by_rules:
            # RFC 9111, 4: an answer from a cache tells its age.
            headers["Age"] = f"{rules.age_s(headers, kept.times, self._clock.now()):.0f}"
        return _response(kept, headers, body, request, "hit")

    async def _fetch(self, name: Name, request: Request, account: Account) -> Response:
        asked_at = self._clock.now()
        response = await self._inner.fetch(request, account)
        self.counts.misses += 1
        await self._keep(name, request, response, asked_at)
        return response

    async def _revalidate(
        self, name: Name, kept: Kept, request: Request, account: Account
    ) -> Response:
        """RFC 9111, 4.3.3: ask whether what is kept still holds; if not, the answer counts."""
        conditions = rules.validators(kept.headers)
        asking = request.replace(headers={**request.headers, **conditions})
        asked_at = self._clock.now()
        answer = await self._inner.fetch(asking, account)
        if answer.status != 304:
            self.counts.misses += 1
            await self._keep(name, request, answer, asked_at)
            return _answer_to(request, answer)
        body = None
        if rules.confirms(kept.headers, _fields(answer)):
            body = await self._body(name, kept, request, account)
        if body is None:
            return await self._fetch(name, request, account)
        self.counts.revalidated += 1
        return await self._freshen(name, kept, body, answer, request, asked_at)

    async def _freshen(
        self, name: Name, kept: Kept, body: bytes, answer: Response, request: Request, at: float
    ) -> Response:
        """RFC 9111, 4.3.4: what is kept, as a 304 that was asked for `at` has confirmed it."""
        headers = rules.updated(kept.headers, _fields(answer))
        confirmed = _response(kept, headers, body, request, "revalidated", answer.elapsed_s)
        await self._keep(name, request, confirmed, at)
        # The site has set these now; they aren't kept.
        headers.extend(("Set-Cookie", line) for line in _fields(answer).getall("Set-Cookie", ()))
        return confirmed

    async def _pass_by(self, request: Request, account: Account) -> Response:
        """What isn't kept. RFC 9111, 4.4: once something was changed, what was kept is void."""
        response = await self._inner.fetch(request, account)
        if self._by_rules and request.method not in _SAFE and response.status < 400:
            await self._keeper.forget(request.url)
        return response

    async def _keep(
        self, name: Name, request: Request, response: Response, asked_at: float
    ) -> None:
        headers = _fields(response)
        if self._by_rules:
            if not rules.may_keep(response.status, headers):
                return
            headers = rules.worth_keeping(headers)
        elif rules.asks_to_try_again(response.status):
            return
        times = rules.Times(asked_at, self._clock.now())
        await self._keeper.keep(name, request, response, headers, times)


def _response(
    kept: Kept,
    headers: rules.Fields,
    body: bytes,
    request: Request,
    cached: Cached,
    elapsed_s: float = 0.0,
) -> Response:
    return Response(
        request.url,
        kept.record.status,
        headers,
        body,
        request,
        elapsed_s=elapsed_s,
        cached=cached,
        address=kept.record.address,
        anomalies=kept.record.anomalies,
    )


def _answer_to(request: Request, answer: Response) -> Response:
    """The answer to a conditional request as one to the request that it was made of."""
    return Response(
        answer.url,
        answer.status,
        answer.headers,
        answer.body,
        request,
        elapsed_s=answer.elapsed_s,
        cached=answer.cached,
        address=answer.address,
        anomalies=answer.anomalies,
    )


def _fields(response: Response) -> rules.Fields:
    assert isinstance(response.headers, (CIMultiDict, CIMultiDictProxy))
    return response.headers
