"""Values of a request that a library would read without a bound, and what they cost now."""

from __future__ import annotations

import base64
import tracemalloc

import pytest

from app.api.forms import MAX_FIELD_BYTES, parse_options
from app.api.openai.parameters import parse_openai_request
from app.api.openai.references import read_data_url
from app.domain.errors import MalformedRequest, UnsupportedOption
from app.domain.options import Task

SIZE = 6 << 20
CONTENT = bytes(range(256)) * 7


@pytest.mark.parametrize(
    "url",
    [
        b"data:audio/wav;base64," + base64.b64encode(CONTENT),
        b"DATA:audio/wav;charset=x;BASE64," + base64.urlsafe_b64encode(CONTENT).rstrip(b"="),
        b"data:;base64," + base64.encodebytes(CONTENT).replace(b"+", b"%2B").replace(b"/", b"%2f"),
    ],
)
def test_a_data_url_in_any_spelling(url: bytes) -> None:
    assert read_data_url(url) == CONTENT


HOSTILE = {
    "nested multiparts": b"data:multipart/mixed; boundary=a;base64," + b"--a\r\n\r\n" * (SIZE // 7),
    "a media type without end": b"data:" + b"multipart/mixed;" * (SIZE // 16) + b"base64,AAAA",
    "nothing but escapes": b"data:audio/wav," + b"%41" * (SIZE // 3),
    "escapes in base64": b"data:audio/wav;base64," + b"%41" * (SIZE // 3),
    "padding": b"data:audio/wav;base64," + b"=" * SIZE,
    "another scheme": b"file:///etc/passwd;base64,AAAA",
    "no comma": b"data:audio/wav;base64" + b"A" * SIZE,
    "no text": b"\xff\xfe" * (SIZE // 2),
    "nothing": b"",
}


@pytest.mark.parametrize("url", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_data_url_costs_memory_in_proportion(url: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):  # noqa: PT011  (its text is for nobody)
            read_data_url(url)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 6 * SIZE


def test_keywords_are_as_long_as_one_field_in_all() -> None:
    word = "k" * 1000
    fits = parse_openai_request({"keywords": [word] * 60}, Task.TRANSCRIBE)
    assert fits.hotwords.count(word) == 60
    with pytest.raises(UnsupportedOption, match="keywords"):
        parse_openai_request({"keywords": ["k" * MAX_FIELD_BYTES] * 97}, Task.TRANSCRIBE)


@pytest.mark.parametrize("header", [b";" * 16_000, b'form-data; name="a' + b'";' * 8000])
def test_a_header_has_few_options(header: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_options(header)
    assert parse_options(b'form-data; name="a;b"')[1] == {b"name": b"a;b"}
