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
# Read and forgotten after the end of a compressed stream, to keep the connection usable.
_MAX_SURPLUS: Final = 65_536


async def read_body(read: Read, codings: str, account: Account, limit: int) -> bytes:
    """Read a body and undo its Content-Encoding `codings`.

    Every decoded byte is taken from `account`, so this waits for the network and for room.
    Raises BodyTooLarge as soon as more than `limit` bytes are decoded, BodyUndecodable,
    BodyTruncated if a compressed stream ends early, and whatever `read` raises.
    """
    body = _Body(account, limit)
    # Compressed data is smaller than its content, or hardly larger; more than this is hostile.
    max_input = 2 * limit + _MAX_SURPLUS
    stream = decoder(codings, max_input=max_input) if codings else None
    if stream is None:
        while chunk := await read():
            await body.add(chunk)
    else:
        await _decode(read, stream, body, max_input)
    return body.joined()


async def _decode(read: Read, stream: Decoder, body: _Body, max_input: int) -> None:
    arrived = surplus = 0
    while chunk := await read():
        arrived += len(chunk)
        if arrived > max_input:
            raise too_large(body.limit)
        if not stream.complete:
            await _decode_chunk(stream, chunk, body)
            continue
        surplus += len(chunk)
        if surplus > _MAX_SURPLUS:
            return
    stream.finish()


async def _decode_chunk(stream: Decoder, chunk: bytes, body: _Body) -> None:
    await body.add(stream.feed(chunk, _STEP))
    while not stream.needs_input:
        await asyncio.sleep(0)
        await body.add(stream.feed(b"", _STEP))


class _Body:
    """The decoded bytes so far."""

    __slots__ = ("_account", "_pieces", "_size", "limit")

    def __init__(self, account: Account, limit: int) -> None:
        self.limit = limit
        self._account = account
        self._pieces: list[bytes] = []
        self._size = 0

    async def add(self, piece: bytes) -> None:
        size = len(piece)
        self._size += size
        if self._size > self.limit:
            raise too_large(self.limit)
        if not self._account.try_take(size):
            await self._account.take(size)
        self._pieces.append(piece)

    def joined(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


def too_large(limit: int) -> BodyTooLarge:
    """The error for a body of more than `limit` bytes."""
    return BodyTooLarge(
        f"the body passes the {limit} bytes of max_body_bytes", url="", limit_bytes=limit
    )
