from __future__ import annotations

import pytest

from scrapekit.outline import SpiderClass, spider_classes


def classes(source: str) -> list[str]:
    return [found.cls for found in spider_classes(source.encode(), "spiders.py")]


@pytest.mark.parametrize(
    "source",
    [
        "from scrapekit import Spider\nclass Shop(Spider): pass",
        "from scrapekit import *\nclass Shop(Spider): pass",
        "from scrapekit import Spider as Base\nclass Shop(Base): pass",
        "from scrapekit.spider import Spider\nclass Shop(Spider): pass",
        "import scrapekit\nclass Shop(scrapekit.Spider): pass",
        "import scrapekit as sk\nclass Shop(sk.Spider): pass",
        "import scrapekit.spider\nclass Shop(scrapekit.spider.Spider): pass",
        "import scrapekit.spider as s\nclass Shop(s.Spider): pass",
        "from scrapekit import spider\nclass Shop(spider.Spider): pass",
        "from scrapekit import Spider\nclass Shop(Mixin, Spider[int], metaclass=M): pass",
        (
            "try:\n    from scrapekit import Spider\nexcept ImportError:\n    raise\n"
            "if True:\n    class Shop(Spider): pass"
        ),
    ],
)
def test_a_class_whose_base_is_scrapekits_spider_is_found(source: str) -> None:
    assert classes(source) == ["Shop"]


@pytest.mark.parametrize(
    "source",
    [
        "class Shop(Spider): pass",
        "from other import Spider\nclass Shop(Spider): pass",
        "from .scrapekit import Spider\nclass Shop(Spider): pass",
        "import scrapekit\nclass Shop(scrapekit.Request): pass",
        "from scrapekit import Spider\nclass Spider: pass\nclass Shop(Spider): pass",
        "from scrapekit import Spider\nclass Shop(make(Spider)): pass",
        "from scrapekit import Spider\ndef make():\n    class Shop(Spider): pass",
        "from scrapekit import Spider\nclass _Shop(Spider): pass",
        "",
    ],
)
def test_other_classes_are_not_found(source: str) -> None:
    assert classes(source) == []


def test_inheritance_is_followed_inside_the_file() -> None:
    source = (
        "from scrapekit import Spider\n"
        "class _Base(Spider): pass\nclass Mid(_Base): pass\nclass Leaf(Mid): pass\n"
    )
    assert classes(source) == ["Mid", "Leaf"]


def test_a_class_is_described_by_its_name_line_and_first_line_of_its_docstring() -> None:
    source = (
        "from scrapekit import Spider\n\n"
        'class Shop(Spider):\n    """All products.\n\n    Slowly.\n    """\n    name = "corner"\n'
        'class Typed(Spider):\n    name: str = "typed-shop"\n'
        "class Bare(Spider):\n    name: str\n    other = 1\n"
        "class Made(Spider):\n    name = make()\n    a.name = 3\n"
    )
    assert spider_classes(source.encode(), "spiders.py") == [
        SpiderClass("Shop", "corner", 3, "All products."),
        SpiderClass("Typed", "typed-shop", 9, ""),
        SpiderClass("Bare", "", 11, ""),
        SpiderClass("Made", "", 14, ""),
    ]


def test_the_encoding_that_a_file_declares_is_heeded() -> None:
    source = '# coding: latin-1\nfrom scrapekit import Spider\nclass A(Spider):\n    "Über."\n'
    (found,) = spider_classes(source.encode("latin-1"), "spiders.py")
    assert found.doc == "Über."


def test_nothing_is_told_about_an_invalid_escape() -> None:
    assert classes("x = '\\d'") == []


@pytest.mark.parametrize("source", ["class (", "x = '", "\0"])
def test_text_that_is_no_python_raises(source: str) -> None:
    with pytest.raises((SyntaxError, ValueError)):
        classes(source)
