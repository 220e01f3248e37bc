"""Too many open files are nobody's fault but this machine's."""

from __future__ import annotations

import errno
import os

import pytest

from scrapekit import Settings
from scrapekit.errors import ConnectError, OutOfFiles
from scrapekit.failure import failure
from scrapekit.retry import is_passing
from scrapekit.transport.translation import translate

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
