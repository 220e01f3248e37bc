from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.adaptive import LEAST, START, Adaptive, Asked


def calm(
    law: Adaptive, answers: int, *, now: float = 0.0, took: float = 0.2, top: int = 8
) -> float:
    """So many good answers, one after another, with the limit reached; the time after them."""
    for _ in range(answers):
        law.answered(Asked(now, law.limit), took, now + took, ceiling=top, busy=True)
        now += took
    return now


def test_it_starts_low_and_grows_up_to_the_ceiling_while_all_is_calm() -> None:
    law = Adaptive()
    limits = [law.limit]
    now = 0.0
    for _ in range(60):
        now = calm(law, 1, now=now, top=12)
        if law.limit != limits[-1]:
            limits.append(law.limit)
    assert limits == [START, 3, 5, 7, 10, 12]
    assert law.why == "the most that is allowed"


def test_a_limit_that_is_not_reached_does_not_rise() -> None:
    law = Adaptive()
    for number in range(100):
        law.answered(Asked(number, 1), 0.1, number + 0.1, ceiling=8, busy=False)
    assert law.value == START


@pytest.mark.parametrize("spoke", [True, False])
def test_trouble_halves_it_once_for_all_that_was_on_its_way(spoke: bool) -> None:
    law = Adaptive(value=8.0, base_s=0.2)
    for _ in range(8):
        law.overloaded(Asked(10.0, law.limit), 12.0, "status 429", spoke=spoke)
    assert law.value == 4.0
    assert law.why == "status 429 at 8 at a time"
    law.overloaded(Asked(12.5, law.limit), 13.0, "a timeout", spoke=spoke)
    assert law.value == 2.0
    assert law.failures == 2


def test_answers_to_what_was_begun_before_do_not_raise_it_again() -> None:
    law = Adaptive(value=8.0, base_s=0.2)
    law.overloaded(Asked(10.0, law.limit), 12.0, "status 503", spoke=True)
    for _ in range(20):
        law.answered(Asked(11.0, law.limit), 1.5, 12.5, ceiling=8, busy=True)
    assert law.value == 4.0


def test_it_comes_back_soon_to_just_below_what_was_too_much_and_then_slowly() -> None:
    law = Adaptive(value=10.0, base_s=0.2)
    law.overloaded(Asked(0.0, law.limit), 1.0, "status 429", spoke=True)
    now = calm(law, 5, now=2.0, top=32)
    assert law.value == pytest.approx(9.0)
    now = calm(law, 18, now=now, top=32)
    assert 9.0 <= law.value < 9.3
    calm(law, 400, now=now, top=32)
    assert law.value > 12


def test_a_site_that_refuses_again_and_again_is_asked_for_more_ever_more_rarely() -> None:
    law, now = Adaptive(value=9.0, base_s=0.2), 0.0
    between = []
    for _ in range(6):
        law.overloaded(Asked(now, law.limit), now + 0.1, "status 429", spoke=True)
        now, answers = now + 1, 0
        while law.limit < 9:
            now, answers = calm(law, 1, now=now, top=32), answers + 1
        between.append(answers)
    assert between == sorted(between)
    assert between[-1] > 3 * between[0]


def test_slower_answers_lower_it_before_anything_is_refused() -> None:
    law = Adaptive(value=8.0, base_s=0.2)
    calm(law, 30, now=1.0, took=0.5)
    assert law.value < 6
    assert law.why.startswith("answers took 2.5 times as long at ")


def test_a_few_milliseconds_are_no_sign() -> None:
    law = Adaptive(value=8.0, base_s=0.002)
    calm(law, 100, now=1.0, took=0.040)
    assert law.value == 8.0


def test_a_single_slow_page_is_no_sign() -> None:
    law = Adaptive(value=8.0, base_s=0.2)
    for number in range(160):
        took = 30.0 if number % 16 == 8 else 0.2
        law.answered(Asked(1.0 + number, law.limit), took, 2.0 + number, ceiling=8, busy=True)
    assert law.value == 8.0


def test_answers_that_tell_nothing_of_the_site_neither_lower_it_nor_hold_it_down() -> None:
    law = Adaptive()
    for number in range(200):
        law.answered(Asked(number, law.limit), None, number, ceiling=8, busy=True)
    assert (law.value, law.base_s) == (8.0, 0.0)
    law = Adaptive(value=8.0, base_s=0.2)
    for number in range(200):
        took = 5.0 if number % 4 == 0 else None
        law.answered(Asked(number, law.limit), took, number, ceiling=8, busy=True)
    assert law.value == 8.0


def test_a_site_that_becomes_slow_by_itself_gets_its_concurrency_back() -> None:
    law = Adaptive(value=8.0, base_s=0.2)
    lowest, now = 8.0, 1.0
    for _ in range(400):
        now = calm(law, 1, now=now, took=1.0)
        lowest = min(lowest, law.value)
    # Half as many are tried; that the answers take as long tells that it was no queue.
    assert lowest == 4.0
    assert law.base_s == pytest.approx(1.0)
    assert law.value == 8.0


def test_below_one_at_a_time_there_are_pauses() -> None:
    law = Adaptive(value=1.0, base_s=0.2)
    pauses = []
    for number in range(8):
        law.overloaded(Asked(number, law.limit), number + 0.5, "a timeout", spoke=False)
        pauses.append(law.spacing_s)
    assert pauses == [1, 3, 7, 15, 31, 63, 63, 63]
    assert law.limit == 1
    assert law.exhausted  # one more at the longest pause
    assert law.why == "a timeout at one every 64 s"


def test_after_an_outage_it_recovers_in_a_few_answers() -> None:
    law = Adaptive(value=8.0, base_s=0.2)
    for number in range(8):
        law.overloaded(Asked(number, law.limit), number + 0.5, "a broken connection", spoke=False)
    assert law.value == 1 / 32
    calm(law, 12, now=100.0)
    assert law.value >= 6


def test_a_few_failures_among_many_answers_are_those_of_pages() -> None:
    for what, spoke in (("a broken connection", False), ("status 503", True)):
        law, now = Adaptive(), 0.0
        for _ in range(100):
            now = calm(law, 17, now=now)
            law.overloaded(Asked(now, law.limit), now + 0.1, what, spoke=spoke)
        assert (law.value, law.knee) == (8.0, math.inf)


def test_what_failed_before_tells_nothing_new_of_a_site_that_answers() -> None:
    law = Adaptive()
    now = calm(law, 40)
    for number in range(100):
        again = Asked(now + number, law.limit, is_again=True)
        law.overloaded(again, now + number, "a broken connection", spoke=False)
    assert law.value == 8.0


def test_many_failures_and_those_that_a_site_means_are_its_own() -> None:
    law = Adaptive()
    now = calm(law, 40)
    for number in range(7):
        asked = Asked(now + number, law.limit)
        law.overloaded(asked, now + number, "a broken connection", spoke=False)
    assert law.value == 4.0
    for what, rests in (("status 429", False), ("status 503", True)):
        law = Adaptive()
        now = calm(law, 40)
        law.overloaded(Asked(now, law.limit), now, what, spoke=True, rests=rests)
        assert law.value == 4.0


def test_a_request_that_fails_before_anything_is_known_costs_no_more_than_a_few_answers() -> None:
    law = Adaptive()
    law.overloaded(Asked(0.0, 1), 1.0, "a broken connection", spoke=False)
    assert law.value == 1.0
    calm(law, 60, now=2.0, top=32)
    assert law.value == 32.0


moves = st.lists(
    st.tuples(
        st.sampled_from(["ok", "429", "timeout"]),
        st.floats(0, 5),
        st.floats(0, 60),
        st.booleans(),
    ),
    max_size=200,
)


@given(moves, st.integers(1, 40))
def test_it_is_never_above_the_ceiling_nor_below_the_least(
    moves: list[tuple[str, float, float, bool]], ceiling: int
) -> None:
    law, now = Adaptive.under(ceiling), 0.0
    for kind, ago, took, busy in moves:
        now += 1.0
        before = law.value
        if kind == "ok":
            law.answered(Asked(now - ago, law.limit), took, now, ceiling=ceiling, busy=busy)
        else:
            law.overloaded(Asked(now - ago, law.limit), now, kind, spoke=kind == "429")
            assert law.value <= before
        assert LEAST <= law.value <= ceiling
        assert 1 <= law.limit <= ceiling
        assert math.isfinite(law.spacing_s)


class Server(NamedTuple):
    """How a site behaves: with so many requests at a time, how long the next takes, in seconds;
    None: it refuses it, at once.
    """

    takes: Callable[[int], float | None]
    pause_s: float = 0.0
    """For how long everybody has to wait after a refusal."""


def throughput(
    server: Server,
    limit: Callable[[float], int],
    law: Adaptive | None,
    *,
    pages: float = math.inf,
    spread: float = 0.3,
    ceiling: int = 32,
    seed: int = 7,
) -> float:
    """Answers a second, simulated: as many requests as the limit allows, always. `pages` ends it;
    `spread` is how much answers differ by themselves, as the deviation of their logarithms.
    """
    dice = random.Random(seed)
    now, answers, held_until = 0.0, 0, 0.0
    under_way: list[tuple[float, Asked, bool]] = []
    # The law has to begin with nothing known; a fixed limit is always the same.
    while now < (60 if law is None else 600) and answers < pages:
        free_at = max(now, held_until)
        if len(under_way) < limit(now) and (not under_way or free_at < under_way[0][0]):
            now = free_at
            takes = server.takes(len(under_way) + 1)
            factor = dice.lognormvariate(0, spread)
            end = now + (0.005 if takes is None else takes * factor)
            asked = Asked(now, len(under_way) + 1)
            heapq.heappush(under_way, (end, asked, takes is not None))
            continue
        now, asked, is_answer = heapq.heappop(under_way)
        answers += is_answer
        if law is None:
            continue
        if is_answer:
            busy = len(under_way) + 1 >= law.limit
            law.answered(asked, now - asked.number, now, ceiling=ceiling, busy=busy)
        else:
            law.overloaded(asked, now, "status 429", spoke=True, rests=server.pause_s > 0)
            held_until = now + server.pause_s
    return answers / now


def queues(at_once: int) -> Server:
    return Server(lambda n: 0.1 * max(1.0, n / at_once))


def thrashes(at_once: int) -> Server:
    return Server(lambda n: 0.1 * (1 + max(0, n - at_once) ** 2 / at_once))


def refuses(at_once: int, pause_s: float = 0.0) -> Server:
    return Server(lambda n: 0.1 if n <= at_once else None, pause_s)


SERVERS = {
    "never full": Server(lambda n: 0.1),
    **{f"queues at {n}": queues(n) for n in (1, 3, 8, 20)},
    **{f"thrashes at {n}": thrashes(n) for n in (2, 5, 12)},
    **{f"refuses at {n}": refuses(n) for n in (1, 3, 8, 20)},
    **{f"refuses for 2 s at {n}": refuses(n, 2.0) for n in (3, 8)},
}


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_it_finds_most_of_the_best_fixed_limits_throughput(server: Server) -> None:
    def fixed(limit: int) -> float:
        return throughput(server, lambda _: limit, None) if server.takes(limit) else 0.0

    best = max(fixed(limit) for limit in (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 32))
    law = Adaptive()
    found = throughput(server, lambda _: law.limit, law)
    assert found >= 0.85 * best


def whole_crawl(server: Server, pages: int, ceiling: int, spread: float) -> float:
    """The throughput of whole crawls of so many pages, as a share of what the best fixed limit of
    all has; the mean of some crawls.
    """

    def mean(of: Callable[[int], float]) -> float:
        return sum(map(of, range(10))) / 10

    def fixed(limit: int) -> float:
        if server.takes(limit) is None:
            return 0.0
        run = partial(throughput, server, lambda _: limit, None, pages=pages, spread=spread)
        return mean(lambda seed: run(seed=seed))

    def found(seed: int) -> float:
        law = Adaptive.under(ceiling)
        return throughput(
            server,
            lambda _: law.limit,
            law,
            pages=pages,
            spread=spread,
            ceiling=ceiling,
            seed=seed,
        )

    return mean(found) / max(map(fixed, range(1, ceiling + 1)))


@pytest.mark.parametrize(
    "server",
    [
        Server(lambda n: 0.1),
        *(queues(n) for n in (1, 2, 4, 6)),
        *(thrashes(n) for n in (2, 4, 6)),
        *(refuses(n) for n in (2, 4, 6)),
    ],
)
def test_it_finds_it_soon_enough_for_a_crawl_of_300_pages(server: Server) -> None:
    assert whole_crawl(server, 300, ceiling=8, spread=0.05) >= 0.85


@pytest.mark.parametrize("spread", [0.3, 0.6, 1.0])
def test_a_site_whose_answers_differ_by_themselves_is_asked_for_no_less(spread: float) -> None:
    assert whole_crawl(Server(lambda n: 0.3), 1000, ceiling=8, spread=spread) >= 0.85


@pytest.mark.parametrize("ceiling", [8, 32])
@pytest.mark.parametrize(
    "pages", [(200, 0.02, 0.4), (4, 0.01, 0.3)], ids=["after 200 quick ones", "after 4"]
)
def test_a_site_whose_pages_become_slower_by_themselves_is_asked_for_no_less(
    pages: tuple[int, float, float], ceiling: int
) -> None:
    quick, first_s, then_s = pages
    begun = iter(range(10**6))
    law = Adaptive.under(ceiling)
    server = Server(lambda _: first_s if next(begun) < quick else then_s)
    found = throughput(server, lambda _: law.limit, law, pages=3000, spread=0.0, ceiling=ceiling)
    fixed = 3000 / (quick * first_s + (3000 - quick) * then_s) * ceiling
    assert found >= 0.75 * fixed
