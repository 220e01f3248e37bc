"""FakeTransport: a web made of a dict, for tests of spiders and of the crawl."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from scrapekit import urls
from scrapekit.messages import Request, Response

if TYPE_CHECKING:
    from scrapekit.budget import Account

Answer = str | bytes | Response | BaseException
"""A page as HTML text, as bytes, as a whole response, or an error to raise."""

Script = Answer | list[Answer] | Callable[[Request], Answer]
"""An answer for every call, a list of them (one a call, the last one for ever after), or what
makes one from the request."""


class FakeTransport:
    """Answers from `pages`, a mapping of URL to Script, without any I/O.

    A URL that isn't there gets `default_status` and no body; so does robots.txt, which allows
    everything. Text is sent as `text/html; charset=utf-8`, bytes without a Content-Type.
    `requests` has every request made, in order. Bodies are taken from the account as real ones
    are, but nothing else waits.
    """

    def __init__(self, pages: Mapping[str, Script], *, default_status: int = 404) -> None:
        self.requests: list[Request] = []
        self._default_status = default_status
        self._pages = {urls.normalize(url): _queue(script) for url, script in pages.items()}

    def __repr__(self) -> str:
        return f"<FakeTransport pages={len(self._pages)} requests={len(self.requests)}>"

    @property
    def urls(self) -> list[str]:
        """The URLs requested, in order."""
        return [request.url for request in self.requests]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Do nothing; there is nothing to close."""

    async def fetch(self, request: Request, account: Account) -> Response:
        self.requests.append(request)
        answer = self._answer(request)
        if isinstance(answer, BaseException):
            raise answer
        response = self._response(answer, request)
        await account.take(len(response.body))
        return response

    def _answer(self, request: Request) -> Answer | None:
        script = self._pages.get(request.url)
        if isinstance(script, deque):
            return script.popleft() if len(script) > 1 else script[0]
        return script(request) if callable(script) else script

    def _response(self, answer: str | bytes | Response | None, request: Request) -> Response:
        if isinstance(answer, Response):
            status, headers, body = answer.status, answer.headers, answer.body
            odd = answer.anomalies
            return Response(request.url, status, headers, body, request, anomalies=odd)
        if isinstance(answer, str):
            html = {"Content-Type": "text/html; charset=utf-8"}
            return Response(request.url, 200, html, answer.encode(), request)
        if answer is None:
            return Response(request.url, self._default_status, None, b"", request)
        return Response(request.url, 200, None, answer, request)


def _queue(script: Script) -> Answer | deque[Answer] | Callable[[Request], Answer]:
    if not isinstance(script, list):
        return script
    if not script:
        raise ValueError("a list of answers needs at least one")
    return deque(script)
