"""html5lib's tree-construction inputs, as a crash corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scrapekit.document import Document
from scrapekit.urls import normalize

BASE = "https://host.example/a/b"


@pytest.fixture
def inputs(vectors: Path) -> list[str]:
    cases = json.loads((vectors / "html_parse" / "html5lib_inputs.json").read_bytes())
    return [case["data"] for case in cases]


def test_every_page_can_be_asked_everything(inputs: list[str]) -> None:
    assert len(inputs) > 1700
    for html in inputs:
        page = Document(html, BASE)
        for element in page.css("*"):
            assert element.tag
            assert element.text == " ".join(element.text.split())
            assert element.html
            assert element.get_all("::attr(id)") == [
                value for name, value in element.attrs.items() if name == "id"
            ]
        assert all(normalize(link) == link for link in page.links())


def test_text_and_its_utf8_bytes_make_the_same_page(inputs: list[str]) -> None:
    for html in inputs:
        assert Document(html).get("::html") == Document(html.encode()).get("::html")


def test_a_page_cut_anywhere_can_still_be_read(inputs: list[str]) -> None:
    for html in inputs[::7]:
        for end in range(0, len(html), 5):
            assert Document(html[:end], BASE).first("html") is not None
