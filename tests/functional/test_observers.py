from __future__ import annotations

from scrapekit.events import Failed, Recorder
from tests.functional.site import Site, crawled
from tests.functional.spiders import Following


async def test_an_observer_that_raises_is_reported_once_and_told_nothing_more() -> None:
    told: list[object] = []
    recorder = Recorder()

    def broken(event: object) -> None:
        told.append(event)
        raise LookupError("no dashboard")

    async with Site({"*": ""}) as site:
        items, report = await crawled(
            Following(start_urls=site.urls("/1", "/2")), observers=[broken, recorder]
        )
    assert len(items) == 2
    assert len(told) == 1
    failures = [event.failure for event in recorder.events if isinstance(event, Failed)]
    assert [str(failure.error) for failure in failures] == ["no dashboard"]
    assert not report.ok
    assert report.errors[0].during == "observer"
