from __future__ import annotations

import gzip
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.sitemaps import Entry, Sitemap, earliest
from scrapekit.sitemaps.entries import latest
from scrapekit.sitemaps.reading import MAX_BYTES

URL = "https://shop.test/sitemap.xml"


def read(body: bytes | str, url: str = URL) -> tuple[Sitemap, list[Entry]]:
    sitemap = Sitemap(body.encode() if isinstance(body, str) else body, url)
    return sitemap, [entry for entries in sitemap for entry in entries]


def listed(body: bytes | str, url: str = URL) -> list[str]:
    sitemap, entries = read(body, url)
    assert sitemap.problem is None
    assert sitemap.count == len(entries)
    return [entry.url for entry in entries]


def urlset(*locs: str) -> str:
    return f"<urlset>{''.join(f'<url><loc>{loc}</loc></url>' for loc in locs)}</urlset>"


A, B = "https://shop.test/a", "https://shop.test/b"


class TestFormats:
    def test_a_urlset(self) -> None:
        body = f"""<?xml version="1.0" encoding="UTF-8"?>
            <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"
                    xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
            <url><loc> {A}?x=1&amp;y=2#frag
            </loc><lastmod>2026-01-01T00:00:00Z</lastmod><priority>0.5</priority>
            <image:image><image:loc>https://shop.test/a.png</image:loc></image:image></url>
            <!-- <url><loc>https://shop.test/hidden</loc></url> -->
            <url><loc><![CDATA[{B}]]></loc></url></urlset>"""
        sitemap, entries = read(body)
        start_of_2026 = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
        assert entries == [Entry(f"{A}?x=1&y=2", start_of_2026), Entry(B)]
        assert (sitemap.kind, sitemap.lists_sitemaps) == ("urls", False)

    def test_an_index(self) -> None:
        body = f"<sitemapindex><sitemap><loc>{A}</loc></sitemap></sitemapindex>"
        sitemap, entries = read(body)
        assert entries == [Entry(A)]
        assert sitemap.lists_sitemaps

    def test_an_rss_feed(self) -> None:
        body = f"""<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom"><channel>
            <link>https://shop.test/</link><image><link>https://shop.test/i</link></image>
            <item><atom:link rel="self" href="https://shop.test/x"/><link>{A}</link>
            <pubDate>Thu, 01 Jan 2026 01:00:00 +0100</pubDate></item></channel></rss>"""
        sitemap, entries = read(body)
        assert entries == [Entry(A, datetime(2026, 1, 1, tzinfo=UTC).timestamp())]
        assert sitemap.kind == "feed"

    def test_an_rdf_feed(self) -> None:
        body = f"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
            xmlns="http://purl.org/rss/1.0/"><channel/><item><link>{A}</link></item></rdf:RDF>"""
        assert listed(body) == [A]

    def test_an_atom_feed(self) -> None:
        body = f"""<feed xmlns="http://www.w3.org/2005/Atom"><link href="https://shop.test/"/>
            <entry><link rel="self" href="https://shop.test/x"/><link href="/a"/>
            <link rel="alternate" href="https://shop.test/second"/>
            <published>2020-01-01T00:00:00Z</published><updated>2026-01-01T00:00:00Z</updated>
            </entry><entry><link rel="alternate" href="{B}"/></entry></feed>"""
        _, entries = read(body)
        assert entries == [Entry(A, datetime(2026, 1, 1, tzinfo=UTC).timestamp()), Entry(B)]

    def test_a_list_of_lines(self) -> None:
        body = b"\xef\xbb\xbf" + f"{A}\r\nnot a url\n\nHTTPS://Shop.test/b \rx {A}".encode()
        assert listed(body) == [A, B]
        assert listed(f"{A}\n{B}") == [A, B]

    def test_the_sitemaps_of_a_robots_txt(self) -> None:
        body = f"User-agent: x\nDisallow: /\nSITEMAP : {A} # one\nSitemap:/b\n#Sitemap: /c"
        assert listed(body, "https://shop.test/robots.txt") == [A, B]

    @pytest.mark.parametrize("codec", ["utf-16", "utf-8-sig", "iso-8859-1", "windows-1252"])
    def test_other_encodings(self, codec: str) -> None:
        name = codec.removesuffix("-sig")
        body = f'<?xml version="1.0" encoding="{name}"?>{urlset("https://shop.test/ü")}'
        assert listed(body.encode(codec)) == ["https://shop.test/%C3%BC"]

    def test_blanks_before_the_declaration_are_forgiven(self) -> None:
        assert listed(f'\n\n <?xml version="1.0"?>{urlset(A)}') == [A]
        assert listed(" " * 40_000 + urlset(A)) == [A]

    def test_namespaces_are_passed_over(self) -> None:
        url = f"<s:url><s:loc>{A}</s:loc><x:loc/></s:url>"
        assert listed(f'<s:urlset xmlns:s="wrong">{url}</s:urlset>') == [A]
        assert listed(f"<s:urlset>{url}</s:urlset>") == [A]

    def test_what_is_no_http_url_is_left_out(self) -> None:
        locs = ("ftp://shop.test/", "javascript:x()", "", " ", "https://", "x" * 9_000, A)
        assert listed(urlset(*locs)) == [A]


class TestGzip:
    def test_it_is_known_by_its_bytes(self) -> None:
        assert listed(gzip.compress(urlset(A, B).encode())) == [A, B]
        assert listed(gzip.compress(f"{A}\n".encode())) == [A]

    def test_members_follow_each_other(self) -> None:
        body = urlset(*(f"https://shop.test/{n}" for n in range(2_000)))
        half = len(body) // 2
        packed = gzip.compress(body[:half].encode()) + gzip.compress(body[half:].encode())
        assert len(listed(packed)) == 2_000
        assert len(listed(packed + b"\0\0padding")) == 2_000

    def test_one_that_ends_early_is_read_up_to_there(self) -> None:
        body = gzip.compress(f"{A}\n{B}\n".encode() + b"x" * 5_000)[:-12]
        sitemap, entries = read(body)
        assert [entry.url for entry in entries] == [A, B]
        assert sitemap.problem == "its gzip data ends early"

    def test_one_that_is_broken_says_so(self) -> None:
        packed = bytearray(gzip.compress(urlset(A).encode()))
        packed[-6] ^= 0xFF
        assert read(bytes(packed))[0].problem == "its gzip data is broken"
        assert read(b"\x1f\x8bnonsense")[0].problem == "its gzip data is broken"

    def test_a_bomb_is_left_at_the_limit(self) -> None:
        packer = zlib.compressobj(9, wbits=31)
        blank = b" " * 1_000_000
        bomb = b"".join(packer.compress(blank) for _ in range(60)) + packer.flush()
        sitemap, entries = read(bomb)
        assert len(bomb) < 100_000
        assert entries == []
        assert sitemap.problem == f"it is larger than {MAX_BYTES:,} bytes"


class TestTrouble:
    @pytest.mark.parametrize(
        ("tail", "problem"),
        [
            (f"<url><loc>{B}&x</loc></url>", "its XML is broken in line 2: "),
            ("<url><loc>https://shop.test/half", "its XML is broken in line 2: no element found"),
            ("</sitemap>", "its XML is broken in line 2: mismatched tag"),
            ("<url><loc>&nbsp;</loc></url>", "its XML is broken in line 2: undefined entity"),
        ],
    )
    def test_broken_xml_is_read_as_far_as_it_goes(self, tail: str, problem: str) -> None:
        sitemap, entries = read(f"<urlset><url><loc>{A}</loc></url>\n{tail}")
        assert [entry.url for entry in entries] == [A]
        assert sitemap.problem is not None
        assert sitemap.problem.startswith(problem)

    def test_a_broken_index_still_lists_sitemaps(self) -> None:
        sitemap, entries = read(f"<sitemapindex><sitemap><loc>{A}</loc></sitemap><x")
        assert [entry.url for entry in entries] == [A]
        assert sitemap.lists_sitemaps

    @pytest.mark.parametrize(
        "dtd",
        [
            '<!DOCTYPE urlset SYSTEM "http://127.0.0.1:9/evil.dtd">',
            '<!DOCTYPE urlset [<!ENTITY a "b">]>',
            '<!DOCTYPE urlset [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>',
        ],
    )
    def test_a_document_type_is_refused(self, dtd: str) -> None:
        sitemap, entries = read(f"{dtd}{urlset(A)}")
        assert entries == []
        assert sitemap.problem == "it has a document type declaration (DTD), which isn't read"

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            ("<!DOCTYPE html><html>", "it is an HTML page, no sitemap"),
            ("<HTML>", "it is an HTML page, no sitemap"),
            ("<root/>", "it is neither a sitemap nor a feed: its root is <root>"),
            ("{}", "it is neither a sitemap nor a feed: it has no URLs"),
            ("", "it is neither a sitemap nor a feed: it has no URLs"),
            (
                '<?xml version="1.0" encoding="x-none"?><a/>',
                "its XML can't be decoded: unknown encoding: x-none",
            ),
            ("<urlset>" + "<a>" * 100, "its XML is nested deeper than 64 elements"),
        ],
    )
    def test_what_is_none_says_why(self, body: str, problem: str) -> None:
        sitemap, entries = read(body)
        assert entries == []
        assert sitemap.problem is not None
        assert sitemap.problem.startswith(problem)

    def test_more_urls_than_allowed_are_cut(self) -> None:
        sitemap, entries = read(urlset(*[A] * 50_001))
        assert len(entries) == sitemap.count == 50_000
        assert sitemap.problem == "it has more than 50,000 URLs"

    def test_endless_texts_are_not_kept(self) -> None:
        assert listed(f"<urlset><url><loc>{'x' * 200_000}</loc></url>{urlset(A)[8:]}") == [A]
        assert listed("x" * 200_000 + f"\n{A}") == [A]

    @pytest.mark.parametrize("start", ["<a b='", "<!--", "<?x ", "<a "])
    def test_an_endless_tag_is_left(self, start: str) -> None:
        sitemap, entries = read(f"{urlset(A)[:-9]}{start}{'x' * 2_000_000}")
        assert [entry.url for entry in entries] == [A]
        assert sitemap.problem == "its XML has a tag of more than 524,288 bytes"

    def test_steps_are_small(self) -> None:
        body = urlset(*(f"https://shop.test/{n}" for n in range(10_000)))
        steps = [len(entries) for entries in Sitemap(body.encode(), URL)]
        assert max(steps) < 1_000
        assert sum(steps) == 10_000


class TestDates:
    @pytest.mark.parametrize(
        ("text", "first", "last"),
        [
            ("2026", "2026-01-01", "2027-01-01"),
            ("2026-12", "2026-12-01", "2027-01-01"),
            ("2026-02-28", "2026-02-28", "2026-03-01"),
            ("2026-01-01T12:00Z", "2026-01-01T12:00", "2026-01-01T12:00"),
            ("2026-01-01T12:00:30.5+02:00", "2026-01-01T10:00:30.5", "2026-01-01T10:00:30.5"),
            ("2026-01-01 12:00:00", "2026-01-01T12:00", "2026-01-01T12:00"),
            ("Thu, 01 Jan 2026 12:00:00 GMT", "2026-01-01T12:00", "2026-01-01T12:00"),
            ("Thu, 1 Jan 2026 12:00:00 EST", "2026-01-01T17:00", "2026-01-01T17:00"),
        ],
    )
    def test_a_date_may_mean_a_day_a_month_or_a_year(
        self, text: str, first: str, last: str
    ) -> None:
        def stamp(iso: str) -> float:
            return datetime.fromisoformat(iso).replace(tzinfo=UTC).timestamp()

        assert (earliest(f" {text}\n"), latest(text)) == (stamp(first), stamp(last))

    @pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "0000", "9999", "99999999"])
    def test_nonsense_is_none(self, text: str) -> None:
        assert latest(text) is None

    @given(st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\d.{0,20}"))
    def test_no_text_is_an_error(self, text: str) -> None:
        assert latest(text) is None or isinstance(latest(text), float)


PIECES = [
    *("<urlset>", "</urlset>", "<url>", "</url>", "<loc>", "</loc>", f"{A}", "&amp;", "&x;"),
    *("<sitemapindex>", "<rss>", "<item>", "<link>", "<feed>", "<!DOCTYPE a>", "<![CDATA[", "]]>"),
    *("\n", " ", "<?xml version='1.0'?>", "\ufeff", "<!--", "-->", "Sitemap: /x\n", "\0"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(), st.booleans())
def test_no_body_is_an_error(text: str, packed: bool) -> None:
    body = text.encode("utf-8", "surrogatepass")
    sitemap, entries = read(gzip.compress(body) if packed else body)
    assert sitemap.count == len(entries)
    assert all(entry.url.startswith("http") for entry in entries)
