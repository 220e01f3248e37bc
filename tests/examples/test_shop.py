from __future__ import annotations

import json
from pathlib import Path
from urllib.request import urlopen

from tests.programs import EXAMPLES, run, started, wait_for


def test_the_spider_crawls_the_shop_that_it_brings_along(tmp_path: Path) -> None:
    output = tmp_path / "products.jsonl"
    program = run("-m", "scrapekit", "crawl", EXAMPLES / "shop.py", "-o", output, cwd=tmp_path)
    assert program.returncode == 0, program.stderr
    products = {item["name"]: item for item in map(json.loads, output.read_text().splitlines())}
    assert len(products) == 39
    kettle = products["Kettle 1, black & white"]
    assert kettle["price"] == 6.75
    assert kettle["in_stock"] is True
    assert products["Kettle 6, garnet & white"]["in_stock"] is False


def test_the_shops_troubles_are_reported_and_fail_nothing(tmp_path: Path) -> None:
    program = run("-m", "scrapekit", "crawl", EXAMPLES / "shop.py", cwd=tmp_path)
    assert program.returncode == 0, program.stderr
    assert "1 x BadStatus 500 (fetch)" in program.stderr
    assert "/products/13" in program.stderr
    assert "2 retries" in program.stderr
    assert "robots: 1" in program.stderr


def test_the_shop_opens_by_itself_until_ctrl_c() -> None:
    with started(EXAMPLES / "shop_site.py") as process:
        url = wait_for(r"http://\S+", process.stdout)[0]
        with urlopen(f"{url}products/7") as slow_page:
            assert b"<h1>Strainer 7, honey &amp; white</h1>" in slow_page.read()
    assert process.returncode == 0
