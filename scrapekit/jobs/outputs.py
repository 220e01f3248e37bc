"""Outputs: the exports of a job. Their files follow what was committed."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from scrapekit import exports
from scrapekit.cutting import seen_through
from scrapekit.errors import ItemError, JobError, OutputError
from scrapekit.exports import Export, Mode, Place, Projection
from scrapekit.exports.projection import Items
from scrapekit.failure import failure
from scrapekit.frontier.damage import sound
from scrapekit.jobs.job import Job

OUTPUT: Final = "output"
"""The kind of the notes on how far output files are; by absolute path and format."""


class JobExport:
    """The `Export` to a file that follows a job.

    Items come to it by way of the job, not by `write_nowait`. A file that the job has written
    before is continued, in every mode.
    """

    def __init__(
        self, job: Job, spec: str | os.PathLike[str], mode: Mode, *, safe: bool = False
    ) -> None:
        self.path = os.fspath(spec)
        self._job = job
        self._spec = spec
        self._mode = mode
        self._safe = safe
        self._made: Projection | None = None
        self._failure: OutputError | None = None
        self._problems: list[ItemError] = []
        """What couldn't be written, and nobody was told."""
        self._told = False
        self._open = False
        self._closing = False

    def __repr__(self) -> str:
        return f"<JobExport to {self.path}, {self.count} items>"

    @property
    def count(self) -> int:
        return self._made.place.count if self._made else 0

    async def check(self) -> None:
        self.path = self._projection.path
        place = self._kept()
        await asyncio.to_thread(self._projection.check, place)

    async def open(self) -> None:
        try:
            # A thread can't be cancelled, and would leave the file open when it is done.
            await seen_through(self._take_up())
        except asyncio.CancelledError:
            await seen_through(asyncio.to_thread(self._projection.close))
            raise
        except (OSError, sqlite3.Error) as error:
            raise _failed(self.path, error) from error
        self._open = True

    def write_nowait(self, items: Sequence[object]) -> list[ItemError]:
        """What couldn't be written of what was committed so far."""
        self._raise_failure()
        return self._take_problems()

    @property
    def full(self) -> bool:
        """Never: what was committed is written before the next page is."""
        return False

    async def room(self) -> None:
        self._raise_failure()

    async def aclose(self) -> list[ItemError]:
        if self._open and not self._closing:
            self._closing = True
            await seen_through(self._complete(), self._hurry)
            if not self._told:
                self._raise_failure()
        problems, self._problems = self._problems, []
        return problems

    def follow(self, pages: Sequence[Items]) -> None:
        """Write what was committed; keeps what goes wrong for whoever asks next."""
        if self._failure is None and self._open:
            try:
                self._projection.follow(pages)
            except Exception as error:
                self._failure = _failed(self.path, error)

    def place(self) -> tuple[str, str] | None:
        """The name of its note, and the note; None as long as it isn't open."""
        if not self._open or self._failure is not None:
            return None
        return self._name, _encode(self._projection.place)

    async def _take_up(self) -> None:
        projection = self._projection
        await asyncio.to_thread(projection.check, self._kept())
        place = await asyncio.to_thread(projection.claim, self._kept())
        # Before the file is touched: what is in it from now on is the job's.
        self._note(place)
        await self._job.flush()
        await asyncio.to_thread(projection.open, self._job.pages, rebuild=self._job.machine_died)
        self._note(projection.place)

    def _hurry(self) -> None:
        self._projection.hurried = True

    async def _complete(self) -> None:
        try:
            await self._finish()
        except (OSError, sqlite3.Error) as error:
            self._failure = self._failure or _failed(self.path, error)
        finally:
            self._open = False
            await asyncio.to_thread(self._projection.close)

    async def _finish(self) -> None:
        try:
            await self._job.flush()
        except JobError as error:
            # Whoever committed last may have told, but not if it has gone since.
            self._failure = self._failure or _failed(self.path, error)
        if self._failure is None:
            await asyncio.to_thread(self._projection.finish, self._job.pages)
            self._problems = self._take_problems()
            self._note(self._projection.place)

    def _take_problems(self) -> list[ItemError]:
        """What couldn't be written so far. A later run is no success either, so the job counts."""
        problems, self._projection.problems = self._projection.problems, []
        self._job.lose(failure(problem, "export") for problem in problems)
        return problems

    @property
    def _projection(self) -> Projection:
        if self._made is None:
            made = exports.project(
                self._spec, mode=self._mode, mark=self._job.mark, safe=self._safe
            )
            assert made is not None
            made.durable = self._job.durability == "power"
            self._made = made
        return self._made

    @property
    def _name(self) -> str:
        return f"{self._projection.place.format}:{os.path.realpath(self.path)}"

    def _kept(self) -> Place | None:
        note = self._job.recall(OUTPUT, self._name)
        with sound(self._job.path, "a note on its outputs"):
            return msgspec.json.decode(note, type=Place) if note else None

    def _note(self, place: Place) -> None:
        self._job.remember(OUTPUT, self._name, _encode(place))

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self._told = True
            raise self._failure


class Followers:
    """The exports of a job, as its writer sees them."""

    def __init__(self, outputs: Sequence[JobExport]) -> None:
        self._outputs = outputs

    def follow(self, pages: Sequence[tuple[int, int, str]]) -> None:
        items = [Items(*page) for page in pages]
        for output in self._outputs:
            output.follow(items)

    def places(self) -> Mapping[tuple[str, str], str | None]:
        places = filter(None, (output.place() for output in self._outputs))
        return {(OUTPUT, name): value for name, value in places}


def job_exports(
    job: Job, specs: Iterable[tuple[str | os.PathLike[str], Mode]], *, safe: bool = False
) -> list[Export]:
    """The exports of a job, not opened yet. Pipes and terminals get what this run commits. With
    `safe`, CSV files that follow the job are written for spreadsheets.

    Raises UsageError for what names no file or no format.
    """
    made: list[Export] = []
    following: list[JobExport] = []
    for spec, mode in specs:
        if exports.project(spec, mode=mode, mark=0) is None:
            made.append(exports.open_spec(spec, mode=mode))
        else:
            following.append(JobExport(job, spec, mode, safe=safe))
            made.append(following[-1])
    job.follower = Followers(following)
    return made


def _encode(place: Place) -> str:
    return msgspec.json.encode(place).decode()


def _failed(path: str, error: Exception) -> OutputError:
    if isinstance(error, OutputError):
        return error
    if isinstance(error, FileNotFoundError):
        what = "it is gone; it is made anew when the job is continued"
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        what = "the disk is full; make room, and run the same command again"
    else:
        what = getattr(error, "strerror", None) or str(error)
    return OutputError(f"can't write {path}: {what}", path=path)
