from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scrapekit.errors import OutputError
from scrapekit.transport.cachefolder import TAG, CacheFolder, Damaged, Record

NAME = "ab" + "0" * 30 + "-" + "1" * 32
LARGE = bytes(range(256)) * 2_000


def record(url: str = "http://a.test/") -> Record:
    headers = ((b"Content-Type", b"text/html"), (b"X", b"\xff"))
    return Record(url, 200, headers, asked_at=1.0, came_at=2.0, choice=b"")


@pytest.fixture
def folder(tmp_path: Path) -> CacheFolder:
    made = CacheFolder(str(tmp_path / "deep" / "cache"))
    made.open()
    return made


def file_of(folder: CacheFolder, name: str = NAME) -> Path:
    return folder.path / name[:2] / name


@pytest.mark.parametrize("body", [b"", b"<p>", LARGE])
def test_what_is_written_is_found(folder: CacheFolder, body: bytes) -> None:
    folder.write(NAME, record(), body)
    found = folder.look(NAME)
    assert found is not None
    kept, small = found
    assert (kept.url, kept.status, kept.headers) == ("http://a.test/", 200, record().headers)
    assert kept.body_bytes == len(body)
    assert small == (None if body is LARGE else body)
    assert folder.body(NAME, kept) == body


def test_a_later_one_takes_the_place_of_an_older_one(folder: CacheFolder) -> None:
    folder.write(NAME, record(), b"old")
    first = folder.look(NAME)
    folder.write(NAME, record("http://b.test/"), b"new")
    second = folder.look(NAME)
    assert first is not None
    assert second is not None
    assert second[0].url == "http://b.test/"
    with pytest.raises(Damaged, match="replaced"):
        folder.body(NAME, first[0])


def test_a_record_longer_than_what_is_read_at_once(folder: CacheFolder) -> None:
    headers = tuple((b"X", b"x" * 30_000) for _ in range(10))
    long = Record("http://a.test/", 200, headers, asked_at=1.0, came_at=2.0, choice=b"")
    folder.write(NAME, long, b"body")
    found = folder.look(NAME)
    assert found is not None
    assert found[0].headers == headers
    assert folder.body(NAME, found[0]) == b"body"


def test_what_isnt_there_is_none(folder: CacheFolder) -> None:
    assert folder.look(NAME) is None


def test_it_is_its_owners_alone(folder: CacheFolder) -> None:
    folder.write(NAME, record(), b"secret")
    for path in (folder.path, *folder.path.rglob("*")):
        if path.name != TAG:
            allowed = stat.S_IMODE(path.stat().st_mode)
            assert allowed == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("body", [b"0123456789", LARGE])
def test_a_file_that_was_cut_off_counts_as_damaged(folder: CacheFolder, body: bytes) -> None:
    folder.write(NAME, record(), body)
    file = file_of(folder)
    whole = file.read_bytes()
    lengths = range(len(whole)) if body is not LARGE else (len(whole) - 1, 200_000, 131_072, 90)
    for length in lengths:
        file.write_bytes(whole[:length])
        assert is_damaged(folder), length


def test_a_file_with_any_other_byte_counts_as_damaged(folder: CacheFolder) -> None:
    folder.write(NAME, record(), b"0123456789")
    file = file_of(folder)
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert is_damaged(folder), place


def test_a_file_with_something_behind_its_end_counts_as_damaged(folder: CacheFolder) -> None:
    folder.write(NAME, record(), b"0123456789")
    with file_of(folder).open("ab") as file:
        file.write(b"x")
    assert is_damaged(folder)


def is_damaged(folder: CacheFolder) -> bool:
    try:
        found = folder.look(NAME)
        if found is not None:
            folder.body(NAME, found[0])
    except Damaged:
        return True
    return False


def test_links_arent_followed(folder: CacheFolder, tmp_path: Path) -> None:
    folder.write(NAME, record(), b"0123456789")
    outside = file_of(folder).rename(tmp_path / "outside")
    file_of(folder).symlink_to(outside)
    assert is_damaged(folder)
    folder.write(NAME, record(), b"new")
    assert not file_of(folder).is_symlink()
    assert outside.read_bytes().endswith(b"0123456789")


def test_all_of_one_url_is_forgotten_and_nothing_else(folder: CacheFolder) -> None:
    url, other = NAME[:32], "ab" + "9" * 30
    names = [f"{url}-{'1' * 32}", f"{url}-{'2' * 32}", f"{other}-{'1' * 32}"]
    for name in names:
        folder.write(name, record(), b"")
    folder.forget(url)
    assert [folder.look(name) is None for name in names] == [True, True, False]
    folder.forget("ff" + "0" * 30)


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(OutputError, match="it holds other files and is no cache; choose a new"):
        CacheFolder(str(tmp_path)).open()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_cache_of_another_version_or_program_is_refused(folder: CacheFolder) -> None:
    (folder.path / TAG).write_text("Signature: 8a477f597d28d172789f06886806bc55\n# pip\n")
    with pytest.raises(OutputError, match="another version or program made it; delete it"):
        folder.open()


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cache"
    file.write_text("x")
    with pytest.raises(OutputError, match="it is no folder; choose another"):
        CacheFolder(str(file)).open()
    with pytest.raises(OutputError, match="Not a directory; choose another"):
        CacheFolder(str(file / "deeper")).open()


def test_opening_it_again_keeps_what_is_there(folder: CacheFolder) -> None:
    folder.write(NAME, record(), b"page")
    again = CacheFolder(str(folder.path))
    again.open()
    assert again.look(NAME) is not None


def test_what_a_killed_process_left_is_removed_once_it_is_old(folder: CacheFolder) -> None:
    scratch = folder.path / "unfinished"
    old, young = scratch / "1-1-a", scratch / "2-1-b"
    old.touch()
    young.touch()
    hours_ago = time.time() - 2 * 3_600

    os.utime(old, (hours_ago, hours_ago))
    folder.open()
    assert [path.name for path in scratch.iterdir()] == ["2-1-b"]


def test_many_can_open_a_new_folder_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            path = str(tmp_path / str(number))
            list(pool.map(lambda _, path=path: CacheFolder(path).open(), range(8)))


def test_a_write_that_fails_leaves_nothing(folder: CacheFolder) -> None:
    (folder.path / "ab").touch()
    with pytest.raises(OSError, match="Not a directory"):
        folder.write(NAME, record(), b"page")
    assert not list((folder.path / "unfinished").iterdir())


WRITER = """
import sys
from scrapekit.transport.cachefolder import CacheFolder, Record
folder = CacheFolder(sys.argv[1])
folder.open()
print("ready", flush=True)
number = 0
while True:
    number += 1
    name = f"ab{number % 50:030}-{1:032}"
    record = Record(f"http://a.test/{number}", 200, (), 1.0, 2.0, b"")
    folder.write(name, record, str(number).encode() * 20_000)
    print("written", flush=True)
"""


def test_two_processes_that_are_killed_leave_no_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    for _ in range(6):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        for _ in range(5):
            # A line for each page written, so that it is killed at any moment of the next one.
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == b"written\n"
        for writer in writers:
            writer.kill()
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
    folder = CacheFolder(str(path))
    folder.open()
    names = [file.name for file in path.glob("ab/*")]
    assert len(names) >= 5
    for name in names:
        found = folder.look(name)
        assert found is not None
        number = found[0].url.removeprefix("http://a.test/")
        assert folder.body(name, found[0]) == number.encode() * 20_000
