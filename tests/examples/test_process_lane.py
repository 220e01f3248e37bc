from __future__ import annotations

import json
import re
from pathlib import Path

from tests.programs import EXAMPLES, run


def test_fingerprints_are_computed_in_worker_processes(tmp_path: Path) -> None:
    program = run(EXAMPLES / "process_lane.py", cwd=tmp_path)
    assert program.returncode == 0, program.stderr
    items = [json.loads(line) for line in program.stdout.splitlines()]
    assert len(items) == 39
    assert len({item["simhash"] for item in items}) == 39
    assert all(re.fullmatch("[0-9a-f]{16}", item["simhash"]) for item in items)
    assert 1 <= len({item["worker"] for item in items}) <= 2
    assert "parse_product (process): 39 calls" in program.stderr
