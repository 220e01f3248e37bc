"""Request and Response: the two messages of a crawl."""

from __future__ import annotations

from scrapekit.request import ANYWHERE, Callback, Request, When, callback_name
from scrapekit.response import Cached, Response

__all__ = ["ANYWHERE", "Cached", "Callback", "Request", "Response", "When", "callback_name"]
