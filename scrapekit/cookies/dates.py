"""The dates of cookies: anything with a time, a day, a month and a year in it (RFC 6265, 5.1.1)."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime
from typing import Final

_DELIMITERS: Final = re.compile(r"[\t\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME: Final = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?!\d)", re.ASCII)
_DAY: Final = re.compile(r"(\d{1,2})(?!\d)", re.ASCII)
_YEAR: Final = re.compile(r"(\d{2,4})(?!\d)", re.ASCII)
_MONTHS: Final = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)


def parse(text: str) -> float | None:
    """Seconds since the epoch, or None for what is no date. Never raises."""
    found: dict[str, tuple[int, ...]] = {}
    for token in _DELIMITERS.split(text):
        for kind, value in _readings(token):
            if kind not in found:
                found[kind] = value
                break
    return _timestamp(found) if len(found) == 4 else None


def _readings(token: str) -> list[tuple[str, tuple[int, ...]]]:
    """What a token may be, in the order in which the standard tries it."""
    readings: list[tuple[str, tuple[int, ...]]] = []
    if time := _TIME.match(token):
        readings.append(("time", tuple(map(int, time.groups()))))
    if day := _DAY.match(token):
        readings.append(("day", (int(day[1]),)))
    if token[:3].lower() in _MONTHS:
        readings.append(("month", (_MONTHS.index(token[:3].lower()) + 1,)))
    if year := _YEAR.match(token):
        readings.append(("year", (_full_year(int(year[1])),)))
    return readings


def _full_year(year: int) -> int:
    if 70 <= year <= 99:
        return year + 1900
    return year + 2000 if year <= 69 else year


def _timestamp(found: dict[str, tuple[int, ...]]) -> float | None:
    hour, minute, second = found["time"]
    (day,), (month,), (year,) = found["day"], found["month"], found["year"]
    valid = year >= 1601 and hour <= 23 and minute <= 59 and second <= 59
    if not valid or not 1 <= day <= monthrange(year, month)[1]:
        return None
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
