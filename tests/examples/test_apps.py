from __future__ import annotations

import json
import socket
import urllib.error
from collections.abc import Iterator
from subprocess import Popen
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from tests.programs import EXAMPLES, started, wait_for

App = tuple[str, "Popen[str]"]


@pytest.fixture(scope="module", params=["aiohttp_app.py", "starlette_app.py"])
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    with started(EXAMPLES / request.param, PORT="0") as process:
        yield wait_for(r"[Rr]unning on (http://\S+)", process.stdout)[1], process
    assert process.returncode == 0


def test_the_items_of_a_crawl_are_streamed_as_json_lines(app: App) -> None:
    url, process = app
    with urlopen(f"{url}/crawl/shop") as answer:
        assert answer.headers["Content-Type"].startswith("application/jsonl")
        items = [json.loads(line) for line in answer]
    assert len(items) == 40
    assert items[0] == {"name": "Kettle 1, black & white", "price": "EUR 6.75"}
    wait_for(r"shelves: finished .* 4 pages .* 40 items, 0 errors", process.stdout)


def test_a_crawl_without_end_stops_when_its_client_leaves(app: App) -> None:
    url, process = app
    with urlopen(f"{url}/crawl/outlet") as answer:
        assert json.loads(answer.readline())["price"].startswith("EUR ")
    wait_for(r"shelves: stopped .* 0 errors", process.stdout)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433"])
def test_a_strangers_url_leads_nowhere_in_our_own_network(app: App, host: str) -> None:
    url, process = app
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.setblocking(False)
        start = f"http://{host}:{canary.getsockname()[1]}/"
        with urlopen(f"{url}/crawl?url={quote(start)}") as answer:
            assert answer.read() == b""
        with pytest.raises(BlockingIOError):
            canary.accept()
    wait_for(r"dropped +not-public: 1", process.stdout)


def test_what_is_no_url_is_refused(app: App) -> None:
    url, _ = app
    with pytest.raises(urllib.error.HTTPError) as raised, urlopen(f"{url}/crawl?url=file:///etc"):
        pass
    with raised.value:
        assert raised.value.code == 400
        assert b"only http and https" in raised.value.read()


def test_only_sites_on_the_list_are_crawled(app: App) -> None:
    url, _ = app
    with pytest.raises(urllib.error.HTTPError) as raised, urlopen(f"{url}/crawl/http"):
        pass
    with raised.value:
        assert raised.value.code == 404
