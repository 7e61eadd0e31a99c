"""A recording in a JSON body, as routers send it: the same file and fields as those of a form."""

from __future__ import annotations

import json
import os
from base64 import b64encode, encodebytes, urlsafe_b64encode

import pytest

from app.api.json_body import MAX_TEXT_BYTES, PIECE_BYTES, JsonBody
from app.domain.errors import MalformedRequest, UnsupportedOption

FILE = os.urandom(150_001)
BASE64 = b64encode(FILE).decode()


class Form:
    def __init__(self) -> None:
        self.name = ""
        self.file = b""
        self.values: list[tuple[str, str]] = []
        self.largest = 0
        self.complete = False

    def begin_file(self, name: str) -> None:
        self.name = name

    def add_to_file(self, data: bytes) -> None:
        self.largest = max(self.largest, len(data))
        self.file += data

    def add_value(self, name: str, text: str) -> None:
        self.values.append((name, text))

    def on_end(self) -> None:
        self.complete = True


def parse(body: str | bytes, step: int = 1 << 30) -> Form:
    form, data = Form(), body.encode() if isinstance(body, str) else body
    parser = JsonBody(form)
    for begin in range(0, len(data), step):
        parser.write(data[begin : begin + step])
    parser.finalize()
    return form


def recording(data: str) -> str:
    return json.dumps({"model": "m", "input_audio": {"data": data, "format": "mp3"}})


WRITTEN = {
    "plain": recording(BASE64),
    "without padding": recording(BASE64.rstrip("=")),
    "with the alphabet of URLs": recording(urlsafe_b64encode(FILE).decode()),
    "with line breaks": recording(encodebytes(FILE).decode()),
    "slashes escaped": recording(BASE64).replace("/", "\\/"),
    "pluses escaped": recording(BASE64).replace("+", "\\u002B"),
    "a data URL": recording(f"data:audio/x-wav;base64,{BASE64}"),
    "no object": json.dumps({"model": "m", "input_audio": BASE64}),
    "as a file": json.dumps({"file": BASE64, "model": "m"}, indent=4),
    "with its like in a text": json.dumps({"prompt": 'a "data": "b" \\', "file": BASE64}),
}


@pytest.mark.parametrize("body", WRITTEN.values(), ids=WRITTEN.keys())
def test_a_recording_however_it_is_written_and_cut(body: str) -> None:
    for step in (61, 997, 1 << 30):
        form = parse(body, step)
        assert form.file == FILE
        assert form.complete
        assert form.values in ([("model", "m")], [("prompt", 'a "data": "b" \\')])


def test_an_escape_that_comes_bit_by_bit() -> None:
    assert parse('{"file": "\\u002B\\/\\u002b\\n/"}', step=1).file == b"\xfb\xff\xbf"


def test_it_is_written_in_small_pieces() -> None:
    assert parse(recording(BASE64), step=4096).largest <= PIECE_BYTES + 4096


def test_values_are_those_of_a_form() -> None:
    given = {
        "temperature": 0, "stream": True, "languages": ["en", "es"], "language": None,
        "chunking_strategy": {"type": "server_vad"}, "prompt": "\ud800",
    }  # fmt: skip
    form = parse(json.dumps({"input_audio": {"data": BASE64, "format": "../x"}, **given}))
    assert form.name == "audio"
    assert form.values == [
        ("temperature", "0"), ("stream", "true"), ("languages", "en"), ("languages", "es"),
        ("chunking_strategy", '{"type": "server_vad"}'), ("prompt", "?"),
    ]  # fmt: skip


REFUSED: list[tuple[str | bytes, type[Exception]]] = [
    ("", MalformedRequest),
    ("{", MalformedRequest),
    ("[]", MalformedRequest),
    (b"\xff", MalformedRequest),
    ("[" * 100_000, MalformedRequest),
    (recording("AAAA")[:-1], MalformedRequest),
    (recording("AAAA").replace('"m"', "9" * 5000), MalformedRequest),
    (recording("AAAA").replace('"m"', "[" * 50_000), MalformedRequest),
    (json.dumps({"file": "AAAA", "x": [1] * 101}), MalformedRequest),
    ("{}", UnsupportedOption),
    (json.dumps({"data": "AAAA"}), UnsupportedOption),
    (json.dumps({"input_audio": {"data": 5}}), UnsupportedOption),
    (json.dumps({"input_audio": {"data": "AAAA"}, "file": "AAAA"}), UnsupportedOption),
    (json.dumps({"file": "AAAA", "prompt": "x" * MAX_TEXT_BYTES}), UnsupportedOption),
    *((recording(data), UnsupportedOption) for data in ("@@", "AA==AA", "A", 'A"A', "data:,A")),
]  # fmt: skip


@pytest.mark.parametrize(("body", "error"), REFUSED)
def test_anything_else_is_refused(body: str | bytes, error: type[Exception]) -> None:
    for step in (997, 1 << 30):
        with pytest.raises(error):
            parse(body, step)
