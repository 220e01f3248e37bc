from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser, LexborNode

from scrapekit.document import Document, Element
from scrapekit.errors import InvalidURL, QueryError

QUOTES = """
<div class=quote id=q1><span class=text>To  be\n or\tnot</span>
  <a class=author href=/will>W. <b>S</b></a> <i></i></div>
<div class=quote id=q2><span class=text>I think</span> <a class=author>R. D.</a></div>
"""


@pytest.fixture
def page() -> Document:
    return Document(QUOTES, "https://quotes.example/page/1")


def test_css_gives_all_elements_in_document_order(page: Document) -> None:
    assert [element.attrs["id"] for element in page.css("div.quote")] == ["q1", "q2"]
    assert page.css("table") == []


def test_a_list_of_selectors_gives_each_element_once_and_in_order(page: Document) -> None:
    assert [element.tag for element in page.css("b, a, .author, div")] == [
        "div", "a", "b", "div", "a",
    ]  # fmt: skip


def test_equal_looking_elements_are_all_kept() -> None:
    assert len(Document("<p>a</p><p>a</p>").css("p, .x")) == 2


def test_first_gives_the_first_element_or_none(page: Document) -> None:
    found = page.first(".author")
    assert found is not None
    assert found.attrs["href"] == "/will"
    assert page.first("table") is None


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (".text", "To be or not"),
        (".text::text", "To be or not"),
        ("  .text::TEXT ", "To be or not"),
        (".author", "W. S"),
        (".author::attr(href)", "/will"),
        (".author::attr( HREF )", "/will"),
        ("b::html", "<b>S</b>"),
        ("i", ""),
        ("table", None),
        ("#q2 .author::attr(href)", None),
        ("#q2 .author::attr(class)", "author"),
        ("::attr(lang)", None),
        ("::html", None),
    ],
)
def test_get_takes_what_the_tail_names_of_the_first_element(
    page: Document, query: str, value: str | None
) -> None:
    if query == "::html":
        value = page.get("html::html")
    assert page.get(query) == value
    assert page.get(query, "default") == ("default" if value is None else value)


def test_a_tail_alone_takes_of_the_whole_document() -> None:
    page = Document("<html lang=en><p>a<p> b")
    assert page.get("::text") == "a b"
    assert page.get("::attr(lang)") == "en"
    assert page.get_all("::attr(lang)") == ["en"]


def test_get_all_takes_of_each_element_that_has_it(page: Document) -> None:
    assert page.get_all(".text") == ["To be or not", "I think"]
    assert page.get_all(".author::attr(href)") == ["/will"]
    assert page.get_all("b::html") == ["<b>S</b>"]
    assert page.get_all("table::attr(x)") == []


def test_an_attribute_without_a_value_is_the_empty_text() -> None:
    page = Document("<input disabled>")
    assert page.get("input::attr(disabled)") == ""
    assert page.get_all("input::attr(disabled)") == [""]
    assert page.css("input")[0].attrs == {"disabled": ""}


def test_text_folds_every_kind_of_white_space_and_keeps_words_whole() -> None:
    assert Document("<p> a&nbsp;\n<b>b</b>c<!-- d --> \u3000 e</p>").get("p") == "a bc e"


def test_colons_inside_the_selector_are_no_tail() -> None:
    page = Document('<p title="x::text">a</p>')
    assert page.get('[title="x::text"]') == "a"
    assert page.get('[title="x::text"]::attr(title)') == "x::text"
    assert page.get("p:first-child::text") == "a"


@pytest.mark.parametrize("query", ["", "   ", "a[", "a,", "> a", ":nope", "\ud800", ":not("])
def test_a_selector_that_does_not_parse_is_an_error(page: Document, query: str) -> None:
    element = page.css("div")[0]
    for ask in (page.css, page.first, page.get, page.get_all, page.links, element.css, element.get):
        with pytest.raises(QueryError, match="can't be parsed") as caught:
            ask(query)
        assert caught.value.query == query


@pytest.mark.parametrize("tail", ["::txt", "::attr", "::attr()", "::attr(a b)", "::before"])
def test_an_unknown_tail_is_an_error_that_lists_the_known(page: Document, tail: str) -> None:
    with pytest.raises(QueryError, match=r"::text, ::attr\(name\) or ::html"):
        page.get("a" + tail)


def test_a_tail_in_the_middle_is_an_error_that_says_where_tails_go(page: Document) -> None:
    with pytest.raises(QueryError, match=r"may end in ::text"):
        page.get_all("a::text, b::text")


@pytest.mark.parametrize("tail", ["::text", "::html", "::attr(href)"])
def test_css_and_first_refuse_a_tail(page: Document, tail: str) -> None:
    for ask in (page.css, page.first, page.css("div")[0].css):
        with pytest.raises(QueryError, match="return elements"):
            ask("a" + tail)


def test_an_element_is_asked_about_its_descendants_alone() -> None:
    page = Document("<div id=outer><div id=inner><p>a</p></div></div><p>b</p>")
    outer = page.css("div")[0]
    assert outer.get_all("div::attr(id)") == ["inner"]
    assert outer.get("div::attr(id)") == "inner"
    assert outer.get_all("p") == ["a"]
    inner = outer.css("div")[0]
    assert inner.first("div") is None
    assert inner.css("#outer p")[0].text == "a"


def test_an_element_answers_for_itself(page: Document) -> None:
    author = page.css(".author")[0]
    assert author.tag == "a"
    assert author.attrs == {"class": "author", "href": "/will"}
    assert author.text == author.get("::text") == "W. S"
    assert author.html == '<a class="author" href="/will">W. <b>S</b></a>' == author.get("::html")
    assert author.get("::attr(href)") == "/will"
    assert author.get("::attr(title)", "none") == "none"
    assert author.get_all("::attr(href)") == ["/will"]
    assert isinstance(author.node, LexborNode)
    assert repr(author) == '<Element a class="author" href="/will">'


def test_an_element_outlives_its_document() -> None:
    element = Document("<p class=x>a <b>b</b></p>").css("p")[0]
    gc.collect()
    assert (element.text, element.attrs, element.get("b")) == ("a b", {"class": "x"}, "b")


def test_a_page_is_parsed_on_the_first_question_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def counting(source: bytes, **options: Any) -> LexborHTMLParser:
        parsed.append(source)
        return LexborHTMLParser(source, **options)

    monkeypatch.setattr("scrapekit.document.LexborHTMLParser", counting)
    page = Document("<p>a</p>")
    assert parsed == []
    assert page.get("p") == "a"
    assert page.links() == []
    assert parsed == [b"<p>a</p>"]


def test_the_head_goes_on_after_a_noscript_with_an_image() -> None:
    html = "<head><noscript><img src=x></noscript><link rel=canonical href=/a></head>"
    assert Document(html).get("head link::attr(href)") == "/a"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        (b"", ""),
        ("\0", ""),
        ("a\0b", "ab"),
        ("a\ud83d\ude00\udc00b", "a😀\ufffdb"),
        (b"\xff<p>\xe9", "\ufffd\ufffd"),
        (b"\xef\xbb\xbf<p>a", "a"),
    ],
)
def test_odd_input_is_read(html: str | bytes, text: str) -> None:
    assert Document(html).get("body") == text


@given(st.text(st.characters(exclude_categories=())) | st.binary())
def test_no_input_is_an_error(html: str | bytes) -> None:
    page = Document(html, "http://h/")
    assert page.first("html") is not None
    assert isinstance(page.get("::html"), str)
    assert isinstance(page.links(), list)


def test_deep_pages_are_read() -> None:
    deep = 5000
    page = Document("<div>" * deep + "<a href=/x>t</a>", "http://h/")
    assert page.links() == ["http://h/x"]
    assert page.get("body") == "t"
    assert len(page.css("div")) == deep


def links_of(html: str, url: str = "http://h/a/b?q", encoding: str = "utf-8") -> list[str]:
    return Document(html, url, encoding=encoding).links()


def test_links_are_absolute_distinct_and_in_document_order() -> None:
    html = """<a href=c#1>1</a><a href="/d?">2</a><A HREF=" c ">3</A><a href=//k/e>4</a>
    <a name=x>5</a><a href>6</a><a href="">7</a><a href=#top>8</a><a href=mailto:x>9</a>
    <a href=javascript:void(0)>10</a><a href=http://h:99999/>11</a><area href=no>"""
    assert links_of(html) == ["http://h/a/c", "http://h/d", "http://k/e"]


def test_links_of_a_query_are_those_of_the_elements_it_finds() -> None:
    page = Document(
        "<a href=1>1</a><li class=next><a href=2>2</a></li><img src=3><link rel=next href=4>",
        "http://h/",
    )
    assert page.links("li.next a") == ["http://h/2"]
    assert page.links("img::attr(src)") == ["http://h/3"]
    assert page.links("link[rel=next], a") == ["http://h/1", "http://h/2", "http://h/4"]
    assert page.links("img") == []


@pytest.mark.parametrize("tail", ["::text", "::html"])
def test_links_are_not_taken_of_text(page: Document, tail: str) -> None:
    with pytest.raises(QueryError, match="attributes"):
        page.links("a" + tail)


def test_nofollow_links_are_left_out_on_request() -> None:
    page = Document(
        "<a href=1 rel='me NoFollow'>1</a><a href=2 rel=nofollower>2</a><a href=3 rel>3</a>",
        "http://h/",
    )
    assert len(page.links()) == 3
    assert page.links(skip_nofollow=True) == ["http://h/2", "http://h/3"]


@pytest.mark.parametrize(
    ("base", "link"),
    [
        ("<base href=/x/>", "http://h/x/c"),
        ("<BASE HREF=http://k/y>", "http://k/c"),
        ("<base target=_top><base href=x/><base href=y/>", "http://h/a/x/c"),
        ("<base href='x/#f'>", "http://h/a/x/c"),
        ("<base href>", "http://h/a/c"),
        ("<base href=data:x>", "http://h/a/c"),
        ("<base href=http://h:99999/>", "http://h/a/c"),
        ("<base>", "http://h/a/c"),
        ("<!-- <base href=/x/> -->", "http://h/a/c"),
        ("<body><base href=/x/>", "http://h/x/c"),
    ],
)
def test_the_first_base_element_with_a_usable_href_counts(base: str, link: str) -> None:
    assert links_of(f"{base}<a href=c>1</a>") == [link]


def test_without_a_url_only_absolute_links_count() -> None:
    html = "<a href=c>1</a><a href=HTTP://k#x>2</a><a href=http://k/>3</a><a href=ftp://k>4</a>"
    assert links_of(html, url="") == ["http://k/"]
    assert links_of(f"<base href=http://h/x/>{html}", url="")[0] == "http://h/x/c"
    assert links_of(f"<base href=x/>{html}", url="") == ["http://k/"]


def test_links_need_a_url_that_is_one() -> None:
    with pytest.raises(InvalidURL):
        links_of("<a href=c>1</a>", url="example.com")


def test_the_query_of_a_link_is_encoded_as_the_page_is() -> None:
    html = "<a href='/é?é=☃#é'>1</a>"
    assert links_of(html, encoding="cp1252") == ["http://h/%C3%A9?%E9=%26%239731%3B"]
    assert links_of(html) == ["http://h/%C3%A9?%C3%A9=%E2%98%83"]


def test_documents_and_elements_show_what_they_are() -> None:
    page = Document("<p>", "http://h/")
    assert repr(page) == "<Document 'http://h/'>"
    assert repr(Element(page.css("p")[0].node)) == "<Element p>"
