"""Quarantine: keeps the pages that took a callback down, for whoever looks into it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from scrapekit import urls
from scrapekit.failure import Failure


def keep(folder: str, failed: Failure) -> Path | None:
    """Write a failure's page to `folder`: NAME.body as it was decoded, NAME.json about it.

    The name is made of a checksum, never of the URL. The folder is made if need be, for its
    owner alone; an older page of the same URL is replaced. Returns the body's path; None if
    there was no page. Blocks. Raises OSError.
    """
    response = failed.response
    if response is None:
        return None
    place = Path(folder)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{urls.fingerprint(response.request.url, response.request.method):016x}"
    about = {
        "url": response.request.url,
        "final_url": response.url,
        "status": response.status,
        "headers": list(response.headers.items()),
        "callback": failed.callback,
        "error": f"{type(failed.error).__name__}: {failed.error}",
    }
    # In ASCII: headers may hold what no encoding can write.
    _write(place / f"{name}.json", json.dumps(about, indent=2).encode())
    body = place / f"{name}.body"
    _write(body, response.body)
    return body


def _write(path: Path, data: bytes) -> None:
    # Not through a link that lies there already.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
