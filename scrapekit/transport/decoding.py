"""Content-Encoding undone: bytes in, bytes out, in steps of bounded size; no I/O.

A decoder is fed what has arrived and puts out at most so much at a time, so that a small body
that grows to gigabytes can be stopped early. It knows whether its stream has come to an end, so
that a truncated body isn't taken for a short one.

Codings (RFC 9110, 8.4.1): gzip and x-gzip, deflate; if their packages are installed, br (RFC 7932)
and zstd (RFC 8878); and two of them on top of each other.
"""

from __future__ import annotations

import importlib
import re
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from scrapekit.errors import BodyTooLarge, BodyTruncated, BodyUndecodable

_MAX_CODINGS: Final = 2
# Each member costs a new decompressor. A body of 20-byte empty members is an attack; those of
# honest ones hold 64 KB (bgzip) or more.
_MAX_MEMBERS: Final = 10_000
# RFC 9659: a zstd window in HTTP is at most 8 MiB. Unbounded, a header of a few bytes makes the
# decompressor allocate 128 MiB.
_ZSTD_WINDOW_LOG: Final = 23
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's window bits: which wrapper is around the stream


class Decoder(Protocol):
    """One body being decoded."""

    @property
    def needs_input(self) -> bool:
        """False: more can come out of what was fed; feed b"" to get it."""

    @property
    def complete(self) -> bool:
        """True: the stream is over, and whatever follows it will be ignored."""

    @property
    def garbage(self) -> bool:
        """Whether something that is none of it followed the stream."""

    def feed(self, data: bytes, max_length: int) -> bytes:
        """Take `data` and put out at most `max_length` bytes (br: up to twice that, in 32 KiB).

        While `needs_input` is False, `data` must be b"". Doesn't wait, but computes.
        Raises BodyUndecodable for broken data.
        """

    def finish(self) -> None:
        """Say that nothing more comes. Raises BodyTruncated if the stream isn't at its end.

        A body of no bytes at all is at its end: servers label empty bodies too.
        """


def decoder(codings: str, *, max_input: int = sys.maxsize) -> Decoder | None:
    """Make the decoder for a Content-Encoding; None if there is nothing to decode.

    `max_input` bounds, in bytes, what one of two codings may hand to the other, which nobody
    else sees. Raises BodyUndecodable for codings that are unknown here.
    """
    names = check_codings(codings)
    if not names:
        return None
    last = _decoder(names[0])
    return last if len(names) == 1 else _Chain(_decoder(names[1]), last, max_input)


def accepted() -> str:
    """The value for Accept-Encoding: all that can be decoded here."""
    return ", ".join(name for name in _FORMATS if not name.startswith("x-"))


def check_codings(codings: str) -> list[str]:
    """The names in a Content-Encoding. Raises BodyUndecodable if there are more than two."""
    parts = (part.strip().lower() for part in codings.split(","))
    names = [part for part in parts if part and part != "identity"]
    if len(names) > _MAX_CODINGS:
        raise BodyUndecodable(
            f"the body has {len(names)} content codings on top of each other; 2 is the limit"
        )
    return names


def _decoder(name: str) -> Decoder:
    form = _FORMATS.get(name)
    if form is None:
        raise BodyUndecodable(f"Content-Encoding {name!r} is unknown; known: {accepted()}")
    return _Members(form)


class _Stream(Protocol):
    """What decompressors have in common, once zlib and brotli are dressed up."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Format(NamedTuple):
    """A coding: how its streams are decompressed, and what the next one begins with.

    Without `start`, one stream is all there can be.
    """

    label: str
    make: Callable[[], _Stream]
    broken: type[Exception]
    start: re.Pattern[bytes] | None = None
    start_length: int = 0


class _Members:
    """One stream or several in a row (gzip members, zstd frames).

    What follows a stream without beginning another is garbage: some servers append it, browsers
    ignore it, and so does this.
    """

    def __init__(self, form: _Format) -> None:
        self.needs_input = True
        self.complete = False
        self.garbage = False
        self._format = form
        self._stream = form.make()
        self._members = 1
        self._empty = True
        self._pending = b""

    def feed(self, data: bytes, max_length: int) -> bytes:
        if self.complete:
            self.garbage = self.garbage or bool(data)
            return b""
        if not (data or self._pending or not self.needs_input):
            return b""
        self._empty = False
        if self._stream.eof and not self._begin_member(data):
            return b""
        data, self._pending = self._pending or data, b""
        out = self._decompress(data, max_length)
        self.needs_input = self._stream.needs_input
        if self._stream.eof:
            self._end_member()
        return out

    def finish(self) -> None:
        if not self._empty and not self._stream.eof:
            raise BodyTruncated(f"the body ends before its {self._format.label} stream does")
        # The beginning of another stream, or of none.
        self.garbage = self.garbage or bool(self._pending)

    def _decompress(self, data: bytes, max_length: int) -> bytes:
        try:
            return self._stream.decompress(data, max_length)
        except self._format.broken as exc:
            raise BodyUndecodable(f"the body is no valid {self._format.label}: {exc}") from exc

    def _end_member(self) -> None:
        self.complete = self._format.start is None
        self._pending = self._stream.unused_data
        if self.complete:
            self.garbage = bool(self._pending)
            self._pending = b""
        self.needs_input = not self._pending

    def _begin_member(self, data: bytes) -> bool:
        """Begin the next stream, unless that takes more input or it is garbage."""
        form = self._format
        self._pending += data
        self.needs_input = True
        if len(self._pending) < form.start_length:
            return False
        if form.start is None or not form.start.match(self._pending):
            self.complete = self.garbage = True
            return False
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise BodyUndecodable(f"the body has more than {_MAX_MEMBERS} {form.label} streams")
        self._stream = form.make()
        return True


class _Chain:
    """Two codings: what comes out of `first` goes into `last`."""

    def __init__(self, first: Decoder, last: Decoder, max_input: int) -> None:
        self._first = first
        self._last = last
        self._room = self._max_input = max_input

    @property
    def needs_input(self) -> bool:
        return self._first.needs_input and self._last.needs_input

    @property
    def complete(self) -> bool:
        return self._last.complete

    @property
    def garbage(self) -> bool:
        return self._first.garbage or self._last.garbage

    def feed(self, data: bytes, max_length: int) -> bytes:
        if self._last.needs_input:
            data = self._first.feed(data, max_length)
            self._room -= len(data)
        if self._room < 0:
            limit = self._max_input
            message = f"the half-decoded body passes {limit} bytes"
            raise BodyTooLarge(message, url="", limit_bytes=limit)
        return self._last.feed(data, max_length)

    def finish(self) -> None:
        self._first.finish()
        self._last.finish()


class _Inflate:
    """zlib's decompressor with the interface of the newer ones."""

    def __init__(self, wrapper: int) -> None:
        self._stream = zlib.decompressobj(wrapper)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._stream.decompress(data or self._stream.unconsumed_tail, max_length)
        # Output that fills the step may hide more of it, even when no input is left over.
        self.needs_input = not self._stream.unconsumed_tail and len(out) < max_length
        return out


class _Deflate(_Inflate):
    """The coding "deflate": in a zlib wrapper by RFC 9110, 8.4.1.2, and often without."""

    def __init__(self) -> None:
        super().__init__(_ZLIB)
        self._head: bytes | None = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self._head is not None:
            data = self._head = self._head + data
            if len(data) < 2:
                return b""
            self._head = None
            if not _is_zlib(data):
                self._stream = zlib.decompressobj(_RAW)
        return super().decompress(data, max_length)


def _is_zlib(data: bytes) -> bool:
    """RFC 1950, 2.2: method 8, a window of at most 32 KiB, and a check of the two bytes."""
    method_and_window, flags = data[0], data[1]
    return (
        method_and_window & 0x0F == 8
        and method_and_window >> 4 <= 7
        and (method_and_window * 256 + flags) % 31 == 0
    )


class _Unbrotli:
    """brotli's decompressor likewise. It fails on garbage after the stream by itself."""

    unused_data = b""

    def __init__(self) -> None:
        self._stream = _BROTLI.Decompressor()
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return bool(self._stream.is_finished())

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out: bytes = self._stream.process(data, output_buffer_limit=max_length)
        # As with zlib: a full step may hide more, be it only the end of the stream.
        self.needs_input = self._stream.can_accept_more_data() and len(out) < max_length
        return out


def _unzstd() -> _Stream:
    options = {_ZSTD.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    stream: _Stream = _ZSTD.ZstdDecompressor(options=options)
    return stream


def _optional(*names: str) -> Any:
    """The first of the modules that is installed, or None."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


_BROTLI: Final = _optional("brotli")
_ZSTD: Final = _optional("compression.zstd", "backports.zstd")


def _formats() -> dict[str, _Format]:
    gzip_start = re.compile(rb"\x1f\x8b")
    gzip = _Format("gzip", lambda: _Inflate(_GZIP), zlib.error, gzip_start, 2)
    formats = {
        "gzip": gzip,
        "x-gzip": gzip,  # RFC 9110, 8.4.1.3
        "deflate": _Format("deflate", _Deflate, zlib.error),
    }
    # Older ones put out a whole bomb at once.
    if hasattr(getattr(_BROTLI, "Decompressor", None), "can_accept_more_data"):
        formats["br"] = _Format("brotli", _Unbrotli, _BROTLI.error)
    if _ZSTD is not None:
        # RFC 8878, 3.1: a frame or a skippable one.
        start = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)
        formats["zstd"] = _Format("zstd", _unzstd, _ZSTD.ZstdError, start, 4)
    return formats


_FORMATS: Final[Mapping[str, _Format]] = _formats()
