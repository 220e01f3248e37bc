from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.report import CallbackCost, ErrorGroup, Report, StallGroup, printable, profile


def group(*, of_user_code: bool = True, count: int = 1, **fields: str) -> ErrorGroup:
    values = {
        "error": "ValueError",
        "during": "callback",
        "where": "spider.py:7",
        "message": "no price",
        "example": "https://shop.test/1",
        "traceback": "Traceback ...",
        **fields,
    }
    return ErrorGroup(callback="parse", of_user_code=of_user_code, count=count, **values)


def test_an_empty_report_is_not_ok() -> None:
    assert not Report().ok
    assert Report().pages_per_s == 0.0


def test_a_report_with_pages_is_ok_whatever_sites_did() -> None:
    assert Report(pages=1).ok
    assert Report(pages=1, errors=[group(of_user_code=False)]).ok
    assert not Report(pages=1, errors=[group(of_user_code=False), group()]).ok


def test_errors_are_counted_over_all_groups() -> None:
    assert Report(errors=[group(count=2), group(count=40)]).error_count == 42


def test_reports_share_nothing() -> None:
    Report().errors.append(group())
    Report().statuses[200] = 1
    assert Report() == Report(errors=[], statuses={})


def test_the_text_says_what_there_is_and_nothing_else() -> None:
    assert str(Report(spider="quotes")) == (
        "quotes: finished after 0.0 ms: 0 pages (0.0/s), 0 items, 0 errors"
    )


def test_the_text_of_a_full_report() -> None:
    report = Report(
        spider="shop",
        reason="max_pages",
        duration_s=20.0,
        pages=1_000,
        statuses={200: 1_000, 404: 1},
        bytes=2_500_000,
        retries=1,
        anomalies={"trailing-garbage": 1},
        dropped={"robots": 3},
        items=1,
        items_dropped={"no price": 2},
        exports={"items.jsonl": 1},
        errors=[group(count=2)],
        callbacks=[CallbackCost(callback="parse", lane="thread", calls=1, wall_s=0.05, cpu_s=700)],
        stats={"offers": 7},
        stalls=[
            StallGroup(
                whose="spider",
                callback="parse",
                where="",
                statement="time.sleep(1)",
                advice="",
                count=3,
                longest_s=1.25,
            )
        ],
        advice=["move it"],
    )
    assert str(report).splitlines() == [
        "shop: max_pages after 20.0 s: 1,000 pages (50.0/s), 1 item, 2 errors",
        "  responses  200: 1,000, 404: 1; 2.5 MB, 1 retry",
        "  odd        trailing-garbage: 1",
        "  dropped    robots: 3",
        "  items dropped  no price: 2",
        "  written    items.jsonl: 1 item",
        "  callback   parse (thread): 1 call, 50.0 ms wall, 11.7 min CPU",
        "  counted    offers: 7",
        "  stalled    3 x at an unknown place, up to 1.2 s: time.sleep(1)",
        "  advice     move it",
        "  error      2 x ValueError (callback in parse at spider.py:7)",
        "             no price",
        "             for example https://shop.test/1",
    ]


@pytest.mark.parametrize("error", ["OriginDown", "RobotsUnavailable"])
def test_the_text_says_when_most_of_a_crawl_was_lost_to_a_site_that_was_down(error: str) -> None:
    lost = group(of_user_code=False, count=7_000, error=error)
    report = Report(pages=1_000, errors=[lost])
    assert report.lost_to_outages == 7_000
    line = "  lost       7,000 pages of 8,000: their site was down for longer than max_outage_s"
    assert str(report).splitlines()[1] == line
    assert "  lost " not in str(Report(pages=7_000, errors=[lost]))


def test_no_text_from_the_web_commands_the_terminal() -> None:
    evil = "a\x1b]0;owned\x07\nb\u202e\r\x9b2J"
    report = Report(
        spider="s",
        dropped={evil: 1},
        items_dropped={evil: 1},
        errors=[group(message=evil, example=evil)],
    )
    text = str(report)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert len(text.splitlines()) == 6


def test_printable_text_is_one_line_and_cut() -> None:
    assert printable("tür 1 → ok") == "tür 1 → ok"
    assert printable("a\nb\t\x00\ud800") == "a\\nb\\t\\x00\\ud800"
    assert printable("x" * 600) == "x" * 500 + "..."
    assert printable("abcdef", 3) == "abc..."


@given(st.text())
def test_any_text_can_be_printed(text: str) -> None:
    assert printable(text).isprintable()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 ms"), (0.0123, "12.3 ms"), (0.1, "0.1 s"), (59.94, "59.9 s"), (600, "10.0 min")],
)
def test_durations_are_in_a_unit_that_fits(seconds: float, text: str) -> None:
    assert f"after {text}:" in str(Report(duration_s=seconds))


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1 bytes"), (999, "999 bytes"), (1000, "1.0 KB"), (2e6, "2.0 MB"), (3e12, "3000.0 GB")],
)
def test_sizes_are_in_a_unit_that_fits(size: float, text: str) -> None:
    assert f"; {text}, 0 retries" in str(Report(statuses={200: 1}, bytes=int(size)))


def test_a_report_goes_through_json_unchanged() -> None:
    report = Report(spider="s", statuses={200: 3}, errors=[group()], stats={"a": 1.5})
    encoded = msgspec.json.encode(report)
    assert msgspec.json.decode(encoded, type=Report) == report


def test_the_profile_is_a_table_of_what_callbacks_cost() -> None:
    report = Report(
        duration_s=2.0,
        callbacks=[
            CallbackCost(callback="parse", lane="thread", calls=4, wall_s=0.2, cpu_s=0.1),
            CallbackCost(callback="parse_item", lane="loop", blocked_s=0.05),
        ],
    )
    assert profile(report).splitlines() == [
        "callback    lane    calls  wall ms  CPU ms  CPU s  of crawl  blocked ms",
        "parse       thread      4    50.00   25.00   0.10        5%         0.0",
        "parse_item  loop        0     0.00    0.00   0.00        0%        50.0",
    ]
