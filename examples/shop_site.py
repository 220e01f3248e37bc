"""The demo shop: a site on this machine for the other examples to crawl, with a site's troubles.

Run it with `python examples/shop_site.py`; Ctrl-C ends it. One product page is slow, one is broken
for good (status 500), and one is none of a robot's business (robots.txt). The outlet never ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape

from aiohttp import web

PRODUCTS = 40
PER_PAGE = 10
SLOW, SLOW_S = 7, 0.3
BROKEN = 13

_ROBOTS = "User-agent: *\nDisallow: /products/secret\n"
_KINDS = ["Teapot", "Kettle", "Strainer", "Caddy", "Whisk"]
_FINISHES = ["amber", "black", "celadon", "dove", "emerald", "flax", "garnet", "honey"]
_WORDS = [
    "clay",
    "fired",
    "glaze",
    "hand",
    "lid",
    "pours",
    "quiet",
    "slow",
    "steam",
    "thin",
    "warm",
]


@asynccontextmanager
async def serve() -> AsyncIterator[str]:
    """Serve the shop on a free port of the loopback interface; gives the URL of its root."""
    runner = web.AppRunner(application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def application() -> web.Application:
    """The shop as an aiohttp application."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/", shelf),
            web.get("/pages/{page}", shelf),
            web.get("/products/{product}", product),
            web.get("/outlet", outlet),
            web.get("/robots.txt", robots),
        ]
    )
    return app


async def robots(request: web.Request) -> web.Response:
    """/robots.txt."""
    return web.Response(text=_ROBOTS)


async def shelf(request: web.Request) -> web.Response:
    """A listing: ten products, and the way to the next ten."""
    page = int(request.match_info.get("page", 1))
    first = (page - 1) * PER_PAGE + 1
    if not 1 <= first <= PRODUCTS:
        raise web.HTTPNotFound
    last = first + PER_PAGE - 1
    rows = [_row(number) for number in range(first, last + 1)]
    if last < PRODUCTS:
        rows.append(f'<a class="next" href="/pages/{page + 1}">more</a>')
    else:
        rows.append('<a class="product" href="/products/secret">not to be sold yet</a>')
    return _page(f"Teaware, page {page}", "\n".join(rows))


async def outlet(request: web.Request) -> web.Response:
    """The same kind of listing, but there is always a next one."""
    page = int(request.query.get("page", 1))
    rows = [_row((page + place) % PRODUCTS + 1) for place in range(PER_PAGE)]
    rows.append(f'<a class="next" href="/outlet?page={page + 1}">more</a>')
    return _page(f"Outlet, page {page}", "\n".join(rows))


async def product(request: web.Request) -> web.Response:
    """A product's own page, unless the shop is in trouble with it."""
    number = int(request.match_info["product"])
    if number == BROKEN:
        raise web.HTTPInternalServerError
    if number == SLOW:
        await asyncio.sleep(SLOW_S)
    stock = "sold out" if number % 6 == 0 else "in stock"
    return _page(
        _name(number),
        f'<p class="price">{_price(number)}</p>\n<p class="stock">{stock}</p>\n'
        f'<div class="description">{_description(number)}</div>',
    )


def _name(number: int) -> str:
    kind = _KINDS[number % len(_KINDS)]
    return f"{kind} {number}, {_FINISHES[number % len(_FINISHES)]} & white"


def _price(number: int) -> str:
    return f"EUR {5 + number * 1.75:.2f}"


def _description(number: int) -> str:
    dice = random.Random(number)
    return " ".join(dice.choices(_WORDS, k=300))


def _row(number: int) -> str:
    link = f'<a class="product" href="/products/{number}">{escape(_name(number))}</a>'
    return f'<p class="row">{link} <span class="price">{_price(number)}</span></p>'


def _page(title: str, body: str) -> web.Response:
    head = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    html = f"{head}\n<h1>{escape(title)}</h1>\n{body}\n</html>\n"
    return web.Response(text=html, content_type="text/html")


async def main() -> None:
    """Serve until cancelled."""
    async with serve() as url:
        print(url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
