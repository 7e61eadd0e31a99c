"""A multipart form -> its fields and its file, as the parser's callbacks come."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from python_multipart.multipart import parse_options_header

from app.api.encodings import check_transfer_encoding
from app.api.multipart import MAX_FIELDS
from app.domain.errors import MalformedRequest, UnsupportedOption, UploadTooLarge

MAX_FIELD_BYTES = 64 << 10
MAX_TEXT_BYTES = 1 << 20  # of all text fields together, which stay in memory
MAX_OPTIONS = 100  # of a header; their parser slows down with their number
FORM_OVERHEAD_BYTES = (MAX_FIELDS + 2) * MAX_FIELD_BYTES
SHOWN = 40  # characters of a client's name in a message
LIST_NAME = re.compile(r"([^\[\]]+)\[\d*\]")  # name[], name[0]


@dataclass(frozen=True, slots=True)
class FormLayout:
    """The fields of a form. `large`: text fields that go to disk, with their maximum bytes; a form
    has at most `max_large` of them. `or_json`: a JSON body may say the same. `aliases`: other names
    of the file's field. `file_optional`: a form may do without, and then come in any encoding.
    """

    file_field: str
    large: Mapping[str, int] = field(default_factory=dict)
    max_large: int = 0
    or_json: bool = False
    aliases: tuple[str, ...] = ()
    file_optional: bool = False

    def is_file(self, name: str) -> bool:
        return name == self.file_field or name in self.aliases

    @property
    def overhead_bytes(self) -> int:
        return FORM_OVERHEAD_BYTES + self.max_large * max(self.large.values(), default=0)

    def max_bytes(self, max_file_bytes: int, is_json: bool) -> int:
        """Of a whole body. Base64 takes a third more than the file, and may have line breaks."""
        return self.overhead_bytes + (max_file_bytes * 3 // 2 if is_json else max_file_bytes)


ASR_FORM = FormLayout("audio_file")


class Digest(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class Form:
    """The parser's callbacks. They sort each byte into its field or file."""

    def __init__(
        self, layout: FormLayout, max_file_bytes: int, new_file: Callable[[], Path]
    ) -> None:
        self.layout = layout
        self.max_file_bytes = max_file_bytes
        self.lists: dict[str, list[str]] = {}
        self.large: dict[str, list[Path]] = {}
        self.dropped: list[str] = []
        self.file_name: str | None = None  # set when the file's part begins
        self.file_bytes = 0
        self.pending: list[tuple[Path, bytes]] = []  # not yet written
        self.pending_bytes = 0
        self.complete = False
        self.path = new_file()
        self.digest: Digest | None = None  # of the recording, if anybody asks for it
        self._new_file = new_file
        self._num_large = 0
        self._large_bytes = 0
        self._num_parts = 0
        self._text_bytes = 0
        self._name = ""
        self._sink: Callable[[bytes], None] = self._drop
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._content_type = b""
        self._value = b""

    @property
    def fault(self) -> str:
        """What is wrong with a form that cannot be parsed."""
        if self._num_parts == 0:
            return (
                "The multipart form is malformed: it does not begin with the boundary that "
                "Content-Type names."
            )
        return "The multipart form is malformed."

    @property
    def without_file(self) -> str:
        """What is wrong with a form that has no recording."""
        sent = f", not {self.dropped[0][:SHOWN]}" if self.dropped else ""
        return f"{self.layout.file_field}: required, a multipart file field of this name{sent}."

    def on_part_begin(self) -> None:
        self._disposition = self._content_type = self._value = b""
        self._num_parts += 1
        if self._num_parts > MAX_FIELDS:
            raise MalformedRequest(f"The form has more than {MAX_FIELDS} fields.")

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def on_header_end(self) -> None:
        name = self._header_name.lower()
        if name == b"content-disposition":
            self._disposition = self._header_value
        elif name == b"content-type":
            self._content_type = self._header_value
        elif name == b"content-transfer-encoding":
            check_transfer_encoding(self._header_value)
        self._header_name = self._header_value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        # Some clients send a file without a name, or with a name encoded as in RFC 5987.
        is_file = bool(self._content_type) or b"filename" in self._disposition
        if listed := LIST_NAME.fullmatch(self._name):
            self._name = listed[1]
        if not self.layout.is_file(self._name):
            if self._name in self.layout.large:
                self._begin_large()
            else:
                # some libraries give text fields a file name, too
                named = b"filename" in self._disposition
                self._sink = self._add_to_file_value if named else self._add_to_value
            return
        if not is_file:
            raise UnsupportedOption(
                f"{self._name}: must be a file, but is a text field; "
                f"curl sends a file with -F {self._name}=@speech.mp3"
            )
        if self.file_name is not None:
            raise UnsupportedOption(f"{self._name}: only one file is allowed.")
        self.begin_file(options.get(b"filename", b"").decode("utf-8", "replace"))
        self._sink = self.add_to_file

    def begin_file(self, name: str) -> None:
        self.file_name = name

    def add_value(self, name: str, text: str) -> None:
        """A field with its value, from a body that is no form."""
        if listed := LIST_NAME.fullmatch(name):
            name = listed[1]
        if name in self.layout.large:
            raise UnsupportedOption(f"{name}: only possible in a multipart form.")
        if len(text) > MAX_FIELD_BYTES:
            raise UnsupportedOption(f"{name[:40]}: longer than {MAX_FIELD_BYTES >> 10} kB.")
        self.lists.setdefault(name, []).append(text)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._sink(data[start:end])

    def on_part_end(self) -> None:
        if self._sink in (self._add_to_value, self._add_to_file_value):
            self.lists.setdefault(self._name, []).append(self._value.decode("utf-8", "replace"))

    def on_end(self) -> None:
        self.complete = True

    def add_to_file(self, data: bytes) -> None:
        self.file_bytes += len(data)
        if self.file_bytes > self.max_file_bytes:
            raise too_large(self.max_file_bytes)
        self._write(self.path, data)

    def _begin_large(self) -> None:
        self._num_large += 1
        if self._num_large > self.layout.max_large:
            raise UnsupportedOption(
                f"{self._name}: at most {self.layout.max_large} are allowed, there are more."
            )
        self.large.setdefault(self._name, []).append(self._new_file())
        self._large_bytes = 0
        self._sink = self._add_to_large

    def _add_to_large(self, data: bytes) -> None:
        max_bytes = self.layout.large[self._name]
        self._large_bytes += len(data)
        if self._large_bytes > max_bytes:
            raise UnsupportedOption(f"{self._name}: longer than {max_bytes >> 20} MB.")
        self._write(self.large[self._name][-1], data)

    def _write(self, path: Path, data: bytes) -> None:
        self.pending.append((path, data))
        self.pending_bytes += len(data)

    def _add_to_value(self, data: bytes) -> None:
        if len(self._value) + len(data) > MAX_FIELD_BYTES:
            raise UnsupportedOption(f"{self._name[:40]}: longer than {MAX_FIELD_BYTES >> 10} kB.")
        self._text_bytes += len(data)
        if self._text_bytes > MAX_TEXT_BYTES:
            raise UnsupportedOption(f"The form has more than {MAX_TEXT_BYTES >> 20} MB of text.")
        self._value += data

    def _add_to_file_value(self, data: bytes) -> None:
        if len(self._value) + len(data) > MAX_FIELD_BYTES:
            self.dropped.append(self._name)
            self._sink = self._drop
        else:
            self._value += data

    def _drop(self, data: bytes) -> None:
        """Drop the rest of a file that is no recording."""


def too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(f"The upload is larger than the limit of {max_bytes >> 20} MB.")


def parse_options(header: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The value of a header and its options, by name."""
    if header.count(b";") > MAX_OPTIONS:
        raise MalformedRequest(f"A header has more than {MAX_OPTIONS} options.")
    return parse_options_header(header)
