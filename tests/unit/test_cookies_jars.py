from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from scrapekit import Spider, crawl
from scrapekit.cookies.jars import Jars
from scrapekit.errors import UsageError
from scrapekit.messages import Request, Response

NOW = 1_800_000_000.0
URL = "https://shop.test/"


def setting(*lines: str) -> Response:
    return Response(URL, 200, CIMultiDict([("Set-Cookie", line) for line in lines]))


def jars_with(*lines: str, session: str = "") -> Jars:
    jars = Jars()
    jars.take(session, setting(*lines), NOW)
    return jars


def header(jars: Jars, request: Request, dressed: Request | None = None) -> str | None:
    return jars.dress(dressed or request, request, NOW).headers.get("Cookie")


def test_it_is_false_until_a_site_sets_a_cookie() -> None:
    assert not Jars()
    assert not jars_with("invalid", "a=1; Domain=other.test")
    assert jars_with("a=1")


def test_every_line_counts_commas_and_all() -> None:
    jars = jars_with("a=1, 2; Expires=Sun, 06 Nov 2095 08:49:37 GMT", "b=3")
    assert header(jars, Request(URL)) == "a=1, 2; b=3"


def test_a_session_has_a_jar_of_its_own() -> None:
    jars = jars_with("a=1", session="x")
    assert header(jars, Request(URL, session="x")) == "a=1"
    assert header(jars, Request(URL, session="y")) is None
    assert header(jars, Request(URL)) is None


def test_what_needs_no_cookie_stays_the_same_object() -> None:
    request = Request("https://other.test/")
    assert jars_with("a=1").dress(request, request, NOW) is request


def test_the_requests_own_cookies_win_over_the_jars_and_those_over_the_settings() -> None:
    request = Request(URL, cookies={"own": "request"})
    dressed = request.replace(cookies={"own": "request", "set": "settings", "more": "settings"})
    found = jars_with("own=jar", "set=jar").dress(dressed, request, NOW)
    assert found.headers["Cookie"] == "set=jar"
    assert dict(found.cookies) == {"own": "request", "more": "settings"}


def test_a_cookie_header_of_the_request_is_kept() -> None:
    request = Request(URL, headers={"cookie": "a=own; c=own"})
    assert header(jars_with("a=jar", "b=jar"), request) == "a=own; c=own; b=jar"


def test_turned_off_it_forgets() -> None:
    jars = Jars(enabled=False)
    jars.take("", setting("a=1"), NOW)
    assert not jars


def test_the_state_is_plain_and_restores() -> None:
    jars = jars_with("a=1; Max-Age=60", "b=2; Secure")
    jars.take("x", setting("c=3"), NOW)
    copy = Jars()
    copy.restore(Jars.checked(json.loads(json.dumps(jars.state()))))
    assert copy.state() == jars.state()
    assert header(copy, Request(URL, session="x")) == "c=3"
    copy.restore({})
    assert not copy


def test_what_changes_is_told_site_by_site_and_restores() -> None:
    jars = Jars()
    notes: dict[str, Any] = {}
    for session in ("", "ann b"):
        for host in ("a.test", "www.b.test"):
            response = Response(f"https://{host}/", 200, CIMultiDict([("Set-Cookie", "c=1")]))
            jars.take(session, response, NOW)
    notes |= dict(jars.take_changes())
    assert sorted(notes) == ["a.test ", "a.test ann b", "b.test ", "b.test ann b"]
    assert list(jars.take_changes()) == []
    gone = Response("https://a.test/", 200, CIMultiDict([("Set-Cookie", "c=; Max-Age=0")]))
    jars.take("", gone, NOW)
    changes = dict(jars.take_changes())
    assert changes == {"a.test ": []}
    copy = Jars()
    copy.restore_notes(json.loads(json.dumps(notes | changes)))
    for session in ("", "ann b"):
        for url in ("https://a.test/", "https://www.b.test/"):
            request = Request(url, session=session)
            assert header(copy, request) == header(jars, request)


@pytest.mark.parametrize("state", [[], {"": [{"name": "a"}]}, {"": {"a": "1"}}, {1: []}])
def test_what_was_never_exported_is_refused(state: object) -> None:
    with pytest.raises(UsageError, match="these are no cookies that a crawl has exported"):
        Jars.checked(state)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        crawl(Spider(), cookies=state or [0])  # type: ignore[arg-type]


def test_repr_shows_numbers_alone() -> None:
    assert repr(jars_with("sid=secret")) == "<Jars sessions=1 cookies=1>"
