from __future__ import annotations

from scrapekit import collect
from scrapekit.importing import import_file
from scrapekit.testing import FakeTransport
from tests.programs import EXAMPLES

FIRST = """
<div class="quote"><span class="text">“So it goes.”</span>
  <span>by <small class="author">Kurt Vonnegut</small></span></div>
<nav><ul class="pager"><li class="next"><a href="/page/2/">Next</a></li></ul></nav>
"""
SECOND = """
<div class="quote"><span class="text">“Reader, I married him.”</span>
  <span>by <small class="author">Charlotte Brontë</small></span></div>
<nav><ul class="pager"><li class="previous"><a href="/page/1/">Previous</a></li></ul></nav>
"""


async def test_the_first_spider_reads_the_quotes_of_all_pages() -> None:
    web = FakeTransport(
        {
            "https://quotes.toscrape.com/": FIRST,
            "https://quotes.toscrape.com/page/2/": SECOND,
        }
    )
    items = await collect(import_file(EXAMPLES / "quotes.py").Quotes(), transport=web)
    assert items == [
        {"text": "“So it goes.”", "author": "Kurt Vonnegut"},
        {"text": "“Reader, I married him.”", "author": "Charlotte Brontë"},
    ]
