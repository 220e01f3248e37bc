"""Which stage of a page's way a function belongs to: a table, and the one rule that reads it.

From the innermost frame outwards, the first function that the table knows decides. Functions that
serve many stages (an origin taken of a URL, a list copied by the standard library) are not in the
table, so they count towards whoever called them.
"""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

import scrapekit
from tests.benchmarks.sampler import Place

QUEUEING, POLITENESS, RULES = "queueing", "politeness", "robots, guard, traps"
FETCH, DECODE, PARSE, LINKS = "fetch", "decode", "parse", "links"
CALLBACK, PIPELINE, COMMIT, EXPORT = "callback", "pipeline", "commit", "export"
REPORTING, ENGINE, LOOP, OTHER = "events, stats", "engine", "event loop", "other"

STAGES = (
    *(QUEUEING, POLITENESS, RULES, FETCH, DECODE, PARSE, LINKS, CALLBACK, PIPELINE, COMMIT, EXPORT),
    *(REPORTING, ENGINE, LOOP, OTHER),
)

_REQUEST = {LINKS: "link at_depth filed_at replace _filled"}
_RESPONSE = {
    PARSE: "document parse",
    DECODE: "encoding text utf8 is_markup",
    LINKS: "follow follow_all links urljoin _find_base _link_of is_nofollow",
}
_DOCUMENT = {
    PARSE: "parser",
    LINKS: "links base _hrefs _is_nofollow _absolute",
    CALLBACK: "css first get get_all _all _first _take _text attrs text html tag",
}
_URLS = {LINKS: "normalize join join_all _href _joiner __missing__ keeps encode_query _trim"}
_LANES = {PARSE: "make_parsable _is_quick _try"}
_ENGINE = {
    RULES: "_is_unknown",
    CALLBACK: "_results",
}
_OUTCOMES = {
    LINKS: "_admit _within_depth _refused",
    PIPELINE: "_process _within_limit",
    EXPORT: "_encode",
}
_FETCHER = {RULES: "_check _is_led_to landed next_hop"}
_SCHEDULER = {COMMIT: "commit _settled"}
_MEMORY = {COMMIT: "commit unseen"}
_SQLITE = {COMMIT: "commit _committing _working _saved _count_notes _keep_items flush"}

_FUNCTIONS: dict[str, tuple[dict[str, str], str | None]] = {
    "request.py": (_REQUEST, None),
    "response.py": (_RESPONSE, None),
    "document.py": (_DOCUMENT, None),
    "urls.py": (_URLS, None),
    "lanes/__init__.py": (_LANES, CALLBACK),
    "engine.py": (_ENGINE, ENGINE),
    "outcomes.py": (_OUTCOMES, ENGINE),
    "fetcher.py": (_FETCHER, FETCH),
    "scheduler.py": (_SCHEDULER, QUEUEING),
    "frontier/memory.py": (_MEMORY, QUEUEING),
    "frontier/sqlite.py": (_SQLITE, QUEUEING),
}
"""Of a module, functions by stage, and the stage of the rest; None: that of the caller."""

_MODULES = {
    QUEUEING: "begun frontier/base frontier/seen frontier/window frontier/windows feeding starts",
    POLITENESS: "politeness adaptive limits standing",
    RULES: (
        "robots errands guard reach traps addresses directives pathrules robotsfile retries "
        "retry learned"
    ),
    FETCH: (
        "sending budget cookies/jar cookies/jars cookies/setcookie transport/base transport/http "
        "transport/connections transport/dialling transport/guarded transport/pace transport/wire "
        "transport/translation transport/cache transport/resolver transport/fields deadlines "
        "transport/fast/answer transport/fast/dialler transport/fast/line transport/fast/names "
        "transport/fast/pool transport/fast/request transport/fast/route transport/fast/transport "
        "proxies"
    ),
    LINKS: "links",
    DECODE: "charset transport/body transport/decoding",
    PARSE: "shape lanes/trial",
    CALLBACK: (
        "callbacks lanes/drain lanes/meter lanes/pool lanes/processes lanes/threads lanes/travel "
        "lanes/records lanes/worker spider counters"
    ),
    PIPELINE: "pipeline",
    COMMIT: (
        "frontier/committer frontier/group frontier/pages frontier/records frontier/store "
        "frontier/writer jobs/recrawl jobs/since jobs/job jobs/outputs"
    ),
    EXPORT: (
        "delivery items exports/base exports/files exports/jsonl exports/sink exports/projection "
        "exports/projected_lines"
    ),
    REPORTING: "announcer events stats report logs failure lanes/stalls",
    ENGINE: "cutting",
}

_LIBRARIES = {"aiohttp": FETCH, "httptools": FETCH}

_SOCKETS = ("selector_events.py", "streams.py")
"""What of asyncio sends and receives."""
_PACKAGE = str(Path(scrapekit.__file__).parent)
_STDLIB = sysconfig.get_path("stdlib")
_ASYNCIO = f"{_STDLIB}/asyncio/"
_SITE = sysconfig.get_path("purelib")
_BENCHMARKS = str(Path(__file__).parent)


def place_of(frame: FrameType) -> tuple[str, Place]:
    """The stage that a frame is in, and the function of the package or of a library at work."""
    step: FrameType | None = frame
    bottom = OTHER
    while step is not None:
        code = step.f_code
        if stage := _stage(code):
            return stage, Place(_short(code.co_filename), code.co_name)
        if code.co_filename.startswith(_ASYNCIO):
            bottom = LOOP
        step = step.f_back
    return bottom, Place(_short(frame.f_code.co_filename), frame.f_code.co_name)


@cache
def _stage(code: CodeType) -> str | None:
    """What the table says of a function; None if it says nothing."""
    name = code.co_filename
    if name.startswith(_PACKAGE):
        return _of_package(name.removeprefix(f"{_PACKAGE}/"), _method(code))
    if name.startswith(_BENCHMARKS):
        return CALLBACK if code.co_name == "parse" else None
    if name.startswith(_SITE):
        library = name.removeprefix(f"{_SITE}/").split("/", 1)[0]
        return _LIBRARIES.get(library)
    if name.startswith(_ASYNCIO) and name.endswith(_SOCKETS):
        return FETCH
    return None


def _of_package(module: str, function: str) -> str | None:
    functions, rest = _FUNCTIONS.get(module, ({}, None))
    for stage, names in functions.items():
        if function in names.split():
            return stage
    return rest or _BY_MODULE.get(module.removesuffix(".py"))


def _method(code: CodeType) -> str:
    """The outermost function's name, for what is written inside of it: a comprehension, say."""
    parts = code.co_qualname.split(".<locals>", 1)[0].split(".")
    return parts[-1]


_BY_MODULE = {module: stage for stage, names in _MODULES.items() for module in names.split()}


def _short(name: str) -> str:
    for folder in (_PACKAGE, _SITE, _STDLIB):
        if name.startswith(folder):
            return name.removeprefix(f"{folder}/")
    return name.rsplit("/", 1)[-1]
