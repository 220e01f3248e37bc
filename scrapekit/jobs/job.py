"""Job: the frontier of a crawl with a folder, which knows whose it is and how it was left."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import xxhash

from scrapekit import sitemaps
from scrapekit._version import __version__
from scrapekit.clock import Clock
from scrapekit.errors import JobError, UnknownCallback
from scrapekit.exports.projection import Items
from scrapekit.frontier.base import Outcome
from scrapekit.frontier.damage import sound
from scrapekit.frontier.sqlite import JOB, SqliteFrontier
from scrapekit.jobs.code import code_of
from scrapekit.messages import Request
from scrapekit.report import JobCounts
from scrapekit.settings import Settings, changed, redact
from scrapekit.spider import Spider

logger = logging.getLogger("scrapekit")

CALLBACK: Final = "callback"
"""The kind of the notes on which callbacks requests were filed for."""

SITEMAPS: Final = "sitemaps"
"""The note on whether sitemaps were ever asked for."""

CHUNK: Final = 500
"""Pages whose items are read at a time."""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Job(SqliteFrontier):
    """The job in the folder `path` for a crawl of `spider`. Opening it continues what is there.

    Raises JobError on opening if the job is another spider's, or waits for a callback that the
    spider doesn't have any more; nothing is changed then.
    """

    def __init__(self, path: Path, spider: Spider, settings: Settings, clock: Clock) -> None:
        super().__init__(path, durability=settings.durability, now=clock.now)
        self.machine_died = False
        """Whether the machine went down while the job ran: files may not be as they were left."""
        self.is_resumed = False
        """Whether there was something before; known once it is open, like all that follows."""
        self.resuming = ""
        """What there is to continue: "resuming: 180 done, 1,204 pending, 3 failed"."""
        self.done_before = 0
        self.failed = 0
        self.failed_of_user_code = 0
        self._spider = spider
        self._settings = settings
        self._clock = clock
        self._callbacks: set[str] = set()
        self._opened = False

    @property
    def mark(self) -> int:
        """A number that tells this job's databases from another's."""
        return int(self.recall(JOB, "mark") or 0)

    @property
    def counts_now(self) -> JobCounts:
        """What it has come to, in all runs."""
        return JobCounts(
            done=self.counts["done"],
            pending=self.pending + self.leased + sum(self.left_out.values()),
            failed=self.failed,
            failed_of_user_code=self.failed_of_user_code,
            items=self.counts["items"],
            troubles=self.counts["troubles"],
            done_before=self.done_before,
        )

    async def open(self) -> None:
        await super().open()
        with sound(self.path, "a note on its runs"):
            self._take_up()
        self._opened = True

    async def add(self, requests: Sequence[Request]) -> Sequence[Request]:
        new = await super().add(requests)
        self._note_callbacks(new)
        return new

    async def commit(self, outcome: Outcome) -> Sequence[Request]:
        if outcome.failure is not None:
            self.failed += 1
            self.failed_of_user_code += outcome.failure.of_user_code
        self._note_callbacks(outcome.requests)
        return await super().commit(outcome)

    async def aclose(self) -> None:
        if self._opened:
            self._opened = False
            self.remember(JOB, "ended", str(self._clock.now()))
        await super().aclose()

    def pages(self, after: int) -> Iterator[Sequence[Items]]:
        """The items that were committed after a page, some pages at a time. Blocks."""
        while rows := self.store.pages(after, CHUNK):
            yield [Items(*row) for row in rows]
            after = rows[-1].number

    def _drop_sitemaps(self) -> None:
        """Each run asks for its sitemaps anew: nobody waits for those of an earlier one."""
        if self.recall(JOB, SITEMAPS) is not None:
            self.drop(sitemaps.CALLBACK)
            self.remember(JOB, SITEMAPS, None)

    def _note_callbacks(self, requests: Sequence[Request]) -> None:
        for request in requests:
            name = request.callback
            if name == sitemaps.CALLBACK and self.recall(JOB, SITEMAPS) is None:
                self.remember(JOB, SITEMAPS, "")
            # A name with a colon is the crawl's own, such as that for sitemaps.
            if name is not None and name not in self._callbacks and ":" not in name:
                self._callbacks.add(name)
                self.remember(CALLBACK, name, "")

    def _take_up(self) -> None:
        """Look whether it fits, say what there is, and note who runs it now."""
        known = self.store.notes(JOB)
        self._refuse_other_spider(known.get("spider"))
        self._callbacks = set(self.recall_all(CALLBACK))
        self._refuse_missing_callbacks()
        self._drop_sitemaps()
        failed = self.store.rows("SELECT count(*), coalesce(sum(of_user_code), 0) FROM failures")
        self.failed, self.failed_of_user_code = failed[0]
        self.done_before = self.counts["done"]
        counts = f"{self.done_before:,} done, {self.pending:,} pending, {self.failed:,} failed"
        self.is_resumed, self.resuming = "spider" in known, f"resuming: {counts}"
        if self.is_resumed:
            logger.info("%s", self.resuming)
            _tell_changes(known, _shown(self._settings))
        self._note_run(known)

    def _note_run(self, known: Mapping[str, str]) -> None:
        boot, now = _boot_id(), str(self._clock.now())
        self.machine_died = "ended" not in known and known.get("boot", boot) != boot
        for name, value in {
            "spider": self._spider.name,
            "version": __version__,
            "settings": _shown(self._settings),
            "boot": boot,
            "runs": str(int(known.get("runs", 0)) + 1),
            "started": now,
            "first_started": known.get("first_started", now),
            "done_before": str(self.done_before),
            "mark": known.get("mark") or str(xxhash.xxh3_64_intdigest(now.encode()) % 2**31 or 1),
            "ended": None,
            "code": _code(known, code_of(self._spider)),
        }.items():
            self.remember(JOB, name, value)

    def _refuse_other_spider(self, name: str | None) -> None:
        if name is not None and name != self._spider.name:
            raise JobError(
                f"the job {self.path} is that of the spider {name!r}, not of "
                f"{self._spider.name!r}; choose another folder, or set name = {name!r}",
                path=str(self.path),
            )

    def _refuse_missing_callbacks(self) -> None:
        for name in sorted(self._callbacks):
            try:
                self._spider.callback(name)
            except UnknownCallback as error:
                waiting = self.store.waits_for(name)
                if waiting:
                    raise JobError(
                        f"{waiting:,} pending requests of the job {self.path} wait for the "
                        f"callback {name!r}: {error}. Give it back, if only as another name for "
                        "one that is there; nothing was changed",
                        path=str(self.path),
                    ) from error


def _code(known: Mapping[str, str], now: str) -> str:
    """What made all pages of the job; nothing if it was changed on the way."""
    return now if known.get("code", now) == now else ""


def _tell_changes(known: Mapping[str, str], settings: str) -> None:
    if known.get("version") != __version__:
        logger.info("the job was last run by scrapekit %s; this is %s", *_pair(known))
    before, now = json.loads(known.get("settings", "{}")), json.loads(settings)
    for name in sorted({*before, *now}):
        if before.get(name, "the default") != now.get(name, "the default"):
            logger.info(
                "other settings than in the last run: %s was %s, now it is %s",
                name,
                before.get(name, "the default"),
                now.get(name, "the default"),
            )


def _pair(known: Mapping[str, str]) -> tuple[str, str]:
    return known.get("version", "another version"), __version__


def _shown(settings: Settings) -> str:
    """The settings that aren't the defaults, without secrets."""
    values = {name: redact(name, value) for name, value in changed(settings).items()}
    return msgspec.json.encode(values).decode()


def _boot_id(read: Callable[[], str] = lambda: _BOOT_ID.read_text(encoding="ascii")) -> str:
    """What changes each time the machine starts; empty where it can't be told."""
    try:
        return read().strip()
    except OSError:
        return ""
