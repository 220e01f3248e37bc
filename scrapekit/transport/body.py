"""A body read to its end: bounded, counted and decoded on the way. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from scrapekit.errors import BodyTooLarge
from scrapekit.transport.decoding import Decoder, decoder

if TYPE_CHECKING:
    from scrapekit.budget import Account

Read = Callable[[], Awaitable[bytes]]
"""Gives what has arrived, waiting until there is some; b"" at the end."""

# What is decoded before the loop gets its turn: about a millisecond.
_STEP: Final = 262_144
# Compressed data that doesn't shrink at all has some headers on top.
_SPARE: Final = 65_536
# Small pages compress as well as they like: a kilobyte of one letter is no attack.
_RATIO_FROM: Final = 1_048_576

TRAILING_GARBAGE: Final = "trailing-garbage"
"""The flag of a body whose compressed stream is followed by something else."""

CUT: Final = "cut"
"""The flag of a body of which as much was read as was asked for, and there was more."""


async def whole_body(body: bytes, account: Account, limit: int) -> bytes:
    """A body that has arrived whole and needs no decoding; the same bounds, waits and errors."""
    if len(body) > limit:
        raise too_large(limit)
    if not account.try_take(len(body)):
        await account.take(len(body))
    return body


async def read_body(
    read: Read,
    codings: str,
    account: Account,
    limit: int,
    *,
    max_ratio: int | None = None,
    flag: Callable[[str], None] | None = None,
) -> bytes:
    """Read a body and undo its Content-Encoding `codings`.

    Every decoded byte is taken from `account`, so this waits for the network and for room; of what
    is more than `account.enough`, if that is given, nothing is read.
    `flag` is told of what is wrong with a body that can be used all the same.
    Raises BodyTooLarge as soon as more than `limit` bytes are decoded, or of a large body more
    than `max_ratio` for each that came, BodyUndecodable, BodyTruncated if a compressed stream ends
    early, and whatever `read` raises.
    """
    limit = limit if account.enough is None else account.enough
    body = _Body(account, limit, max_ratio)
    # Compressed data is smaller than its content, or hardly larger; more than this is hostile.
    max_input = 2 * limit + _SPARE
    stream = decoder(codings, max_input=max_input) if codings else None
    if stream is None:
        while not body.cut and (chunk := await read()):
            if not body.try_add(chunk):
                await body.add_later(chunk)
    else:
        await _decode(read, stream, body, max_input)
        if flag is not None and stream.garbage:
            flag(TRAILING_GARBAGE)
    if flag is not None and body.cut:
        flag(CUT)
    return body.joined()


async def _decode(read: Read, stream: Decoder, body: _Body, max_input: int) -> None:
    arrived = 0
    while chunk := await read():
        arrived += len(chunk)
        if arrived > max_input:
            raise too_large(body.limit)
        body.arrived = arrived
        if stream.complete:
            # Garbage, which may be without end; the connection isn't used again.
            stream.feed(chunk, _STEP)
            return
        await _decode_chunk(stream, chunk, body)
        if body.cut:
            return
    stream.finish()


async def _decode_chunk(stream: Decoder, chunk: bytes, body: _Body) -> None:
    piece = stream.feed(chunk, _STEP)
    while True:
        if not body.try_add(piece):
            await body.add_later(piece)
        if stream.needs_input or body.cut:
            return
        await asyncio.sleep(0)
        piece = stream.feed(b"", _STEP)


class _Body:
    """The decoded bytes so far."""

    __slots__ = ("_account", "_max_ratio", "_pieces", "_size", "arrived", "cut", "limit")

    def __init__(self, account: Account, limit: int, max_ratio: int | None) -> None:
        self.limit = limit
        self.arrived = 0
        """Bytes that came for those decoded, if the body is compressed."""
        self.cut = False
        """Whether it is as long as it may be, and there was more."""
        self._max_ratio = max_ratio
        self._account = account
        self._pieces: list[bytes] = []
        self._size = 0

    def try_add(self, piece: bytes) -> bool:
        """Add what there is room for at once; False: `add_later` has to wait for it."""
        if self._size + len(piece) > self.limit:
            if self._account.enough is None:
                raise too_large(self.limit)
            piece, self.cut = piece[: self.limit - self._size], True
        size = len(piece)
        self._size += size
        if self._size > _RATIO_FROM and self.arrived:
            self._check_ratio()
        if not self._account.try_take(size):
            return False
        self._pieces.append(piece)
        return True

    async def add_later(self, piece: bytes) -> None:
        await self._account.take(len(piece))
        self._pieces.append(piece)

    def _check_ratio(self) -> None:
        if self._max_ratio is not None and self._size > self._max_ratio * self.arrived:
            message = f"the body grows to more than {self._max_ratio} times what came (max_ratio)"
            raise BodyTooLarge(message, url="", limit_bytes=self._max_ratio * self.arrived)

    def joined(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


def too_large(limit: int) -> BodyTooLarge:
    """The error for a body of more than `limit` bytes."""
    return BodyTooLarge(
        f"the body passes the {limit} bytes of max_body_bytes", url="", limit_bytes=limit
    )
