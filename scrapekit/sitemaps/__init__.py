"""Sitemaps and feeds: bytes in, URLs out, a step at a time. Sans-IO."""

from typing import Final

from scrapekit.sitemaps.entries import Entry, Kind, earliest
from scrapekit.sitemaps.reading import Sitemap

__all__ = ["CALLBACK", "Entry", "Kind", "Sitemap", "earliest"]

CALLBACK: Final = "scrapekit:sitemap"
"""That of requests for sitemaps, under which no spider is asked."""
