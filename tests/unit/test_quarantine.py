from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from scrapekit import Request, Response, urls
from scrapekit.errors import CallbackCrashed
from scrapekit.failure import Failure
from scrapekit.quarantine import keep

URL = "https://site.example/a?b=c"


def crashed(
    body: bytes = b"<p>", *, url: str = URL, method: str = "GET", **response: Any
) -> Failure:
    request = Request(url, method=method)
    error = CallbackCrashed("it was killed by SIGSEGV", callback="parse", url=url, exitcode=-11)
    page = Response(response.pop("final_url", url), 200, response.get("headers"), body, request)
    return Failure(error=error, during="callback", request=request, response=page, callback="parse")


def facts(body: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(body.with_suffix(".json").read_bytes())
    return told


def test_the_body_is_kept_as_it_was_decoded(tmp_path: Path) -> None:
    body = b"\x00\xff<p>" * 1000
    path = keep(str(tmp_path / "q"), crashed(body))
    assert path is not None
    assert path.read_bytes() == body


def test_the_facts_beside_it_tell_page_callback_and_error(tmp_path: Path) -> None:
    headers = CIMultiDict([("Content-Type", "text/html"), ("X", "1"), ("X", "2")])
    path = keep(str(tmp_path), crashed(headers=headers, final_url="https://site.example/end"))
    assert path is not None
    assert facts(path) == {
        "url": URL,
        "final_url": "https://site.example/end",
        "status": 200,
        "headers": [["Content-Type", "text/html"], ["X", "1"], ["X", "2"]],
        "callback": "parse",
        "error": "CallbackCrashed: it was killed by SIGSEGV",
    }


def test_headers_that_no_encoding_can_write_are_kept_too(tmp_path: Path) -> None:
    path = keep(str(tmp_path), crashed(headers={"X": "\udcff\u2028"}))
    assert path is not None
    assert facts(path)["headers"] == [["X", "\udcff\u2028"]]


def test_the_name_is_a_checksum_whatever_the_url_is(tmp_path: Path) -> None:
    url = "https://site.example/../../etc/passwd%00/" + 5000 * "x"
    path = keep(str(tmp_path), crashed(url=url))
    assert path is not None
    assert path.parent == tmp_path
    assert path.name == f"{urls.fingerprint(urls.normalize(url)):016x}.body"


def test_an_older_page_of_the_same_url_is_replaced_and_of_another_method_is_not(
    tmp_path: Path,
) -> None:
    kept = [
        keep(str(tmp_path), crashed(b"a long old page")),
        keep(str(tmp_path), crashed(b"a form", method="POST")),
        keep(str(tmp_path), crashed(b"new")),
    ]
    assert kept[0] == kept[2] != kept[1]
    assert sorted(path.read_bytes() for path in tmp_path.glob("*.body")) == [b"a form", b"new"]


def test_folder_and_files_are_their_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = keep(str(tmp_path / "deep" / "q"), crashed())
    finally:
        os.umask(old)
    assert path is not None
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("suffix", ["body", "json"])
def test_nothing_is_written_through_a_link_that_lies_there(tmp_path: Path, suffix: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "q"
    folder.mkdir()
    (folder / f"{urls.fingerprint(URL):016x}.{suffix}").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        keep(str(folder), crashed())
    assert victim.read_text() == "precious"


def test_a_failure_without_a_page_leaves_nothing(tmp_path: Path) -> None:
    failed = Failure(error=LookupError("no price"), during="on_error", request=Request(URL))
    assert keep(str(tmp_path / "q"), failed) is None
    assert not (tmp_path / "q").exists()
