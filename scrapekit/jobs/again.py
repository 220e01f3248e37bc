"""Again: put back what was given up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from scrapekit.errors import JobError, did_you_mean
from scrapekit.frontier import folder as folders
from scrapekit.frontier.sqlite import JOB, LOST
from scrapekit.frontier.store import Store
from scrapekit.jobs.changes import MARK
from scrapekit.jobs.outputs import OUTPUT
from scrapekit.jobs.since import GONE

_WHICH: Final = "(:reason IS NULL OR reason = :reason OR reason LIKE :reason || ' %')"
_HOW_MANY: Final = f"SELECT count(*) FROM failures WHERE {_WHICH}"  # noqa: S608
_PUT_BACK: Final = f"""
INSERT INTO pending SELECT number, origin, -coalesce(request->>'p', 0), 0, 1, request
  FROM failures WHERE {_WHICH}
"""  # noqa: S608
_FORGET: Final = f"DELETE FROM failures WHERE {_WHICH}"  # noqa: S608
_COUNT: Final = """
UPDATE notes SET value = CAST(value + :count AS TEXT) WHERE kind = :kind AND name = 'pending'
"""


_FORGET_LOST: Final = "UPDATE notes SET value = '0' WHERE kind = :job AND name = 'troubles'"
_FORGET_WHY: Final = "DELETE FROM notes WHERE kind = :lost"


# Of the job of a crawl with `since`, where all items are marked; those that are gone are by
# themselves. A page keeps its number, which no other one may get: files go by it.
_TOLD: Final = f"""
EXISTS (SELECT 1 FROM notes WHERE kind = :job AND name = :gone)
  AND count > 0 AND rtrim(lines, char(10)) GLOB '*"{MARK}":"gone"}}'
"""  # noqa: S608
_COUNT_LESS: Final = f"""
UPDATE notes SET value = CAST(
  value - (SELECT coalesce(sum(count), 0) FROM items WHERE {_TOLD}) AS TEXT)
WHERE kind = :job AND name = 'items'
"""  # noqa: S608
_MAKE_ANEW: Final = f"""
UPDATE notes SET value = json_set(value, '$.stale', json('true'))
WHERE kind = :output AND EXISTS (SELECT 1 FROM items WHERE {_TOLD})
"""  # noqa: S608
_TAKE_BACK: Final = f"UPDATE items SET count = 0, lines = '' WHERE {_TOLD}"  # noqa: S608
_FORGET_TOLD: Final = "DELETE FROM notes WHERE kind = :job AND name = :gone"


def forget_lost(path: Path) -> int:
    """Count the items no more that errors of stages and outputs have cost; how many there were.

    They can't be had again: their pages are done, and the other items of those are kept. Blocks.
    Raises JobError if there is no job, or another process has it.
    """
    with _opened(path) as store:
        count = int(store.note(JOB, "troubles") or 0)
        store.change((_FORGET_LOST, {"job": JOB}), (_FORGET_WHY, {"lost": LOST}))
        return count


def retry(path: Path, reason: str | None = None) -> int:
    """Let the given-up requests of a job wait again, as if they had not been tried; how many.

    Items that the job has told to be gone are taken back: they may be met again.
    `reason` picks some, as `scrapekit job` names it: "BadStatus 500", or "BadStatus" for all of
    them. Blocks. Raises JobError if there is no such reason, or another process has the job.
    """
    with _opened(path) as store:
        return _retry(store, path, reason)


@contextmanager
def _opened(path: Path) -> Iterator[Store]:
    folder = folders.lock(path, create=False)
    try:
        with closing(Store(folder.database)) as store:
            yield store
    finally:
        folder.release()


def _retry(store: Store, path: Path, reason: str | None) -> int:
    values = {"reason": reason}
    count = int(store.rows(_HOW_MANY, values)[0][0])
    if not count:
        reasons = [row[0] for row in store.rows("SELECT DISTINCT reason FROM failures")]
        if reason is not None and reasons:
            message = f"no request of {path} failed by {reason!r}{did_you_mean(reason, reasons)}"
            raise JobError(message, path=str(path))
        return 0
    told = {"job": JOB, "gone": GONE}
    store.change(
        (_PUT_BACK, values),
        (_FORGET, values),
        (_COUNT, {"count": count, "kind": JOB}),
        (_COUNT_LESS, told),
        (_MAKE_ANEW, told | {"output": OUTPUT}),
        (_TAKE_BACK, told),
        (_FORGET_TOLD, told),
    )
    return count
