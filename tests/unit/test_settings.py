from __future__ import annotations

import copy
import json
import math
import pickle
import string
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scrapekit import _version
from scrapekit.errors import SettingsError
from scrapekit.settings import SETTINGS, DomainSettings, Settings, changed, check, redact

A_YEAR_S = 31_536_000
SECRET = "hunter2"  # nothing else in these tests contains it

DEFAULTS: dict[str, object] = {
    "concurrency": 32,
    "concurrency_per_origin": 8,
    "delay_s": 0.0,
    "delay_jitter": 0.0,
    "requests_per_minute": None,
    "adaptive": True,
    "domains": {},
    "timeout_s": 60.0,
    "connect_timeout_s": 10.0,
    "read_timeout_s": 30.0,
    "first_byte_timeout_s": None,
    "header_timeout_s": 45.0,
    "min_bytes_per_s": 50.0,
    "max_ratio": 1_100,
    "max_body_bytes": 33_554_432,
    "max_bytes_in_flight": 268_435_456,
    "max_parse_s": 1.0,
    "max_redirects": 10,
    "retries": 2,
    "retry_delay_s": 1.0,
    "max_retry_delay_s": 300.0,
    "max_outage_s": 900.0,
    "retry_methods": (),
    "obey_robots": True,
    "user_agent": f"scrapekit/{_version.__version__}",
    "headers": {},
    "cookies": {},
    "keep_cookies": True,
    "auth": {},
    "proxy": None,
    "proxies": (),
    "proxy_bench_s": 30.0,
    "accept_statuses": (),
    "max_depth": None,
    "traps": True,
    "max_pages_per_origin": None,
    "max_pages_per_template": 100_000,
    "max_url_length": 2_000,
    "max_pages": None,
    "max_items": None,
    "max_seconds": None,
    "threads": 16,
    "processes": None,
    "executor": None,
    "callback_timeout_s": 120.0,
    "callback_memory_bytes": 2_147_483_648,
    "quarantine": None,
    "item_key": (),
    "cache": None,
    "cache_mode": "replay",
    "stall_warning_s": 0.1,
    "drain_s": 10.0,
    "durability": "process",
    "transport": "aiohttp",
    "verify_tls": True,
    "guard": "local-network-safe",
    "guard_ports": (80, 443),
    "csv_safe": False,
}


def make(name: str, value: object) -> Settings:
    values: dict[str, Any] = {name: value}
    return Settings(**values)


def refused(name: str, value: object, *, is_text: bool = False) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        check(name, value, "the spider", is_text=is_text)
    assert caught.value.name == name
    assert caught.value.source == "the spider"
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


# What a value of each setting may be, for the properties below.
COUNT = st.integers(min_value=1, max_value=2**70)
SLOTS = st.integers(min_value=1, max_value=100_000)
WORKERS = st.integers(min_value=1, max_value=1_000)
SPAN = st.floats(min_value=0, max_value=A_YEAR_S, exclude_min=True)
PAUSE = st.floats(min_value=0, max_value=A_YEAR_S)
TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1)
LINE = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))
COOKIE = st.text(st.characters(exclude_characters=";\x7f", exclude_categories=["Cs", "Cc"]))
HOST = st.from_regex(r"[a-z0-9.-]+|\[[0-9a-f:]+\]", fullmatch=True)
ORIGIN = st.from_regex(r"https?://[a-z0-9.-]+(:[0-9]{2,5})?", fullmatch=True)
AUTH = st.sampled_from(["user:pass", "user:", ":", "üser:pa:ss wörd", "Bearer abc.DEF-1=="])
PROXY = st.builds("http://user:pw@{}:8080".format, HOST)
DOMAIN = st.builds(
    DomainSettings,
    concurrency_per_origin=st.none() | SLOTS,
    delay_s=st.none() | PAUSE,
    delay_jitter=st.none() | st.floats(0, 10),
    requests_per_minute=st.none() | COUNT,
    adaptive=st.none() | st.booleans(),
)

VALUES: dict[str, st.SearchStrategy[object]] = {
    "concurrency": SLOTS,
    "concurrency_per_origin": SLOTS,
    "delay_s": PAUSE,
    "delay_jitter": st.floats(0, 10),
    "requests_per_minute": st.none() | COUNT,
    "adaptive": st.booleans(),
    "domains": st.dictionaries(HOST.filter(lambda host: ":" not in host), DOMAIN, max_size=3),
    "timeout_s": SPAN,
    "connect_timeout_s": SPAN,
    "read_timeout_s": SPAN,
    "first_byte_timeout_s": st.none() | SPAN,
    "header_timeout_s": SPAN,
    "min_bytes_per_s": PAUSE,
    "max_ratio": COUNT,
    "max_body_bytes": COUNT,
    "max_bytes_in_flight": COUNT,
    "max_parse_s": st.none() | SPAN,
    "max_redirects": COUNT,
    "retries": st.integers(0, 100),
    "retry_delay_s": PAUSE,
    "max_retry_delay_s": PAUSE,
    "max_outage_s": PAUSE,
    "retry_methods": st.lists(TOKEN, max_size=3).map(tuple),
    "obey_robots": st.booleans(),
    "user_agent": LINE.map(str.strip).filter(bool),
    "headers": st.dictionaries(TOKEN, LINE, max_size=3),
    "cookies": st.dictionaries(TOKEN, COOKIE, max_size=3),
    "keep_cookies": st.booleans(),
    "auth": st.dictionaries(ORIGIN, AUTH, max_size=3),
    "proxy": st.none() | PROXY,
    "proxies": st.lists(PROXY, max_size=3).map(tuple),
    "proxy_bench_s": PAUSE,
    "accept_statuses": st.lists(st.integers(100, 999), max_size=4).map(tuple),
    "max_depth": st.none() | st.integers(0, 100),
    "traps": st.booleans(),
    "max_pages_per_origin": st.none() | COUNT,
    "max_pages_per_template": st.none() | COUNT,
    "max_url_length": COUNT,
    "max_pages": st.none() | COUNT,
    "max_items": st.none() | COUNT,
    "max_seconds": st.none() | SPAN,
    "threads": WORKERS,
    "processes": st.none() | WORKERS,
    "executor": st.none() | st.sampled_from(["compute:cluster", "shop.lanes:make"]),
    "callback_timeout_s": st.none() | SPAN,
    "callback_memory_bytes": st.none() | st.integers(1_000_000, 10**12),
    "quarantine": st.none() | st.sampled_from(["kept", "/var/lib/kept pages"]),
    "item_key": st.lists(st.sampled_from(["sku", "shop url"])).map(tuple),
    "cache": st.none() | st.sampled_from(["kept", "/var/lib/kept pages"]),
    "cache_mode": st.sampled_from(["replay", "rules"]),
    "stall_warning_s": PAUSE,
    "drain_s": PAUSE,
    "durability": st.sampled_from(["process", "power"]),
    "transport": st.sampled_from(["aiohttp", "fast"]),
    "verify_tls": st.booleans(),
    "guard": st.sampled_from(["local-network-safe", "public-only", "off"]),
    "csv_safe": st.booleans(),
    "guard_ports": st.lists(st.integers(1, 65_535), max_size=4).map(tuple),
}
SOME_VALUES = st.fixed_dictionaries({}, optional=VALUES)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def as_text(value: object) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(msgspec.to_builtins(value))


class TestDefaults:
    @pytest.mark.parametrize("name", DEFAULTS)
    def test_each_setting_has_the_documented_default(self, name: str) -> None:
        assert getattr(Settings(), name) == DEFAULTS[name]

    def test_there_are_no_other_settings(self) -> None:
        assert set(SETTINGS) == set(DEFAULTS) == set(VALUES) == set(Settings.__struct_fields__)

    def test_two_settings_share_no_table(self) -> None:
        assert Settings().headers is not Settings().headers


class TestValues:
    @given(SOME_VALUES)
    def test_every_value_in_range_is_kept_as_it_is(self, values: dict[str, Any]) -> None:
        settings = Settings(**values)
        assert {name: getattr(settings, name) for name in values} == values

    @given(st.sampled_from(sorted(SETTINGS)), ANYTHING)
    def test_any_value_is_either_kept_or_refused_in_one_line(
        self, name: str, value: object
    ) -> None:
        try:
            kept = check(name, value, "the spider")
        except SettingsError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017 - either way is right
        else:
            assert check(name, kept, "the spider") == kept

    @pytest.mark.parametrize(
        ("name", "outside"),
        [
            ("concurrency", [0, -1, 100_001]),
            ("concurrency_per_origin", [0, 100_001]),
            ("delay_s", [-0.001, A_YEAR_S + 1]),
            ("timeout_s", [0, -1, A_YEAR_S + 1]),
            ("connect_timeout_s", [0]),
            ("read_timeout_s", [0]),
            ("max_body_bytes", [0]),
            ("max_bytes_in_flight", [0]),
            ("max_redirects", [-1]),
            ("retries", [-1]),
            ("retry_delay_s", [-1]),
            ("max_retry_delay_s", [-1]),
            ("max_outage_s", [-1]),
            ("user_agent", ["", " ", "a\r\nX-Injected: b", "a\0", "\ud800"]),
            ("headers", [{"": "a"}, {"a b": "c"}, {"a": "b\r\nc: d"}, {"a": "b\n"}]),
            ("cookies", [{"a=": "b"}, {"a": "b; c=d"}, {"a": "b\r\nc: d"}]),
            ("accept_statuses", [[99], [1000], [404, 0]]),
            ("max_depth", [-1]),
            ("max_pages", [0]),
            ("max_items", [0]),
            ("max_seconds", [0, A_YEAR_S + 1]),
            ("threads", [0, 1001]),
            ("processes", [0, 1001]),
            ("drain_s", [-1]),
        ],
    )
    def test_values_out_of_range_are_refused(self, name: str, outside: list[object]) -> None:
        for value in outside:
            refused(name, value)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("concurrency", True),
            ("concurrency", 1.0),
            ("concurrency", "5"),
            ("concurrency", None),
            ("timeout_s", False),
            ("timeout_s", "5"),
            ("obey_robots", 1),
            ("obey_robots", "yes"),
            ("user_agent", b"bot"),
            ("user_agent", None),
            ("headers", [("a", "b")]),
            ("headers", {"a": 1}),
            ("headers", {1: "a"}),
            ("accept_statuses", 404),
            ("accept_statuses", ["404"]),
            ("accept_statuses", [True]),
            ("max_depth", True),
        ],
    )
    def test_one_type_is_not_taken_for_another(self, name: str, value: object) -> None:
        refused(name, value)

    @pytest.mark.parametrize("name", [name for name, value in DEFAULTS.items() if value == 10.0])
    @pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
    def test_times_are_finite(self, name: str, value: float) -> None:
        refused(name, value)

    def test_a_whole_number_is_a_time(self) -> None:
        timeout = Settings(timeout_s=5).timeout_s
        assert (timeout, type(timeout)) == (5.0, float)

    def test_statuses_come_in_any_collection_and_by_their_names(self) -> None:
        assert make("accept_statuses", [404, 410]).accept_statuses == (404, 410)
        assert make("accept_statuses", {404}).accept_statuses == (404,)
        assert Settings(accept_statuses=(HTTPStatus.NOT_FOUND,)).accept_statuses == (404,)

    @pytest.mark.parametrize(
        "url",
        [
            "http://proxy:3128",
            "HTTPS://proxy.example/",
            "http://user:p%40ss@10.0.0.1:8080",
            "http://[::1]:8080",
        ],
    )
    def test_a_proxy_is_an_http_url(self, url: str) -> None:
        assert Settings(proxy=url).proxy == url

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "proxy:3128",
            "socks5://proxy",
            "http://",
            "http://:80",
            "http://u@",
            "http://proxy/path",
            "http://proxy:port",
            "http://pro xy",
            "http://proxy\n",
        ],
    )
    def test_nothing_else_is_a_proxy(self, url: str) -> None:
        refused("proxy", url)
        refused("proxies", [url])

    @pytest.mark.parametrize("auth", ["", "token", "Bearer", "Bearer a b", "Basic abc", "a:b\n"])
    def test_auth_is_a_pair_or_a_bearer_token(self, auth: str) -> None:
        refused("auth", {"https://api.test": auth})

    @pytest.mark.parametrize(
        "origin", ["api.test", "ftp://api.test", "https://api.test/v1", "https://u@api.test", ""]
    )
    def test_auth_is_given_by_origin(self, origin: str) -> None:
        refused("auth", {origin: "user:pass"})


class TestErrors:
    def test_a_bad_value_is_told_with_setting_place_value_and_range(self) -> None:
        message = "the spider: setting 'threads' is 0; expected a whole number from 1 to 1000"
        assert str(refused("threads", 0)) == message

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("concurrency", "a whole number from 1 to 100000"),
            ("max_body_bytes", "a whole number from 1 up"),
            ("max_depth", "a whole number from 0 up, or none"),
            ("timeout_s", "a number above 0, at most 31536000"),
            ("delay_s", "a number from 0 to 31536000"),
            ("obey_robots", "true or false"),
            ("guard", "one of local-network-safe, off, public-only"),
            ("user_agent", "a text on one line, not empty"),
            ("proxy", "a URL like http://user:password@host:port, or none"),
            ("accept_statuses", "a list, each item a whole number from 100 to 999"),
            (
                "auth",
                (
                    "a table, each name an origin like https://host, "
                    "each value 'name:password' or 'Bearer TOKEN'"
                ),
            ),
            ("headers", "a table, each name a token, each value a text on one line"),
        ],
    )
    def test_what_is_expected_is_worded_by_type_and_range(self, name: str, expected: str) -> None:
        assert str(refused(name, object())).endswith(f"; expected {expected}")

    def test_an_unknown_name_is_told_with_the_nearest(self) -> None:
        error = refused("concurency", 5)
        assert str(error) == (
            "the spider: unknown setting 'concurency'; did you mean 'concurrency'?"
        )

    @given(st.sampled_from(sorted(SETTINGS)), st.data())
    def test_one_lost_letter_is_recognised(self, name: str, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(name) - 1))
        misspelt = name[:at] + name[at + 1 :]
        assume(misspelt not in SETTINGS)
        assert f"did you mean {name!r}?" in str(refused(misspelt, 5))

    def test_a_name_like_no_other_is_told_with_all_of_them(self) -> None:
        message = str(refused("zzz", 5))
        assert all(name in message for name in SETTINGS)

    def test_a_name_may_be_of_any_type(self) -> None:
        values: Mapping[Any, object] = {7: 1}
        with pytest.raises(SettingsError, match="unknown setting 7"):
            check(next(iter(values)), 1, "the spider")

    def test_a_long_value_is_shortened(self) -> None:
        assert len(str(refused("threads", "x" * 10_000))) < 200

    def test_the_constructor_checks_as_well(self) -> None:
        with pytest.raises(SettingsError, match="'concurrency' is 0") as caught:
            Settings(concurrency=0)
        assert caught.value.source == "Settings"

    def test_the_constructor_refuses_an_unknown_name_as_functions_do(self) -> None:
        with pytest.raises(TypeError, match="concurency"):
            make("concurency", 5)

    def test_an_error_survives_pickling(self) -> None:
        error = refused("threads", 0)
        copied = pickle.loads(pickle.dumps(error))
        assert (str(copied), copied.name, copied.source) == (str(error), "threads", "the spider")


class TestText:
    @given(st.sampled_from(sorted(SETTINGS)), st.data())
    def test_every_value_can_be_written_as_text(self, name: str, data: st.DataObject) -> None:
        value = data.draw(VALUES[name])
        assert check(name, as_text(value), "-s", is_text=True) == value

    @given(st.sampled_from(sorted(SETTINGS)), st.text())
    def test_any_text_is_either_converted_or_refused_in_one_line(
        self, name: str, text: str
    ) -> None:
        try:
            value = check(name, text, "the spider", is_text=True)
        except SettingsError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017 - either way is right
        else:
            assert check(name, value, "the spider") == value

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("concurrency", " 5 ", 5),
            ("timeout_s", "1.5", 1.5),
            ("timeout_s", "2", 2.0),
            ("obey_robots", "False", False),
            ("obey_robots", "0", False),
            ("obey_robots", "true", True),
            ("user_agent", " my bot ", "my bot"),
            ("accept_statuses", "404", (404,)),
            ("accept_statuses", "404, 410,", (404, 410)),
            ("accept_statuses", "[404, 410]", (404, 410)),
            ("accept_statuses", "", ()),
            ("headers", '{"Accept": "text/html"}', {"Accept": "text/html"}),
            ("headers", "{}", {}),
            ("max_depth", "0", 0),
            ("max_depth", "None", None),
            ("max_depth", "null", None),
            ("proxy", "", None),
        ],
    )
    def test_text_is_converted_by_the_type_of_its_setting(
        self, name: str, text: str, value: object
    ) -> None:
        assert check(name, text, "-s", is_text=True) == value

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("concurrency", "many"),
            ("concurrency", "1.5"),
            ("concurrency", ""),
            ("concurrency", "none"),
            ("timeout_s", "nan"),
            ("timeout_s", "inf"),
            ("obey_robots", "maybe"),
            ("user_agent", ""),
            ("accept_statuses", "404;410"),
            ("accept_statuses", "[404"),
            ("headers", "Accept: text/html"),
            ("headers", "[]"),
            ("headers", '{"Accept": 1}'),
            ("headers", '{"Accept": "\udcff"}'),
        ],
    )
    def test_text_that_is_no_such_value_is_refused(self, name: str, text: str) -> None:
        refused(name, text, is_text=True)

    def test_the_message_tells_how_a_table_or_a_list_is_written(self) -> None:
        assert str(refused("headers", "x", is_text=True)).endswith(", written as JSON")
        hint = ", separated by commas or written as JSON"
        assert str(refused("accept_statuses", "x", is_text=True)).endswith(hint)


class TestFrozen:
    def test_no_setting_can_be_changed(self) -> None:
        settings: Any = Settings()
        with pytest.raises(AttributeError):
            settings.concurrency = 5

    def test_the_table_passed_in_is_copied(self) -> None:
        headers = {"Accept": "text/html"}
        settings = Settings(headers=headers)
        headers["Accept"] = "*/*"
        assert settings.headers == {"Accept": "text/html"}

    def test_any_mapping_serves_as_a_table(self) -> None:
        assert Settings(headers=MappingProxyType({"a": "b"})).headers == {"a": "b"}

    def test_a_changed_copy_is_checked_too(self) -> None:
        settings = Settings(concurrency=5)
        assert msgspec.structs.replace(settings, threads=2) == Settings(concurrency=5, threads=2)
        with pytest.raises(SettingsError):
            msgspec.structs.replace(settings, threads=0)

    def test_names_are_required(self) -> None:
        positional: Any = Settings
        with pytest.raises(TypeError):
            positional(32)

    @given(SOME_VALUES)
    def test_settings_survive_pickling_and_copying(self, values: dict[str, Any]) -> None:
        settings = Settings(**values)
        assert pickle.loads(pickle.dumps(settings)) == settings
        assert copy.deepcopy(settings) == settings
        assert Settings(**changed(settings)) == settings  # type: ignore[arg-type]

    def test_only_what_differs_from_the_defaults_is_changed(self) -> None:
        assert changed(Settings(concurrency=32, threads=2)) == {"threads": 2}


class TestSecrets:
    @pytest.mark.parametrize(
        "header",
        [
            "Authorization",
            "proxy-authorization",
            "Cookie",
            "X-Api-Key",
            "X-Auth-Token",
            "X-Client-Secret",
            "Session-Id",
        ],
    )
    def test_repr_hides_secret_headers(self, header: str) -> None:
        settings = Settings(headers={header: SECRET, "Accept": "text/html"})
        assert repr(settings) == (f"Settings(headers={{'{header}': '***', 'Accept': 'text/html'}})")

    def test_repr_hides_all_cookies_but_their_names(self) -> None:
        assert repr(Settings(cookies={"sid": SECRET})) == "Settings(cookies={'sid': '***'})"

    @pytest.mark.parametrize("userinfo", [f"user:{SECRET}", SECRET, f":{SECRET}", f"{SECRET}:"])
    def test_repr_hides_the_credentials_of_the_proxy(self, userinfo: str) -> None:
        settings = Settings(proxy=f"http://{userinfo}@proxy:3128")
        assert repr(settings) == "Settings(proxy='http://***@proxy:3128')"

    def test_repr_hides_those_of_many_proxies_and_of_origins(self) -> None:
        settings = Settings(
            proxies=(f"http://me:{SECRET}@one", "http://two"),
            auth={"https://api.test": f"me:{SECRET}"},
        )
        assert repr(settings) == (
            "Settings(auth={'https://api.test': '***'}, proxies=('http://***@one', 'http://two'))"
        )

    def test_str_format_and_rich_hide_the_same(self) -> None:
        settings = Settings(cookies={"sid": SECRET})
        assert SECRET not in f"{settings} {settings!s} {settings!r} {settings.__rich_repr__()}"

    @given(
        st.sampled_from(["http://", "HTTP://", "socks5://", "//", "", "://"]),
        st.text(st.characters(exclude_characters="@")),
        st.text(),
    )
    def test_what_stands_before_an_at_sign_is_never_shown(
        self, scheme: str, user: str, more: str
    ) -> None:
        shown = redact("proxy", f"{scheme}{user}:{SECRET}{more}@proxy")
        assert SECRET not in str(shown)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("proxy", f"socks5://user:{SECRET}@proxy"),
            ("proxy", f"user:{SECRET}@proxy"),
            ("proxy", f"http://user:{SECRET}@/@proxy/path"),
            ("proxy", [f"http://user:{SECRET}@proxy"]),
            ("proxies", f"http://a:{SECRET}@one,http://b:{SECRET}@two/path"),
            ("proxies", [f"http://a:{SECRET}@one", f"b:{SECRET}@two"]),
            ("auth", f"https://api.test={SECRET}"),
            ("auth", {"https://api.test": SECRET}),
            ("auth", {f"https://me:{SECRET}@api.test": "a:b"}),
            ("headers", f"Authorization: {SECRET}"),
            ("headers", [("Authorization", SECRET)]),
            ("headers", {"Authorization": f"{SECRET}\n"}),
            ("headers", {"Authorization": {"Bearer": SECRET}}),
            ("cookies", f"sid={SECRET}"),
            ("cookies", {"sid": f"{SECRET};"}),
        ],
    )
    @pytest.mark.parametrize("is_text", [False, True])
    def test_errors_show_no_secrets_either(self, name: str, value: object, is_text: bool) -> None:
        error = refused(name, value, is_text=is_text)
        assert SECRET not in f"{error!r} {error.__cause__!r}"


class TestReference:
    @pytest.mark.parametrize("name", SETTINGS)
    def test_help_tells_each_setting_with_default_meaning_and_range(self, name: str) -> None:
        setting = SETTINGS[name]
        line = f"{name} = {setting.default!r}: {setting.description} Takes {setting.expected}."
        assert line in (Settings.__doc__ or "")

    @pytest.mark.parametrize("name", SETTINGS)
    def test_each_description_is_a_sentence(self, name: str) -> None:
        description = SETTINGS[name].description
        assert description[0].isupper()
        assert description.endswith(".")

    @pytest.mark.parametrize("name", [name for name in SETTINGS if name.endswith(("_s", "_bytes"))])
    def test_units_are_in_the_names_and_told(self, name: str) -> None:
        unit = "seconds" if name.endswith("_s") else "bytes"
        assert unit in SETTINGS[name].description
