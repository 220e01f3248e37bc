"""The first spider: run it with `scrapekit crawl examples/quotes.py -o quotes.jsonl`."""

from scrapekit import Spider


class Quotes(Spider):
    start_urls = ["https://quotes.toscrape.com/"]

    def parse(self, response):
        for quote in response.css("div.quote"):
            yield {"text": quote.get(".text"), "author": quote.get(".author")}
        yield from response.follow_all("li.next a")
