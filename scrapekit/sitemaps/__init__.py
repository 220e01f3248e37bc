"""Sitemaps and feeds: bytes in, URLs out, a step at a time. Sans-IO."""

from scrapekit.sitemaps.entries import Entry, Kind, earliest
from scrapekit.sitemaps.reading import Sitemap

__all__ = ["Entry", "Kind", "Sitemap", "earliest"]
