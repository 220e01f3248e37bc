from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from scrapekit.transport import cacherules as rules
from scrapekit.transport.cacherules import Times

DAY_S = 86_400.0
NOW = 1_000_000_000.0
AT_ONCE = Times(NOW, NOW)


def date(after_s: float = 0.0) -> str:
    return formatdate(NOW + after_s, usegmt=True)


def fields(**headers: str) -> CIMultiDict[str]:
    """`Cache_Control="x"` stands for the header Cache-Control."""
    return CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})


def verdict(
    headers: CIMultiDict[str],
    *,
    after_s: float = 0.0,
    asked: CIMultiDict[str] | None = None,
    status: int = 200,
    times: Times = AT_ONCE,
) -> rules.Verdict:
    return rules.verdict(status, headers, asked or fields(), times, NOW + after_s)


@pytest.mark.parametrize(
    ("headers", "lifetime_s"),
    [
        ({"Cache_Control": "max-age=60"}, 60.0),
        ({"Cache_Control": 'MAX-AGE = "60"'}, 60.0),
        ({"Cache_Control": "max-age=60, max-age=5"}, 60.0),
        ({"Cache_Control": "s-maxage=9, max-age=60"}, 60.0),
        ({"Cache_Control": "max-age=60", "Expires": date(9)}, 60.0),
        ({"Cache_Control": "max-age=-1"}, 0.0),
        ({"Cache_Control": "max-age"}, 0.0),
        ({"Cache_Control": "max-age=1.5"}, 0.0),
        ({"Cache_Control": f"max-age={'9' * 40}"}, 2.0**31),
        ({"Cache_Control": 'x="a, max-age=5", max-age=60'}, 60.0),
        ({"Expires": date(90), "Date": date()}, 90.0),
        ({"Expires": date(90), "Date": date(80)}, 10.0),
        ({"Expires": date(90)}, 90.0),
        ({"Expires": date(-90), "Date": date()}, 0.0),
        ({"Expires": "0", "Last_Modified": date(-DAY_S)}, 0.0),
        ({"Expires": "Thu, 99 Foo 99999 00:00:00 GMT"}, 0.0),
        ({"Last_Modified": date(-1000), "Date": date()}, 100.0),
        ({"Last_Modified": date(-1000 * DAY_S), "Date": date()}, DAY_S),
        ({"Last_Modified": date(1000), "Date": date()}, 0.0),
        ({"Last_Modified": "yesterday"}, 0.0),
        ({}, 0.0),
    ],
)
def test_how_long_a_response_is_fresh(headers: dict[str, str], lifetime_s: float) -> None:
    assert rules.lifetime_s(200, fields(**headers), AT_ONCE) == lifetime_s


@pytest.mark.parametrize(("status", "lifetime_s"), [(404, 100.0), (302, 0.0), (403, 0.0)])
def test_only_some_statuses_are_fresh_for_their_last_change(status: int, lifetime_s: float) -> None:
    headers = fields(Last_Modified=date(-1000), Date=date())
    assert rules.lifetime_s(status, headers, AT_ONCE) == lifetime_s
    headers["Cache-Control"] = "public"
    assert rules.lifetime_s(status, headers, AT_ONCE) == 100.0


@pytest.mark.parametrize(
    ("headers", "times", "age_s"),
    [
        ({}, AT_ONCE, 10.0),
        ({"Date": date()}, AT_ONCE, 10.0),
        ({"Date": date(-30)}, AT_ONCE, 40.0),
        ({"Date": date(+30)}, AT_ONCE, 10.0),
        ({"Age": "50"}, AT_ONCE, 60.0),
        ({"Age": "50", "Date": date(-30)}, AT_ONCE, 60.0),
        ({"Age": "20", "Date": date(-30)}, AT_ONCE, 40.0),
        ({"Age": "50"}, Times(NOW - 4, NOW), 64.0),
        ({"Age": "old"}, AT_ONCE, 10.0),
    ],
)
def test_how_old_a_response_is(headers: dict[str, str], times: Times, age_s: float) -> None:
    assert rules.age_s(fields(**headers), times, NOW + 10) == age_s


def test_a_response_is_fresh_for_its_lifetime_and_no_longer() -> None:
    headers = fields(Cache_Control="max-age=60", ETag='"a"')
    assert verdict(headers, after_s=59) == "fresh"
    assert verdict(headers, after_s=60) == "stale"


def test_a_response_without_a_date_ages_too() -> None:
    assert verdict(fields(Cache_Control="max-age=1"), after_s=2) == "unusable"


def test_what_was_in_other_caches_before_is_older() -> None:
    assert verdict(fields(Cache_Control="max-age=60", Age="500")) == "unusable"


@pytest.mark.parametrize(
    ("headers", "asked", "is_fresh"),
    [
        ({}, {}, True),
        ({"Cache_Control": "max-age=60, no-cache"}, {}, False),
        ({"Cache_Control": 'max-age=60, no-cache="Set-Cookie"'}, {}, False),
        ({"Cache_Control": "max-age=60, private, must-revalidate, immutable"}, {}, True),
        ({}, {"Cache_Control": "no-cache"}, False),
        ({}, {"Pragma": "no-cache"}, False),
        ({}, {"Pragma": "no-cache", "Cache_Control": "max-age=60"}, True),
        ({}, {"Cache_Control": "max-age=0"}, False),
        ({}, {"Cache_Control": "max-age=30"}, True),
        ({}, {"Cache_Control": "max-age=soon"}, False),
        ({}, {"Cache_Control": "min-fresh=50"}, True),
        ({}, {"Cache_Control": "min-fresh=51"}, False),
        ({}, {"Cache_Control": "max-stale"}, True),
    ],
)
def test_what_either_side_says_of_freshness_counts(
    headers: dict[str, str], asked: dict[str, str], *, is_fresh: bool
) -> None:
    kept = fields(**{"Cache_Control": "max-age=60", "ETag": '"a"', **headers})
    found = verdict(kept, asked=fields(**asked), after_s=10)
    assert found == ("fresh" if is_fresh else "stale")


@pytest.mark.parametrize(
    ("status", "headers", "kept"),
    [
        (200, {}, True),
        (301, {}, True),
        (308, {}, True),
        (404, {}, True),
        (410, {}, True),
        (302, {}, False),
        (302, {"Cache_Control": "max-age=5"}, True),
        (302, {"Expires": "0"}, True),
        (403, {}, False),
        (403, {"Cache_Control": "private"}, True),
        (206, {"Cache_Control": "max-age=5"}, False),
        (304, {"Cache_Control": "max-age=5"}, False),
        (429, {"Cache_Control": "max-age=5"}, False),
        (503, {"Cache_Control": "max-age=5"}, False),
        (200, {"Cache_Control": "no-store"}, False),
        (200, {"Cache_Control": "max-age=5, No-Store"}, False),
        (200, {"Cache_Control": "no-store, must-understand, max-age=5"}, True),
        (299, {"Cache_Control": "no-store, must-understand, max-age=5"}, False),
        (200, {"Cache_Control": 'x="no-store"'}, True),
        (200, {"Vary": "*"}, False),
        (200, {"Vary": "Accept, *"}, False),
        (200, {"Vary": "Accept"}, True),
        (200, {"Cache_Control": "private"}, True),
    ],
)
def test_what_may_be_kept(status: int, headers: dict[str, str], *, kept: bool) -> None:
    assert rules.may_keep(status, fields(**headers)) is kept


@pytest.mark.parametrize(
    ("asked", "looked_up"),
    [
        ({}, True),
        ({"Accept_Language": "de"}, True),
        ({"Cache_Control": "no-store"}, False),
        ({"Range": "bytes=0-9"}, False),
        ({"If_None_Match": '"a"'}, False),
        ({"If_Modified_Since": date()}, False),
    ],
)
def test_which_requests_a_cache_answers(asked: dict[str, str], *, looked_up: bool) -> None:
    assert rules.may_look_up(fields(**asked)) is looked_up


def test_the_site_is_asked_by_all_that_it_gave() -> None:
    headers = fields(ETag='W/"a"', Last_Modified=date())
    assert rules.validators(headers) == {"If-None-Match": 'W/"a"', "If-Modified-Since": date()}


@pytest.mark.parametrize("tag", ["", '"\udcff"', '"ü"', '"\x07"'])
def test_what_cant_be_sent_back_as_it_came_is_no_validator(tag: str) -> None:
    assert rules.validators(fields(ETag=tag)) == {}
    assert verdict(fields(ETag=tag)) == "unusable"


@pytest.mark.parametrize(
    ("kept", "answer", "confirmed"),
    [
        ({"ETag": '"a"'}, {"ETag": '"a"'}, True),
        ({"ETag": '"a"'}, {"ETag": 'W/"a"'}, True),
        ({"ETag": '"a"'}, {"ETag": '"b"'}, False),
        ({"ETag": '"a"'}, {}, True),
        ({"Last_Modified": date()}, {"ETag": '"b"'}, True),
        ({"Last_Modified": date()}, {"Last_Modified": date()}, True),
        ({"Last_Modified": date()}, {"Last_Modified": date(5)}, False),
        ({"ETag": '"a"', "Last_Modified": date()}, {"ETag": '"a"', "Last_Modified": "x"}, True),
    ],
)
def test_a_304_may_speak_of_another_response(
    kept: dict[str, str], answer: dict[str, str], *, confirmed: bool
) -> None:
    assert rules.confirms(fields(**kept), fields(**answer)) is confirmed


def test_a_304_renews_all_fields_but_those_of_the_body() -> None:
    kept = fields(Date="old", Age="9", Content_Type="text/html", ETag='"a"', X="kept")
    answer = fields(Date="new", Content_Type="text/plain", Content_Length="0", Set_Cookie="a=1")
    answer.add("Cache-Control", "max-age=5")
    answer.add("Cache-Control", "private")
    news = rules.updated(kept, answer)
    assert sorted(news.items()) == [
        ("Cache-Control", "max-age=5"),
        ("Cache-Control", "private"),
        ("Content-Type", "text/html"),
        ("Date", "new"),
        ("ETag", '"a"'),
        ("X", "kept"),
    ]


def test_a_confirmation_without_a_date_counts_from_its_arrival() -> None:
    kept = fields(Date="Sun, 06 Nov 1994 08:49:37 GMT", ETag='"a"', Cache_Control="max-age=100")
    assert "Date" not in rules.updated(kept, fields(ETag='"a"'))


def test_what_belongs_to_one_connection_isnt_kept() -> None:
    headers = fields(Connection="close, X-Hop", X_Hop="1", Keep_Alive="5", Set_Cookie="a=1", X="1")
    assert list(rules.worth_keeping(headers).items()) == [("X", "1")]


def test_members_of_several_lines_are_one_list() -> None:
    headers = CIMultiDict([("Vary", "Accept"), ("vary", " Cookie ,,ACCEPT")])
    assert rules.vary(headers) == ["accept", "cookie"]
    lines = CIMultiDict([("Cache-Control", "public"), ("Cache-Control", "max-age=5")])
    assert rules.directives(lines) == {"public": "", "max-age": "5"}


TEXT = st.text(st.characters(exclude_characters="\r\n\0"), max_size=60)
HEADER = st.sampled_from(
    ["Cache-Control", "Vary", "Age", "Date", "Expires", "Last-Modified", "ETag", "Connection"]
)
NOISE = st.lists(
    st.tuples(HEADER, TEXT | st.from_regex(r'[a-z=",\\ 0-9*-]{0,40}', fullmatch=True)), max_size=6
).map(CIMultiDict)


@given(kept=NOISE, answer=NOISE, after_s=st.floats(0, 1e9))
def test_no_header_makes_the_rules_fail(
    kept: CIMultiDict[str], answer: CIMultiDict[str], after_s: float
) -> None:
    rules.may_keep(200, kept)
    rules.may_look_up(answer)
    rules.confirms(kept, answer)
    rules.updated(kept, answer)
    found = verdict(kept, asked=answer, after_s=after_s)
    assert found in ("fresh", "stale", "unusable")
    if found == "fresh":
        assert rules.age_s(kept, AT_ONCE, NOW + after_s) < rules.lifetime_s(200, kept, AT_ONCE)
