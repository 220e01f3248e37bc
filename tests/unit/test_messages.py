from __future__ import annotations

import copy
import functools
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from scrapekit.addresses import Space
from scrapekit.errors import InvalidJSON, InvalidURL, UsageError
from scrapekit.messages import Request, Response, callback_name

URL = "https://shop.test/a"


def module_level(response: Response) -> None:
    pass


class Owner:
    def parse(self, response: Response) -> None:
        pass

    @classmethod
    def of_class(cls, response: Response) -> None:
        pass

    @staticmethod
    def static(response: Response) -> None:
        pass

    def __call__(self, response: Response) -> None:
        pass


def page(html: str = "", *, url: str = URL, depth: int = 0, **headers: str) -> Response:
    request = Request(url).at_depth(depth)
    fields = {"Content-Type": "text/html; charset=utf-8", **headers}
    return Response(url, 200, fields, html.encode(), request)


class TestRequest:
    def test_the_url_is_canonical(self) -> None:
        assert Request("HTTPS://Shop.test:443/./a b#top").url == "https://shop.test/a%20b"

    @pytest.mark.parametrize("url", ["", "/a", "ftp://a.test/", "mailto:a@a.test", "https://"])
    def test_what_cannot_be_fetched_is_refused(self, url: str) -> None:
        with pytest.raises(InvalidURL):
            Request(url)

    def test_defaults_are_those_of_a_plain_link(self) -> None:
        request = Request(URL)
        assert request.callback is None
        assert request.method == "GET"
        assert request.headers == request.cookies == request.meta == {}
        assert request.body == b""
        assert request.priority == 0
        assert request.unique
        assert request.depth == 0

    def test_user_and_password_become_an_authorization_header(self) -> None:
        request = Request("https://us%40er:p%C3%A4ss@shop.test/a")
        assert request.url == "https://shop.test/a"
        assert request.headers == {"Authorization": "Basic dXNAZXI6cMOkc3M="}

    def test_a_given_authorization_header_wins(self) -> None:
        request = Request("https://a:b@shop.test/", headers={"authorization": "Bearer t"})
        assert request.headers == {"authorization": "Bearer t"}

    def test_params_are_added_to_the_query(self) -> None:
        request = Request("https://shop.test/?a=1", params={"b": [2, 3], "c": "d e"})
        assert request.url == "https://shop.test/?a=1&b=2&b=3&c=d+e"

    def test_json_becomes_the_body_and_the_method_post(self) -> None:
        request = Request(URL, json={"a": [1, None]})
        assert json.loads(request.body) == {"a": [1, None]}
        assert request.method == "POST"
        assert request.headers == {"Content-Type": "application/json"}

    @pytest.mark.parametrize("value", [0, False, "", [], {}])
    def test_json_that_is_false_is_sent_too(self, value: object) -> None:
        assert json.loads(Request(URL, json=value).body) == value

    @pytest.mark.parametrize(
        "data", [{"a": "1 2", "b": ["x", "y"]}, [("a", "1 2"), ("b", ["x", "y"])]]
    )
    def test_data_is_sent_as_a_form(self, data: Any) -> None:
        request = Request(URL, data=data)
        assert request.body == b"a=1+2&b=x&b=y"
        assert request.method == "POST"
        assert request.headers == {"Content-Type": "application/x-www-form-urlencoded"}

    def test_a_given_method_and_content_type_win(self) -> None:
        request = Request(URL, json=1, method="put", headers={"content-type": "application/x+json"})
        assert request.method == "PUT"
        assert request.headers == {"content-type": "application/x+json"}

    @pytest.mark.parametrize(
        "body", ["ä", b"\xc3\xa4", bytearray(b"\xc3\xa4"), memoryview(b"\xc3\xa4")]
    )
    def test_a_body_is_kept_as_bytes(self, body: Any) -> None:
        request = Request(URL, body=body)
        assert request.body == b"\xc3\xa4"
        assert type(request.body) is bytes
        assert request.method == "POST"
        assert request.headers == {}

    @pytest.mark.parametrize(
        "options",
        [
            {"body": b"a", "json": 1},
            {"json": 1, "data": {}},
            {"body": "a", "data": {}},
            {"body": 5},
            {"body": None},
            {"json": object},
            {"data": 5},
            {"data": ["abc"]},
            {"method": "GE T"},
            {"method": "GET\r\nX: 1"},
            {"priority": "1"},
            {"priority": 0.5},
            {"callback": 5},
        ],
        ids=repr,
    )
    def test_what_makes_no_request_is_the_users_mistake(self, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            Request(URL, **options)

    @pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ä", "a\0"])
    def test_no_header_name_smuggles_anything_in(self, name: str) -> None:
        with pytest.raises(UsageError, match="header name"):
            Request(URL, headers={name: "1"})

    @pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\n", "\r", "a\0b", 5, None, b"a"])
    def test_no_header_value_smuggles_anything_in(self, value: Any) -> None:
        with pytest.raises(UsageError, match="one line"):
            Request(URL, headers={"A": value})

    @pytest.mark.parametrize("name", ["", "a b", "a;", "a=", "a\r\n"])
    def test_no_cookie_name_smuggles_anything_in(self, name: str) -> None:
        with pytest.raises(UsageError, match="cookie name"):
            Request(URL, cookies={name: "1"})

    @pytest.mark.parametrize("value", ["a; b=c", "a\r\nX-Evil: 1", "\x00", "\x7f", 5, None])
    def test_no_cookie_value_smuggles_anything_in(self, value: Any) -> None:
        with pytest.raises(UsageError, match="cookie 'a'"):
            Request(URL, cookies={"a": value})

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"headers": 5}, "headers are a dict, not int"),
            ({"cookies": "a=b"}, "cookies are a dict, not str"),
            ({"meta": [1]}, "meta are a dict, not list"),
            ({"params": "a=b"}, "params can't be encoded"),
            ({"method": 5}, "5 is no HTTP method"),
            ({"body": "\ud800"}, "body can't be encoded"),
            ({"body": 5}, "a body is bytes or str, not int"),
        ],
    )
    def test_an_argument_of_the_wrong_type_is_named(self, wrong: dict[str, Any], says: str) -> None:
        with pytest.raises(UsageError, match=says):
            Request(URL, **wrong)

    @pytest.mark.parametrize("field", ["headers", "cookies", "meta"])
    def test_pairs_do_for_a_dict(self, field: str) -> None:
        arguments: dict[str, Any] = {field: [("a", "b")]}
        assert getattr(Request(URL, **arguments), field) == {"a": "b"}

    def test_cookies_that_servers_really_set_are_fine(self) -> None:
        assert Request(URL, cookies={"a": '"b, c"'}).cookies == {"a": '"b, c"'}

    @pytest.mark.parametrize("name", ["url", "meta", "priority", "anything"])
    def test_attributes_cannot_be_set(self, name: str) -> None:
        request = Request(URL)
        with pytest.raises(AttributeError, match="replace"):
            setattr(request, name, 1)
        with pytest.raises(AttributeError):
            delattr(request, name)

    @pytest.mark.parametrize("field", ["headers", "cookies", "meta"])
    @pytest.mark.parametrize("value", [{}, {"a": "b"}])
    @pytest.mark.parametrize(
        "change",
        [
            lambda d: d.update(x="1"),
            lambda d: d.__setitem__("x", "1"),
            lambda d: d.setdefault("x", "1"),
            lambda d: d.clear(),
            lambda d: d.pop("a", None),
            lambda d: d.popitem(),
            lambda d: d.__delitem__("a"),
            lambda d: d.__ior__({"x": "1"}),
        ],
    )
    def test_mappings_cannot_be_changed(
        self, field: str, value: dict[str, str], change: Callable[[Any], object]
    ) -> None:
        given: dict[str, Any] = {field: value}
        request = Request(URL, **given)
        with pytest.raises(TypeError, match="replace"):
            change(getattr(request, field))
        assert getattr(request, field) == value
        assert getattr(Request(URL), field) == {}

    def test_mappings_are_copies_of_what_was_given(self) -> None:
        meta = {"page": 1}
        request = Request(URL, meta=meta)
        meta["page"] = 2
        assert request.meta == {"page": 1}

    def test_a_copy_of_a_mapping_can_be_changed(self) -> None:
        meta = Request(URL, meta={"page": 1}).meta
        assert {**meta, "more": 2} == {"page": 1, "more": 2}
        assert dict(meta) == {"page": 1}
        assert msgspec.json.encode(meta) == b'{"page":1}'
        assert copy.deepcopy(meta) == {"page": 1}

    def test_replace_changes_a_copy(self) -> None:
        request = Request(URL, "parse_item", meta={"a": 1}, priority=3, unique=False).at_depth(4)
        changed = request.replace(url="https://shop.test/b", priority=5)
        assert (changed.url, changed.priority) == ("https://shop.test/b", 5)
        assert (request.url, request.priority) == (URL, 3)
        assert (changed.callback, changed.meta, changed.unique) == ("parse_item", {"a": 1}, False)
        assert changed.depth == 4

    def test_replacing_nothing_gives_an_equal_request(self) -> None:
        request = Request(URL, "p", json=1, headers={"A": "b"}, cookies={"c": "d"}).at_depth(2)
        assert request.replace() == request

    def test_replace_takes_what_the_constructor_takes(self) -> None:
        request = Request(URL, "parse", json=1, method="PUT")
        assert request.replace(params={"p": 1}).url == f"{URL}?p=1"
        assert request.replace(callback=module_level).callback == f"{__name__}:module_level"
        assert request.replace(depth=7).depth == 7
        assert request.replace(body=b"x").body == b"x"
        with pytest.raises(TypeError):
            request.replace(nonsense=1)
        with pytest.raises(InvalidURL):
            request.replace(url="/a")

    def test_replacing_the_body_by_another_kind_changes_its_content_type(self) -> None:
        form = Request(URL, data={"a": 1}, headers={"X": "y"})
        as_json = form.replace(json={"a": 1})
        assert as_json.headers == {"X": "y", "Content-Type": "application/json"}
        assert as_json.body == b'{"a":1}'
        assert as_json.replace(data={"a": 1}).headers == form.headers

    def test_replacing_the_body_keeps_a_content_type_that_was_given(self) -> None:
        request = Request(URL, json=1, headers={"Content-Type": "application/x+json"})
        assert request.replace(json=2).headers == {"Content-Type": "application/x+json"}
        typed = Request(URL, data={}).replace(json=2, headers={"Content-Type": "text/x"})
        assert typed.headers == {"Content-Type": "text/x"}

    def test_it_pickles_whole(self) -> None:
        request = Request(
            "https://a:b@shop.test/",
            "parse_item",
            json={"a": 1},
            headers={"X-A": "b"},
            cookies={"c": "d"},
            meta={"page": [1, 2]},
            priority=-4,
            unique=False,
        ).at_depth(3)
        for twin in (
            pickle.loads(pickle.dumps(request)),
            copy.copy(request),
            copy.deepcopy(request),
        ):
            assert twin == request
            assert hash(twin) == hash(request)
            assert twin.depth == 3
        with pytest.raises(TypeError):
            pickle.loads(pickle.dumps(request)).meta["x"] = 1

    def test_a_link_equals_the_request_for_it(self) -> None:
        assert Request.link(URL, "parse", 2) == Request(URL, "parse").at_depth(2)

    def test_equality_is_that_of_all_fields(self) -> None:
        assert Request(URL) == Request(f"{URL}#fragment")
        assert Request(URL) != Request(URL, meta={"a": 1})
        assert Request(URL) != URL

    def test_at_its_own_depth_it_is_itself(self) -> None:
        request = Request(URL)
        assert request.at_depth(0) is request
        assert request.at_depth(1) == request.replace(depth=1)

    def test_a_request_made_by_its_author_reaches_everything(self) -> None:
        request = Request(URL)
        assert request.reach == Space.LOOPBACK
        assert request.at_depth(0, Space.LOOPBACK) is request
        limited = request.at_depth(0, Space.PUBLIC)
        assert limited.reach == Space.PUBLIC
        assert limited != request
        assert limited.replace(url=f"{URL}x").reach == Space.PUBLIC
        assert pickle.loads(pickle.dumps(limited)).reach == Space.PUBLIC

    def test_repr_tells_what_is_fetched_and_for_whom(self) -> None:
        assert repr(Request(URL, "parse_item")) == f"<Request GET {URL} -> parse_item>"
        assert repr(Request(URL, body="x")) == f"<Request POST {URL}>"

    @given(
        st.dictionaries(st.text(), st.text()),
        st.integers(),
        st.booleans(),
        st.binary(),
        st.integers(0, 100),
    )
    def test_any_request_survives_pickling_and_replacing(
        self, meta: dict[str, str], priority: int, unique: bool, body: bytes, depth: int
    ) -> None:
        request = Request(URL, meta=meta, priority=priority, unique=unique, body=body)
        request = request.at_depth(depth)
        assert pickle.loads(pickle.dumps(request)) == request
        assert request.replace() == request


class TestCallbackName:
    def test_a_name_and_none_stay_as_they_are(self) -> None:
        assert callback_name("parse_item") == "parse_item"
        assert callback_name(None) is None

    def test_a_method_is_known_by_its_name(self) -> None:
        assert callback_name(Owner().parse) == "parse"
        assert callback_name(Owner.of_class) == "of_class"

    def test_a_module_level_function_is_known_by_module_and_name(self) -> None:
        assert callback_name(module_level) == f"{__name__}:module_level"

    @pytest.mark.parametrize(
        "callback",
        [
            lambda response: None,
            functools.partial(module_level),
            Owner(),
            Owner.static,
            Owner.parse,
            42,
        ],
        ids=["lambda", "partial", "callable object", "static method", "unbound method", "number"],
    )
    def test_what_has_no_name_that_another_process_could_find_is_refused(
        self, callback: Any
    ) -> None:
        with pytest.raises(UsageError, match="can't be a callback"):
            callback_name(callback)

    def test_a_nested_function_is_refused(self) -> None:
        def nested(response: Response) -> None:
            pass

        with pytest.raises(UsageError, match="module-level function"):
            Request(URL, nested)


class TestResponse:
    def test_headers_ignore_case_and_keep_every_line(self) -> None:
        headers = CIMultiDict([("Set-Cookie", "a=1"), ("set-cookie", "b=2")])
        response = Response(URL, 200, headers)
        assert response.headers["SET-COOKIE"] == "a=1"
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]  # type: ignore[attr-defined]
        assert Response(URL, 200, {"x-a": "1"}).headers["X-A"] == "1"

    def test_meta_is_the_requests(self) -> None:
        assert Response(URL, 200, request=Request(URL, meta={"a": 1})).meta == {"a": 1}

    def test_without_a_request_there_is_one_for_its_url(self) -> None:
        assert Response(URL, 200).request == Request(URL)

    @pytest.mark.parametrize(
        ("body", "content_type", "text"),
        [
            ("ä".encode(), "text/html", "ä"),
            ("ä".encode("latin-1"), "text/html; charset=iso-8859-1", "ä"),
            ("\ufeffä".encode("utf-16-le"), "text/html; charset=utf-8", "ä"),
            (b"\xff\xfe\xff", "", None),
            (b"", "", ""),
        ],
    )
    def test_text_never_raises(self, body: bytes, content_type: str, text: str | None) -> None:
        response = Response(URL, 200, {"Content-Type": content_type}, body)
        assert isinstance(response.text, str)
        if text is not None:
            assert response.text == text

    def test_json_is_read_from_the_bytes(self) -> None:
        assert Response(URL, 200, body=b'{"a": "\xc3\xa4"}').json() == {"a": "ä"}
        assert Response(URL, 200, body='{"a": 1}'.encode("utf-16")).json() == {"a": 1}
        assert Response(URL, 200, body=b"\xef\xbb\xbf[1]").json() == [1]

    @pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe\x00", b"[" * 100_000, b"{'a': 1}"])
    def test_what_is_no_json_is_the_sites_fault(self, body: bytes) -> None:
        with pytest.raises(InvalidJSON) as caught:
            Response(URL, 200, body=body).json()
        assert caught.value.url == URL
        assert caught.value.fault == "the site"

    def test_queries_go_to_the_document(self) -> None:
        response = page("<h1>A  b</h1><p class=x>1</p><p>2</p>")
        assert response.get("h1") == "A b"
        assert response.get("h2", "none") == "none"
        assert response.get_all("p") == ["1", "2"]
        assert [element.tag for element in response.css("p")] == ["p", "p"]
        first = response.first("p")
        assert first is not None
        assert first.attrs == {"class": "x"}
        assert response.document is response.document

    def test_the_document_of_another_encoding_is_decoded_first(self) -> None:
        body = '<meta charset="windows-1251"><h1>Привет</h1>'.encode("cp1251")
        assert Response(URL, 200, {"Content-Type": "text/html"}, body).get("h1") == "Привет"

    def test_links_are_canonical_distinct_and_in_order(self) -> None:
        html = '<a href="/b">1</a><a href="c#x">2</a><a href="/b#y">3</a><a href="mailto:x@y">4</a>'
        assert page(html).links() == ["https://shop.test/b", "https://shop.test/c"]
        assert page('<a class=n href="/n"></a><a href="/b"></a>').links("a.n") == [
            "https://shop.test/n"
        ]

    def test_nofollow_is_left_out_if_asked_for(self) -> None:
        response = page('<a href="/1" rel="x NoFollow"></a><a href="/2"></a>')
        assert response.links(skip_nofollow=True) == ["https://shop.test/2"]
        assert [r.url for r in response.follow_all(skip_nofollow=True)] == ["https://shop.test/2"]
        assert len(response.follow_all()) == 2

    @pytest.mark.parametrize(
        ("link", "url"),
        [
            ("b", "https://shop.test/b"),
            ("?p=2", "https://shop.test/a?p=2"),
            ("//other.test", "https://other.test/"),
            ("https://x.test/#f", "https://x.test/"),
            ("", "https://shop.test/a"),
        ],
    )
    def test_a_text_is_followed_relative_to_the_page(self, link: str, url: str) -> None:
        assert page().follow(link).url == url
        assert page().urljoin(link) == url

    @pytest.mark.parametrize(
        "link", ["javascript:void(0)", "mailto:a@b.test", "http://[", "ftp://x"]
    )
    def test_what_leads_nowhere_is_refused(self, link: str) -> None:
        with pytest.raises(InvalidURL):
            page().follow(link)
        with pytest.raises(InvalidURL):
            page().urljoin(link)

    @pytest.mark.parametrize(
        ("html", "url"),
        [
            ('<a href=" b ">', "https://shop.test/b"),
            ('<img src="i.png">', "https://shop.test/i.png"),
            ('<link href="l.css" src="no">', "https://shop.test/l.css"),
        ],
    )
    def test_an_element_is_followed_by_its_href_or_src(self, html: str, url: str) -> None:
        response = page(html)
        element = response.first("[href], [src]")
        assert element is not None
        assert response.follow(element).url == url

    @pytest.mark.parametrize("html", ["<b>x</b>", "<b href>x</b>", '<b href="" src="">x</b>'])
    def test_an_element_without_a_link_is_refused(self, html: str) -> None:
        response = page(html)
        element = response.first("b")
        assert element is not None
        with pytest.raises(InvalidURL, match="<b> has neither href nor src"):
            response.follow(element)

    def test_following_takes_a_callback_and_what_a_request_takes(self) -> None:
        request = page(depth=2).follow("b", module_level, meta={"a": 1}, priority=5)
        assert request.callback == f"{__name__}:module_level"
        assert (request.meta, request.priority, request.depth) == ({"a": 1}, 5, 3)

    @pytest.mark.parametrize("options", [{}, {"priority": 2}])
    def test_following_all_goes_one_deeper(self, options: dict[str, Any]) -> None:
        response = page('<a href="/1"></a><a href="/2"></a>', depth=4)
        requests = response.follow_all("a", "parse_item", **options)
        assert [request.url for request in requests] == [
            "https://shop.test/1",
            "https://shop.test/2",
        ]
        assert {(request.callback, request.depth) for request in requests} == {("parse_item", 5)}

    @pytest.mark.parametrize("options", [{}, {"priority": 2}])
    def test_what_a_page_leads_to_reaches_as_far_as_the_page(self, options: dict[str, Any]) -> None:
        html = b'<a href="/1"></a><a href="//u:p@x.test/2"></a>'
        response = Response(URL, 200, {"Content-Type": "text/html"}, html, reach=Space.LOCAL)
        for twin in (response, pickle.loads(pickle.dumps(response))):
            requests = [twin.follow("/3"), *twin.follow_all(**options)]
            assert [request.reach for request in requests] == [Space.LOCAL] * 3

    def test_following_a_callback_that_has_no_name_fails_at_once(self) -> None:
        with pytest.raises(UsageError, match="can't be a callback"):
            page("").follow_all(callback=lambda response: None)

    @pytest.mark.parametrize("link", ["https://u:p@shop.test/b", "//u:p@shop.test/b"])
    def test_links_with_a_password_turn_it_into_a_header(self, link: str) -> None:
        response = page(f'<a href="{link}">')
        element = response.first("a")
        assert element is not None
        for request in (response.follow(link), response.follow(element), *response.follow_all()):
            assert request.url == "https://shop.test/b"
            assert request.headers == {"Authorization": "Basic dTpw"}

    def test_an_at_sign_in_a_path_is_no_password(self) -> None:
        (request,) = page('<a href="/@someone">').follow_all()
        assert request == Request("https://shop.test/@someone").at_depth(1)

    def test_each_way_to_follow_a_link_heeds_the_base_of_the_page(self) -> None:
        response = page('<base href="/deep/x"><a href="b">')
        element = response.first("a")
        assert element is not None
        urls = {
            *response.links(),
            response.urljoin("b"),
            response.follow("b").url,
            response.follow(element).url,
            *(request.url for request in response.follow_all()),
        }
        assert urls == {"https://shop.test/deep/b"}

    def test_the_base_counts_before_anything_else_was_asked(self) -> None:
        assert page('<BASE href="/deep/x">').follow("b").url == "https://shop.test/deep/b"

    def test_each_way_to_follow_a_link_encodes_it_as_a_browser(self) -> None:
        body = '<meta charset="windows-1251"><a href="/?q=ж">'.encode("cp1251")
        response = Response(URL, 200, {"Content-Type": "text/html"}, body)
        element = response.first("a")
        assert element is not None
        urls = {
            *response.links(),
            response.follow("/?q=ж").url,
            response.follow(element).url,
            *(request.url for request in response.follow_all()),
        }
        assert urls == {"https://shop.test/?q=%E6"}

    def test_it_pickles_without_what_was_derived(self) -> None:
        headers = CIMultiDict([("Set-Cookie", "a=1"), ("set-cookie", "b=2")])
        response = Response(
            URL,
            203,
            CIMultiDictProxy(headers),
            b"<h1>A</h1>",
            Request(URL, meta={"a": 1}),
            elapsed_s=1.5,
            redirects=("https://shop.test/old",),
        )
        assert response.get("h1") == "A"
        twin: Response = pickle.loads(pickle.dumps(response))
        assert (twin.url, twin.status, twin.body) == (URL, 203, b"<h1>A</h1>")
        assert twin.headers.getall("set-cookie") == ["a=1", "b=2"]  # type: ignore[attr-defined]
        assert twin.request == response.request
        assert (twin.elapsed_s, twin.redirects) == (1.5, ("https://shop.test/old",))
        assert twin.get("h1") == "A"

    def test_repr_is_short(self) -> None:
        assert repr(page("<p>")) == f"<Response 200 {URL} 3 bytes>"


class TestDates:
    def test_a_request_has_no_date_by_default(self) -> None:
        request = Request("https://shop.test/")
        assert (request.when, request.not_before_s, request.delay_s) == (None, 0.0, 0.0)
        assert Request("https://shop.test/", not_before_s=0, delay_s=0) == request
        assert request.filed_at(100.0) is request

    def test_a_delay_becomes_a_date_when_it_is_filed(self) -> None:
        request = Request("https://shop.test/", delay_s=5, meta={"a": 1}).at_depth(3)
        filed = request.filed_at(100.0)
        assert (filed.not_before_s, filed.delay_s, filed.depth) == (105.0, 0.0, 3)
        assert filed.meta == {"a": 1}
        assert filed.filed_at(200.0) is filed

    @pytest.mark.parametrize(("date", "due"), [(103.0, 105.0), (107.0, 107.0)])
    def test_of_a_date_and_a_delay_the_later_counts(self, date: float, due: float) -> None:
        request = Request("https://shop.test/", not_before_s=date, delay_s=5.0)
        assert request.filed_at(100.0).not_before_s == due

    def test_dates_survive_copies_and_pickling(self) -> None:
        request = Request("https://shop.test/", not_before_s=7.0, delay_s=5.0)
        assert request.replace(priority=1).when == request.when
        assert request.replace(delay_s=0.0).when == (7.0, 0.0)
        assert request.at_depth(2).when == request.when
        assert pickle.loads(pickle.dumps(request)) == request

    @pytest.mark.parametrize("value", [-1, math.inf, math.nan, "5", None])
    @pytest.mark.parametrize("name", ["not_before_s", "delay_s"])
    def test_what_is_no_time_is_told(self, name: str, value: Any) -> None:
        with pytest.raises(UsageError, match=f"{name} is a number of seconds"):
            Request("https://shop.test/", **{name: value})


class TestNofollow:
    @pytest.mark.parametrize(
        ("headers", "page", "is_nofollow"),
        [
            ({}, "<p>", False),
            ({"X-Robots-Tag": "nofollow"}, "<p>", True),
            ({"x-robots-tag": "noindex"}, "<p>", False),
            ({}, "<meta name=ROBOTS content='noindex, nofollow'>", True),
            ({}, "<meta content=none name=robots>", True),
            ({}, "<meta name=robots content=noindex>", False),
            ({}, "<meta name=otherbot content=nofollow>", False),
            ({}, "<meta name=robots>", False),
        ],
    )
    def test_header_and_meta_are_heeded(
        self, headers: dict[str, str], page: str, is_nofollow: bool
    ) -> None:
        body = f"{page}<a href=/a>".encode()
        response = Response("https://shop.test/", 200, headers, body)
        assert response.is_nofollow is is_nofollow
        assert bool(response.follow_all(skip_nofollow=True)) is not is_nofollow
        assert len(response.follow_all()) == 1

    def test_a_page_of_tags_that_never_end_takes_no_longer_than_others(self) -> None:
        # By its square this would take days.
        assert not Response("https://shop.test/", 200, {}, b"<meta " * 1_000_000).is_nofollow

    def test_each_line_of_a_repeated_header_counts(self) -> None:
        lines = CIMultiDict([("X-Robots-Tag", "noindex"), ("X-Robots-Tag", "nofollow")])
        assert Response("https://shop.test/", 200, lines).is_nofollow
