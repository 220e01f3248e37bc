from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from pathlib import Path

import aiohttp
import pytest
from aioresponses import aioresponses

from tests import vectors as vector_files
from tests.leaks import no_async_leaks, no_leaks


async def test_a_mocked_response_has_status_headers_and_body() -> None:
    with aioresponses() as site:
        site.get("http://site.test/", status=203, body=b"hello", headers={"X-Kept": "yes"})
        async with (
            aiohttp.ClientSession() as session,
            session.get("http://site.test/") as response,
        ):
            assert response.status == 203
            assert response.headers["X-Kept"] == "yes"
            assert await response.read() == b"hello"


async def test_a_mocked_body_larger_than_the_readers_limit_streams_whole() -> None:
    body = bytes(range(256)) * 4096
    with aioresponses() as site:
        site.get("http://site.test/large", body=body)
        async with (
            aiohttp.ClientSession() as session,
            session.get("http://site.test/large") as response,
        ):
            assert b"".join([chunk async for chunk in response.content.iter_any()]) == body


async def test_a_mocked_failure_is_raised() -> None:
    with aioresponses() as site:
        site.get("http://site.test/", exception=aiohttp.ServerDisconnectedError())
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await session.get("http://site.test/")


async def test_a_session_that_is_closed_leaves_nothing_behind() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    async with no_async_leaks(), await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/") as response,
        ):
            assert await response.read() == b"ok"


async def test_a_task_left_running_is_told() -> None:
    with pytest.raises(AssertionError, match=r"task forgotten: .*wait"):
        async with no_async_leaks():
            task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
    task.cancel()


def test_an_open_socket_is_told() -> None:
    with pytest.raises(AssertionError, match=r"descriptor \d+: socket"), no_leaks():
        forgotten = socket.socket()
    forgotten.close()


def test_a_thread_left_running_is_told() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="forgotten")
    with pytest.raises(AssertionError, match="thread forgotten"), no_leaks():
        thread.start()
    done.set()
    thread.join()


def test_a_child_process_left_running_is_told() -> None:
    with pytest.raises(AssertionError, match=r"process .*input"), no_leaks():
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child.communicate()


def test_vectors_are_found_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRAPEKIT_VECTORS", str(tmp_path))
    assert vector_files.root() == tmp_path


def test_a_vectors_folder_that_is_named_but_absent_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRAPEKIT_VECTORS", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="absent"):
        vector_files.root()
