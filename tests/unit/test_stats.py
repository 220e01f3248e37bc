from __future__ import annotations

import msgspec
import pytest

from scrapekit.errors import BadStatus, ConnectError
from scrapekit.events import (
    CallbackRan,
    CrawlFinished,
    CrawlStarted,
    Event,
    Failed,
    ItemDropped,
    ItemsWritten,
    LoopStalled,
    PageDone,
    PageFetched,
    RequestsDropped,
    RetryScheduled,
)
from scrapekit.failure import During, Failure, error_name
from scrapekit.messages import Request, Response
from scrapekit.report import Report
from scrapekit.stats import MAX_KINDS, MAX_TEXT, Stats

REQUEST = Request("https://shop.test/")
START = 1_000.0


def told(*events: Event, now: float = START + 10) -> Report:
    stats = Stats()
    for event in events:
        stats(event)
    return stats.report(now)


def fetched(status: int = 200, body: bytes = b"", *, accepted: bool = True) -> PageFetched:
    return PageFetched(response=Response(REQUEST.url, status, body=body), accepted=accepted)


def failed(
    error: BaseException, where: str = "spider.py:7", during: During = "callback", trace: str = ""
) -> Failed:
    failure = Failure(
        error=error,
        during=during,
        request=REQUEST,
        callback="parse",
        where=where,
        traceback=trace,
    )
    return Failed(failure=failure)


def test_what_happened_is_counted() -> None:
    report = told(
        CrawlStarted(at=START, spider="shop", concurrency=8),
        fetched(200, b"abc"),
        fetched(200, b"de"),
        fetched(404, b"f", accepted=False),
        PageDone(request=REQUEST, items=3, requests=7),
        PageDone(request=REQUEST, items=2, requests=0),
        RequestsDropped(reason="robots", count=2, example=""),
        RequestsDropped(reason="duplicate", count=5, example=""),
        RequestsDropped(reason="robots", count=1, example=""),
        RetryScheduled(request=REQUEST, error=ConnectError("x"), tries=1, due=0.0),
        ItemDropped(request=REQUEST, reason="no price"),
        ItemDropped(request=REQUEST, reason="no price", count=2),
        ItemsWritten(output="a.csv", total=3),
        ItemsWritten(output="a.csv", total=5),
        CrawlFinished(at=START + 4, reason="max_pages"),
    )
    assert (report.spider, report.reason) == ("shop", "max_pages")
    assert (report.started_at, report.duration_s) == (START, 4.0)
    assert (report.pages, report.bytes, report.items, report.retries) == (2, 6, 5, 1)
    assert report.statuses == {200: 2, 404: 1}
    assert list(report.dropped.items()) == [("duplicate", 5), ("robots", 3)]
    assert report.items_dropped == {"no price": 3}
    assert report.exports == {"a.csv": 5}


def test_callbacks_are_told_apart_by_name_and_lane() -> None:
    report = told(
        CallbackRan(callback="parse", lane="thread", wall_s=2.0, cpu_s=0.5, blocked_s=0.1),
        CallbackRan(callback="parse", lane="thread", wall_s=1.0, cpu_s=0.25, blocked_s=0.3),
        CallbackRan(callback="parse", lane="loop", wall_s=1.0, cpu_s=0.0),
    )
    costs = [
        (c.callback, c.lane, c.calls, c.wall_s, c.cpu_s, c.blocked_s) for c in report.callbacks
    ]
    assert costs == [("parse", "thread", 2, 3.0, 0.75, 0.3), ("parse", "loop", 1, 1.0, 0.0, 0.0)]


def test_stalls_are_told_apart_by_place() -> None:
    stall = LoopStalled(
        whose="spider",
        callback="parse",
        where="spider.py:7",
        statement="time.sleep(1)",
        blocked_s=1.0,
        advice="use a thread",
    )
    longer = msgspec.structs.replace(stall, blocked_s=2.0)
    elsewhere = msgspec.structs.replace(stall, where="spider.py:9")
    report = told(stall, longer, elsewhere)
    found = [(s.where, s.count, s.total_s, s.longest_s) for s in report.stalls]
    assert found == [("spider.py:7", 2, 3.0, 2.0), ("spider.py:9", 1, 1.0, 1.0)]


def test_errors_are_grouped_by_kind_the_most_frequent_first() -> None:
    report = told(
        failed(ValueError("first")),
        failed(ValueError("at another line"), where="spider.py:9"),
        failed(ValueError("second"), where="spider.py:9"),
        failed(KeyError("x")),
    )
    groups = [(g.error, g.where, g.count, g.message) for g in report.errors]
    assert groups == [
        ("ValueError", "spider.py:9", 2, "at another line"),
        ("ValueError", "spider.py:7", 1, "first"),
        ("KeyError", "spider.py:7", 1, "'x'"),
    ]
    assert report.errors[0].example == REQUEST.url
    assert not report.ok


def test_statuses_are_kinds_of_errors() -> None:
    assert error_name(BadStatus(503, url="")) == "BadStatus 503"
    assert error_name(ValueError()) == "ValueError"


def test_a_report_does_not_change_with_what_comes_later() -> None:
    stats = Stats()
    stats(fetched())
    stats(failed(ValueError("x")))
    stats(CallbackRan(callback="parse", lane="loop", wall_s=1.0, cpu_s=0.0))
    before = stats.report(0.0)
    copy = msgspec.convert(msgspec.to_builtins(before), Report)
    stats(fetched(500, accepted=False))
    stats(failed(ValueError("x")))
    stats(CallbackRan(callback="parse", lane="loop", wall_s=1.0, cpu_s=0.0))
    assert before == copy


def test_a_report_may_be_asked_for_on_the_way() -> None:
    assert told(now=START) == Report()
    running = told(CrawlStarted(at=START, spider="s", concurrency=1), now=START + 3)
    assert running.duration_s == 3.0


def test_an_event_of_another_kind_is_ignored() -> None:
    assert told(Event()) == Report()


@pytest.mark.parametrize("of_user_code", [True, False])
def test_whose_fault_it_was_stays_right_when_there_are_too_many_kinds(of_user_code: bool) -> None:
    flood = [failed(BadStatus(n, url=""), "", "fetch") for n in range(MAX_KINDS + 5)]
    last = failed(ValueError("x")) if of_user_code else failed(ConnectError("x"), "", "fetch")
    report = told(fetched(), *flood, last)
    assert report.ok is not of_user_code
    assert report.error_count == MAX_KINDS + 6
    assert len(report.errors) <= MAX_KINDS + 2
    assert report.errors[0].error == f"BadStatus {MAX_KINDS} and others"


def test_reasons_from_the_web_do_not_pile_up() -> None:
    events = [ItemDropped(request=REQUEST, reason=f"bad {n}") for n in range(MAX_KINDS + 50)]
    report = told(*events)
    assert len(report.items_dropped) == MAX_KINDS + 1
    assert report.items_dropped["others"] == 50


def test_a_page_in_a_message_is_not_kept_whole() -> None:
    page = "x" * 10**6
    (group,) = told(failed(ValueError(page), trace=page)).errors
    assert len(group.message) == len(group.traceback) == MAX_TEXT


def test_repr_tells_the_state() -> None:
    stats = Stats()
    stats(fetched())
    assert repr(stats) == "<Stats pages=1 items=0>"
