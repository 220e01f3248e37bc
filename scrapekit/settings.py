"""Settings: one frozen class, its reference, and the check of a single value.

Where settings come from, and which of them wins, is told in `config`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, inspect

from scrapekit._version import __version__
from scrapekit.authority import AUTH_PATTERN, AUTH_TITLE, PROXY_PATTERN, PUBLIC_HEADERS
from scrapekit.errors import SettingsError, did_you_mean, name_in, without_userinfo

# Bounded by a year, because infinite waits overflow in some timers.
_A_YEAR_S: Final = 31_536_000
_Span = Annotated[float, Meta(gt=0, le=_A_YEAR_S)]
_Pause = Annotated[float, Meta(ge=0, le=_A_YEAR_S)]
_Count = Annotated[int, Meta(ge=1)]
_Slots = Annotated[int, Meta(ge=1, le=100_000)]
_Workers = Annotated[int, Meta(ge=1, le=1_000)]
_Port = Annotated[int, Meta(ge=1, le=65_535)]
_Status = Annotated[int, Meta(ge=100, le=999)]
# RFC 9110, 5.6.2; RFC 6265, 4.1.1 takes the same for the names of cookies.
_Token = Annotated[str, Meta(pattern=r"\A[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z", title="a token")]
# RFC 9110, 5.5: CR, LF and NUL end a field. Surrogates are what no encoding can send.
_FieldValue = Annotated[
    str, Meta(pattern=r"\A[^\r\n\0\ud800-\udfff]*\Z", title="a text on one line")
]
# Wider than RFC 6265, 4.1.1, because servers set quotes and commas and want them back.
_CookieValue = Annotated[
    str,
    Meta(pattern=r"\A[^\x00-\x1f\x7f;\ud800-\udfff]*\Z", title="a text without ';' on one line"),
]
_Product = Annotated[
    str,
    Meta(
        pattern=r"\A(?=.*\S)[^\r\n\0\ud800-\udfff]+\Z",
        title="a text on one line, not empty",
    ),
]
_ProxyURL = Annotated[
    str,
    Meta(
        pattern=PROXY_PATTERN,
        title="a URL like http://user:password@host:port",
    ),
]
_Origin = Annotated[
    str, Meta(pattern=r"\A(?i:https?)://[^\s/?#@]+/?\Z", title="an origin like https://host")
]
_Auth = Annotated[str, Meta(pattern=AUTH_PATTERN, title=AUTH_TITLE)]


# A custom type of msgspec's can't be one of several, so `check` looks at it.
_Executor = Annotated[
    Any, Meta(title="a concurrent.futures.Executor, or module:function that makes one, or none")
]
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_Field = Annotated[str, Meta(min_length=1, title="the name of a field")]
_Folder = Annotated[str, Meta(min_length=1, title="the path of a folder")]
_Share = Annotated[float, Meta(ge=0, le=10)]
_Domain = Annotated[str, Meta(pattern=r"\A[^\s/:@?#*]+\Z", title="a host name")]


class DomainSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, repr_omit_defaults=True
):
    """What differs for one domain and its subdomains; None: as for all."""

    concurrency_per_origin: _Slots | None = None
    delay_s: _Pause | None = None
    delay_jitter: _Share | None = None
    requests_per_minute: _Count | None = None
    adaptive: bool | None = None


_DomainTable = Annotated[
    DomainSettings,
    Meta(title=f"a table of {', '.join(DomainSettings.__struct_fields__)}"),
]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a crawl behaves. Frozen; `msgspec.structs.replace` makes a changed copy.

    Every value is checked when the object is made: SettingsError names what is out of range.
    `repr` tells what differs from the defaults, and no credentials.
    """

    concurrency: Annotated[
        _Slots, Meta(description="Pages in the making at once, in the whole crawl.")
    ] = 32
    concurrency_per_origin: Annotated[
        _Slots, Meta(description="Requests at a time to one origin, at most.")
    ] = 8
    delay_s: Annotated[
        _Pause, Meta(description="Least time between two requests to one origin, in seconds.")
    ] = 0.0
    delay_jitter: Annotated[
        _Share, Meta(description="Up to this share of a delay is added to it at random.")
    ] = 0.0
    requests_per_minute: Annotated[
        _Count | None,
        Meta(description="Most requests to one origin in any minute; they may come in a row."),
    ] = None
    adaptive: Annotated[
        bool,
        Meta(
            description="Begin with two requests at a time to an origin, and ask for more or less "
            "as it answers, up to concurrency_per_origin."
        ),
    ] = True
    domains: Annotated[
        Mapping[_Domain, _DomainTable],
        Meta(description="Limits that differ, by domain; subdomains included, the nearest wins."),
    ] = msgspec.field(default_factory=dict)
    timeout_s: Annotated[
        _Span,
        Meta(description="Longest time for one page, all redirects and the body, in seconds."),
    ] = 60.0
    connect_timeout_s: Annotated[
        _Span, Meta(description="Longest time for one connection to be made, in seconds.")
    ] = 10.0
    read_timeout_s: Annotated[
        _Span,
        Meta(description="Longest silence before the first byte or between reads, in seconds."),
    ] = 30.0
    first_byte_timeout_s: Annotated[
        _Span | None,
        Meta(
            description="Longest silence before the first byte, in seconds; none: read_timeout_s."
        ),
    ] = None
    header_timeout_s: Annotated[
        _Span,
        Meta(description="Longest time from a request to its answer's whole header, in seconds."),
    ] = 45.0
    min_bytes_per_s: Annotated[
        _Pause,
        Meta(description="Slowest transfer of a body, after its first 10 seconds; 0: any."),
    ] = 50.0
    max_body_bytes: Annotated[
        _Count, Meta(description="Largest body of one page, decoded, in bytes.")
    ] = 33_554_432
    max_ratio: Annotated[
        _Count,
        Meta(description="Most decoded bytes for one on the wire, in bodies of over 1 MiB."),
    ] = 1_100
    max_bytes_in_flight: Annotated[
        _Count, Meta(description="Most decoded bytes held by all pages in the making, in bytes.")
    ] = 268_435_456
    max_parse_s: Annotated[
        _Span | None,
        Meta(
            description="Longest time for parsing a page of 2 MB, in seconds of CPU time, and for "
            "smaller ones less; slower ones are refused; none: no limit, and no look."
        ),
    ] = 1.0
    max_redirects: Annotated[
        Annotated[int, Meta(ge=0)], Meta(description="Redirects followed for one page.")
    ] = 10
    retries: Annotated[
        Annotated[int, Meta(ge=0)],
        Meta(description="Further attempts after a failure that may pass by itself."),
    ] = 2
    retry_delay_s: Annotated[
        _Pause,
        Meta(description="Wait before the first retry, in seconds; it grows exponentially."),
    ] = 1.0
    max_retry_delay_s: Annotated[
        _Pause,
        Meta(description="Longest wait before a retry, also if Retry-After says more, in seconds."),
    ] = 300.0
    max_outage_s: Annotated[
        _Pause,
        Meta(
            description="How long a site that is down is waited for until what waits for it is "
            "given up, in seconds."
        ),
    ] = 900.0
    retry_methods: Annotated[
        tuple[_Token, ...],
        Meta(description="Methods to retry although they may do their work twice, such as POST."),
    ] = ()
    obey_robots: Annotated[bool, Meta(description="Fetch only what robots.txt allows.")] = True
    user_agent: Annotated[
        _Product, Meta(description="The User-Agent header, and the name looked up in robots.txt.")
    ] = f"scrapekit/{__version__}"
    headers: Annotated[
        Mapping[_Token, _FieldValue],
        Meta(description="Headers to send; private ones go to the start requests' origins only."),
    ] = msgspec.field(default_factory=dict)
    cookies: Annotated[
        Mapping[_Token, _CookieValue],
        Meta(description="Cookies to send; they go to the start requests' origins only."),
    ] = msgspec.field(default_factory=dict)
    keep_cookies: Annotated[
        bool, Meta(description="Send back the cookies that sites set, within a session.")
    ] = True
    auth: Annotated[
        Mapping[_Origin, _Auth],
        Meta(description="The Authorization that each origin gets, and no other."),
    ] = msgspec.field(default_factory=dict)
    proxy: Annotated[
        _ProxyURL | None,
        Meta(description="The HTTP proxy for all requests, with its credentials, if any."),
    ] = None
    proxies: Annotated[
        tuple[_ProxyURL, ...],
        Meta(description="HTTP proxies by turns, in place of `proxy`; one that fails sits out."),
    ] = ()
    proxy_bench_s: Annotated[
        _Pause,
        Meta(description="How long a proxy that fails sits out at first, in seconds."),
    ] = 30.0
    accept_statuses: Annotated[
        tuple[_Status, ...],
        Meta(description="Statuses outside 2xx that are handed to callbacks."),
    ] = ()
    max_depth: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Most links followed from a start URL; 0 is the start URLs alone."),
    ] = None
    traps: Annotated[
        bool,
        Meta(description="Cut off what looks endless: the report names what, and how much."),
    ] = True
    max_pages_per_origin: Annotated[
        _Count | None, Meta(description="Most pages of one origin; what is beyond is dropped.")
    ] = None
    max_pages_per_template: Annotated[
        _Count | None,
        Meta(description="Most pages of one origin whose URLs differ in numbers only."),
    ] = 100_000
    max_url_length: Annotated[
        _Count, Meta(description="Longest URL that is fetched, in characters.")
    ] = 2_000
    max_pages: Annotated[
        _Count | None,
        Meta(description="The crawl stops after this many pages that went to callbacks."),
    ] = None
    max_items: Annotated[
        _Count | None, Meta(description="The crawl stops after this many items.")
    ] = None
    max_seconds: Annotated[
        _Span | None, Meta(description="The crawl stops after this many seconds.")
    ] = None
    threads: Annotated[
        _Workers, Meta(description="Threads for plain def callbacks and stages.")
    ] = 16
    processes: Annotated[
        _Workers | None,
        Meta(description="Worker processes for process-lane callbacks; none: one a CPU."),
    ] = None
    executor: Annotated[
        _Executor, Meta(description="What runs process-lane callbacks instead of our own workers.")
    ] = None
    callback_timeout_s: Annotated[
        _Span | None,
        Meta(description="Longest run of a callback, in seconds; a worker process is stopped."),
    ] = 120.0
    callback_memory_bytes: Annotated[
        Annotated[int, Meta(ge=1_000_000)] | None,
        Meta(description="Most bytes that a process-lane callback may allocate; none: no limit."),
    ] = 2_147_483_648
    quarantine: Annotated[
        _Folder | None,
        Meta(description="Folder for the bodies of pages whose callback crashed or timed out."),
    ] = None
    item_key: Annotated[
        tuple[_Field, ...],
        Meta(description="Fields that tell which item is which, when two crawls are compared."),
    ] = ()
    cache: Annotated[
        _Folder | None,
        Meta(description="Folder that keeps what GET requests bring, for this and later crawls."),
    ] = None
    cache_mode: Annotated[
        Literal["replay", "rules"],
        Meta(
            description="Whether what is kept is used for as long as it is there, or as RFC 9111 "
            "allows."
        ),
    ] = "replay"
    stall_warning_s: Annotated[
        _Pause,
        Meta(description="Warn when the event loop is blocked for so many seconds; 0: never."),
    ] = 0.1
    drain_s: Annotated[
        _Pause, Meta(description="How long a stop waits for the pages in flight, in seconds.")
    ] = 10.0
    durability: Annotated[
        Literal["process", "power"],
        Meta(
            description="What a job survives: a killed process, or also a power cut, which waits "
            "for the disk."
        ),
    ] = "process"
    transport: Annotated[
        Literal["aiohttp", "fast"],
        Meta(description="What speaks HTTP; fast takes less CPU time, and the extra `fast`."),
    ] = "aiohttp"
    verify_tls: Annotated[bool, Meta(description="Refuse invalid TLS certificates.")] = True
    guard: Annotated[
        Literal["local-network-safe", "public-only", "off"],
        Meta(description="Which addresses pages and strangers may lead the crawl to."),
    ] = "local-network-safe"
    guard_ports: Annotated[
        tuple[_Port, ...], Meta(description="The only ports for guard = public-only.")
    ] = (80, 443)
    csv_safe: Annotated[
        bool, Meta(description="Keep spreadsheets from running cells of CSV files as formulas.")
    ] = False

    def __post_init__(self) -> None:
        """Check what msgspec leaves unchecked: values that were passed by keyword."""
        for name in SETTINGS:
            value = check(name, getattr(self, name), "Settings")
            msgspec.structs.force_setattr(self, name, value)

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [(name, redact(name, value)) for name, value in changed(self).items()]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class Setting(NamedTuple):
    """What is known of one setting; `expected` words its type and range."""

    name: str
    expected: str
    default: object
    description: str
    type: Any
    kind: inspect.Type


def changed(settings: Settings) -> dict[str, object]:
    """What differs from the defaults."""
    values = ((name, getattr(settings, name)) for name in SETTINGS)
    return {name: value for name, value in values if value != SETTINGS[name].default}


def check(name: str, value: object, place: str, *, is_text: bool = False) -> Any:
    """Return the value as Settings hold it.

    `place` is where it was set, in the words of a message. `is_text` says that a string is to be
    converted by the type of the setting: lists are comma-separated or JSON, tables are JSON.
    Raises SettingsError, naming setting, place, value and what is expected or the nearest name.
    """
    setting = SETTINGS.get(name)
    if setting is None:
        hint = _as_table(str(name)) or did_you_mean(str(name), SETTINGS)
        message = f"{place}: unknown setting {name!r}{hint}"
        raise SettingsError(message, name=str(name), source=place)
    is_text = is_text and isinstance(value, str)
    try:
        plain = _parse(str(value), setting) if is_text else value
        if isinstance(setting.kind, inspect.AnyType):
            return _executor(plain)
        return msgspec.convert(plain, setting.type, strict=not is_text)
    except (msgspec.MsgspecError, ValueError) as error:
        shown = _shorten(repr(redact(name, value)))
        notation = _NOTATION.get(type(setting.kind), "") if is_text else ""
        message = f"{place}: setting {name!r} is {shown}; expected {setting.expected}{notation}"
        raise SettingsError(message, name=name, source=place) from error


def _as_table(name: str) -> str:
    """End the message about an entry of a table whose path was given as a name."""
    table, _, key = name.partition(".")
    setting = SETTINGS.get(table)
    if not key or setting is None or not isinstance(setting.kind, inspect.DictType):
        return ""
    shown = f'"{key}": ...'
    if table == "domains":
        domain, _, entry = key.rpartition(".")
        if entry not in DomainSettings.__struct_fields__:
            domain, entry = key, "delay_s"
        shown = f'"{domain or "example.com"}": {{"{entry}": ...}}'
    return f"; {table} is a table, set as a whole: '{table}={{{shown}}}'"


def _executor(value: object) -> object:
    if value is None or hasattr(value, "submit"):
        return value
    if isinstance(value, str) and _FUNCTION.fullmatch(value):
        return value
    raise ValueError


_NOTATION: Final[Mapping[type, str]] = {
    inspect.DictType: ", written as JSON",
    inspect.VarTupleType: ", separated by commas or written as JSON",
}


def _parse(text: str, setting: Setting) -> object:
    """Take apart what msgspec doesn't: lists and tables. It converts numbers and truth values."""
    text = text.strip()
    if isinstance(setting.kind, (inspect.AnyType, inspect.UnionType)) and text.lower() in {
        "",
        "none",
        "null",
    }:
        return None
    is_list = isinstance(setting.kind, inspect.VarTupleType)
    if isinstance(setting.kind, inspect.DictType) or (is_list and text.startswith("[")):
        return msgspec.json.decode(text)
    return [part for part in map(str.strip, text.split(",")) if part] if is_list else text


_HIDDEN: Final = "***"


def redact(name: str, value: object) -> object:
    """`value` as it may be shown: no cookies, no credentials in headers, URLs or `auth`."""
    if name == "proxies" and isinstance(value, (list, tuple)):
        return tuple(map(_proxy, value))
    if name in {"proxy", "proxies"}:
        return _proxy(value)
    if name == "domains" and isinstance(value, Mapping):
        return {without_userinfo(str(key)): content for key, content in value.items()}
    if name not in {"headers", "cookies", "auth"}:
        return value
    if not isinstance(value, Mapping):
        return _HIDDEN
    is_shown = PUBLIC_HEADERS.__contains__ if name == "headers" else lambda _: False
    return {
        _key(key): content if is_shown(str(key).lower()) else _HIDDEN
        for key, content in value.items()
    }


def _key(key: object) -> object:
    """An origin, or the name of a header or cookie; what is neither may hold the value as well."""
    shown = without_userinfo(key) if isinstance(key, str) else key
    return shown if not isinstance(key, str) or "//" in key else name_in(key).strip("'")


def _proxy(url: object) -> object:
    """What can't be taken for a URL has its password who knows where."""
    if url is None:
        return None
    shown = without_userinfo(str(url))
    return shown if "://" in shown else _HIDDEN


def _shorten(text: str, width: int = 80) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _expected(kind: inspect.Type) -> str:
    """Word a type and its range."""
    match kind:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return str((extra or {}).get("title") or _expected(inner))
        case inspect.UnionType(types=(inner, inspect.NoneType())):
            return f"{_expected(inner)}, or none"
        case inspect.IntType():
            return f"a whole number {_range(kind)}"
        case inspect.FloatType():
            return f"a number {_range(kind)}"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case inspect.VarTupleType(item_type=item):
            return f"a list, each item {_expected(item)}"
        case inspect.DictType(key_type=key, value_type=value):
            return f"a table, each name {_expected(key)}, each value {_expected(value)}"
        case _:
            assert isinstance(kind, inspect.BoolType)
            return "true or false"


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None:
        return f"from {kind.ge} up" if kind.le is None else f"from {kind.ge} to {kind.le}"
    return f"above {kind.gt}, at most {kind.le}"


def _setting(field: inspect.Field, type_: Any) -> Setting:
    assert isinstance(field.type, inspect.Metadata)
    factory = field.default_factory
    default = field.default if factory is msgspec.NODEFAULT else factory()
    description = (field.type.extra_json_schema or {})["description"]
    kind = field.type.type
    return Setting(field.name, _expected(field.type), default, description, type_, kind)


def _settings() -> dict[str, Setting]:
    info = inspect.type_info(Settings)
    assert isinstance(info, inspect.StructType)
    types = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    return {field.name: _setting(field, types[field.name]) for field in info.fields}


SETTINGS: Final[Mapping[str, Setting]] = _settings()
"""Every setting by name: what the reference in the documentation is made of."""


def _reference() -> str:
    return "\n".join(
        f"    {name} = {setting.default!r}: {setting.description} Takes {setting.expected}."
        for name, setting in SETTINGS.items()
    )


Settings.__doc__ = f"{(Settings.__doc__ or '').rstrip()}\n\n{_reference()}\n"
