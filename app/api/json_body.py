"""A JSON body with a recording in base64 -> the same fields and file as those of a form.

The recording is decoded as it arrives; only the rest of the body is kept, and it is small.

Source: https://openrouter.ai/docs/api/api-reference/transcriptions/create-audio-transcriptions
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

from app.domain.errors import MalformedRequest, UnsupportedOption

AUDIO_OBJECT = "input_audio"  # {"data": base64, "format": "mp3"}
MAX_TEXT_BYTES = 256 << 10  # of the body without its recording
MAX_VALUES = 100
PIECE_BYTES = 64 << 10
MAX_PREFIX_BYTES = 200  # data:audio/mpeg;base64,

# A key of a recording up to the quote that opens it. In valid JSON nothing else looks like this: a
# quote inside a string has a backslash before it.
_OPENING = re.compile(rb'(?<!\\)"(?:data|input_audio|file)"\s{0,32}:\s{0,32}"')
_MAX_OPENING_BYTES = 100
# Escapes that serializers write for characters of base64; any other one is refused.
_ESCAPES = (
    (rb"\/", b"/"),
    (rb"\n", b""),
    (rb"\r", b""),
    (rb"\u002B", b"+"),
    (rb"\u002b", b"+"),
    (rb"\u002F", b"/"),
    (rb"\u002f", b"/"),
    (rb"\u003D", b"="),
    (rb"\u003d", b"="),
)
_ESCAPE_BYTES = 6
_UNFINISHED_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_WHITESPACE = b" \t\r\n"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class Form(Protocol):
    """What takes the fields and the file, see `uploads`."""

    def begin_file(self, name: str) -> None: ...

    def add_to_file(self, data: bytes) -> None: ...

    def add_value(self, name: str, text: str) -> None: ...

    def on_end(self) -> None: ...


class JsonBody:
    """Parses one body; `write` it piece by piece, then `finalize`.

    Both raise MalformedRequest, UnsupportedOption, and what the form raises.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self._text = bytearray()  # with an empty string in place of the recording
        self._seen = 0  # where to go on looking for the recording
        self._audio: Base64 | None = None  # once it has begun
        self._within = False

    async def parse(self, data: bytes) -> None:
        self.write(data)

    def write(self, data: bytes) -> None:
        while data:
            data = self._take_audio(data) if self._within else self._take_text(data)

    def _take_text(self, data: bytes) -> bytes:
        """Returns what follows the opening of a recording."""
        self._text += data
        if opening := _OPENING.search(self._text, self._seen):
            rest = bytes(self._text[opening.end() :])
            del self._text[opening.end() :]
            self._seen = opening.end()
            self._begin_audio()
            return rest
        self._seen = max(self._seen, len(self._text) - _MAX_OPENING_BYTES)
        if len(self._text) > MAX_TEXT_BYTES:
            raise UnsupportedOption(
                f"{AUDIO_OBJECT}: required; besides it, the JSON body may have "
                f"{MAX_TEXT_BYTES >> 10} kB."
            )
        return b""

    def _begin_audio(self) -> None:
        if self._audio is not None:
            raise UnsupportedOption(f"{AUDIO_OBJECT}: only one recording is allowed.")
        self._audio = Base64(self._form)
        self._within = True

    def _take_audio(self, data: bytes) -> bytes:
        """Returns what follows the recording, beginning with its closing quote."""
        assert self._audio is not None
        end = data.find(b'"')
        self._audio.write(data if end < 0 else data[:end])
        if end < 0:
            return b""
        self._audio.finish()
        self._within = False
        self._text += b'"'
        self._seen = len(self._text)
        return data[end + 1 :]

    def finalize(self) -> None:
        body = self._parsed()
        given = body.get(AUDIO_OBJECT, body.get("file"))
        kind = ""
        if isinstance(given, dict):
            kind, given = str(given.get("format") or ""), given.get("data")
        if given != "" or self._audio is None:
            raise UnsupportedOption(
                f'{AUDIO_OBJECT}: required, as {{"data": "base64 of the file", "format": "mp3"}}; '
                "or send the file in a multipart form."
            )
        self._form.begin_file(f"audio.{kind}" if kind.isalnum() and len(kind) < 8 else "audio")
        values = list(islice(_values(body), MAX_VALUES + 1))
        if len(values) > MAX_VALUES:
            raise MalformedRequest(f"The body has more than {MAX_VALUES} values.")
        for name, text in values:
            self._form.add_value(name, text)
        self._form.on_end()

    def _parsed(self) -> dict[str, Any]:
        try:
            body = json.loads(self._text.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            raise MalformedRequest("The JSON body is malformed or incomplete.") from None
        if not isinstance(body, dict):
            raise MalformedRequest("The JSON body must be an object.")
        return body


def _values(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields of a form that say the same. Objects stay JSON."""
    for name, given in body.items():
        if name in (AUDIO_OBJECT, "file"):
            continue
        for value in given if isinstance(given, list) else [given]:
            if value is not None:
                yield _clean(name), _clean(value if isinstance(value, str) else json.dumps(value))


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can have and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


class Base64:
    """Decodes base64 inside a JSON string, perhaps of a data URL, piece by piece."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._raw = bytearray()  # not decoded yet
        self._begun = False  # past the prefix of a data URL
        self._padded = False

    def write(self, data: bytes) -> None:
        self._raw += data
        if len(self._raw) >= PIECE_BYTES:
            self._decode(last=False)

    def finish(self) -> None:
        self._decode(last=True)

    def _decode(self, last: bool) -> None:
        raw, self._raw = bytes(self._raw), bytearray()
        kept = b""
        if not last and (cut := _UNFINISHED_ESCAPE.search(raw[-_ESCAPE_BYTES:])):
            kept = cut[0]
            raw = raw[: len(raw) - len(kept)]
        for escape, character in _ESCAPES if b"\\" in raw else ():
            raw = raw.replace(escape, character)
        text = raw.translate(_URL_SAFE, _WHITESPACE)
        if not self._begun:
            text = _without_prefix(text)
            self._begun = True
        whole = len(text) if last else len(text) // 4 * 4
        self._raw = bytearray(text[whole:] + kept)
        self._write(text[:whole] + b"=" * (-whole % 4))

    def _write(self, text: bytes) -> None:
        if not text:
            return
        try:
            if self._padded:
                raise ValueError
            data = binascii.a2b_base64(text, strict_mode=True)
        except ValueError:
            raise UnsupportedOption(f"{AUDIO_OBJECT}: must be the file in base64.") from None
        self._padded = text.endswith(b"=")
        self._form.add_to_file(data)


def _without_prefix(text: bytes) -> bytes:
    """`text`: the first piece."""
    if not text.startswith(b"data:"):
        return text
    head, comma, rest = text[:MAX_PREFIX_BYTES].partition(b",")
    if not comma or not head.endswith(b";base64"):
        raise UnsupportedOption(f"{AUDIO_OBJECT}: a data URL must be in base64.")
    return rest + text[MAX_PREFIX_BYTES:]
