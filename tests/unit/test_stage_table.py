from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

import scrapekit
from tests.benchmarks import stage_table
from tests.benchmarks.sampler import SAMPLING, Sampler

PACKAGE = Path(scrapekit.__file__).parent


def _functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_the_table_knows_modules_that_there_are() -> None:
    modules = {f"{module}.py" for module in stage_table._BY_MODULE}
    named = modules | set(stage_table._FUNCTIONS)
    assert [name for name in sorted(named) if not (PACKAGE / name).is_file()] == []


@pytest.mark.parametrize("module", stage_table._FUNCTIONS)
def test_the_table_knows_functions_that_there_are(module: str) -> None:
    stages, _ = stage_table._FUNCTIONS[module]
    named = {name for names in stages.values() for name in names.split()}
    assert named - _functions(PACKAGE / module) == set()


def test_every_stage_that_is_told_of_can_be_met() -> None:
    met = set(stage_table._BY_MODULE.values()) | {stage_table.LOOP, stage_table.OTHER}
    assert set(stage_table.STAGES) == met | {stage_table.LINKS}


def test_cpu_time_is_charged_and_sleep_is_not() -> None:
    def busy() -> None:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass

    began = time.thread_time()
    with Sampler(stage_table.place_of) as sampler:
        time.sleep(0.02)
        busy()
    used = time.thread_time() - began
    charged = sampler.by_stage(main=True)
    assert 0.03 < sum(charge.seconds for charge in charged.values()) <= used
    assert set(charged) >= {stage_table.OTHER, SAMPLING}
    places = sampler.by_place(stage_table.OTHER)
    assert max(places, key=places.__getitem__).function == "busy"
