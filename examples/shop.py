"""The demo shop's products, as typed items. Needs no internet: the spider brings its site along.

Run it with `scrapekit crawl examples/shop.py -o products.jsonl`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from scrapekit import Request, Response, Spider
from shop_site import serve


@dataclass
class Product:
    """What a line of the output says."""

    name: str
    price: float
    in_stock: bool
    url: str


class Shop(Spider):
    """From shelf to shelf, and to each product on it."""

    settings = {"retry_delay_s": 0.05}  # the shop is on this machine: no need to be patient

    async def lifespan(self) -> AsyncIterator[None]:
        async with serve() as url:
            self.start_urls = [url]
            yield

    def parse(self, response: Response) -> Iterator[Request]:
        yield from response.follow_all("a.product", self.parse_product)
        yield from response.follow_all("a.next")

    def parse_product(self, response: Response) -> Product:
        return Product(
            name=response.get("h1", ""),
            price=float(response.get(".price", "").removeprefix("EUR ")),
            in_stock=response.get(".stock") == "in stock",
            url=response.url,
        )
