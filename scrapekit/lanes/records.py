"""Records: what is logged in a worker process reaches the logging of the crawl's own process."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterable
from typing import Any, Final

Fields = dict[str, Any]
"""Those of a log record, as they travel."""

_PLAIN: Final = (str, int, float, type(None))


def levels() -> dict[str, int]:
    """The levels that are set in this process, by the logger's name; "" is the root."""
    root = logging.getLogger()
    # Copied at a stroke: other threads may be making loggers.
    loggers = dict(root.manager.loggerDict)
    named = {n: log.level for n, log in loggers.items() if isinstance(log, logging.Logger)}
    return {"": root.level} | {name: level for name, level in named.items() if level}


def collect(levels: dict[str, int]) -> list[Fields]:
    """In a worker, log up to these levels, and warn, into the list that is returned.

    Nowhere else: handlers that the script has set while it was imported are at home as well.
    """
    root = logging.getLogger()
    for known in root.manager.loggerDict.values():
        if isinstance(known, logging.Logger):
            known.handlers.clear()
            known.propagate = True
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    records: list[Fields] = []
    root.handlers[:] = [_Collector(records)]
    logging.captureWarnings(True)
    return records


def replay(records: Iterable[Fields]) -> None:
    """Log here what was logged there, as far as the loggers here let it pass."""
    for fields in records:
        record = logging.makeLogRecord(fields)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


class _Collector(logging.Handler):
    def __init__(self, records: list[Fields]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._records.append(_fields(record))
        except Exception:
            # A message that doesn't fit its arguments, for example. It isn't worth a page.
            self.handleError(record)


def _fields(record: logging.LogRecord) -> Fields:
    fields = dict(record.__dict__, msg=record.getMessage(), args=None)
    if record.exc_info:
        fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
        fields["exc_info"] = None
    return {name: value for name, value in fields.items() if _travels(value)}


def _travels(value: Any) -> bool:
    if isinstance(value, _PLAIN):
        return True
    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301 -- what this process has just pickled
    except Exception:
        return False
    return True
