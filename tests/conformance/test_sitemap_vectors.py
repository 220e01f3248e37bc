"""Real and hostile sitemaps and feeds of crawler-commons, trafilatura, Scrapy and defusedxml."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest

from scrapekit.sitemaps import Sitemap

URL = "http://www.example.com/sitemap"
DTD = "it has a document type declaration (DTD), which isn't read"
NO_URLS = "it is neither a sitemap nor a feed: it has no URLs"

# What each file has: its kind and how many URLs.
EXPECTED: dict[str, tuple[str, int]] = {
    "rss_feed.rss": ("feed", 3),
    "rss_xmlRss_pubDate.xml": ("feed", 7),
    "sitemaps_atom.xml": ("feed", 1),
    "sitemaps_do-not-visit.txt": ("text", 1),
    "sitemaps_extension_hebdenbridgetimes-articles-sitemap.xml": ("urls", 74),
    "sitemaps_extension_pagemaps-sitemap.xml": ("urls", 2),
    "sitemaps_extension_shinpaideshou-news-sitemap.xml": ("urls", 3),
    "sitemaps_extension_sitemap-images.xml": ("urls", 1),
    "sitemaps_extension_sitemap-links.xml": ("urls", 3),
    "sitemaps_extension_sitemap-mobile.xml": ("urls", 3),
    "sitemaps_extension_sitemap-news.xml": ("urls", 2),
    "sitemaps_extension_sitemap-videos-tvshow.xml": ("urls", 1),
    "sitemaps_extension_sitemap-videos.xml": ("urls", 3),
    "sitemaps_sitemap-with-bom.txt": ("text", 2),
    "sitemaps_sitemap.badns.xml": ("urls", 2),
    # Its addresses stand in <sitemap> itself; the protocol wants a <loc> around them.
    "sitemaps_sitemap.index.xml": ("index", 0),
    "sitemaps_sitemap.ns.xml": ("urls", 2),
    "sitemaps_sitemap.txt": ("text", 2),
    "sitemaps_sitemap.txt.gz": ("text", 5),
    "sitemaps_xmlSitemap.gz": ("urls", 5),
    "feed1.atom": ("feed", 1),
    "feed2.rss": ("feed", 1),
    "sitemap-hreflang.xml": ("urls", 3),
    "sitemap.xml": ("urls", 84),
    "sitemap.xml.gz": ("urls", 84),
    "sitemap2.xml": ("index", 2),
}
REFUSED = {
    # A JSON Feed is none of the formats read here.
    "feed.json": NO_URLS,
    **dict.fromkeys(
        [
            *("cyclic.xml", "dtd.xml", "dtd_element.xml", "external.xml", "external_file.xml"),
            *("quadratic.xml", "xmlbomb.xml", "xmlbomb2.xml"),
        ],
        DTD,
    ),
    "simple.xml": "it is neither a sitemap nor a feed: its root is <root>",
    "simple-ns.xml": "it is neither a sitemap nor a feed: its root is <root>",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        pytest.fail("a sitemap made the parser open a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def read(body: bytes, url: str = URL) -> tuple[Sitemap, list[str]]:
    sitemap = Sitemap(body, url)
    return sitemap, [entry.url for entries in sitemap for entry in entries]


def test_real_ones_are_read_and_hostile_ones_refused(vectors: Path) -> None:
    files = [
        path
        for folder in ("crawler-commons", "trafilatura", "xml_attacks")
        for path in (vectors / "sitemaps" / folder).iterdir()
    ]
    assert {path.name for path in files} == EXPECTED.keys() | REFUSED.keys()
    for path in files:
        sitemap, found = read(path.read_bytes())
        if path.name in REFUSED:
            assert (sitemap.problem, found) == (REFUSED[path.name], [])
        else:
            assert (sitemap.kind, len(found)) == EXPECTED[path.name], path.name
            assert sitemap.problem is None, path.name


ROBOTS = [
    "http://example.com/sitemap.xml",
    "http://example.com/sitemap-product-index.xml",
    "http://example.com/sitemap-uppercase.xml",
    "http://{host}/sitemap-relative-url.xml",
]
# By the line of the test they come from; what isn't listed has no URLs.
SCRAPY: dict[int, list[str]] = {
    11: ["http://www.example.com/", "http://www.example.com/Special-Offers.html"],
    45: ["http://www.example.com/"],
    61: ["http://www.example.com/sitemap1.xml.gz", "http://www.example.com/sitemap2.xml.gz"],
    91: ["http://www.example.com/", "http://www.example.com/2"],
    121: ["http://www.example.com/", "http://www.example.com/2"],
    151: ["http://www.example.com/", "http://www.example.com/2"],
    179: ROBOTS,
    206: ROBOTS,
    242: [f"http://www.example.com/sitemap{number}.xml" for number in (1, 2, 3)],
    275: ["http://www.example.com/"],
    289: ["http://www.example.com/english/"],
    96: ROBOTS,
    114: ["http://example.com/ok.xml"],
    127: ["http://www.example.com/english/"],
    156: ["http://www.example.com/english/", "http://www.example.com/portuguese/"],
    189: [
        "http://www.example.com/english/article_1/",
        "http://www.example.com/english/article_2/",
    ],
    226: ["http://www.example.com/sitemap1.xml", "http://www.example.com/sitemap2.xml"],
    264: ["http://www.example.com/english/", "http://www.example.com/portuguese/"],
    360: ["http://www.example.com/sitemap1.xml"],
}


def test_the_documents_of_scrapys_tests_are_read_as_there(vectors: Path) -> None:
    cases: list[dict[str, Any]] = json.loads(
        (vectors / "sitemaps/scrapy_sitemap_docs.json").read_bytes()
    )
    assert len(cases) == 29
    for case in cases:
        url = "http://www.example.com/robots.txt" if "robots" in case["test"] else URL
        sitemap, found = read(base64.b64decode(case["doc_b64"]), url)
        expected = [part.format(host="www.example.com") for part in SCRAPY.get(case["line"], [])]
        assert found == expected, case["test"]
        assert bool(sitemap.problem) is not bool(expected), case["test"]
