"""What reads remote bytes takes time that grows with them and no faster; and reads, no more."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import scrapekit
from scrapekit import charset, guard, retry, urls
from scrapekit.errors import SiteError, without_userinfo
from scrapekit.messages import Request, Response
from scrapekit.report import printable
from scrapekit.robots import Robots, decode
from scrapekit.transport.decoding import check_codings

PACKAGE: Final = Path(scrapekit.__file__).parent

SMALL, TIMES = 4_096, 16
"""The size of an input, in characters or bytes, and how many times larger the other one is."""

SPARE: Final = 4
"""Linear work takes 16 times as long for 16 times as much, quadratic work 256 times."""

Make = Callable[[int], Any]


def repeated(unit: str, start: str = "", end: str = "") -> Make:
    return lambda size: start + unit * (size // len(unit)) + end


def repeated_bytes(unit: bytes, start: bytes = b"", end: bytes = b"") -> Make:
    return lambda size: start + unit * (size // len(unit)) + end


def numbered(line: str, start: str = "") -> Make:
    return lambda size: start + "".join(line.format(n) for n in range(size // (len(line) + 3)))


def page(body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response("https://shop.test/", 200, headers or {"Content-Type": "text/html"}, body)


def _tolerant(function: Callable[[Any], object]) -> Callable[[Any], object]:
    """Refusing is as good as reading."""

    def call(value: Any) -> object:
        try:
            return function(value)
        except (ValueError, SiteError):
            return None

    return call


HOME = Request("https://shop.test/")

TEXTS: dict[str, Make] = {
    "letters": repeated("a"),
    "slashes": repeated("/", "http://h/"),
    "dots": repeated("../", "http://h/"),
    "ats": repeated("@", "http://"),
    "user names": repeated("a:b@", "http://", "h/"),
    "percents": repeated("%2", "http://h/"),
    "parameters": repeated("a=b&", "http://h/?"),
    "names": repeated("a.", "http://"),
    "punycode": repeated("xn--a.", "http://"),
    "spaces": repeated(" ", "http://h/"),
    "commas": repeated(", ", "gzip"),
    "semicolons": repeated("; charset=", "text/html"),
    "quotes": repeated('"', "text/html; charset="),
    "digits": repeated("1"),
    "parentheses": repeated("(", "Wed, 21 Oct 2015 07:28:00 "),
    "date words": repeated("Wed ", "21 Oct "),
    "colons": repeated("1:", "Wed, 21 Oct 2015 "),
    "entities": repeated("&#1", "http://h/?\xe9"),
    "surrogates": repeated("\ud800", "http://h/"),
    "wide": repeated("\uff0e", "http://h"),
}
TEXT_READERS: dict[str, Callable[[Any], object]] = {
    "normalize": urls.normalize,
    "join": lambda text: urls.Base("https://shop.test/a/b").join(text),
    "origin": lambda text: urls.origin("http://" + text.removeprefix("http://")),
    "host": lambda text: urls.host("http://" + text.removeprefix("http://")),
    "split_userinfo": lambda text: urls.split_userinfo("http://" + text.removeprefix("http://")),
    "registrable_domain": urls.registrable_domain,
    "fingerprint": urls.fingerprint,
    "encode_query": lambda text: urls.encode_query(text, "cp1252"),
    "redirect": lambda text: guard.redirect(HOME, HOME.url, 302, text),
    "follow": lambda text: page(b"").follow(text),
    "without_userinfo": without_userinfo,
    "content type": charset.from_content_type,
    "lookup": charset.lookup,
    "scalar_text": charset.scalar_text,
    "Retry-After": lambda text: retry.parse_retry_after(text, 0.0),
    "codings": check_codings,
    "printable": printable,
    "robots URL": lambda text: Robots("User-agent: *\nDisallow: /*a*b*c$", "x").allows(text),
}
BYTES: dict[str, Make] = {
    "tags": repeated_bytes(b"<a "),
    "attributes": repeated_bytes(b"a ", b"<meta "),
    "values": repeated_bytes(b"a=b ", b"<meta "),
    "equals": repeated_bytes(b"=", b"<meta "),
    "spaces": repeated_bytes(b" ", b"<meta charset"),
    "open quotes": repeated_bytes(b"<meta a='"),
    "comments": repeated_bytes(b"<!--"),
    "closed comments": repeated_bytes(b"<!-->"),
    "declarations": repeated_bytes(b"<?"),
    "charsets": repeated_bytes(b"charset ", b"<meta http-equiv=content-type content='", b"'>"),
    "encodings": repeated_bytes(b"encoding", b"<?xml "),
    "bases": repeated_bytes(b"<bas", b"charset"),
    "less than": repeated_bytes(b"<"),
    "text": repeated_bytes(b"a charset "),
    "not UTF-8": repeated_bytes(b"\xc3\x28\xff"),
    "links": repeated_bytes(b"<a href=/a>"),
}
BYTE_READERS: dict[str, Callable[[Any], object]] = {
    "prescan": charset.prescan,
    "detect": charset.detect,
    "text": lambda body: page(body).text,
    "shift_jis": lambda body: charset.decode(body, "cp932"),
    "urljoin": lambda body: page(body).urljoin("/a"),
    "json": lambda body: page(body).json(),
    "robots": lambda body: Robots(decode(body), "scrapekit"),
}
ROBOTS: dict[str, Make] = {
    "agents": numbered("User-agent: a{}\n"),
    "agents twice": lambda size: 2 * numbered("User-agent: a{}\n")(size // 2),
    "agents and rules": lambda size: (
        numbered("User-agent: a{}\n")(size // 2) + numbered("Disallow: /{}\n")(size // 2)
    ),
    "our names and rules": lambda size: (
        repeated("User-agent: *scrapekit*\n")(size // 2) + numbered("Allow: /{}\n")(size // 2)
    ),
    "groups": numbered("User-agent: a{}\nDisallow: /\n"),
    "rules": numbered("Disallow: /{}\n", "User-agent: *\n"),
    "wildcards": repeated("*a", "User-agent: *\nDisallow: /", "$\n"),
    "dollars": repeated("$", "User-agent: *\nDisallow: /"),
    "words": repeated("user ", "User-agent "),
    "one line": repeated("a", "User-agent: "),
    "sitemaps": numbered("Sitemap: https://h/{}\n"),
    "delays": repeated("1", "User-agent: *\nCrawl-delay: "),
    "comments": repeated("#"),
    "carriage returns": repeated("\r"),
}
FLAT: dict[str, Make] = {
    "links": lambda size: numbered('<a href="/{}">x</a>')(size).encode(),
    "the same link": repeated_bytes(b'<a href="/a">x</a>'),
    "fragments": repeated_bytes(b'<a href="#a">x</a>'),
    "bases": repeated_bytes(b'<base href="/x/">'),
    "paragraphs": repeated_bytes(b"<p>text</p>"),
}
"""Documents without depth; what deep ones cost is another matter."""
FLAT_READERS: dict[str, Callable[[Any], object]] = {
    "links": lambda body: page(body).links(),
    "follow_all": lambda body: page(body).follow_all(),
    "get_all": lambda body: page(body).get_all("a, p"),
}

CASES = [
    *(
        (f"{reader}, {text}", TEXT_READERS[reader], TEXTS[text])
        for reader in TEXT_READERS
        for text in TEXTS
    ),
    *(
        (f"{reader}, {body}", BYTE_READERS[reader], BYTES[body])
        for reader in BYTE_READERS
        for body in BYTES
    ),
    *(
        (f"{reader}, {body}", FLAT_READERS[reader], FLAT[body])
        for reader in FLAT_READERS
        for body in FLAT
    ),
    *(
        (
            f"robots.txt, {file}",
            lambda t: Robots(t, "scrapekit").allows("http://h/" + "a" * 99),
            make,
        )
        for file, make in ROBOTS.items()
    ),
]


def cost(function: Callable[[Any], object], value: Any) -> float:
    """CPU seconds of this thread for a call, the best of several."""
    best = float("inf")
    for _ in range(5):
        began = time.thread_time()
        function(value)
        best = min(best, time.thread_time() - began)
    return best


@pytest.mark.parametrize(("name", "function", "make"), CASES, ids=[case[0] for case in CASES])
def test_sixteen_times_as_much_takes_sixteen_times_as_long(
    name: str, function: Callable[[Any], object], make: Make
) -> None:
    """Measured in the thread's CPU time, so that other work on the machine doesn't count."""
    reads = _tolerant(function)
    small, large = make(SMALL), make(SMALL * TIMES)
    reads(small)  # what is compiled, cached and imported on the first call
    assert cost(reads, large) <= SPARE * TIMES * max(cost(reads, small), 20e-6)


def test_work_that_grows_faster_would_be_noticed() -> None:
    find = re.compile("a*b").search
    small, large = cost(find, "a" * 256), cost(find, "a" * 256 * TIMES)
    assert large > SPARE * TIMES * small


# ---- regular expressions

PATTERNS = {
    # Those that meet remote text, all of them in the readers above.
    "scrapekit.charset": {"_MARKUP", "_ATTRIBUTE", "_TAG_END", "_CHARSET", "_XML_LABEL"},
    "scrapekit.document": {"_BASE_TAG"},
    "scrapekit.errors": {"_START"},
    "scrapekit.messages": {"_BASE_TAG"},
    "scrapekit.urls": {"_SCHEME"},
}
AUTHORS = {
    # Those that meet what the spider's author has written.
    "scrapekit.document": {"_ATTR", "_PSEUDO_ELEMENT"},
    "scrapekit.settings": {"_SECRET_HEADER", "_USERINFO"},
}


def modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(scrapekit.__path__, "scrapekit."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def test_every_regular_expression_is_known_and_judged() -> None:
    found: dict[str, set[str]] = {}
    for module in modules():
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                found.setdefault(module.__name__, set()).add(name)
    known = {
        name: PATTERNS.get(name, set()) | AUTHORS.get(name, set()) for name in PATTERNS | AUTHORS
    }
    assert found == known


# ---- what is never done with remote bytes

TREES = {path: ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
FORBIDDEN = {"xml", "lxml", "marshal", "shelve", "dill", "yaml", "html5lib", "telnetlib", "code"}
PICKLING = {"travel.py", "processes.py", "worker.py", "records.py", "pool.py"}
"""What goes through pipes of our own, between processes of our own."""


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def test_there_is_no_parser_that_knows_entities() -> None:
    for path, tree in TREES.items():
        assert not {name.partition(".")[0] for name in imported(tree)} & FORBIDDEN, path


def test_nothing_is_evaluated_and_nothing_unpickled_that_comes_from_elsewhere() -> None:
    for path, tree in TREES.items():
        assert not {"eval", "exec", "compile", "__import__"} & set(called(tree)), path
        if "pickle" in imported(tree):
            assert path.parent.name == "lanes", path
            assert path.name in PICKLING, path


def test_entities_of_a_document_type_are_text() -> None:
    """Billion laughs and external entities: HTML knows neither (HTML standard, 13.2.5)."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    body = f'<!DOCTYPE a [<!ENTITY l0 "lol">{laughs}<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    text = page(f"{body}<p>&l9;&x;</p>".encode()).get("p", "")
    assert text == "&l9;&x;"


@pytest.mark.parametrize("label", ["zip", "hex", "rot13", "idna", "punycode", "unicode_escape"])
def test_no_label_chooses_a_codec_of_python(label: str) -> None:
    assert charset.lookup(label) is None
    response = page(b"hello", {"Content-Type": f"text/html; charset={label}"})
    assert (response.text, response.encoding) == ("hello", "utf-8")
