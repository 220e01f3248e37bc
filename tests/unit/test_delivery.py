from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scrapekit.announcer import Announcer
from scrapekit.clock import ManualClock
from scrapekit.delivery import Delivery
from scrapekit.errors import OutputError
from scrapekit.events import Failed, Recorder
from scrapekit.exports import FileExport, open_spec
from scrapekit.frontier.base import Lease, Outcome
from scrapekit.messages import Request

# More than a pipe and the buffer before it hold.
ITEMS = [{"n": number, "text": "x" * 1000} for number in range(500)]


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[str]:
    """A pipe whose reader takes nothing."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield f"{path}:jsonl"
    os.close(reader)


def made(recorder: Recorder, *specs: str) -> Delivery:
    def broken(error: OutputError) -> None:
        """Nothing is left to be stopped."""

    exports = [open_spec(spec) for spec in specs]
    assert all(isinstance(export, FileExport) for export in exports)
    return Delivery(exports, None, Announcer([recorder], ManualClock()), broken)


def outcome(items: list[Any]) -> Outcome:
    request = Request("http://site.test/")
    return Outcome(Lease(request, "http://site.test", 1), [], items)


def errors(recorder: Recorder) -> list[str]:
    return [str(event.failure.error) for event in recorder.events if isinstance(event, Failed)]


@pytest.mark.parametrize("stuck_first", [True, False])
async def test_a_reader_that_takes_nothing_costs_the_other_outputs_nothing(
    tmp_path: Path, stuck: str, *, stuck_first: bool
) -> None:
    recorder, array = Recorder(), tmp_path / "items.json"
    specs = [stuck, str(array)] if stuck_first else [str(array), stuck]
    delivery = made(recorder, *specs)
    await delivery.open()
    delivery.hurry(0.0)
    await delivery.deliver(outcome(ITEMS))
    await delivery.aclose()

    assert json.loads(array.read_text()) == ITEMS
    assert len(errors(recorder)) == 1
    assert "its reader took nothing" in errors(recorder)[0]


async def test_a_cancelled_closing_completes_all_outputs(tmp_path: Path, stuck: str) -> None:
    recorder, array = Recorder(), tmp_path / "items.json"
    delivery = made(recorder, stuck, str(array))
    await delivery.open()
    delivering = asyncio.create_task(delivery.deliver(outcome(ITEMS)))
    await asyncio.sleep(0)
    delivering.cancel()
    closing = asyncio.create_task(delivery.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing

    assert json.loads(array.read_text()) == ITEMS
    assert len(errors(recorder)) == 1
