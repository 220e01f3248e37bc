from __future__ import annotations

import pytest

from scrapekit.errors import SettingsError
from scrapekit.limits import Limits, LimitsTable, Rate
from scrapekit.settings import Settings


def table(**domains: dict[str, object]) -> LimitsTable:
    named = {name.replace("_", "."): limits for name, limits in domains.items()}
    return LimitsTable(Settings(concurrency_per_origin=4, delay_s=1.0, domains=named))  # type: ignore[arg-type]


ALL = Limits(4, 1.0, 0.0, None, adaptive=True)


def test_without_domains_all_origins_have_the_limits_of_the_settings() -> None:
    settings = Settings(concurrency_per_origin=4, delay_s=1.0, requests_per_minute=30)
    assert LimitsTable(settings).of("https://a.test") == ALL._replace(rate=Rate(30, 60.0))


@pytest.mark.parametrize(
    ("origin", "delay_s"),
    [
        ("https://example.com", 5.0),
        ("http://example.com:8080", 5.0),
        ("https://www.example.com", 5.0),
        ("https://api.example.com", 0.0),
        ("https://v2.api.example.com", 0.0),
        ("https://notexample.com", 1.0),
        ("https://com", 1.0),
        ("http://127.0.0.1:99", 7.0),
        ("http://[::1]", 8.0),
    ],
)
def test_the_nearest_domain_decides(origin: str, delay_s: float) -> None:
    domains: dict[str, object] = {
        "Example.com": {"delay_s": 5.0},
        "api.example.com": {"delay_s": 0.0, "concurrency_per_origin": 1},
        "127.0.0.1": {"delay_s": 7.0},
    }
    settings = Settings(concurrency_per_origin=4, delay_s=1.0, domains=domains)  # type: ignore[arg-type]
    if origin.endswith("]"):
        delay_s = 1.0
    assert LimitsTable(settings).of(origin).delay_s == delay_s


def test_what_a_domain_leaves_open_is_as_for_all() -> None:
    limits = table(a_test={"adaptive": False, "requests_per_minute": 9}).of("http://a.test")
    assert limits == ALL._replace(adaptive=False, rate=Rate(9, 60.0))
    assert table(a_test={}).of("http://a.test") == ALL


def test_an_international_domain_is_found_by_its_name() -> None:
    assert table(bücher_test={"delay_s": 9.0}).of("http://xn--bcher-kva.test").delay_s == 9.0


@pytest.mark.parametrize("name", [".", "..", "%zz"])
def test_what_is_no_host_name_is_told(name: str) -> None:
    with pytest.raises(SettingsError, match="is no host name"):
        LimitsTable(Settings(domains={name: {}}))  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "domains", [{"a.test": {"delay": 1}}, {"a.test": {"delay_s": -1}}, {"http://a.test/": {}}]
)
def test_a_table_that_cant_be_right_is_told(domains: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="delay_s, delay_jitter"):
        Settings(domains=domains)  # type: ignore[arg-type]


@pytest.mark.parametrize(("random", "pause_s"), [(0.0, 2.0), (0.5, 2.5)])
def test_jitter_only_adds(random: float, pause_s: float) -> None:
    limits = Limits(1, delay_s=1.0, delay_jitter=0.5)
    assert limits.pause_s(2.0, random) == pause_s
