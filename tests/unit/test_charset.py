from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.charset import (
    PRESCAN_BYTES,
    decode,
    detect,
    from_content_type,
    lookup,
    prescan,
    scalar_text,
)

HTML = "text/html"
UTF16_HEADER = "text/html; charset=utf-16"
META_1251 = b"<meta charset=windows-1251>"


@pytest.mark.parametrize(
    ("body", "content_type", "codec"),
    [
        (codecs.BOM_UTF8 + META_1251, "text/html; charset=koi8-r", "utf-8"),
        (codecs.BOM_UTF16_LE + b"a\0", "text/html; charset=koi8-r", "utf-16-le"),
        (codecs.BOM_UTF16_BE + b"\0a", "text/html; charset=koi8-r", "utf-16-be"),
        (META_1251, "text/html; charset=koi8-r", "koi8-r"),
        (META_1251, "text/html; charset=nonsense", "cp1251"),
        (META_1251, HTML, "cp1251"),
        (META_1251 + "é".encode(), HTML, "cp1251"),
        ("é".encode(), HTML, "utf-8"),
        (b"plain", HTML, "utf-8"),
        (b"", "", "utf-8"),
        (b"\xe9", HTML, "cp1252"),
        (b"\xc3", "", "cp1252"),
        (b"a\0", UTF16_HEADER, "utf-16-le"),
    ],
)
def test_bom_comes_before_header_before_meta_before_the_guess(
    body: bytes, content_type: str, codec: str
) -> None:
    assert detect(body, content_type) == codec


@pytest.mark.parametrize(
    ("content_type", "codec"),
    [
        ("text/html; charset=utf-8", "utf-8"),
        ("text/html;charset=UTF8", "utf-8"),
        ('text/html; charset="iso-8859-2"', "iso8859-2"),
        ("text/html; charset='iso-8859-2'", "iso8859-2"),
        ("text/html; version=1; Charset = utf-8 ; x=y", "utf-8"),
        ("text/html; charset=utf-8, text/html", "utf-8"),
        ("text/html; charset=koi8-r; charset=utf-8", "koi8-r"),
        ("text/html; charset=", None),
        ("text/html; charset", None),
        ("text/html; charset=rot13", None),
        ("text/html; charset=\ud800", None),
        ("text/html; charset=\N{KELVIN SIGN}oi8-r", None),
        ("charset=utf-8", None),
        ("text/html", None),
        ("", None),
        (";;;", None),
    ],
)
def test_the_charset_of_a_content_type(content_type: str, codec: str | None) -> None:
    assert from_content_type(content_type) == codec


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("latin1", "cp1252"),
        ("ISO-8859-1", "cp1252"),
        ("us-ascii", "cp1252"),
        ("\tutf8\n", "utf-8"),
        ("gb2312", "gb18030"),
        ("gbk", "gb18030"),
        ("big5", "big5hkscs"),
        ("shift_jis", "cp932"),
        ("euc-kr", "cp949"),
        ("euc-jp", "euc_jp"),
        ("windows-874", "cp874"),
        ("macintosh", "mac-roman"),
        ("x-mac-cyrillic", "mac-cyrillic"),
        ("iso-8859-8-i", "iso8859-8"),
        ("utf-16", "utf-16-le"),
        ("hz-gb-2312", "replacement"),
        ("x-user-defined", "x-user-defined"),
    ],
)
def test_a_label_means_the_encoding_that_browsers_read_it_as(label: str, codec: str) -> None:
    assert lookup(label) == codec


@pytest.mark.parametrize(
    "label", ["utf-7", "utf-32", "idna", "punycode", "rot13", "zip", "hex", "unicode_escape", ""]
)
def test_a_name_that_python_knows_and_the_web_does_not_selects_nothing(label: str) -> None:
    assert lookup(label) is None


@pytest.mark.parametrize(
    ("body", "codec"),
    [
        (b"<META CharSet = 'koi8-r' >", "koi8-r"),
        (b'<meta/charset="koi8-r"/>', "koi8-r"),
        (b"<meta\fcharset=koi8-r>", "koi8-r"),
        (b"<meta name=a charset=koi8-r charset=utf-8>", "koi8-r"),
        (b"<meta charset=nonsense><meta charset=koi8-r>", "koi8-r"),
        (b"<meta http-equiv=Content-Type content='text/html; charset=koi8-r'>", "koi8-r"),
        (b"<meta content='charset charset = \"koi8-r\"' http-equiv=content-type>", "koi8-r"),
        (b"<meta http-equiv=content-type content='charset=koi8-r;x'>", "koi8-r"),
        (b'<meta http-equiv=content-type content="charset=\'koi8-r">', None),
        (b"<meta http-equiv=content-type content='charset=;koi8-r'>", None),
        (b"<meta http-equiv=content-type content='charset'>", None),
        (b"<meta http-equiv=content-type>", None),
        (b"<meta http-equiv=refresh content='0; charset=koi8-r'>", None),
        (b"<meta content='charset=koi8-r'>", None),
        (b"<meta charset=x http-equiv=content-type content='charset=koi8-r'>", None),
        (b"<!-- <meta charset=koi8-r> -->", None),
        (b"<!--><meta charset=koi8-r>", "koi8-r"),
        (b"<!-- <meta charset=koi8-r>", None),
        (b"<a title='<meta charset=koi8-r>'>", None),
        (b"<a title=<meta charset=koi8-r>", None),
        (b"</a title='><meta charset=utf-8>'><meta charset=koi8-r>", "koi8-r"),
        (b"<!doctype html><?php ?></ ><meta charset=koi8-r>", "koi8-r"),
        (b"<! <meta charset=koi8-r", None),
        (b"<metadata charset=koi8-r>", None),
        (b"<meta charset=koi8-r", None),
        (b"<meta charset='koi8-r>", None),
        (b"<meta charset=>", None),
        (b"<meta =charset=koi8-r>", None),
        (b"<meta charset=utf-16be>", "utf-8"),
        (b"<meta charset=x-user-defined>", "cp1252"),
        (b"<meta charset=\xe9\xff>", None),
        (b"<?xml version='1.0' encoding='koi8-r'?><a/>", "koi8-r"),
        (b'<?xml encoding = "utf-16"?>', "utf-8"),
        (b"<?xml encoding='koi8-r\"?>", None),
        (b"<?xml encoding='koi8-r'", None),
        (b"<?xml encoding?>", None),
        (b"<?xml version='1.0'?>", None),
        (b"<?xml encoding='koi8-r'?><meta charset=utf-8>", "utf-8"),
        ("<?xml ?>".encode("utf-16-le"), "utf-16-le"),
        ("<?xml ?>".encode("utf-16-be"), "utf-16-be"),
        (b"charset=koi8-r", None),
        (b"", None),
    ],
)
def test_prescan_finds_the_declaration_that_a_browser_finds(body: bytes, codec: str | None) -> None:
    assert prescan(body) == codec


def test_a_declaration_beyond_the_authors_1024_bytes_is_still_found() -> None:
    assert prescan(b" " * 2000 + META_1251) == "cp1251"
    assert prescan(b" " * PRESCAN_BYTES + META_1251) is None


@pytest.mark.parametrize(
    ("body", "codec", "text"),
    [
        (codecs.BOM_UTF8 + b"a", "utf-8", "a"),
        (codecs.BOM_UTF16_LE + b"a\0", "utf-16-le", "a"),
        (codecs.BOM_UTF16_BE + b"\0a", "utf-16-be", "a"),
        (codecs.BOM_UTF8 + b"a", "cp1252", "ï»¿a"),
        (b"\xff\xe9", "utf-8", "\ufffd\ufffd"),
        (b"a\0b", "utf-16-le", "a\ufffd"),
        (b"\x80\x81\x8d\x8f\x90\x9d\xe9", "cp1252", "€\x81\x8d\x8f\x90\x9dé"),
        (b"\xaa\x81", "cp1253", "\ufffd\x81"),
        (b"\xca", "cp1255", "\u05ba"),
        (b"\xae\xbe\xa6", "koi8-u", "ўЎі"),
        (b"\xdb\xff\x99", "cp874", "\ufffd\ufffd\x99"),
        (b"\x87@", "cp932", "①"),
        (b"\x80\xa2\xe3", "gb18030", "\ufffd€"),
        (b"\xff", "big5hkscs", "\ufffd"),
        (b"a\x80\xff", "x-user-defined", "a\uf780\uf7ff"),
        (b"<script>\xff", "replacement", "\ufffd"),
        (b"", "replacement", ""),
        ("é".encode(), "no such codec", "é"),
        ("é".encode(), "hex", "é"),
        ("é".encode(), "nul\0", "é"),
    ],
)
def test_decode_reads_as_a_browser_does_and_never_raises(
    body: bytes, codec: str, text: str
) -> None:
    assert decode(body, codec) == text


@given(st.binary() | st.text().map(str.encode), st.text(st.characters(exclude_categories=())))
def test_any_body_and_header_give_text_that_can_be_encoded(body: bytes, header: str) -> None:
    text = decode(body, detect(body, f"text/html; charset={header}"))
    assert text.encode().decode() == text


_HOSTILE = st.lists(
    st.sampled_from(
        [b"<meta ", b"charset", b"=", b'"', b"'", b">", b"<!--", b"-->", b"</", b"<?xml ", b" ",
         b"/", b"content", b"http-equiv=content-type", b"utf-8", b"koi8-r", b";", b"encoding", b"<"]
    )
).map(b"".join)  # fmt: skip


@given(_HOSTILE)
def test_prescan_names_a_codec_or_nothing(body: bytes) -> None:
    assert prescan(body) in {None, "utf-8", "koi8-r"}


@given(st.sampled_from(["cp1252", "cp1255", "koi8-u", "cp932", "euc_jp", "gb18030"]), st.binary())
def test_what_python_can_decode_strictly_is_decoded_so(codec: str, body: bytes) -> None:
    try:
        strict = body.decode(codec)
    except UnicodeDecodeError:
        return
    if codec != "koi8-u":
        assert decode(body, codec) == strict


@given(st.text(st.characters(exclude_categories=())))
def test_scalar_text_can_be_encoded_and_keeps_what_could_be_before(text: str) -> None:
    scalar = scalar_text(text)
    assert scalar.encode().decode() == scalar
    assert scalar_text(scalar) == scalar
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert scalar == text
