from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit import urls
from scrapekit.errors import FormError, InvalidURL, QueryError
from scrapekit.formdata import Entry, encoding_for, multipart, urlencoded
from scrapekit.messages import Request, Response

PAGE = "https://shop.test/account/login?next=1"


def page(html: str, url: str = PAGE, **options: Any) -> Response:
    content_type = options.pop("content_type", "text/html; charset=utf-8")
    body = html.encode(options.pop("encoding", "utf-8"))
    return Response(url, 200, {"Content-Type": content_type}, body, **options)


def form(controls: str, attrs: str = "method=post") -> Response:
    return page(f"<form {attrs}>{controls}</form>")


def sent(response: Response, data: dict[str, Any] | None = None, **options: Any) -> str:
    return response.form("form", data, **options).body.decode()


LOGIN = """
<form id=login action=/session method=post>
  <input type=hidden name=csrf value="t&amp;k">
  <input name=user> <input type=password name=password>
  <label><input type=checkbox name=remember> stay</label>
  <button name=do value=in>Log in</button> <button name=do value=forgot>Forgot</button>
</form>"""


class TestSubmitting:
    def test_hidden_fields_stay_and_the_first_button_is_pressed(self) -> None:
        request = page(LOGIN).form("#login", {"user": "ann", "password": "p w"})
        assert (request.method, request.url) == ("POST", "https://shop.test/session")
        assert request.body == b"csrf=t%26k&user=ann&password=p+w&do=in"
        assert request.headers == {
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": "https://shop.test",
            "Referer": PAGE,
        }

    def test_the_query_may_find_something_in_the_form(self) -> None:
        assert page(LOGIN).form("input[type=password]").url == "https://shop.test/session"

    def test_session_depth_callback_and_options_are_those_of_a_link(self) -> None:
        response = page(LOGIN, request=Request(PAGE, session="ann").at_depth(2))
        request = response.form("#login", callback="home", meta={"a": 1}, headers={"X-A": "1"})
        assert (request.session, request.depth, request.callback) == ("ann", 3, "home")
        assert (request.meta["a"], request.headers["X-A"]) == (1, "1")
        assert page(LOGIN).form("#login", session="bob").session == "bob"

    @pytest.mark.parametrize(
        ("action", "url"),
        [
            ("", PAGE),
            ("action=''", PAGE),
            ("action='  '", PAGE),
            ("action=in", "https://shop.test/account/in"),
            ("action=?a=b#c", "https://shop.test/account/login?a=b"),
            ("action=//other.test/x", "https://other.test/x"),
        ],
    )
    def test_the_action_is_a_link_of_the_page(self, action: str, url: str) -> None:
        assert form("", f"method=post {action}").form().url == url

    def test_a_base_counts_for_an_action_but_not_for_none(self) -> None:
        base = "<base href=https://cdn.test/x/>"
        assert page(f"{base}<form action=y>").form().url == "https://cdn.test/x/y?"[:-1]
        assert page(f"{base}<form method=post>").form().url == PAGE

    def test_get_puts_the_fields_in_place_of_the_query(self) -> None:
        response = form("<input name=q value='a b'>", "action='/find?old=1#top'")
        request = response.form(data={"q": "ü"})
        assert request.url == "https://shop.test/find?q=%C3%BC"
        assert (request.method, request.body, dict(request.headers)) == (
            "GET",
            b"",
            {"Referer": PAGE},
        )

    @pytest.mark.parametrize("method", ["", "method=put", "method=get", "method=GET"])
    def test_what_is_not_post_is_get(self, method: str) -> None:
        assert form("<input name=a>", method).form().method == "GET"

    def test_a_dialog_sends_nothing(self) -> None:
        with pytest.raises(FormError, match="dialog"):
            form("", "method=dialog").form()

    def test_a_script_is_no_address(self) -> None:
        with pytest.raises(InvalidURL):
            form("", "action=javascript:go()").form()

    @pytest.mark.parametrize(
        ("target", "headers"),
        [
            (
                "https://other.test/",
                {"Origin": "https://shop.test", "Referer": "https://shop.test/"},
            ),
            ("http://other.test/", {"Origin": "null"}),
        ],
    )
    def test_other_origins_learn_no_more_than_the_origin(
        self, target: str, headers: dict[str, str]
    ) -> None:
        made = dict(form("", f"method=post action={target}").form().headers)
        made.pop("Content-Type")
        assert made == headers


class TestSuccessfulControls:
    @pytest.mark.parametrize(
        ("control", "body"),
        [
            ("<input name=a value=1>", "a=1"),
            ("<input name=a>", "a="),
            ("<input value=1>", ""),
            ("<input name='' value=1>", ""),
            ("<input name=a value=1 disabled>", ""),
            ("<input type=TEXT name=a value=1>", "a=1"),
            ("<input name=a value='1\n2'>", "a=12"),
            ("<input type=hidden name=a value='1\n2'>", "a=1%0D%0A2"),
            ("<input type=hidden name=_charset_>", "_charset_=utf-8"),
            ("<input type=checkbox name=a>", ""),
            ("<input type=checkbox name=a checked>", "a=on"),
            ("<input type=checkbox name=a value='' checked>", "a="),
            ("<input type=radio name=a value=1><input type=radio name=a value=2 checked>", "a=2"),
            ("<input type=button name=a value=1><input type=reset name=b value=2>", ""),
            ("<button type=button name=a value=1>x</button>", ""),
            ("<button name=a value=1>x</button><input type=submit name=b value=2>", "a=1"),
            ("<button name=a value=1 disabled>x</button><button name=b value=2>y</button>", ""),
            ("<input type=image name=a value=1>", "a.x=0&a.y=0"),
            ("<input type=image>", "x=0&y=0"),
            ("<textarea name=a>\nx\r\ny</textarea>", "a=x%0D%0Ay"),
            ("<select name=a><option>1<option selected>2</select>", "a=2"),
            ("<select name=a><option>1<option>2</select>", "a=1"),
            ("<select name=a><option disabled>1<option value=z> 2  3 </select>", "a=z"),
            ("<select name=a><option selected>1<option selected>2</select>", "a=2"),
            ("<select name=a size=2><option>1</select>", ""),
            ("<select name=a multiple><option>1<option>2</select>", ""),
            (
                (
                    "<select name=a multiple><option selected>1<option selected>2"
                    "<option selected disabled>3</select>"
                ),
                "a=1&a=2",
            ),
            (
                (
                    "<select name=a><optgroup disabled><option>1</optgroup><optgroup><option>2"
                    "</optgroup></select>"
                ),
                "a=2",
            ),
            ("<select name=a></select>", ""),
            ("<input type=file name=a>", "a="),
            ("<datalist><input name=a value=1></datalist>", ""),
            ("<fieldset disabled><input name=a value=1></fieldset>", ""),
            (
                (
                    "<fieldset disabled><legend><input name=a value=1></legend>"
                    "<legend><input name=b value=2></legend></fieldset>"
                ),
                "a=1",
            ),
            (
                (
                    "<fieldset disabled><fieldset><legend><input name=a></legend></fieldset>"
                    "</fieldset>"
                ),
                "",
            ),
            ("<output name=a>1</output><object name=b></object>", ""),
        ],
    )
    def test_what_a_control_sends(self, control: str, body: str) -> None:
        assert sent(form(control)) == body

    def test_controls_may_stand_elsewhere(self) -> None:
        response = page(
            "<input form=f name=a value=1><form id=f method=post><input name=b value=2>"
            "<input form=g name=c value=3></form><form id=g><input form=f name=d value=4></form>"
            "<input name=e value=5><input form=nowhere name=h value=6>"
        )
        assert sent(response) == "a=1&b=2&d=4"

    def test_a_form_torn_by_a_table_keeps_its_controls(self) -> None:
        response = page(
            "<table><form method=post action=/x><tr><td><input name=a value=1></td></tr>"
            "<tr><td><input type=submit name=b value=2></td></tr></form></table>"
            "<input name=c value=3>"
        )
        assert sent(response) == "a=1&b=2"

    def test_a_deep_page_of_many_controls_takes_no_longer_than_a_flat_one(self) -> None:
        inputs = "<div><input name=a>" * 300
        assert sent(form(inputs)).count("a=") == 300

    def test_names_may_repeat_and_the_order_is_that_of_the_page(self) -> None:
        controls = "<input name=a value=1><input name=b value=2><input name=a value=3>"
        assert sent(form(controls)) == "a=1&b=2&a=3"


CHOICES = """
<input type=hidden name=news value=0><input type=checkbox name=news value=1>
<input type=checkbox name=tag value=x checked><input type=checkbox name=tag value=y>
<input type=radio name=size value=s checked><input type=radio name=size value=m>
<select name=land><option value=de>Germany<option value=fr selected>France</select>
<select name=many multiple><option>1<option>2<option>3</select>
"""


class TestFillingIn:
    @pytest.mark.parametrize(
        ("data", "body"),
        [
            ({}, "news=0&tag=x&size=s&land=fr"),
            ({"news": True}, "news=0&news=1&tag=x&size=s&land=fr"),
            ({"news": "1"}, "news=0&news=1&tag=x&size=s&land=fr"),
            ({"news": None}, "tag=x&size=s&land=fr"),
            ({"tag": ["x", "y"]}, "news=0&tag=x&tag=y&size=s&land=fr"),
            ({"tag": "y"}, "news=0&tag=y&size=s&land=fr"),
            ({"tag": False}, "news=0&size=s&land=fr"),
            ({"size": "m"}, "news=0&tag=x&size=m&land=fr"),
            ({"land": "de"}, "news=0&tag=x&size=s&land=de"),
            ({"land": "Germany"}, "news=0&tag=x&size=s&land=de"),
            ({"many": ["3", 1]}, "news=0&tag=x&size=s&land=fr&many=1&many=3"),
        ],
    )
    def test_choices_are_made_by_value(self, data: dict[str, Any], body: str) -> None:
        assert sent(form(CHOICES), data) == body

    def test_numbers_and_lists_are_texts(self) -> None:
        response = form("<input name=a><input name=b><input name=b value=x>")
        assert sent(response, {"a": 1.5, "b": "1"}) == "a=1.5&b=1&b=x"
        assert sent(response, {"b": ["1", 2]}) == "a=&b=1&b=2"

    def test_a_field_that_is_filled_in_is_enabled(self) -> None:
        assert sent(form("<input name=a disabled>"), {"a": "1"}) == "a=1"

    def test_extra_fields_come_last(self) -> None:
        assert sent(form("<input name=a>"), extra={"js": 1, "x": ["2", "3"]}) == "a=&js=1&x=2&x=3"

    def test_a_page_with_endless_names_makes_no_endless_error(self) -> None:
        options = "".join(f"<option>{'x' * 50}{number}" for number in range(1_000))
        with pytest.raises(FormError) as caught:
            form(f"<select name=a>{options}</select>").form(data={"a": "!"})
        assert len(str(caught.value)) < 500

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({"lnad": "de"}, "the form has no field 'lnad'; did you mean 'land'?"),
            ({"zzz": "1"}, "the form has no field 'zzz'; known: land, many, news, size, tag"),
            ({"land": "dee"}, "the field 'land' can't be 'dee'; did you mean 'de'?"),
            ({"size": "xl"}, "the field 'size' can't be 'xl'; known: m, s"),
            ({"tag": True}, "the field 'tag' can't be True; it takes one of ['x', 'y']"),
            ({"land": ["de", "fr"]}, "the field 'land' takes one value, not ['de', 'fr']"),
            ({"size": {"m": 1}}, "the field 'size' takes a str or a number, not dict"),
        ],
    )
    def test_what_is_not_there_is_named_with_the_nearest(
        self, data: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(FormError) as caught:
            form(CHOICES).form(data=data)
        assert str(caught.value) == message
        assert caught.value.field == next(iter(data))

    def test_other_fields_take_what_they_can(self) -> None:
        response = form("<input type=file name=f><input name=a>")
        with pytest.raises(FormError, match="takes a file; files can't be sent"):
            response.form(data={"f": "x"})
        with pytest.raises(FormError, match="'a' is there 1 times, not 2"):
            response.form(data={"a": ["1", "2"]})
        with pytest.raises(FormError, match="takes a str or a number, not bool"):
            response.form(data={"a": True})
        with pytest.raises(FormError, match="no field 'a'; it has none"):
            form("").form(data={"a": "1"})


class TestFinding:
    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("#logn", f"no form matches '#logn' on {PAGE}; did you mean '#login'?"),
            ("#x", f"no form matches '#x' on {PAGE}; known: #login, form[action=\"/find\"]"),
            ("p", f"'p' is a <p> outside of any form on {PAGE}; known: #login"),
        ],
    )
    def test_a_form_that_is_not_there_is_named_with_the_nearest(
        self, query: str, message: str
    ) -> None:
        with pytest.raises(FormError) as caught:
            page(f"<p>{LOGIN}<form action=/find></form>").form(query)
        assert str(caught.value).startswith(message)

    def test_a_page_without_forms_says_so(self) -> None:
        with pytest.raises(FormError, match="; there is no form"):
            page("").form()

    def test_a_query_that_is_none_is_told(self) -> None:
        with pytest.raises(QueryError):
            page(LOGIN).form("#login[")
        with pytest.raises(QueryError):
            page(LOGIN).form("#login", click="[")


class TestButtons:
    BUTTONS = (
        "<button name=do value=save>Save</button>"
        "<button id=d name=do value=delete formaction=/gone formmethod=get>Delete</button>"
        "<button formenctype=multipart/form-data class=up>Up</button>"
    )

    def test_a_button_is_pressed_by_query_by_value_or_not_at_all(self) -> None:
        response = form(self.BUTTONS)
        assert sent(response, click="[value=save]") == "do=save"
        assert sent(response, click=False) == ""
        assert response.form(data={"do": "delete"}).url == "https://shop.test/gone?do=delete"
        assert response.form(data={"do": "Delete"}).url == "https://shop.test/gone?do=delete"

    def test_a_button_may_say_where_and_how(self) -> None:
        response = form(self.BUTTONS)
        request = response.form(click="#d")
        assert (request.method, request.url) == ("GET", "https://shop.test/gone?do=delete")
        assert response.form(click=".up").headers["Content-Type"].startswith("multipart/form-data")

    def test_one_that_is_not_there_is_named_with_the_nearest(self) -> None:
        with pytest.raises(FormError, match=r"no button of the form matches '\.down'"):
            form(self.BUTTONS).form(click=".down")
        with pytest.raises(FormError, match=r"can't be 'sav'; did you mean 'save'\?"):
            form(self.BUTTONS).form(data={"do": "sav"})


class TestEncoding:
    def test_urlencoded_is_that_of_browsers(self) -> None:
        entries = [Entry("a b", "*-._~é&=+%\"'()\n")]
        assert urlencoded(entries, "utf-8") == ("a+b=*-._%7E%C3%A9%26%3D%2B%25%22%27%28%29%0D%0A")

    def test_a_form_is_sent_in_the_encoding_of_its_page(self) -> None:
        html = "<form method=post><input name=a value='ü€\N{SNOWMAN}'></form>"
        response = page(
            html.replace("\N{SNOWMAN}", "&#9731;"),
            encoding="cp1252",
            content_type="text/html; charset=iso-8859-1",
        )
        assert sent(response) == "a=%FC%80%26%239731%3B"

    @pytest.mark.parametrize(
        ("labels", "page_codec", "codec"),
        [
            ("", "utf-8", "utf-8"),
            ("", "cp1252", "cp1252"),
            ("nonsense ISO-8859-1 utf-8", "utf-8", "cp1252"),
            ("utf-16", "cp1252", "utf-8"),
            ("", "utf-16-le", "utf-8"),
            ("", "replacement", "utf-8"),
            ("", "x-user-defined", "utf-8"),
        ],
    )
    def test_which_encoding_that_is(self, labels: str, page_codec: str, codec: str) -> None:
        assert encoding_for(labels, page_codec) == codec

    def test_charset_tells_its_name_on_the_web(self) -> None:
        attrs = "method=post accept-charset=latin1"
        assert sent(form("<input type=hidden name=_charset_>", attrs)) == "_charset_=windows-1252"

    def test_multipart(self) -> None:
        attrs = "method=post enctype=multipart/form-data"
        controls = (
            "<input name='a\"b' value='1'><textarea name=t>x\ny</textarea><input type=file name=f>"
        )
        request = form(controls, attrs).form()
        kind, _, boundary = request.headers["Content-Type"].partition("; boundary=")
        assert kind == "multipart/form-data"
        assert request.body.decode() == (
            f'--{boundary}\r\nContent-Disposition: form-data; name="a%22b"\r\n\r\n1\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="t"\r\n\r\nx\r\ny\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename=""\r\n'
            f"Content-Type: application/octet-stream\r\n\r\n\r\n--{boundary}--\r\n"
        )

    def test_the_same_form_is_the_same_request(self) -> None:
        response = form("<input name=a value=1>", "method=post enctype=multipart/form-data")
        assert response.form() == response.form()
        assert response.form() != response.form(data={"a": "2"})

    def test_plain_text(self) -> None:
        request = form("<input name=a value='1 2'>", "method=post enctype=text/plain").form()
        assert request.body == b"a=1 2\r\n"
        assert request.headers["Content-Type"] == "text/plain"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ENTRIES = st.lists(st.builds(Entry, TEXT, TEXT), max_size=5)


@given(ENTRIES)
def test_urlencoded_can_be_read_back(entries: list[Entry]) -> None:
    text = urlencoded(entries, "utf-8")
    if entries != [Entry("", "")]:
        found = parse_qsl(text, keep_blank_values=True)
        assert found == [tuple(urls_crlf(part) for part in entry[:2]) for entry in entries]


def urls_crlf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")


@given(ENTRIES)
def test_no_boundary_stands_in_a_part(entries: list[Entry]) -> None:
    body, content_type = multipart(entries, "utf-8")
    boundary = content_type.partition("boundary=")[2].encode()
    assert body.count(b"--" + boundary) == len(entries) + 1


HTML = st.lists(
    st.sampled_from(
        [
            *(
                "<form>",
                "</form>",
                "<table>",
                "<tr>",
                "<input name=a>",
                "<select name=b>",
                "<option>",
            ),
            *(
                "<fieldset disabled>",
                "<legend>",
                "<button>",
                "<textarea>",
                "<input type=image>",
                "x",
            ),
        ]
    ),
    max_size=30,
).map("".join)


@given(HTML)
def test_any_tangle_of_tags_around_a_form_is_a_request(html: str) -> None:
    request = page(f"<form></form>{html}").form()
    assert urls.normalize(request.url) == request.url
