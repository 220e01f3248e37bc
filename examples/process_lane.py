"""Compute in worker processes: near-duplicates among the demo shop's descriptions.

Fetching waits, so it is the event loop's. A fingerprint is a hundred thousand steps of pure
Python, which would hold up everything else there, and one another in threads.

Run it with `python examples/process_lane.py`.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import scrapekit
from scrapekit import Request, Response, Spider, lane
from shop_site import serve


class Fingerprints(Spider):
    """A 64-bit fingerprint of each product's description; similar texts differ in few bits."""

    settings = {"retry_delay_s": 0.05, "processes": 2}

    async def lifespan(self) -> AsyncIterator[None]:
        async with serve() as url:
            self.start_urls = [url]
            yield

    def parse(self, response: Response) -> Iterator[Request]:
        yield from response.follow_all("a.product", self.parse_product)
        yield from response.follow_all("a.next")

    # Runs on another copy of the spider: what lifespan() has set is not there.
    @lane("process")
    def parse_product(self, response: Response) -> dict[str, Any]:
        text = response.get(".description", "")
        return {"url": response.url, "simhash": f"{simhash(text):016x}", "worker": os.getpid()}


def simhash(text: str, width: int = 7) -> int:
    """Charikar's similarity hash of the text's shingles of `width` characters."""
    votes = [0] * 64
    for start in range(len(text) - width + 1):
        shingle = text[start : start + width].encode()
        bits = zlib.crc32(shingle) << 32 | zlib.adler32(shingle)
        for place in range(64):
            votes[place] += 1 if bits >> place & 1 else -1
    return sum(1 << place for place, vote in enumerate(votes) if vote > 0)


if __name__ == "__main__":
    print(scrapekit.run(Fingerprints(), output="-"), file=sys.stderr)
