"""Code: what tells whether a spider would make the same of a page as it did before."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from scrapekit._version import __version__
from scrapekit.items import encode_value
from scrapekit.spider import Spider


def code_of(spider: Spider) -> str:
    """A hash of the files with the spider's classes and stages, of its arguments and of scrapekit's
    version; "" if one of them can't be read. What those files import is not looked at. Blocks.
    """
    hashed = hashlib.blake2b(__version__.encode(), digest_size=16)
    try:
        hashed.update(encode_value(spider._construction))
        for file in sorted(set(_files(spider))):
            hashed.update(file.read_bytes())
    except (OSError, TypeError):
        return ""
    return hashed.hexdigest()


def _files(spider: Spider) -> Iterator[Path]:
    for part in (*type(spider).__mro__, *spider.pipeline):
        module = part.__module__
        if module.partition(".")[0] in ("scrapekit", "builtins"):
            continue
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is None:
            raise FileNotFoundError(module)
        yield Path(file)
