from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from scrapekit import Spider
from scrapekit.counters import Counters


@pytest.fixture
def restless() -> Iterator[None]:
    """Let threads take the interpreter from one another as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_a_name_counts_from_nothing() -> None:
    counters = Counters()
    assert counters.get("pages") == 0
    counters.add("pages")
    counters.add("pages", 2)
    counters.add("euros", 0.5)
    counters.add("stock", -3)
    assert counters.get("pages") == 3
    assert counters.snapshot() == {"pages": 3, "euros": 0.5, "stock": -3}
    assert repr(counters) == "<Counters {'pages': 3, 'euros': 0.5, 'stock': -3}>"


def test_a_snapshot_is_independent_of_what_comes_later() -> None:
    counters = Counters()
    before = counters.snapshot()
    counters.add("pages")
    assert before == {}


def test_whole_numbers_stay_whole_however_large() -> None:
    counters = Counters()
    counters.add("bytes", 2**60)
    counters.add("bytes", 1)
    assert counters.get("bytes") == 2**60 + 1


def test_taking_starts_again_from_nothing() -> None:
    counters = Counters()
    assert counters.take() == {}
    counters.add("pages", 2)
    assert counters.take() == {"pages": 2}
    assert counters.take() == {}
    assert counters.get("pages") == 0


def test_what_others_counted_is_added() -> None:
    counters = Counters()
    counters.add("pages")
    counters.merge({"pages": 2, "euros": 1.5})
    assert counters.snapshot() == {"pages": 3, "euros": 1.5}


@pytest.mark.usefixtures("restless")
def test_threads_lose_no_count_also_while_others_take_and_merge() -> None:
    counters, at_home = Counters(), Counters()

    def count(_: int) -> None:
        for _ in range(500):
            counters.add("pages")
            at_home.merge(counters.take())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    at_home.merge(counters.take())
    assert at_home.get("pages") == 4000


def test_each_spider_has_its_own_and_keeps_it() -> None:
    one, other = Spider(), Spider()
    one.stats.add("pages")
    assert one.stats.get("pages") == 1
    assert other.stats.get("pages") == 0
    with pytest.raises(AttributeError):
        one.stats = Counters()  # type: ignore[misc]
