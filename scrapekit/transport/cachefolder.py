"""The folder of a cache: a file for each response. Every call in here may block.

Files appear by a rename, whole or not at all, and nobody waits for the disk: what a sudden loss of
power leaves half written is told by its checksums, and counts as not there. So any number of
crawls can use a folder at once; of two that write the same file the later one wins. Names are made
of hashes, and what is read is never run: records are msgpack of a fixed shape.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import xxhash

from scrapekit.errors import OutputError

TAG: Final = "CACHEDIR.TAG"
"""Backups leave a folder with this file out (bford.info/cachedir)."""

_SIGNATURE: Final = "Signature: 8a477f597d28d172789f06886806bc55"
_FORMAT: Final = "# Responses kept by scrapekit, format 1. Delete the folder to fetch them anew."
_SCRATCH: Final = "unfinished"
_OWN: Final = frozenset({TAG, _SCRATCH})
_MAGIC: Final = b"scrpage1"
_HEAD_BYTES: Final = len(_MAGIC) + 16 + 4
_FIRST_READ_BYTES: Final = 131_072
"""What is read at once: most pages whole, and the record of any."""
_MAX_RECORD_BYTES: Final = 16_777_216
"""More headers than the transport lets through."""
_ABANDONED_S: Final = 3_600.0
"""From that age on, an unfinished file is of a process that was killed."""


class Record(msgspec.Struct, array_like=True, frozen=True):
    """All of a response but its body. Times are seconds since the epoch."""

    url: str
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    asked_at: float
    came_at: float
    choice: bytes
    """A hash of those fields of its request that its Vary names."""
    address: str = ""
    """Where it came from."""
    anomalies: tuple[str, ...] = ()
    body_bytes: int = 0
    body_hash: bytes = b""


class Damaged(Exception):
    """A file that isn't as it was written; treated like one that isn't there."""


_decoder = msgspec.msgpack.Decoder(Record)
_encoder = msgspec.msgpack.Encoder()


class CacheFolder:
    """The responses in the folder `path`. Names are those that `scrapekit.transport.cache` makes.

    Any thread may call it.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._scratch = self.path / _SCRATCH
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f"<CacheFolder {self.path}>"

    def open(self) -> None:
        """Make it, for its owner alone, or see that it is one. Raises OutputError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._claim()
            _sweep(self._scratch)
        except OSError as error:
            what = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
            raise self._unusable(f"{what}; choose another folder") from error

    def look(self, name: str) -> tuple[Record, bytes | None] | None:
        """The record of that name, and its body if it is small; None if there is none.

        Raises Damaged.
        """
        try:
            with self._file(name) as descriptor:
                data = _beginning(descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Damaged(str(error)) from error
        record, start = _record(data)
        if len(data) - start < record.body_bytes:
            return record, None
        return record, _checked(data[start:], record)

    def body(self, name: str, record: Record) -> bytes:
        """The body that belongs to a record. Raises Damaged, also if it was replaced since."""
        try:
            with self._file(name) as descriptor:
                found, start = _record(_beginning(descriptor))
                if found.body_hash != record.body_hash:
                    raise Damaged("it was replaced")
                os.lseek(descriptor, start, os.SEEK_SET)
                with os.fdopen(descriptor, "rb", closefd=False) as file:
                    return _checked(file.read(record.body_bytes + 1), record)
        except OSError as error:
            raise Damaged(str(error)) from error

    def write(self, name: str, record: Record, body: bytes) -> None:
        """Keep a response, in place of an older one. Raises OSError.

        What the record says of the body is filled in here.
        """
        record = msgspec.structs.replace(record, body_bytes=len(body), body_hash=_hash(body))
        encoded = _encoder.encode(record)
        head = b"".join([_MAGIC, _hash(encoded), len(encoded).to_bytes(4, "big"), encoded])
        scratch = self._scratch / f"{os.getpid()}-{next(self._numbers)}-{os.urandom(6).hex()}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(scratch, flags, 0o600), "wb", buffering=0) as file:
                for part in (head, body):
                    view = memoryview(part)
                    while view:
                        view = view[file.write(view) :]
            self._put(scratch, name)
        except BaseException:
            with suppress(OSError):
                scratch.unlink()
            raise

    def forget(self, prefix: str) -> None:
        """Remove all whose names begin with `prefix`, which is as long as the first hash."""
        shelf = self._shelf(prefix)
        with suppress(FileNotFoundError), os.scandir(shelf) as entries:
            for entry in entries:
                if entry.name.startswith(prefix):
                    with suppress(FileNotFoundError):
                        (shelf / entry.name).unlink()

    def _claim(self) -> None:
        """See that the folder is new or a cache's: what else is in it might be meant to stay."""
        # Looked at before the tag: whoever makes the folder just now writes that first.
        others = [entry.name for entry in self.path.iterdir() if entry.name not in _OWN]
        tag = self.path / TAG
        mine = f"{_SIGNATURE}\n{_FORMAT}\n"
        try:
            if tag.read_text("utf-8", "replace") != mine:
                raise self._unusable("another version or program made it; delete it")
        except FileNotFoundError:
            if others:
                raise self._unusable(
                    "it holds other files and is no cache; choose a new folder"
                ) from None
            self._scratch.mkdir(mode=0o700, exist_ok=True)
            written = self._scratch / f"{TAG}-{os.urandom(6).hex()}"
            written.write_text(mine, "utf-8")
            written.replace(tag)

    def _unusable(self, why: str) -> OutputError:
        return OutputError(f"can't use the cache {self.path}: {why}", path=str(self.path))

    def _shelf(self, name: str) -> Path:
        return self.path / name[:2]

    @contextmanager
    def _file(self, name: str) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._shelf(name) / name, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _put(self, scratch: Path, name: str) -> None:
        shelf = self._shelf(name)
        try:
            scratch.replace(shelf / name)
        except FileNotFoundError:
            shelf.mkdir(mode=0o700, exist_ok=True)
            scratch.replace(shelf / name)


def _sweep(scratch: Path) -> None:
    """Remove what killed processes left unfinished."""
    oldest = time.time() - _ABANDONED_S
    with os.scandir(scratch) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    (scratch / entry.name).unlink()


def _beginning(descriptor: int) -> bytes:
    """The record, and as much of the body as comes with it."""
    data = os.read(descriptor, _FIRST_READ_BYTES)
    missing = _HEAD_BYTES + int.from_bytes(data[_HEAD_BYTES - 4 : _HEAD_BYTES], "big") - len(data)
    return data + os.read(descriptor, missing) if 0 < missing < _MAX_RECORD_BYTES else data


def _record(data: bytes) -> tuple[Record, int]:
    """The record at the beginning of a file, and where the body starts."""
    length = int.from_bytes(data[_HEAD_BYTES - 4 : _HEAD_BYTES], "big")
    encoded = data[_HEAD_BYTES : _HEAD_BYTES + length]
    digest = data[len(_MAGIC) : _HEAD_BYTES - 4]
    if not data.startswith(_MAGIC) or len(encoded) != length or _hash(encoded) != digest:
        raise Damaged("its beginning is not as it was written")
    try:
        return _decoder.decode(encoded), _HEAD_BYTES + length
    except msgspec.MsgspecError as error:
        raise Damaged(str(error)) from error


def _checked(body: bytes, record: Record) -> bytes:
    if len(body) != record.body_bytes or _hash(body) != record.body_hash:
        raise Damaged("its body is not as it was written")
    return body


def _hash(data: bytes) -> bytes:
    return xxhash.xxh3_128_digest(data)
