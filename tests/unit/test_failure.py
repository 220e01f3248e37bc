from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Generator
from pathlib import Path

import pytest
from protego import Protego
from selectolax.lexbor import LexborHTMLParser

from scrapekit import urls
from scrapekit.errors import ConnectError, NotAResult, QueryError, UsageError
from scrapekit.failure import Failure, contained, failure, place, render
from scrapekit.importing import import_file
from scrapekit.messages import Request, Response

URL = "https://shop.test/"


def line_of(mark: str) -> str:
    """The place in this file whose line ends with a comment."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = [n for n, line in enumerate(lines, 1) if line.endswith(f"# here: {mark}")]
    return f"{__file__}:{number}"


def caught(call: object, *args: object) -> Exception:
    assert callable(call)
    try:
        call(*args)
    except Exception as exc:
        return exc
    raise AssertionError("nothing was raised")


def own_code() -> None:
    raise ValueError("of our own")  # here: own


def test_the_place_is_the_innermost_line_of_the_users_code() -> None:
    assert place(caught(own_code)) == line_of("own")


def test_frames_of_libraries_do_not_count() -> None:
    def parse() -> None:
        json.loads("{")  # here: stdlib

    assert place(caught(parse)) == line_of("stdlib")


def test_frames_of_installed_packages_do_not_count() -> None:
    def parse() -> None:
        Protego.parse(5)  # type: ignore[arg-type]  # here: installed

    assert place(caught(parse)) == line_of("installed")


def test_frames_of_the_framework_do_not_count() -> None:
    def parse() -> None:
        Response(URL, 200, body=b"<p>").css(":::")  # here: framework

    error = caught(parse)
    assert isinstance(error, QueryError)
    assert place(error) == line_of("framework")


def test_frames_of_compiled_libraries_do_not_count() -> None:
    def parse() -> None:
        LexborHTMLParser("<p>").css(":::")  # here: compiled

    error = caught(parse)
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert any(file.endswith(".pxi") for file in files)
    assert place(error) == line_of("compiled")


def test_code_without_a_file_does_not_count() -> None:
    code = compile("def run(call): call()\nrun(own)", "<string>", "exec")
    error = caught(exec, code, {"own": own_code})
    assert place(error) == line_of("own")


def test_an_error_of_ours_points_to_its_cause_in_the_users_code() -> None:
    error = UsageError("parse called sys.exit()")
    error.__cause__ = caught(own_code)
    assert place(error) == line_of("own")
    assert "of our own" in failure(error, "callback").traceback


def test_an_error_that_hides_its_context_does_not_point_there() -> None:
    error = ValueError("outer")
    error.__context__ = caught(own_code)
    assert place(error) == line_of("own")
    error.__suppress_context__ = True
    assert place(error) == ""


def test_an_error_that_is_its_own_cause_has_no_place_and_no_end() -> None:
    error, other = ValueError("a"), ValueError("b")
    error.__cause__ = other
    other.__cause__ = error
    assert place(error) == ""


def test_the_place_of_a_strange_result_is_the_line_that_made_it() -> None:
    assert place(NotAResult("parse", "spider.py:7", "str")) == "spider.py:7"


def test_the_place_and_the_traceback_of_a_worker_process_win() -> None:
    error = caught(own_code)
    error.remote_place, error.remote_traceback = "far.py:3", "Traceback from afar"  # type: ignore[attr-defined]
    assert place(error) == "far.py:3"
    assert render(error) == "Traceback from afar"


def test_a_failure_tells_all_that_is_needed_to_find_the_cause() -> None:
    request = Request(URL, "parse_item")
    response = Response(URL, 200, request=request)
    failed = failure(
        caught(own_code), "callback", request=request, response=response, callback="parse_item"
    )
    assert failed.where == line_of("own")
    assert failed.traceback.endswith("ValueError: of our own\n")
    assert "own_code" in failed.traceback
    assert (failed.url, failed.request, failed.response) == (URL, request, response)
    assert failed.of_user_code
    assert str(failed) == f"ValueError in parse_item ({line_of('own')}): of our own"


def test_a_failed_fetch_is_no_fault_of_user_code() -> None:
    failed = failure(ConnectError("refused", url=URL), "fetch", request=Request(URL), tries=3)
    assert not failed.of_user_code
    assert (failed.where, failed.traceback, failed.tries) == ("", "", 3)
    assert str(failed) == "ConnectError: refused"


def test_a_traceback_without_user_code_is_not_kept() -> None:
    error = caught(urls.normalize, "")
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next
    assert failure(error, "export").traceback == ""


def test_without_a_request_there_is_no_url() -> None:
    assert Failure(error=ValueError(), during="start").url == ""


@pytest.mark.parametrize(
    ("error", "message"), [(MemoryError(), "MemoryError"), (ValueError("x"), "x")]
)
def test_a_silent_exception_is_told_by_its_class(error: Exception, message: str) -> None:
    assert failure(error, "callback").message == message


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("broken too")


def test_an_exception_with_a_broken_text_can_be_told_all_the_same() -> None:
    failed = failure(Unprintable(), "callback")
    assert failed.message == "Unprintable, whose text can't be had (RuntimeError)"
    assert "Unprintable" in str(failed)


def test_a_file_imported_by_its_path_is_user_code(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def boom():\n    raise ValueError\n")
    assert place(caught(import_file(file).boom)) == f"{file}:2"


class Odd(BaseException):
    pass


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (SystemExit(3), "parse called sys.exit()"),
        (Odd("hm"), "parse raised Odd: hm"),
        (asyncio.CancelledError(), "parse awaited something that was cancelled"),
    ],
)
async def test_what_would_do_more_than_fail_only_fails(raised: BaseException, text: str) -> None:
    with pytest.raises(UsageError) as caught_error, contained("parse"):
        raise raised
    assert str(caught_error.value) == text
    assert caught_error.value.__cause__ is raised


@pytest.mark.parametrize("raised", [ValueError("x"), KeyboardInterrupt()])
async def test_what_is_ours_to_see_comes_out_as_it_is(raised: BaseException) -> None:
    with pytest.raises(type(raised)) as caught_error, contained("parse"):
        raise raised
    assert caught_error.value is raised


async def test_a_generator_exit_of_its_own_is_a_failure() -> None:
    with pytest.raises(UsageError, match="parse raised GeneratorExit"), contained("parse"):
        raise GeneratorExit


def test_closing_a_coroutine_is_none() -> None:
    class Never:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def work() -> None:
        with contained("parse"):
            await Never()

    coroutine = work()
    coroutine.send(None)
    coroutine.close()


async def test_a_cancellation_from_outside_is_no_failure() -> None:
    async def work() -> None:
        with contained("parse"):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_nothing_raised_is_nothing_contained() -> None:
    with contained("parse"):
        pass
