"""http(s) URLs: parse, join, canonical form, and the parts that crawling asks for.

Parsing is that of the WHATWG URL standard, done by Ada, so a URL means here what it means to a
browser. Everything that takes an `href` expects what `normalize` or `Base.join` returned and
only slices it; a page has hundreds of links, and slicing is what keeps them cheap.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlencode

import xxhash

from scrapekit.charset import scalar_text
from scrapekit.errors import InvalidURL, without_userinfo

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

# The seam between the two bindings of the same parser: text in, href out, ValueError if invalid.
# can_ada keeps a parsed base and joins three times faster; ada_url has wheels it lacks.
try:
    import can_ada

    def _href(url: str) -> str:
        return can_ada.parse(url).href

    def _joiner(base: str) -> Callable[[str], str]:
        parsed = can_ada.parse(base)
        return lambda href: (parsed + href).href

except ImportError:  # pragma: no cover - one of the two branches runs in each environment
    import ada_url

    def _href(url: str) -> str:
        return ada_url.URL(url).href

    def _joiner(base: str) -> Callable[[str], str]:
        return lambda href: ada_url.URL(href, base=base).href


_HTTP: Final = ("http://", "https://")
_NEVER_HTTP: Final = ("javascript:", "mailto:", "tel:", "data:")
_STRIPPED: Final = "".join(map(chr, range(0x21)))


def normalize(url: str) -> str:
    """The canonical form of an absolute http(s) URL, as it is requested and compared.

    That is the WHATWG serialisation without the fragment and without a "?" that no query
    follows. Normalising twice changes nothing. Raises InvalidURL, whose reason says what to do.
    """
    if not isinstance(url, str):
        raise InvalidURL(url, f"it is of type {type(url).__name__}, not str")
    try:
        href = _parse(url)
    except ValueError:
        raise InvalidURL(url, _why_invalid(url)) from None
    if not href.startswith(_HTTP):
        raise InvalidURL(url, _why_not_http(url))
    return _trim(href)


_FOLDERS: Final = 16
_REFERENCES: Final = 4096
"""How many results of joins are kept, for how many folders of pages; some 10 MB, as links are."""
LONGEST_KEPT: Final = 300
"""Longer references and URLs aren't kept: 80 MB at the very most, of a site that wants it so."""


_OF_A_FOLDER: Final = re.compile(r"(?!\?)(?:https?://|(?!https?:))[^\x00-\x20]+", re.IGNORECASE)


class _Joined(dict[str, "str | None"]):
    """Where references from the pages of one folder lead: None for nowhere else, "" if that is
    another matter on each page. The pages of a site share most of their links, and looking one up
    takes a twentieth of the time of a join.
    """

    def __init__(self, join: Callable[[str], str | None]) -> None:
        self._join = join

    def __missing__(self, href: str) -> str | None:
        joined: str | None = None
        bare = _without_fragment(href) if "#" in href else href
        if bare != href:
            joined = self[bare]
        elif href:
            joined = self._join(href) if self.keeps(href) and "#" not in href else ""
        if joined != "" and len(self) < _REFERENCES and _is_short(href) and _is_short(joined):
            self[href] = joined
        return joined

    @staticmethod
    def keeps(href: str) -> bool:
        """Whether a reference means the same on all pages of a folder (URL standard, 4.4). A query
        alone goes with its page's own name, and so may what follows on a scheme ("http:?a") or has
        signs that are stripped.
        """
        return _OF_A_FOLDER.fullmatch(href) is not None


_joined: dict[str, _Joined] = {}


class Base:
    """A base URL, parsed once, to join many references with. Raises InvalidURL."""

    __slots__ = ("_join", "href")

    def __init__(self, url: str) -> None:
        self.href = normalize(url)
        self._join = _joiner(self.href)

    def __repr__(self) -> str:
        return f"Base({self.href!r})"

    def join(self, href: str) -> str | None:
        """The canonical URL that `href` refers to, or None if that is no http(s) URL."""
        if href.startswith(_NEVER_HTTP):
            return None
        try:
            joined = self._join(href)
        except (TypeError, UnicodeEncodeError):
            return self.join(scalar_text(href))
        except ValueError:
            return None
        return _trim(joined) if joined.startswith(_HTTP) else None

    def join_all(self, hrefs: Iterable[str]) -> list[str]:
        """The distinct canonical URLs that `hrefs` refer to, in order of first appearance.

        References into the page itself (empty, or a fragment alone) and what is no http(s) URL
        are left out. Repeats are dropped before the join, which is what costs.
        """
        hrefs = list(hrefs)
        joined = dict.fromkeys(map(self._known().__getitem__, hrefs))
        if "" in joined:
            # What one of them means depends on more than the folder.
            distinct = dict.fromkeys(h if "#" not in h else _without_fragment(h) for h in hrefs)
            distinct.pop("", None)
            joined = dict.fromkeys(map(self.join, distinct))
        joined.pop(None, None)
        return list(joined)  # type: ignore[arg-type]

    def _known(self) -> _Joined:
        folder = self.href.partition("?")[0].rpartition("/")[0]
        known = _joined.get(folder)
        if known is None and not _is_short(folder):
            known = _Joined(self.join)
        elif known is None:
            if len(_joined) >= _FOLDERS:
                _joined.clear()
            known = _joined[folder] = _Joined(self.join)
        elif len(known) >= _REFERENCES:
            known.clear()
        return known


def _is_short(text: str | None) -> bool:
    return text is None or len(text) <= LONGEST_KEPT


def origin(href: str) -> str:
    """scheme://host[:port] of a canonical URL; the port only where it isn't the default."""
    end = href.find("/", 8)
    bare = href[:end] if end >= 0 else href
    if "@" in bare:
        scheme, authority = _scheme_and_authority(href)
        return f"{scheme}//{authority.rpartition('@')[2]}"
    return bare


def host(href: str) -> str:
    """The host of a canonical URL, without the port; an IPv6 address keeps its brackets."""
    authority = _scheme_and_authority(href)[1].rpartition("@")[2]
    if authority.startswith("["):
        return authority[: authority.index("]") + 1]
    return authority.partition(":")[0]


def port(href: str) -> int:
    """The port of a canonical URL, also if it is the default and isn't written."""
    scheme, authority = _scheme_and_authority(href)
    number = authority.rpartition("@")[2].rpartition("]")[2].rpartition(":")[2]
    return int(number) if number.isdigit() else 443 if scheme == "https:" else 80


@lru_cache(maxsize=4096)
def registrable_domain(host: str) -> str:
    """The part of `host` somebody registered ("bbc.co.uk" of "www.bbc.co.uk").

    By the Public Suffix List, its private section included: "me.github.io" is its own. An IP
    address, a single label and a public suffix are returned as they are.
    """
    name = host.lower().rstrip(".")
    if is_address(name):
        return name
    return _public_suffixes().privatesuffix(name) or name


def is_address(host: str) -> bool:
    """Whether the host of a canonical URL is an IP address."""
    # WHATWG hosts that end in a number are IPv4 addresses.
    return ":" in host or host.rpartition(".")[2].isdigit()


@lru_cache(maxsize=4096)
def is_public_suffix(host: str) -> bool:
    """Whether everybody may register names below `host`, as below "co.uk" and "github.io"."""
    name = host.rstrip(".")
    return not is_address(name) and _public_suffixes().publicsuffix(name) == name


def split_userinfo(href: str) -> tuple[str, str | None]:
    """A canonical URL without "user:password@", and the Authorization value it stood for.

    The value is "Basic ..." of the percent-decoded pair (RFC 7617), or None without userinfo.
    """
    scheme, authority = _scheme_and_authority(href)
    userinfo, at, bare = authority.rpartition("@")
    if not at:
        return href, None
    user, _, password = userinfo.partition(":")
    pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    rest = href[len(scheme) + 2 + len(authority) :]
    return f"{scheme}//{bare}{rest}", f"Basic {base64.b64encode(pair).decode()}"


def fingerprint(url: str, method: str = "GET", body: bytes = b"", session: str = "") -> int:
    """64 bits that are equal for requests that ask for the same thing (XXH3).

    `url` is canonical. Query parameters count as a set of names: their order makes no difference,
    except among parameters of the same name. In each named session a page counts by itself.
    """
    if "?" in url and "&" in url:
        url = _sorted_query(url)
    if session:
        method = f"{session}\n{method}"
    head = f"{method} {url}\n".encode("utf-8", "surrogatepass")
    return xxhash.xxh3_64_intdigest(head + body)


QueryValue = str | int | float


def with_query(url: str, params: Mapping[str, QueryValue | Sequence[QueryValue]]) -> str:
    """`url` with `params` appended to its query; a sequence repeats its name.

    Encoded as a form would (UTF-8, "+" for a space). A fragment stays where it is.
    """
    encoded = urlencode(params, doseq=True)
    if not encoded:
        return url
    address, mark, fragment = url.partition("#")
    joint = "" if address.endswith(("?", "&")) else "&" if "?" in address else "?"
    return f"{address}{joint}{encoded}{mark}{fragment}"


def encode_query(href: str, encoding: str) -> str:
    """`href` with the non-ASCII characters of its query percent-encoded in `encoding`.

    What a browser does on a page that isn't UTF-8 (URL standard, 5.1 and "percent-encode after
    encoding"); characters that `encoding` lacks become "&#...;", as in a form.
    """
    address, fragment_mark, fragment = href.partition("#")
    before, mark, query = address.partition("?")
    if query.isascii() or encoding.startswith("utf"):
        return href
    try:
        encoded = scalar_text(query).encode(encoding, "xmlcharrefreplace")
    except LookupError:
        return href
    # "#" can't occur in a query, so "&#" comes from a character that couldn't be encoded.
    encoded = re.sub(rb"&#(\d+);", rb"%26%23\1%3B", encoded)
    return f"{before}{mark}{quote_from_bytes(encoded, _QUERY_SAFE)}{fragment_mark}{fragment}"


# Printable ASCII that the query keeps; Ada encodes what of it the URL standard wants encoded.
_QUERY_SAFE: Final = "".join(map(chr, range(0x20, 0x7F)))


def _parse(url: str) -> str:
    try:
        return _href(url)
    except (TypeError, UnicodeEncodeError):
        # Lone surrogates: neither binding can pass them on.
        return _href(scalar_text(url))


def _trim(href: str) -> str:
    if "#" in href:
        href = href[: href.index("#")]
    if href[-1] == "?" and href.index("?") == len(href) - 1:
        return href[:-1]
    return href


def _without_fragment(href: str) -> str:
    kept, mark, _ = href.partition("#")
    # Spaces at the end would be stripped, but those before a fragment belong to the path.
    return kept + "#" if mark and kept[-1:] in _STRIPPED and kept else kept


def _scheme_and_authority(href: str) -> tuple[str, str]:
    scheme, _, rest = href.partition("//")
    return scheme, rest.partition("/")[0]


def _sorted_query(url: str) -> str:
    address, _, query = url.partition("?")
    pairs = sorted(query.split("&"), key=lambda pair: pair.partition("=")[0])
    return f"{address}?{'&'.join(pairs)}"


@cache
def _public_suffixes() -> PublicSuffixList:
    # Reading the list takes tens of milliseconds; most programs that import this never ask.
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


_SCHEME: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")


def _why_invalid(url: str) -> str:
    text = without_userinfo(scalar_text(url).strip(_STRIPPED))
    if not text:
        return "it is empty"
    if _SCHEME.match(text):
        return "its host or port is not valid"
    if text.startswith("//"):
        return f"it has no scheme; write https:{text}"
    if text[0] in "/?#.":
        return "it is relative; join it with the URL of its page first"
    return f"it has no scheme; write https://{text}"


def _why_not_http(url: str) -> str:
    text = scalar_text(url).strip(_STRIPPED)
    scheme, _, rest = text.partition(":")
    # What looks like a scheme may be a host, or the name of a user.
    is_user = "@" in rest and not rest.startswith("//") and not text.startswith(_NEVER_HTTP)
    if rest[:1].isdigit() or is_user:
        return f"it has no scheme; write http://{without_userinfo(text)}"
    return f"only http and https can be fetched, not {scheme!r}"
