"""The benchmarks run: with tiny numbers, their figures unread."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import compare, flat, overhead
from tests.benchmarks.measure import Measurement, page_name
from tests.benchmarks.parts import PARTS
from tests.benchmarks.sites import serve
from tests.programs import run


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    links = "".join(f'<a href="/{number}.html#top">{number}</a>' for number in range(3))
    for name in ("index", "0", "1", "2"):
        (folder / f"{name}.html").write_text(f"<title>{name}</title>{links}", encoding="utf-8")
    with serve(folder) as served:
        yield served


@pytest.mark.parametrize(
    "program",
    [
        ("handwritten",),
        *(("crawl_site", "--variant", name) for name in ("async", "def-job", "process")),
    ],
)
def test_the_contenders_find_the_same_pages(
    url: str, program: tuple[str, ...], tmp_path: Path
) -> None:
    output = tmp_path / "items.jsonl"
    name, *options = program
    done = run("-m", f"tests.benchmarks.{name}", url, output, *options, cwd=tmp_path)
    found = Measurement.from_json(done.stdout.splitlines()[-1])
    lines = output.read_text(encoding="utf-8").splitlines()
    names = {page_name(json.loads(line)["url"]) for line in lines}
    assert names == {"index.html", "0.html", "1.html", "2.html"}
    assert found.pages == 4


def test_a_profile_adds_up(url: str, tmp_path: Path) -> None:
    done = run("-m", "tests.benchmarks.stages", "--child", url, "--sampled", cwd=tmp_path)
    profile = json.loads(done.stdout.splitlines()[-1])
    charged = sum(profile["main"].values()) + sum(profile["others"].values())
    assert profile["pages"] == 4
    assert 0 < charged <= profile["cpu"]


def test_connections_are_counted_by_the_server(tmp_path: Path) -> None:
    options = ["--connections", "20", "--seconds", "0.1", "--rounds", "1"]
    done = run("-m", "tests.benchmarks.connections", *options, cwd=tmp_path)
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [row[-6:-4] for row in rows] == [["40", "20"], ["40", "20"]]


@pytest.mark.parametrize("kind", ["frontier", "job"])
def test_growth_is_measured(kind: str, tmp_path: Path) -> None:
    done = run("-m", "tests.benchmarks.flat", "--kind", kind, "--one", "1000", cwd=tmp_path)
    points = [json.loads(line) for line in done.stdout.splitlines()]
    assert [point["size"] for point in points] == [1_000]
    assert all(point["cpu_us"] > 0 for point in points)


def test_overhead_is_a_share_of_the_bare_loop(url: str) -> None:
    runs = overhead.take_turns(url, 1, 2, 0)
    assert [run.pages for found in runs.values() for run in found] == [8] * 4
    assert [line.count("%") for line in overhead.table(runs)] == [0, 0, 2, 0, 2]


def test_a_page_of_each_origin_is_crawled(tmp_path: Path) -> None:
    done = run("-m", "tests.benchmarks.origins", "--crawl", "--sizes", "10", cwd=tmp_path)
    assert done.stdout.splitlines()[1].split()[:3] == ["10", "10", "0"]


def test_starting_is_measured(tmp_path: Path) -> None:
    done = run("-m", "tests.benchmarks.cold_start", "--rounds", "1", cwd=tmp_path)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == (
        ["import"] * 3 + ["python", "scrapekit"]
    )


def test_other_pages_are_other_work() -> None:
    same, other = Measurement(4, 1.0, 0.5, "a"), Measurement(4, 0.5, 0.5, "b")
    lines = list(compare.table({compare.BASELINE: [same], "async def": [other]}))
    assert lines[2].split()[2:4] == ["4", "8"]
    assert lines[-1] == "Other pages than by hand, so other work: async def."


def test_what_is_kept_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "--report", "--results", str(tmp_path)])
    point = {"who": "scrapekit", "size": 10, "rate": 5.0, "cpu_us": 9.0, "rss_mb": 40.0}
    record = {"where": ["today, load 0", "here"], "figures": {"points": [point]}}
    (tmp_path / "flat-origins.json").write_text(json.dumps(record), encoding="utf-8")
    benchmarks.main()
    text = (tmp_path / "speed.txt").read_text(encoding="utf-8")
    assert text.splitlines()[:4] == [
        "today, load 0",
        "here",
        "",
        f"{PARTS['flat-origins'].title} (today, load 0)",
    ]
    assert text.endswith("\n".join(flat.table("origins", [point])) + "\n")
