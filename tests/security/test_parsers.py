"""What reads remote bytes takes time that grows with them and no faster; and reads, no more."""

from __future__ import annotations

import ast
import gzip
import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import scrapekit
from scrapekit import charset, formdata, guard, retry, shape, traps, urls
from scrapekit.cookies import dates, setcookie
from scrapekit.cookies.jar import Jar
from scrapekit.directives import forbids_following
from scrapekit.errors import FormError, Refused, SiteError, without_userinfo
from scrapekit.exports import sqlite
from scrapekit.messages import Request, Response
from scrapekit.report import printable
from scrapekit.robots import Robots, decode
from scrapekit.settings import Settings
from scrapekit.sitemaps import Sitemap
from scrapekit.sitemaps.entries import latest
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


def fresh(body: bytes) -> Response:
    """A page of which no link was looked up before."""
    urls._joined.clear()
    return page(body)


def page(body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response("https://shop.test/", 200, headers or {"Content-Type": "text/html"}, body)


def _tolerant(function: Callable[[Any], object]) -> Callable[[Any], object]:
    """Refusing is as good as reading."""

    def call(value: Any) -> object:
        try:
            return function(value)
        except (ValueError, SiteError, FormError, Refused):
            return None

    return call


HOME = Request("https://shop.test/")
UNLIMITED = Settings(max_url_length=1_000_000)


def full_url(text: str) -> str:
    return "http://" + text.removeprefix("http://")


def trap(text: str) -> None:
    traps.Traps(UNLIMITED, lambda: 0.0).check("http://h", text)


def form_of(text: str) -> None:
    entries = [formdata.Entry(text, text)]
    formdata.urlencoded(entries, "cp1252")
    formdata.multipart(entries, "cp1252")


def sitemap(body: bytes, url: str = "https://shop.test/sitemap.xml") -> list[Any]:
    return list(Sitemap(body, url))


def cookies(flood: Any) -> None:
    """Many lines from many hosts, into a jar that is full of secure ones of the same name."""
    scheme, size, line = flood
    jar = Jar()
    for number in range(180):
        jar.take(f"https://{number}.evil.test/", f"a=1; Secure; Path=/{number}", 0.0)
    for number in range(size // 32):
        url = f"{scheme}//h{number % 100}.evil.test/"
        jar.take(url, line.format(number), 0.0)
        jar.pairs(url, 0.0)


def quick(body: bytes) -> bool:
    """Of a size that is neither too small nor too large for a look."""
    return shape.is_quick(b" " * shape.FREE_BYTES + body[: len(body) // 4])


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
    "cookie dates": repeated("; expires=1 Jan 99 1:1:1", "a=b"),
    "cookie ages": repeated("; max-age=1", "a=b"),
    "one cookie date": repeated("1:1:1 ", "a=b; expires="),
    "long cookie domain": repeated("a.", "a=b; domain="),
    "directives": repeated("a: b, "),
    "sessions": repeated("&sid=aaaaaaaa", "http://h/?"),
    "a long session": repeated("a", "http://h/?sid=", "/"),
    "sessions in paths": repeated(";jsessionid=a", "http://h/"),
    "paths that repeat": repeated("/a/b", "http://h", "/c"),
    "paths that nearly do": repeated("/aaa/aaa/aab", "http://h"),
    "digits that repeat": repeated("/1/2", "http://h", "/c"),
    "digits that nearly do": repeated("/11/11/12", "http://h"),
    "one long repeat": lambda size: "http://h" + 2 * ("/" + "a" * (size // 2)),
    "hexadecimal": repeated("a1b2", "http://h/", "_"),
    "pieces of UUIDs": repeated("12345678-1234-", "http://h/"),
    "calendars": repeated("/2026-01", "http://h"),
    "line breaks": repeated("\r\n"),
}
TEXT_READERS: dict[str, Callable[[Any], object]] = {
    "normalize": urls.normalize,
    "join": lambda text: urls.Base("https://shop.test/a/b").join(text),
    "join_all": lambda text: urls.Base("https://shop.test/a/b").join_all([text]),
    "columns": sqlite._PLAIN_NAME.fullmatch,
    "lines": sqlite._HARD.search,
    "origin": lambda text: urls.origin(full_url(text)),
    "host": lambda text: urls.host(full_url(text)),
    "split_userinfo": lambda text: urls.split_userinfo(full_url(text)),
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
    "Set-Cookie": lambda text: setcookie.parse(text, 0.0),
    "cookie date": dates.parse,
    "cookie jar": lambda text: Jar().take("https://www.shop.test/a", text, 0.0),
    "cookies for a URL": lambda text: Jar().pairs(urls.normalize(text), 0.0),
    "cookie of a URL": lambda text: Jar().take(urls.normalize(text), "a=b", 0.0),
    "lastmod": latest,
    "X-Robots-Tag": lambda text: forbids_following([text]),
    "template": traps.template,
    "traps": trap,
    "form": form_of,
    "accept-charset": lambda text: formdata.encoding_for(text, "utf-8"),
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
    "open addresses": repeated_bytes(b"<a href='"),
    "blank addresses": repeated_bytes(b"href  =  "),
    "other quotes": repeated_bytes(b"href=\"href='"),
    "closed comments": repeated_bytes(b"<!-->"),
    "declarations": repeated_bytes(b"<?"),
    "charsets": repeated_bytes(b"charset ", b"<meta http-equiv=content-type content='", b"'>"),
    "encodings": repeated_bytes(b"encoding", b"<?xml "),
    "bases": repeated_bytes(b"<bas", b"charset"),
    "less than": repeated_bytes(b"<"),
    "text": repeated_bytes(b"a charset "),
    "not UTF-8": repeated_bytes(b"\xc3\x28\xff"),
    "links": repeated_bytes(b"<a href=/a>"),
    "open metas": repeated_bytes(b"<meta"),
    "closed metas": repeated_bytes(b"<meta a>"),
    "formatting": repeated_bytes(b"<b class=abcdefgh>"),
    "formatting with values": repeated_bytes(b"<b a='aaaa' b=c d>"),
    "formatting left open": repeated_bytes(b"<font color='"),
    "numbers": repeated_bytes(b"1 <"),
    "one number": repeated_bytes(b"1"),
    "schemes": repeated_bytes(b"https://"),
    "lines of URLs": repeated_bytes(b"https://h/a\n"),
    "lines of sitemaps": repeated_bytes(b"Sitemap: /a\r"),
    "blanks of sitemaps": repeated_bytes(b" ", b"Sitemap"),
}
BYTE_READERS: dict[str, Callable[[Any], object]] = {
    "prescan": charset.prescan,
    "detect": charset.detect,
    "text": lambda body: page(body).text,
    "shift_jis": lambda body: charset.decode(body, "cp932"),
    "urljoin": lambda body: page(body).urljoin("/a"),
    "json": lambda body: page(body).json(),
    "robots": lambda body: Robots(decode(body), "scrapekit"),
    "nofollow": lambda body: page(body).is_nofollow,
    "numbers": lambda body: traps.numbers("http://h/1", body),
    "is_quick": quick,
    "is_suspect": shape.is_suspect,
    "sitemap": sitemap,
    "packed sitemap": lambda body: sitemap(gzip.compress(body, 1)),
    "sitemaps of robots.txt": lambda body: sitemap(body, "https://shop.test/robots.txt"),
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
    "many wildcards": numbered("Disallow: /*{}$\n", "User-agent: *\n"),
    "wildcards in common": numbered("Disallow: /*a*{}a\n", "User-agent: *\n"),
    "escapes": numbered("Disallow: /%C3*{}%2a\n", "User-agent: *\n"),
    "dollars": repeated("$", "User-agent: *\nDisallow: /"),
    "words": repeated("user ", "User-agent "),
    "one line": repeated("a", "User-agent: "),
    "sitemaps": numbered("Sitemap: https://h/{}\n"),
    "delays": repeated("1", "User-agent: *\nCrawl-delay: "),
    "comments": repeated("#"),
    "carriage returns": repeated("\r"),
}
SITEMAPS: dict[str, Make] = {
    "URLs": repeated_bytes(b"<url><loc>/a</loc></url>", b"<urlset>"),
    "dates": repeated_bytes(b"<lastmod>2026-01-01</lastmod>", b"<urlset><url>"),
    "open URLs": repeated_bytes(b"<url>", b"<urlset>"),
    "one address": repeated_bytes(b"a", b"<urlset><url><loc>"),
    "pieces of one": repeated_bytes(b"a&amp;<!---->", b"<urlset><url><loc>"),
    "attributes": lambda size: b"<urlset " + numbered('a{}="" ')(size).encode() + b">",
    "namespaces": lambda size: b"<urlset " + numbered('xmlns:a{}="b" ')(size).encode() + b">",
    "one attribute": repeated_bytes(b"a", b"<urlset a='", b"'>"),
    "one name": repeated_bytes(b"a", b"<"),
    "names": lambda size: b"<urlset>" + numbered("<a{}/>")(size).encode(),
    "comment": repeated_bytes(b"-a", b"<!--"),
    "instruction": repeated_bytes(b"?", b"<?a "),
    "CDATA": repeated_bytes(b"]", b"<urlset><![CDATA["),
    "sections": repeated_bytes(b"<![CDATA[a]]>", b"<urlset><url><loc>"),
    "references": repeated_bytes(b"&#65;", b"<urlset><url><loc>"),
    "entries": repeated_bytes(b"<entry><link href='/a'/><link rel='b'/></entry>", b"<feed>"),
    "UTF-16": lambda size: ("<urlset>" + "<url/>" * (size // 12)).encode("utf-16"),
    "empty members": repeated_bytes(gzip.compress(b"", mtime=0)),
}
FORMS: dict[str, Make] = {
    "fields": lambda size: b"<form>" + numbered("<input name=a{}>")(size).encode(),
    "the same field": repeated_bytes(b"<input name=a>", b"<form>"),
    "buttons": repeated_bytes(b"<button name=a>b</button>", b"<form>"),
    "options": repeated_bytes(b"<option>a", b"<form><select name=a>"),
    "groups": repeated_bytes(b"<optgroup disabled><option>a", b"<form><select name=a>"),
    "selects": repeated_bytes(b"<select><option></select>", b"<form>"),
    "text": repeated_bytes(b"\r\n", b"<form><textarea name=a>"),
    "forms": lambda size: numbered("<form id=a{}></form>")(size).encode(),
    "fields of forms": repeated_bytes(b"<input form=a>", b"<form id=a></form>"),
    "fieldsets": repeated_bytes(b"<fieldset disabled><input></fieldset>", b"<form>"),
    "legends": repeated_bytes(b"<legend><input></legend>", b"<form><fieldset disabled>"),
    "late legends": lambda size: (
        b"<form><fieldset disabled>" + b"<br>" * (size // 8) + b"<legend><input>" * (size // 30)
    ),
    "torn forms": repeated_bytes(b"<tr><form><td><input>", b"<table>"),
    "charsets": repeated_bytes(b"utf-7 ", b"<form accept-charset='", b"'>"),
}
FLAT: dict[str, Make] = {
    "links": lambda size: numbered('<a href="/{}">x</a>')(size).encode(),
    "the same link": repeated_bytes(b'<a href="/a">x</a>'),
    "fragments": repeated_bytes(b'<a href="#a">x</a>'),
    "bases": repeated_bytes(b'<base href="/x/">'),
    "paragraphs": repeated_bytes(b"<p>text</p>"),
    "metas": repeated_bytes(b"<meta name=robots content=a>"),
}
"""Documents without depth; what deep ones cost is another matter."""
FLAT_READERS: dict[str, Callable[[Any], object]] = {
    "links": lambda body: fresh(body).links(),
    "follow_all": lambda body: fresh(body).follow_all(),
    "get_all": lambda body: page(body).get_all("a, p"),
    "nofollow": lambda body: page(body).is_nofollow,
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
        (f"cookie flood, {flood}", cookies, make)
        for flood, make in {
            "names": lambda size: ["https:", size, "a{}=1"],
            "paths": lambda size: ["https:", size, "a=1; Path=/{}; Secure"],
            "paths of http": lambda size: ["http:", size, "a=1; Path=/{}; Domain=evil.test"],
        }.items()
    ),
    *((f"sitemap, {body}", sitemap, make) for body, make in SITEMAPS.items()),
    *(
        (f"packed sitemap, {body}", lambda body: sitemap(gzip.compress(body, 1)), make)
        for body, make in SITEMAPS.items()
    ),
    *(
        (f"form, {body}", lambda body: page(body).form("form"), make)
        for body, make in FORMS.items()
    ),
    *(
        (
            f"sitemaps of robots.txt, {file}",
            lambda t: Robots(t, "scrapekit").sitemaps("http://h/robots.txt"),
            make,
        )
        for file, make in ROBOTS.items()
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
    "scrapekit.cookies.dates": {"_DELIMITERS", "_TIME", "_DAY", "_YEAR"},
    "scrapekit.cookies.setcookie": {"_CONTROLS"},
    "scrapekit.document": {"_BASE_TAG"},
    "scrapekit.errors": {"_AT", "_START", "_NO_NAME"},
    "scrapekit.formdata": {"_NEWLINE"},
    "scrapekit.response": {"_BASE_TAG", "_META_TAG"},
    "scrapekit.pathrules": {"_ESCAPE", "_PLAIN_PATTERN", "_PLAIN_PATH", "_STARS"},
    "scrapekit.shape": {"_FORMATTING", "_PLAIN_TAGS"},
    "scrapekit.sitemaps.entries": {"_PARTIAL"},
    "scrapekit.sitemaps.text": {"_URL", "_SITEMAP", "_BREAK"},
    "scrapekit.traps": {
        "_VARIABLE",
        "_SESSION",
        "_DATE",
        "_REPEATED",
        "_DIGITS_REPEATED",
        "_COMMENT",
        "_HREF",
        "_NUMBER",
    },
    "scrapekit.exports.sqlite": {"_HARD", "_PLAIN_NAME"},
    "scrapekit.urls": {"_OF_A_FOLDER", "_SCHEME"},
}
AUTHORS = {
    # Those that meet what the spider's author has written.
    "scrapekit.authority": {"_PROXY", "_AUTH", "_BEARER"},
    "scrapekit.document": {"_ATTR", "_PSEUDO_ELEMENT"},
    "scrapekit.settings": {"_FUNCTION"},
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
    """But for expat, which is told to stop at the first of them."""
    for path, tree in TREES.items():
        names = {name.partition(".")[0] for name in imported(tree)} & FORBIDDEN
        is_sitemap = path == PACKAGE / "sitemaps" / "xml.py"
        assert names == ({"xml"} if is_sitemap else set()), path


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "declaration",
    [
        f'<!DOCTYPE urlset [<!ENTITY l0 "lol">{LAUGHS}<!ENTITY a "&l9;">]>',
        '<!DOCTYPE urlset [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE urlset [<!ENTITY % p SYSTEM "http://127.0.0.77/"> %p;]>',
        '<!DOCTYPE urlset SYSTEM "http://127.0.0.77/">',
        "<!DOCTYPE urlset [",
        "",
    ],
    ids=["laughs", "file", "parameter", "external", "open", "undeclared"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_sitemap_that_declares_entities_is_not_read(declaration: str, encoding: str) -> None:
    body = f"{declaration}<urlset><url><loc>/&a;</loc></url></urlset>"
    reading = Sitemap(body.encode(encoding), "https://shop.test/sitemap.xml")
    assert not any(reading)
    expected = "document type declaration" if declaration else "undefined entity"
    assert reading.problem is not None
    assert expected in reading.problem


def test_nothing_is_evaluated_and_nothing_unpickled_that_comes_from_elsewhere() -> None:
    for path, tree in TREES.items():
        assert not {"eval", "exec", "compile", "__import__"} & set(called(tree)), path
        if "pickle" in imported(tree):
            assert path.parent.name == "lanes", path
            assert path.name in PICKLING, path


def test_entities_of_a_document_type_are_text() -> None:
    """Billion laughs and external entities: HTML knows neither (HTML standard, 13.2.5)."""
    body = f'<!DOCTYPE a [<!ENTITY l0 "lol">{LAUGHS}<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    text = page(f"{body}<p>&l9;&x;</p>".encode()).get("p", "")
    assert text == "&l9;&x;"


@pytest.mark.parametrize("label", ["zip", "hex", "rot13", "idna", "punycode", "unicode_escape"])
def test_no_label_chooses_a_codec_of_python(label: str) -> None:
    assert charset.lookup(label) is None
    response = page(b"hello", {"Content-Type": f"text/html; charset={label}"})
    assert (response.text, response.encoding) == ("hello", "utf-8")
