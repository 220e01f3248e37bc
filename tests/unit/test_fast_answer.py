"""Answers: bytes in, facts out, whole or in any pieces, and nothing beyond the bounds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.transport.bounds import MAX_FIELDS, MAX_HEAD_BYTES, MAX_INTERIM
from scrapekit.transport.fast.answer import Answers, Malformed, Stage, Unasked

OK = b"HTTP/1.1 200 OK\r\n"
OLD = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HELLO = OK + b"Content-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello"
CHUNKED = (
    OK + b"Transfer-Encoding: Chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n"
)


def fed(*pieces: bytes, is_bodiless: bool = False, answers: Answers | None = None) -> Answers:
    answers = answers or Answers()
    answers.begin(is_bodiless=is_bodiless)
    for piece in pieces:
        answers.feed(memoryview(piece))
    return answers


def test_an_answer_has_status_headers_and_body() -> None:
    answers = fed(HELLO)
    assert (answers.status, answers.stage, answers.take()) == (200, Stage.COMPLETE, b"hello")
    assert answers.headers.getall("X-A") == ["1", "2"]
    assert answers.keeps_open
    assert answers.received == len(HELLO)


@given(st.sampled_from([HELLO, CHUNKED, CONTINUE * 3 + CHUNKED]), st.data())
def test_however_it_is_cut_it_is_the_same(text: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    ends = [0, *cuts, len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(ends) if start < end]
    answers = fed(*pieces)
    assert (answers.stage, answers.take(), answers.keeps_open) == (Stage.COMPLETE, b"hello", True)


@given(st.binary(max_size=200), st.booleans())
def test_whatever_comes_it_is_an_answer_or_an_error(text: bytes, is_bodiless: bool) -> None:
    for start in (b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"):
        try:
            answers = fed(start + text, is_bodiless=is_bodiless)
        except (Malformed, Unasked):
            continue
        assert answers.stage in Stage
        for name, value in answers.headers.items() if answers.stage else ():
            assert set(name + value).isdisjoint("\r\n\0")


def test_one_answer_follows_the_other() -> None:
    answers = Answers()
    for text in (HELLO, CHUNKED, b"HTTP/1.1 204 X\r\n\r\n", HELLO):
        fed(text, answers=answers)
        assert answers.stage == Stage.COMPLETE
        assert answers.keeps_open
    assert answers.take() == b"hello"
    assert "Transfer-Encoding" not in answers.headers


@pytest.mark.parametrize("first", [HELLO, CHUNKED, b"HTTP/1.1 204 X\r\n\r\n"])
@pytest.mark.parametrize("extra", [HELLO, b"x", b"HTTP/1.1 200", b"\0"])
def test_what_follows_an_answer_was_not_asked_for(first: bytes, extra: bytes) -> None:
    answers = Answers()
    with pytest.raises(Unasked):
        fed(first + extra, answers=answers)
    assert (answers.stage, answers.status) == (Stage.COMPLETE, int(first[9:12]))
    with pytest.raises(Unasked):
        fed(first, extra)


@pytest.mark.parametrize(
    "head",
    [
        OK + b"Content-Length: 99999999999\r\n\r\n",
        OK + b"Content-Length: 0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        OK + b"\r\n",
        b"HTTP/1.1 204 X\r\n\r\n",
        CONTINUE + OK + b"Content-Length: 5\r\n\r\n",
    ],
)
def test_the_answer_to_head_ends_with_its_header(head: bytes) -> None:
    answers = fed(head, is_bodiless=True)
    assert (answers.stage, answers.take(), answers.keeps_open) == (Stage.COMPLETE, b"", True)
    fed(HELLO, answers=answers)
    assert answers.take() == b"hello"
    with pytest.raises(Unasked):
        fed(head + b"hello", is_bodiless=True)


@pytest.mark.parametrize(
    ("text", "keeps_open"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", False),
        (OLD + b"Content-Length: 0\r\n\r\n", True),
        (OLD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
    ],
)
def test_a_connection_persists_unless_the_answer_says_otherwise(
    text: bytes, keeps_open: bool
) -> None:
    assert fed(text).keeps_open is keeps_open


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    answers = fed(OK + b"\r\nhel", b"lo")
    assert (answers.stage, answers.until_end) == (Stage.BODY, True)
    assert answers.end()
    assert (answers.take(), answers.keeps_open) == (b"hello", False)


@pytest.mark.parametrize("text", [b"", OK, HELLO[:-1], CHUNKED[:-2], CONTINUE])
def test_no_other_answer_does(text: bytes) -> None:
    assert not fed(*[text] if text else []).end()


@pytest.mark.parametrize(
    "text",
    [
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"Content-Length: 5, 5\r\n\r\nhello",
        OK + b"Content-Length: +5\r\n\r\nhello",
        OK + b"Content-Length: 0x5\r\n\r\nhello",
        OK + b"X-A: a\0b\r\n\r\n",
        OK + b"X A: b\r\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        OK + b"X-A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n",
        CONTINUE * (MAX_INTERIM + 1) + HELLO,
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X-A: b\r\n" * (MAX_FIELDS + 2),
    ],
)
def test_what_can_be_read_in_two_ways_or_is_too_much_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        fed(text)


def test_a_fault_of_ours_is_not_told_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Answers, piece: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Answers, "on_body", broken)
    with pytest.raises(ZeroDivisionError):
        fed(HELLO)


def test_the_bounds_hold_over_many_pieces() -> None:
    with pytest.raises(Malformed, match=f"passes {MAX_HEAD_BYTES} bytes"):
        fed(OK, *[b"X-A: " + b"b" * 30_000 + b"\r\n"] * 12)
    with pytest.raises(Malformed, match="more framing than body"):
        fed(OK + b"Transfer-Encoding: chunked\r\n\r\n1;", *[b"x" * 60_000] * 12)
    with pytest.raises(Malformed, match="field passes"):
        fed(OK + b"X-A: ", b"b" * 40_000, b"\r\n\r\n")


def test_names_that_a_server_makes_up_are_not_kept_for_ever() -> None:
    from scrapekit.transport.fast import answer

    for number in range(20):
        fed(OK + b"".join(b"X-%d-%d: 1\r\n" % (number, n) for n in range(100)) + b"\r\n")
    assert len(answer._NAMES) <= 1_000
    assert fed(OK + b"X-" + b"y" * 100 + b": 1\r\n\r\n").headers["x-" + "y" * 100] == "1"
    assert b"X-" + b"y" * 100 not in answer._NAMES
