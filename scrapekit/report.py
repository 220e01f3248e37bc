"""Report: what a crawl did, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

import msgspec

from scrapekit.events import StopReason

_ORIGINS_SHOWN: Final = 5
_OUTAGES: Final = ("OriginDown", "RobotsUnavailable")


class ErrorGroup(msgspec.Struct, kw_only=True):
    """Failures of one kind: same exception, callback and line."""

    error: str
    during: str
    callback: str | None
    where: str
    message: str
    """That of the first."""
    example: str
    """The URL of the first."""
    traceback: str
    of_user_code: bool
    count: int = 0


class CallbackCost(msgspec.Struct, kw_only=True):
    """What a callback cost in all; times in seconds."""

    callback: str
    lane: str
    calls: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    blocked_s: float = 0.0
    """The longest time for which it kept the event loop from other work."""


class StallGroup(msgspec.Struct, kw_only=True):
    """Times at which the event loop was blocked, by the place that blocked it."""

    whose: str
    callback: str | None
    where: str
    statement: str
    advice: str
    count: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0


class CacheCounts(msgspec.Struct, kw_only=True):
    """What a cache did, in requests; robots.txt files and each hop of a redirect count as well."""

    path: str = ""
    hits: int = 0
    """Answered without asking the site."""
    revalidated: int = 0
    """Answered after the site had said that what was kept still holds."""
    misses: int = 0
    """Fetched as a whole."""
    kept: int = 0
    """Written to the folder."""
    damaged: int = 0
    """Files that weren't as they had been written, and so were fetched anew."""


class OriginLimit(msgspec.Struct, kw_only=True):
    """How the limits of an origin ended up."""

    origin: str
    requests: int
    """Made to it, robots.txt included."""
    concurrency: int
    """Requests at a time, in the end."""
    ceiling: int
    """The most that the settings allow."""
    delay_s: float
    """Between two requests, by the settings or robots.txt."""
    why: str
    """What it was that set `concurrency`."""


class ChangeCounts(msgspec.Struct, kw_only=True):
    """What has changed since an earlier job."""

    pages: int = 0
    """Pages that are as they were, and so weren't parsed."""
    new: int = 0
    changed: int = 0
    same: int = 0
    gone: int = 0
    unknown: int = 0
    """Old items of pages that could not be had, or weren't asked for: they may be gone or not."""
    complete: bool = False
    """Whether the crawl came to its end: only then is it known what is gone."""
    why: str = ""
    """Why it isn't known what is gone, though the crawl came to its end."""


class JobCounts(msgspec.Struct, kw_only=True):
    """What a job has come to, in all its runs."""

    done: int
    """Pages done, and requests that a rule or a redirect settled."""
    pending: int
    failed: int
    """Requests given up."""
    failed_of_user_code: int
    items: int
    troubles: int
    """Items that were lost by errors of user code or for having no JSON form."""
    done_before: int
    """Done in earlier runs."""


class Report(msgspec.Struct, kw_only=True):
    """What a crawl did. `str()` gives the text for people, msgspec.json the one for programs."""

    spider: str = ""
    reason: StopReason = "finished"
    """Why it ended."""
    started_at: float = 0.0
    """Seconds since the epoch."""
    duration_s: float = 0.0
    pages: int = 0
    """Pages that were fetched and handed to a callback."""
    statuses: dict[int, int] = {}
    """Responses by status, after redirects."""
    bytes: int = 0
    """The bodies' size, decoded."""
    retries: int = 0
    unfinished: int = 0
    """Requests that wait or are under way; in the end, those that nothing has become of, because
    the crawl ended before its time. With a job, the next run has them."""
    anomalies: dict[str, int] = {}
    """Responses that were used though something is odd about them, by `Response.anomalies`."""
    dropped: dict[str, int] = {}
    """Requests that were not made, by reason."""
    items: int = 0
    items_dropped: dict[str, int] = {}
    """Items that a stage dropped, by reason; as `max_items` those beyond that setting."""
    exports: dict[str, int] = {}
    """Items written, by output."""
    errors: list[ErrorGroup] = []
    callbacks: list[CallbackCost] = []
    stats: dict[str, float] = {}
    """What the spider's callbacks counted by `self.stats.add()`."""
    stalls: list[StallGroup] = []
    origins: list[OriginLimit] = []
    """How the limits of origins ended up, those asked most often first, 200 at most; empty while
    the crawl runs."""
    advice: list[str] = []
    """Which callback another lane would serve better; see `scrapekit.advice`."""
    since: ChangeCounts | None = None
    """What has changed since an earlier job, if it was compared with one."""
    cache: CacheCounts | None = None
    """What the cache did, if there is one."""
    job: JobCounts | None = None
    """The state of the job, if it is one."""

    @property
    def pages_per_s(self) -> float:
        return self.pages / self.duration_s if self.duration_s > 0 else 0.0

    @property
    def error_count(self) -> int:
        return sum(group.count for group in self.errors)

    @property
    def lost_to_outages(self) -> int:
        """Pages that were given up because their site or its robots.txt was down for too long."""
        return sum(group.count for group in self.errors if group.error in _OUTAGES)

    @property
    def ok(self) -> bool:
        """Whether pages were fetched, and no callback, stage or export failed; of a job in any
        run, unless what failed was put back since.
        """
        done, lost = self.pages > 0, any(group.of_user_code for group in self.errors)
        if self.job is not None:
            done = done or self.job.done > 0
            lost = lost or self.job.failed_of_user_code + self.job.troubles > 0
        return done and not lost

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(report: Report) -> Iterator[str]:
    yield (
        f"{report.spider}: {report.reason} after {_seconds(report.duration_s)}: "
        f"{_count(report.pages, 'page')} ({report.pages_per_s:,.1f}/s), "
        f"{_count(report.items, 'item')}, {_count(report.error_count, 'error')}"
    )
    yield from _lost_lines(report)
    yield from _job_lines(report.job)
    yield from _fetch_lines(report)
    for output, items in report.exports.items():
        yield f"  written    {output}: {_count(items, 'item')}"
    for cost in report.callbacks:
        yield (
            f"  callback   {printable(cost.callback)} ({cost.lane}): "
            f"{_count(cost.calls, 'call')}, "
            f"{_seconds(cost.wall_s)} wall, {_seconds(cost.cpu_s)} CPU"
        )
    if report.stats:
        yield f"  counted    {_tally(report.stats)}"
    for stall in report.stalls:
        yield (
            f"  stalled    {stall.count} x at {stall.where or 'an unknown place'}, "
            f"up to {_seconds(stall.longest_s)}: {printable(stall.statement, 80)}"
        )
    for sentence in report.advice:
        yield f"  advice     {printable(sentence)}"
    for group in report.errors:
        yield from _error_lines(group)
    yield from _origin_lines(report.origins)


def _origin_lines(origins: list[OriginLimit]) -> Iterator[str]:
    for limit in origins[:_ORIGINS_SHOWN]:
        delay = f", {limit.delay_s:g} s apart" if limit.delay_s else ""
        yield (
            f"  limit      {printable(limit.origin)}: {limit.concurrency} at a time{delay} "
            f"({limit.why})"
        )
    if len(origins) > _ORIGINS_SHOWN:
        yield f"  limit      and {len(origins) - _ORIGINS_SHOWN} more origins"


def _fetch_lines(report: Report) -> Iterator[str]:
    if report.unfinished and report.job is None:
        yield f"  left       {_count(report.unfinished, 'request')} not done"
    if report.statuses:
        statuses = _tally(report.statuses)
        yield f"  responses  {statuses}; {_size(report.bytes)}, {_count(report.retries, 'retry')}"
    if report.since is not None:
        yield f"  since      {_since(report.since)}"
    if report.cache is not None:
        yield f"  cache      {_cache(report.cache)}"
    for title, tally in (
        ("odd       ", report.anomalies),
        ("dropped   ", report.dropped),
        ("items dropped ", report.items_dropped),
    ):
        if tally:
            yield f"  {title} {_tally(tally)}"


def _lost_lines(report: Report) -> Iterator[str]:
    """Whether most of the crawl was lost to sites that were down, which else looks like success."""
    lost = report.lost_to_outages
    if lost > report.pages:
        put_back = "; `scrapekit retry` puts them back" if report.job is not None else ""
        yield (
            f"  lost       {_count(lost, 'page')} of {lost + report.pages:,}: "
            f"their site was down for longer than max_outage_s{put_back}"
        )


def _job_lines(job: JobCounts | None) -> Iterator[str]:
    if job is not None:
        yield (
            f"  job        {job.done:,} done ({job.done_before:,} before), "
            f"{job.pending:,} pending, {job.failed:,} failed, {_count(job.items, 'item')}"
        )


def _error_lines(group: ErrorGroup) -> Iterator[str]:
    callback = f" in {group.callback}" if group.callback else ""
    where = f" at {group.where}" if group.where else ""
    yield f"  error      {group.count} x {group.error} ({group.during}{callback}{where})"
    yield f"             {printable(group.message)}"
    if group.example:
        yield f"             for example {printable(group.example)}"


def printable(text: str, limit: int = 500) -> str:
    """Text from the web on one line, without what a terminal would obey; cut at `limit`."""
    short = text if len(text) <= limit else text[:limit] + "..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in short)


def profile(report: Report) -> str:
    """A table of what each callback cost, in each lane."""
    head = ("callback", "lane", "calls", "wall ms", "CPU ms", "CPU s", "of crawl", "blocked ms")
    rows = [head, *map(partial(_profile_row, report.duration_s), report.callbacks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = (
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _profile_row(duration_s: float, cost: CallbackCost) -> tuple[str, ...]:
    calls = max(1, cost.calls)
    share = cost.cpu_s / duration_s if duration_s > 0 else 0.0
    return (
        printable(cost.callback),
        cost.lane,
        f"{cost.calls:,}",
        f"{1000 * cost.wall_s / calls:.2f}",
        f"{1000 * cost.cpu_s / calls:.2f}",
        f"{cost.cpu_s:.2f}",
        f"{share:.0%}",
        f"{1000 * cost.blocked_s:.1f}",
    )


def _tally(counts: Mapping[int, int] | Mapping[str, int] | Mapping[str, float]) -> str:
    return ", ".join(f"{printable(str(name), 80)}: {count:,}" for name, count in counts.items())


def _since(since: ChangeCounts) -> str:
    why = printable(since.why or "it ended early")
    gone = f"{since.gone:,} gone" if since.complete else f"gone ones not known: {why}"
    unknown = f", {since.unknown:,} of pages not seen" if since.unknown else ""
    return (
        f"{_count(since.pages, 'page')} unchanged; items: {since.new:,} new, "
        f"{since.changed:,} changed, {since.same:,} same, {gone}{unknown}"
    )


def _cache(cache: CacheCounts) -> str:
    damaged = f", {cache.damaged:,} damaged" if cache.damaged else ""
    return (
        f"{_count(cache.hits, 'hit')}, {cache.revalidated:,} revalidated, "
        f"{cache.misses:,} missed, {cache.kept:,} kept{damaged}"
    )


def _count(number: int, noun: str) -> str:
    plural = noun if number == 1 else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {plural}"


def _seconds(seconds: float) -> str:
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.1f} min"


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
