"""Content codings undone: whole, in steps of bounded size, and never a short body for a whole."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator

import brotli  # type: ignore[import-untyped]
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.errors import BodyTooLarge, BodyTruncated, BodyUndecodable
from scrapekit.transport import decoding
from scrapekit.transport.decoding import Decoder, accepted, decoder

STEP = 65_536


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}
WRITERS = [*ENCODE.items(), ("deflate", raw_deflate)]
IDS = [*ENCODE, "raw deflate"]


def decode(codings: str, data: bytes, *, chunk: int = 2**20, step: int = STEP) -> list[bytes]:
    """All that comes out, step by step."""
    stream = decoder(codings)
    assert stream is not None
    out: list[bytes] = []
    for start in range(0, len(data), chunk):
        out += feed(stream, data[start : start + chunk], step)
    stream.finish()
    return out


def feed(stream: Decoder, data: bytes, step: int = STEP) -> Iterator[bytes]:
    """What comes out when `data` is fed."""
    yield stream.feed(data, step)
    while not stream.needs_input:
        yield stream.feed(b"", step)


def joined(codings: str, data: bytes, *, chunk: int = 2**20, step: int = STEP) -> bytes:
    return b"".join(decode(codings, data, chunk=chunk, step=step))


@pytest.mark.parametrize("codings", ["", "identity", " , ", "Identity,"])
def test_nothing_to_decode_needs_no_decoder(codings: str) -> None:
    assert decoder(codings) is None


@pytest.mark.parametrize(("coding", "encode"), WRITERS, ids=IDS)
@given(
    data=st.binary(max_size=3_000) | st.binary(max_size=20).map(lambda part: part * 3_000),
    chunk=st.integers(1, 4_000),
    step=st.integers(1, 4_000),
)
def test_what_was_encoded_comes_back(
    coding: str, encode: Callable[[bytes], bytes], data: bytes, chunk: int, step: int
) -> None:
    pieces = decode(coding, encode(data), chunk=chunk, step=step)
    assert b"".join(pieces) == data
    if coding != "br":
        assert max(map(len, pieces)) <= step


@pytest.mark.parametrize(("coding", "encode"), WRITERS, ids=IDS)
@given(
    data=st.binary(min_size=1, max_size=200), missing=st.integers(1, 300), chunk=st.integers(1, 99)
)
def test_a_stream_that_is_not_at_its_end_is_truncated(
    coding: str, encode: Callable[[bytes], bytes], data: bytes, missing: int, chunk: int
) -> None:
    encoded = encode(data)
    cut = encoded[: max(1, len(encoded) - missing)]
    with pytest.raises(BodyTruncated, match="ends before"):
        decode(coding, cut, chunk=chunk)


@pytest.mark.parametrize("coding", ENCODE)
def test_a_body_of_no_bytes_is_an_empty_body(coding: str) -> None:
    assert decode(coding, b"") == []


@pytest.mark.parametrize(("coding", "encode"), WRITERS, ids=IDS)
def test_a_small_body_needs_one_step(coding: str, encode: Callable[[bytes], bytes]) -> None:
    stream = decoder(coding)
    assert stream is not None
    assert stream.feed(encode(b"x" * 15_000), STEP) == b"x" * 15_000
    assert stream.needs_input


@pytest.mark.parametrize("last", ENCODE)
@pytest.mark.parametrize("first", ENCODE)
@given(chunk=st.integers(1, 500), step=st.integers(10, 5_000))
def test_two_codings_are_undone_from_the_last_to_the_first(
    first: str, last: str, chunk: int, step: int
) -> None:
    data = b"The quick brown fox. " * 500
    encoded = ENCODE[last](ENCODE[first](data))
    assert joined(f"{first}, {last}", encoded, chunk=chunk, step=step) == data


def test_the_inner_one_of_two_codings_can_be_truncated() -> None:
    with pytest.raises(BodyTruncated, match="deflate"):
        decode("deflate, gzip", gzip.compress(zlib.compress(b"hello")[:-1]))


def test_the_outer_one_of_two_codings_can_be_truncated() -> None:
    with pytest.raises(BodyTruncated, match="gzip"):
        decode("deflate, gzip", gzip.compress(zlib.compress(b"hello"))[:-1])


def test_codings_are_named_in_any_case_with_any_spaces() -> None:
    assert joined(" GZip ,identity", gzip.compress(b"hello")) == b"hello"


def test_an_unknown_coding_is_undecodable() -> None:
    with pytest.raises(BodyUndecodable, match="'foo' is unknown; known: gzip, deflate, br, zstd"):
        decoder("gzip, foo")


def test_more_than_two_codings_are_undecodable() -> None:
    with pytest.raises(BodyUndecodable, match="3 content codings"):
        decoder("gzip, gzip, gzip")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_is_something_else_is_undecodable(coding: str) -> None:
    with pytest.raises(BodyUndecodable, match="no valid"):
        decode(coding, b"<!doctype html><title>This is no compressed data</title>")


def test_a_wrong_checksum_is_undecodable() -> None:
    data = bytearray(gzip.compress(b"hello"))
    data[-8] ^= 1
    with pytest.raises(BodyUndecodable, match="incorrect data check"):
        decode("gzip", bytes(data))


@pytest.mark.parametrize("chunk", [1, 7, 1_000])
@pytest.mark.parametrize("garbage", [b"GARBAGE!", b"\0" * 500, b"\x1f", b"\x1fG", b"\n"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_garbage_after_the_stream_is_ignored(coding: str, garbage: bytes, chunk: int) -> None:
    assert joined(coding, ENCODE[coding](b"hello") + garbage, chunk=chunk) == b"hello"


def test_after_garbage_nothing_counts() -> None:
    stream = decoder("gzip")
    assert stream is not None
    assert [*feed(stream, gzip.compress(b"hello")), stream.complete] == [b"hello", False]
    assert [*feed(stream, b"garbage"), stream.complete] == [b"", True]
    assert [*feed(stream, gzip.compress(b"more"))] == [b""]
    stream.finish()


@pytest.mark.parametrize("coding", ["deflate", "br"])
def test_the_end_of_a_coding_of_one_stream_is_noticed(coding: str) -> None:
    stream = decoder(coding)
    assert stream is not None
    stream.feed(ENCODE[coding](b"hello"), STEP)
    assert (stream.complete, stream.needs_input) == (True, True)


@pytest.mark.parametrize("chunk", [1, 30, 1_000])
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_streams_in_a_row_are_one_body(coding: str, chunk: int) -> None:
    encode = ENCODE[coding]
    data = encode(b"one ") + encode(b"") + encode(b"two ") + encode(b"three")
    assert joined(coding, data, chunk=chunk) == b"one two three"


@pytest.mark.parametrize("chunk", [1, 1_000])
def test_the_last_of_several_streams_can_be_truncated(chunk: int) -> None:
    with pytest.raises(BodyTruncated):
        decode("gzip", gzip.compress(b"one") + gzip.compress(b"two")[:-1], chunk=chunk)


def test_a_skippable_zstd_frame_is_skipped() -> None:
    skipped = b"\x53\x2a\x4d\x18\x04\0\0\0junk"
    data = skipped + zstd.compress(b"one ") + skipped + zstd.compress(b"two")
    assert joined("zstd", data) == b"one two"


def test_a_flood_of_empty_gzip_members_is_refused() -> None:
    flood = gzip.compress(b"") * 10_001
    assert joined("gzip", flood[: len(flood) // 10_001 * 10_000]) == b""
    with pytest.raises(BodyUndecodable, match="more than 10000 gzip streams"):
        decode("gzip", flood)


def test_a_zstd_window_beyond_eight_mebibytes_is_refused() -> None:
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 24,
        zstd.CompressionParameter.content_size_flag: 0,
    }
    compressor = zstd.ZstdCompressor(options=options)
    data = compressor.compress(bytes(1_000)) + compressor.flush()
    with pytest.raises(BodyUndecodable, match="too much memory"):
        decode("zstd", data)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_comes_out_in_small_steps(coding: str) -> None:
    pieces = decode(coding, ENCODE[coding](bytes(8_000_000)))
    assert sum(map(len, pieces)) == 8_000_000
    assert max(map(len, pieces)) <= 2 * STEP


def test_what_one_coding_hands_to_the_other_is_bounded() -> None:
    empty_blocks = b"\x00\x00\x00\xff\xff" * 400_000
    stream = decoder("deflate, gzip", max_input=1_000_000)
    assert stream is not None
    steps = feed(stream, gzip.compress(empty_blocks))
    with pytest.raises(BodyTooLarge, match="half-decoded") as caught:
        assert set(steps) == {b""}
    assert caught.value.limit_bytes == 1_000_000


def test_all_that_can_be_decoded_is_accepted() -> None:
    assert accepted() == "gzip, deflate, br, zstd"


def test_codings_whose_packages_are_absent_are_neither_accepted_nor_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "_BROTLI", None)
    monkeypatch.setattr(decoding, "_ZSTD", None)
    monkeypatch.setattr(decoding, "_FORMATS", decoding._formats())
    assert accepted() == "gzip, deflate"
    with pytest.raises(BodyUndecodable, match="'br' is unknown; known: gzip, deflate"):
        decoder("br")


def test_a_brotli_that_cannot_bound_its_output_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class OldBrotli:
        class Decompressor:
            pass

    monkeypatch.setattr(decoding, "_BROTLI", OldBrotli)
    assert "br" not in decoding._formats()


def test_a_package_that_is_not_installed_is_no_error() -> None:
    assert decoding._optional("no_such_package") is None
