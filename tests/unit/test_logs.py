from __future__ import annotations

import logging

import pytest

from scrapekit.errors import ConnectError
from scrapekit.events import Failed, LoopStalled, PageDone, RequestsDropped, RetryScheduled
from scrapekit.failure import Failure
from scrapekit.logs import LogObserver
from scrapekit.messages import Request

REQUEST = Request("https://shop.test/")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "scrapekit")
    return caplog


def failed(
    error: Exception, *, where: str = "spider.py:7", trace: str = "Traceback\n  line\n"
) -> Failed:
    return Failed(
        failure=Failure(
            error=error,
            during="callback",
            request=REQUEST,
            callback="parse",
            where=where,
            traceback=trace,
        )
    )


def said(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in log.records]


def test_user_codes_failures_are_errors_with_a_traceback(log: pytest.LogCaptureFixture) -> None:
    LogObserver()(failed(ValueError("no price")))
    assert said(log) == [
        ("ERROR", "callback: https://shop.test/: ValueError in parse (spider.py:7): no price"),
        ("ERROR", "Traceback\n  line"),
    ]


def test_a_sites_failures_are_warnings_without_one(log: pytest.LogCaptureFixture) -> None:
    failure = Failure(error=ConnectError("refused"), during="fetch", request=REQUEST)
    LogObserver()(Failed(failure=failure))
    assert said(log) == [("WARNING", "fetch: https://shop.test/: ConnectError: refused")]


def test_the_traceback_is_told_once_for_each_kind_of_error(log: pytest.LogCaptureFixture) -> None:
    observer = LogObserver()
    for _ in range(3):
        observer(failed(ValueError("x")))
    assert len(log.records) == 4
    log.clear()
    observer(failed(KeyError("x")))
    assert len(log.records) == 2
    log.clear()
    observer(failed(ValueError("x"), where="spider.py:9"))
    assert len(log.records) == 2
    assert repr(observer) == "<LogObserver told=3>"


def test_what_was_told_does_not_pile_up(log: pytest.LogCaptureFixture) -> None:
    log.set_level(logging.CRITICAL, "scrapekit")
    observer = LogObserver()
    for line in range(3000):
        observer(failed(ValueError(), where=f"spider.py:{line}"))
    assert repr(observer) == "<LogObserver told=1001>"


def test_without_a_page_it_says_so(log: pytest.LogCaptureFixture) -> None:
    LogObserver()(Failed(failure=Failure(error=ValueError("x"), during="start")))
    assert said(log) == [("ERROR", "start: (no page): ValueError: x")]


def test_retries_are_information(log: pytest.LogCaptureFixture) -> None:
    LogObserver()(
        RetryScheduled(at=10.0, request=REQUEST, error=ConnectError("refused"), tries=1, due=12.5)
    )
    assert said(log) == [
        ("INFO", "https://shop.test/: try 1 failed (ConnectError: refused), again in 2.5 s")
    ]


def test_dropped_requests_are_for_debugging(log: pytest.LogCaptureFixture) -> None:
    LogObserver()(RequestsDropped(reason="robots", count=3, example=REQUEST.url))
    assert said(log) == [("DEBUG", "dropped 3 (robots), such as https://shop.test/")]


def test_a_stalled_loop_is_a_warning_once_for_each_place(log: pytest.LogCaptureFixture) -> None:
    observer = LogObserver()
    for _ in range(2):
        observer(
            LoopStalled(
                whose="spider",
                callback=None,
                where="shop.py:7",
                statement="time.sleep(1)",
                blocked_s=1.5,
                advice="make it a plain def",
            )
        )
    text = (
        "the event loop was blocked for 1.50 s by other code of the spider at shop.py:7: "
        "time.sleep(1) (make it a plain def)"
    )
    assert said(log) == [("WARNING", text)]


def test_a_stall_without_a_place_is_told_without_one(log: pytest.LogCaptureFixture) -> None:
    stall = LoopStalled(
        whose="threads", callback=None, where="", statement="", blocked_s=0.25, advice="mark them"
    )
    LogObserver()(stall)
    text = "the event loop was blocked for 0.25 s by callbacks in threads (mark them)"
    assert said(log) == [("WARNING", text)]


def test_other_events_say_nothing(log: pytest.LogCaptureFixture) -> None:
    LogObserver()(PageDone(request=REQUEST, items=1, requests=2))
    assert not log.records


def test_no_text_from_the_web_commands_the_terminal(log: pytest.LogCaptureFixture) -> None:
    evil = "\x1b]0;owned\x07\x9b2J\r"
    observer = LogObserver()
    observer(failed(ValueError(evil), trace=f"Traceback\n  {evil}\nValueError: {evil}\n"))
    observer(RetryScheduled(request=REQUEST, error=ConnectError(evil), tries=1, due=1.0))
    observer(RequestsDropped(reason="robots", count=1, example=evil))
    assert len(log.records) == 4
    for record in log.records:
        assert all(c.isprintable() or c == "\n" for c in record.getMessage())
