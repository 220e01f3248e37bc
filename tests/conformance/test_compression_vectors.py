"""Bombs, truncated and odd streams: capped, typed errors, and the page where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrapekit.budget import ByteBudget
from scrapekit.errors import BodyTooLarge, BodyTruncated, BodyUndecodable, SiteError
from scrapekit.transport.body import read_body

LIMIT = 1_000_000
WHOLE = {
    "feed-sample1.xml.gz": "gzip",
    "html-br.bin": "br",
    "html-gzip-deflate.bin": "gzip, deflate",
    "html-gzip.bin": "x-gzip",
    "html-rawdeflate.bin": "deflate",
    "html-zlibdeflate.bin": "deflate",
    "html-zstd-static-content-size.bin": "zstd",
    "html-zstd-static-no-content-size.bin": "zstd",
    "html-zstd-streaming-no-content-size.bin": "zstd",
}
BROKEN: dict[str, tuple[str, type[SiteError]]] = {
    "bomb-br.bin": ("br", BodyTooLarge),
    "bomb-deflate.bin": ("deflate", BodyTooLarge),
    "bomb-gzip.bin": ("gzip", BodyTooLarge),
    "bomb-zstd.bin": ("zstd", BodyTooLarge),
    "feed-sample1.tar": ("gzip", BodyUndecodable),
    "feed-sample1.xml": ("gzip", BodyUndecodable),
    "feed-sample1.xml.bz2": ("gzip", BodyUndecodable),
    "feed-sample1.zip": ("deflate", BodyUndecodable),
    "html-gzip-deflate-gzip.bin": ("gzip, deflate, gzip", BodyUndecodable),
    "truncated-crc-error-short.gz": ("gzip", BodyTruncated),
    "truncated-crc-error.gz": ("gzip", BodyTruncated),
    "unexpected-eof.gz": ("gzip", BodyTruncated),
}
CHUNKS = [1_000, 100_000]


@pytest.fixture
def folder(vectors: Path) -> Path:
    return vectors / "compression" / "scrapy"


async def read(file: Path, codings: str, chunk: int, budget: ByteBudget, limit: int) -> bytes:
    data = file.read_bytes()
    arriving = iter([data[at : at + chunk] for at in range(0, len(data), chunk)])

    async def arrived() -> bytes:
        return next(arriving, b"")

    with budget.account() as account:
        return await read_body(arrived, codings, account, limit)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", WHOLE)
async def test_whole_bodies_are_decoded(folder: Path, name: str, chunk: int) -> None:
    body = await read(folder / name, WHOLE[name], chunk, ByteBudget(LIMIT), LIMIT)
    assert len(body) in {9_950, 74_837, 74_840}
    assert body.lstrip().startswith(b"<")


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", BROKEN)
async def test_others_end_in_the_right_error(folder: Path, name: str, chunk: int) -> None:
    codings, error = BROKEN[name]
    budget = ByteBudget(LIMIT)
    with pytest.raises(error):
        await read(folder / name, codings, chunk, budget, LIMIT)
    assert budget.peak <= LIMIT
    assert budget.used == 0


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("kind", ["br", "deflate", "gzip", "zstd"])
async def test_bombs_are_pages_where_the_limit_allows(folder: Path, kind: str, chunk: int) -> None:
    large = 20_000_000
    body = await read(folder / f"bomb-{kind}.bin", kind, chunk, ByteBudget(large), large)
    assert len(body) == 11_511_612


async def test_every_coding_gives_the_same_page(folder: Path) -> None:
    # The two files of "deflate" hold a page of their own.
    names = [name for name in WHOLE if name.startswith("html") and "deflate.bin" not in name]
    pages = {
        await read(folder / name, WHOLE[name], 999, ByteBudget(LIMIT), LIMIT) for name in names
    }
    assert len(pages) == 1


def test_every_file_is_judged(folder: Path) -> None:
    files = {path.name for path in folder.iterdir()}
    assert files - WHOLE.keys() - BROKEN.keys() == {"unexpected-eof-output.txt"}
