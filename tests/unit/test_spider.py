from __future__ import annotations

import functools
import inspect
import math
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from scrapekit.errors import SpiderError, UnknownCallback, UsageError
from scrapekit.failure import _adopted, place
from scrapekit.importing import import_file
from scrapekit.messages import Request, Response
from scrapekit.spider import (
    LANES,
    LaneName,
    Spider,
    SpiderRef,
    callback_names,
    declared_arguments,
    lane,
    lane_of,
    lifespan_of,
    process_callbacks,
    snake_case,
)


class Plain(Spider):
    pass


class Shop(Spider):
    start_urls = ("https://shop.test/",)
    pages: int = 3
    ratio: float = 0.5
    deep: bool = False
    tag: str = ""
    tags: list[str] = []  # noqa: RUF012 -- what users write
    ids: list[int] | None = None
    since: date | None = None
    folder: Path = Path()
    mode: Literal["fast", "slow"] = "fast"
    whatever: Any = None
    undeclared = 7
    untyped = None
    required: int
    limit: ClassVar[int] = 10
    _hidden: int = 1

    @property
    def derived(self) -> int:
        return 1

    def parse(self, response: Response) -> None:
        pass

    async def parse_item(self, response: Response) -> AsyncIterator[Request]:
        yield Request("https://shop.test/")

    @lane("process")
    def parse_scan(self, response: Response) -> None:
        pass

    def _private(self, response: Response) -> None:
        pass


def module_level(response: Response) -> None:
    pass


class TestArguments:
    def test_they_become_attributes(self) -> None:
        shop = Shop(pages=5, tag="tea", required=1)
        assert (shop.pages, shop.tag, shop.required) == (5, "tea", 1)
        assert Shop().pages == 3

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("pages", "12", 12),
            ("pages", "-1", -1),
            ("ratio", "0.25", 0.25),
            ("ratio", "2", 2.0),
            ("deep", "true", True),
            ("deep", "0", False),
            ("tag", "12", "12"),
            ("tag", "", ""),
            ("tags", "a", ["a"]),
            ("tags", "a, b", ["a", "b"]),
            ("tags", "5", ["5"]),
            ("tags", '["a,b"]', ["a,b"]),
            ("ids", "5", [5]),
            ("ids", "5,6", [5, 6]),
            ("ids", "[5, 6]", [5, 6]),
            ("ids", "null", None),
            ("since", "2026-01-31", date(2026, 1, 31)),
            ("folder", "/data", Path("/data")),
            ("mode", "slow", "slow"),
            ("whatever", "12", "12"),
            ("undeclared", "12", 12),
            ("untyped", "12", "12"),
            ("required", "12", 12),
            (
                "start_urls",
                "https://a.test/, https://b.test/",
                ["https://a.test/", "https://b.test/"],
            ),
            ("allowed_domains", "a.test", ["a.test"]),
            ("name", "other", "other"),
        ],
    )
    def test_a_text_is_converted_to_the_declared_type(
        self, name: str, text: str, value: object
    ) -> None:
        converted = getattr(Shop(**{name: text}), name)
        assert converted == value
        assert type(converted) is type(value)

    @pytest.mark.parametrize(
        ("name", "text", "wanted"),
        [
            ("pages", "many", "int"),
            ("pages", "1.5", "int"),
            ("ratio", "", "float"),
            ("deep", "maybe", "bool"),
            ("ids", "5,x", "list[int] | None"),
            ("since", "yesterday", "datetime.date | None"),
            ("mode", "medium", "Literal['fast', 'slow']"),
        ],
    )
    def test_a_text_that_does_not_convert_is_refused(
        self, name: str, text: str, wanted: str
    ) -> None:
        with pytest.raises(SpiderError) as caught:
            Shop(**{name: text})
        assert str(caught.value) == (
            f"argument {name!r} of spider 'shop' must be {wanted}, not {text!r}"
        )
        assert caught.value.target == "shop"

    def test_other_values_are_taken_as_they_are(self) -> None:
        value = object()
        assert Shop(tag=value).tag is value
        assert math.isnan(Shop(ratio=math.nan).ratio)

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("page", "did you mean 'pages'"),
            ("limit", "known: allowed_domains, deep, folder"),
            ("_hidden", "known: "),
            ("derived", "known: "),
            ("parse", "did you mean"),
            ("stats", "did you mean"),
        ],
    )
    def test_an_unknown_one_is_refused_with_the_nearest_or_all(self, name: str, hint: str) -> None:
        with pytest.raises(SpiderError, match=rf"'shop' has no argument '{name}'; ({hint})"):
            Shop(**{name: 1})

    def test_the_known_ones_are_the_public_data_of_all_classes(self) -> None:
        class Special(Shop):
            extra: str = ""

        known = declared_arguments(Special)
        assert {"extra", "pages", "required", "undeclared", "start_urls", "name"} <= known.keys()
        assert known.keys().isdisjoint({"limit", "_hidden", "derived", "parse", "start"})
        assert known["undeclared"] is int
        assert known["untyped"] is Any

    def test_a_type_that_cannot_be_resolved_costs_the_conversion_only(self) -> None:
        class Odd(Spider):
            thing: Unknown = None  # type: ignore[name-defined]  # noqa: F821
            pages: int = 3

        assert Odd(thing="x", pages="5").pages == 5

    def test_a_choice_of_types_that_cannot_be_made_leaves_the_text(self) -> None:
        class Odd(Spider):
            thing: Path | Request | None = None

        assert Odd(thing="/x").thing == "/x"

    def test_a_constructor_of_its_own_takes_what_it_likes(self) -> None:
        class Own(Spider):
            def __init__(self, url: str, *, depth: int = 1) -> None:
                super().__init__()
                self.start_urls = [url]
                self.depth = depth

        own = Own("https://a.test/", depth=2)
        assert (own.start_urls, own.depth) == (["https://a.test/"], 2)

    def test_spiders_share_nothing(self) -> None:
        first, second = Plain(), Plain()
        first.stats.add("pages")
        assert not second.stats.take()

    def test_repr_tells_the_arguments(self) -> None:
        assert repr(Shop(pages=5, tag="tea")) == "Shop(pages=5, tag='tea')"
        assert repr(Plain()) == "Plain()"


class TestName:
    @pytest.mark.parametrize(
        ("name", "snake"),
        [
            ("Quotes", "quotes"),
            ("QuotesSpider", "quotes_spider"),
            ("HTTPSpider", "http_spider"),
            ("Shop2Spider", "shop2_spider"),
            ("ABTest", "ab_test"),
            ("already_snake", "already_snake"),
            ("X", "x"),
        ],
    )
    def test_it_defaults_to_the_class_in_snake_case(self, name: str, snake: str) -> None:
        assert snake_case(name) == snake
        kind = type(name, (Spider,), {})
        made = kind()
        assert isinstance(made, Spider)
        assert made.name == snake

    def test_a_class_may_say_another(self) -> None:
        class Named(Spider):
            name = "my name"

        class Heir(Named):
            pass

        assert Named().name == "my name"
        assert Heir().name == "heir"

    def test_the_base_class_has_one_too(self) -> None:
        assert Spider().name == "spider"


class TestLane:
    def test_a_plain_function_runs_in_a_thread_and_an_async_one_on_the_loop(self) -> None:
        assert lane_of(Shop().parse) == "thread"
        assert lane_of(Shop().parse_item) == "loop"
        assert lane_of(module_level) == "thread"

    @pytest.mark.parametrize("name", LANES)
    def test_a_mark_says_otherwise(self, name: LaneName) -> None:
        def parse(response: Response) -> None:
            pass

        marked = lane(name)(parse)
        assert marked is parse
        assert lane_of(parse) == name

    def test_marked_methods_pickle_and_are_inherited(self) -> None:
        class Heir(Shop):
            pass

        assert lane_of(Heir().parse_scan) == "process"
        assert pickle.loads(pickle.dumps(Shop.parse_scan)) is Shop.parse_scan

    def test_an_override_is_marked_anew(self) -> None:
        class Heir(Shop):
            def parse_scan(self, response: Response) -> None:
                pass

        assert lane_of(Heir().parse_scan) == "thread"

    def test_it_may_stand_above_or_below_staticmethod_and_classmethod(self) -> None:
        class Odd(Spider):
            @lane("process")
            @staticmethod
            def above(response: Response) -> None:
                pass

            @staticmethod
            @lane("process")
            def below(response: Response) -> None:
                pass

            @lane("process")
            @classmethod
            def of_class(cls, response: Response) -> None:
                pass

        assert {lane_of(getattr(Odd(), name)) for name in ("above", "below", "of_class")} == {
            "process"
        }

    @pytest.mark.parametrize("name", ["thread", "process"])
    def test_an_async_function_stays_on_the_loop(self, name: LaneName) -> None:
        async def parse(response: Response) -> None:
            pass

        async def generator(response: Response) -> AsyncIterator[Request]:
            yield Request("https://a.test/")

        for function in (parse, generator):
            assert lane("loop")(function) is function
            with pytest.raises(UsageError, match="is async and runs on the event loop"):
                lane(name)(function)

    def test_a_wrapper_of_an_async_function_is_async(self) -> None:
        async def parse(response: Response) -> None:
            pass

        @functools.wraps(parse)
        def wrapper(response: Response) -> Any:
            return parse(response)

        assert lane_of(wrapper) == "loop"

    def test_an_unknown_lane_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"no lane 'proces'; did you mean 'process'\?"):
            lane("proces")  # type: ignore[arg-type]


class TestCallback:
    def test_it_is_found_by_name(self) -> None:
        shop = Shop()
        assert shop.callback(None) == shop.parse
        assert shop.callback("") == shop.parse
        assert shop.callback("parse_item") == shop.parse_item
        assert shop.callback("_private") == shop._private
        assert shop.callback(f"{__name__}:module_level") is module_level

    @pytest.mark.parametrize("name", ["parse_itme", "pages", "__init__", "__class__", "no.such"])
    def test_an_unknown_one_is_an_error(self, name: str) -> None:
        with pytest.raises(UnknownCallback, match=f"spider 'shop' has no callback '{name}'"):
            Shop().callback(name)

    def test_the_error_names_the_nearest_or_all(self) -> None:
        with pytest.raises(UnknownCallback, match=r"did you mean 'parse_item'\?"):
            Shop().callback("parse_itme")
        with pytest.raises(UnknownCallback, match="known: parse, parse_item, parse_scan"):
            Shop().callback("xyz")
        with pytest.raises(UnknownCallback, match=r"has no callback 'parse'$"):
            Plain().callback(None)

    @pytest.mark.parametrize("name", ["no_such_module:parse", ":parse", "json:nothing", "json:"])
    def test_an_unknown_function_is_an_error(self, name: str) -> None:
        with pytest.raises(UnknownCallback):
            Shop().callback(name)

    def test_names_are_those_of_the_class_itself(self) -> None:
        assert callback_names(Shop) == ["parse", "parse_item", "parse_scan"]
        assert process_callbacks(Shop) == ["parse_scan"]
        assert callback_names(Spider) == []


class TestLifespan:
    @pytest.mark.parametrize("wrapped", [True, False])
    async def test_it_surrounds_the_crawl(self, wrapped: bool) -> None:
        events: list[str] = []

        async def lifespan(self: Spider) -> AsyncIterator[None]:
            events.append("before")
            yield
            events.append("after")

        made = type("Spanned", (Spider,), {"lifespan": lifespan})()
        if wrapped:
            made = type("Spanned", (Spider,), {"lifespan": asynccontextmanager(lifespan)})()
        assert isinstance(made, Spider)
        async with lifespan_of(made):
            events.append("crawl")
        assert events == ["before", "crawl", "after"]

    async def test_it_may_be_left_out(self) -> None:
        async with lifespan_of(Plain()):
            pass

    async def test_an_error_of_the_crawl_is_raised_where_it_yields(self) -> None:
        seen: list[BaseException] = []

        class Spanned(Spider):
            async def lifespan(self) -> AsyncIterator[None]:
                try:
                    yield
                except ValueError as exc:
                    seen.append(exc)
                    raise

        error = ValueError("x")
        with pytest.raises(ValueError, match="x"):
            async with lifespan_of(Spanned()):
                raise error
        assert seen == [error]

    @pytest.mark.parametrize("kind", ["coroutine", "generator", "none"])
    def test_what_is_no_async_generator_is_refused(self, kind: str) -> None:
        async def coroutine(self: Spider) -> None:
            pass

        def generator(self: Spider) -> Iterator[None]:
            yield

        def none(self: Spider) -> None:
            pass

        lifespan = {"coroutine": coroutine, "generator": generator, "none": none}[kind]
        made = type("Odd", (Spider,), {"lifespan": lifespan})()
        assert isinstance(made, Spider)
        with pytest.raises(SpiderError, match=r"Odd\.lifespan\(\) must be an async generator"):
            lifespan_of(made)


def test_on_error_does_nothing_by_itself() -> None:
    assert inspect.signature(Plain().on_error).parameters.keys() == {"failure"}


BY_PATH = """
from scrapekit import Spider
from helper import GREETING  # lies beside it

class Remote(Spider):
    pages: int = 1

    class Inner(Spider):
        def parse(self, response):
            return "inner"

    def parse(self, response):
        self.calls = getattr(self, "calls", 0) + 1
        return GREETING, self.pages, self.calls
"""

READ_AND_CALL = """
import pickle, sys
refs = pickle.load(sys.stdin.buffer)
outer, inner = refs
print(outer.callback(None)("page"), outer.callback("parse")("page"), inner.callback(None)("page"))
"""


class TestRef:
    def test_another_process_builds_the_same_spider(self, tmp_path: Path) -> None:
        (tmp_path / "helper.py").write_text("GREETING = 'hello'\n")
        (tmp_path / "remote_spider.py").write_text(BY_PATH)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "path", [*sys.path])
            module = import_file(tmp_path / "remote_spider.py")
        refs = SpiderRef.of(module.Remote(pages="7")), SpiderRef.of(module.Remote.Inner())
        done = subprocess.run(
            [sys.executable, "-c", READ_AND_CALL],
            input=pickle.dumps(refs),
            capture_output=True,
            check=False,
        )
        assert done.stderr == b""
        assert done.stdout.decode().strip() == "('hello', 7, 1) ('hello', 7, 2) inner"

    def test_a_class_that_can_be_imported_is_known_by_its_module(self) -> None:
        ref = SpiderRef.of(Plain())
        assert (ref.module, ref.qualname, ref.args, ref.kwargs) == (__name__, "Plain", (), {})
        assert ref.load() is Plain

    def test_each_spider_has_a_key_of_its_own(self) -> None:
        spider = Plain()
        assert SpiderRef.of(spider).key != SpiderRef.of(spider).key

    def test_the_spider_is_built_once_and_counts_are_taken(self) -> None:
        ref = SpiderRef.of(Shop(pages=4))
        method: Any = ref.callback("parse_scan")
        assert method.__self__ is ref.callback(None).__self__  # type: ignore[attr-defined]
        assert method.__self__.pages == 4
        method.__self__.stats.add("seen", 2)
        assert ref.take_counts() == {"seen": 2}
        assert ref.take_counts() == {}

    def test_attributes_set_later_stay_at_home(self) -> None:
        spider = Shop()
        spider.pages = 99
        method: Any = SpiderRef.of(spider).callback(None)
        assert method.__self__.pages == 3

    def test_a_class_inside_a_function_cannot_be_built_elsewhere(self) -> None:
        class Local(Spider):
            pass

        with pytest.raises(SpiderError, match="define the class at the top level of its module"):
            SpiderRef.of(Local())


def test_an_installed_package_with_a_spider_is_the_users_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "my_installed_spiders"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "helper.py").write_text("def boom():\n    raise ZeroDivisionError\n")
    (package / "shop.py").write_text(
        "from scrapekit import Spider\nfrom my_installed_spiders.helper import boom\n"
        "class Shop(Spider):\n    def parse(self, response):\n        boom()\n"
    )
    (tmp_path / "my_installed_library.py").write_text("def boom():\n    raise ZeroDivisionError\n")
    monkeypatch.setattr("scrapekit.failure._LIBRARIES", (f"{tmp_path}/",))
    monkeypatch.setattr("scrapekit.failure._adopted", set(_adopted))
    monkeypatch.syspath_prepend(tmp_path)
    from my_installed_library import boom  # type: ignore[import-not-found]
    from my_installed_spiders.shop import Shop as Installed  # type: ignore[import-not-found]

    with pytest.raises(ZeroDivisionError) as caught:
        Installed().parse(None)
    assert place(caught.value) == f"{package}/helper.py:2"
    with pytest.raises(ZeroDivisionError) as caught:
        boom()
    assert "my_installed" not in place(caught.value)


def test_a_hint_that_cannot_be_resolved_costs_its_own_conversion_alone() -> None:
    class Tagged(Spider):
        tag: "Missing"  # type: ignore[name-defined]  # noqa: F821, UP037
        pages: "int | None" = None  # noqa: UP037

    spider = Tagged(tag="5", pages="5")
    assert (spider.tag, spider.pages) == ("5", 5)
