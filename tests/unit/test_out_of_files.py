"""Too many open files are nobody's fault but this machine's."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from scrapekit import Settings
from scrapekit.errors import ConnectError, OutOfFiles
from scrapekit.failure import failure
from scrapekit.retry import decide, is_passing
from scrapekit.transport.http import HttpTransport
from scrapekit.transport.translation import translate
from tests.functional.site import Site, crawled
from tests.functional.spiders import Titles

URL = "http://a.test/"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_they_are_told_from_what_the_site_did(number: int) -> None:
    error = translate(OSError(number, os.strerror(number)), URL, Settings())

    assert isinstance(error, OutOfFiles)
    assert "ulimit -n" in str(error)
    assert error.url == URL


def test_another_error_of_the_system_is_the_connections() -> None:
    error = translate(OSError(errno.ECONNRESET, "reset"), URL, Settings())

    assert isinstance(error, ConnectError)


def test_they_may_pass_and_make_the_crawl_fail_if_they_don_t() -> None:
    error = OutOfFiles("too many open files", url=URL)

    assert is_passing(error)
    assert failure(error, "fetch").of_user_code


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_they_are_waited_out_whatever_is_said_of_retries(method: str) -> None:
    def due(tries: int) -> float | None:
        error, settings = OutOfFiles("too many open files", url=URL), Settings(retries=0)
        return decide(
            error, method=method, tries=tries, settings=settings, now=0.0, random=lambda: 1.0
        )

    assert [due(tries) for tries in range(1, 12)] == [min(2.0**n, 300.0) for n in range(11)]
    assert due(12) is None


@pytest.mark.parametrize("robots", [False, True])
async def test_they_cost_no_page_and_count_against_no_site(
    robots: bool, caplog: pytest.LogCaptureFixture
) -> None:
    left = [40]

    def factory(address: Any) -> socket.socket:
        left[0] -= 1
        if left[0] >= 0 and left[0] % 4:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return socket.socket(*address[:3])

    settings = {"obey_robots": robots, "retry_delay_s": 0.0, "retries": 0, "adaptive": True}
    transport = HttpTransport(Settings(), socket_factory=factory)
    async with Site({"*": ""}) as site:
        spider = Titles(start_urls=site.urls(*(f"/{number}" for number in range(30))))
        items, report = await crawled(spider, settings=settings, transport=transport)
    assert len(items) == 30
    assert report.ok
    assert report.errors == []
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == (
        "too many open files: raise the limit (ulimit -n) or lower the setting concurrency; "
        "until then, requests wait for others to end"
    )
    assert not any("broken" in limit.why for limit in report.origins)
