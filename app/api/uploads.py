"""Multipart stream -> temporary file. Parses and checks sizes as the data arrives."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.api.encodings import check_encoding, check_transfer_encoding
from app.api.json_body import JsonBody
from app.api.multipart import MAX_FIELDS, PatientParser
from app.api.upload_pace import UploadPace
from app.domain.errors import (
    ClientGone,
    MalformedRequest,
    UnsupportedOption,
    UploadTooLarge,
)
from app.engine.work import Work
from app.service.pace import Pace
from app.service.service import Service
from app.storage.tempdir import check_room, told_when_full

MAX_FIELD_BYTES = 64 << 10
MAX_TEXT_BYTES = 1 << 20  # of all text fields together, which stay in memory
MAX_OPTIONS = 100  # of a header; their parser slows down with their number
FLUSH_BYTES = 1 << 20
FORM_OVERHEAD_BYTES = (MAX_FIELDS + 2) * MAX_FIELD_BYTES
SHOWN = 40  # characters of a client's name in a message
LIST_NAME = re.compile(r"([^\[\]]+)\[\d*\]")  # name[], name[0]


@dataclass(frozen=True, slots=True)
class FormLayout:
    """The fields of a form. `large`: text fields that go to disk, with their maximum bytes; a form
    has at most `max_large` of them. `or_json`: a JSON body may say the same.
    """

    file_field: str
    large: Mapping[str, int] = field(default_factory=dict)
    max_large: int = 0
    or_json: bool = False

    @property
    def overhead_bytes(self) -> int:
        return FORM_OVERHEAD_BYTES + self.max_large * max(self.large.values(), default=0)

    def max_bytes(self, max_file_bytes: int, is_json: bool) -> int:
        """Of a whole body. Base64 takes a third more than the file, and may have line breaks."""
        return self.overhead_bytes + (max_file_bytes * 3 // 2 if is_json else max_file_bytes)


ASR_FORM = FormLayout("audio_file")


@dataclass(slots=True)
class Upload:
    """A received form. `file_name` comes from the client: use it in answers, never on disk.

    `lists`: the values of each field, in order; name[] and name[0] count as name. `large`: the
    files that hold the large fields. `dropped`: fields with files too large for a value.
    """

    path: Path
    file_name: str = ""
    lists: dict[str, list[str]] = field(default_factory=dict)
    large: dict[str, list[Path]] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    num_bytes: int = 0


class _Form:
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
        _, options = _parse_options(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        # Some clients send a file without a name, or with a name encoded as in RFC 5987.
        is_file = bool(self._content_type) or b"filename" in self._disposition
        if listed := LIST_NAME.fullmatch(self._name):
            self._name = listed[1]
        if self._name != self.layout.file_field:
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


@asynccontextmanager
async def receive_upload(
    request: Request, service: Service, work: Work, layout: FormLayout
) -> AsyncIterator[Upload]:
    """The form of a request. Its files stay on disk until the block ends.

    Raises:
        DeadlineExceeded, Cancelled: from `work`
        MalformedRequest, UnsupportedEncoding, UnsupportedOption, UploadTooLarge, UploadStalled,
        ClientGone, DiskFull, Overloaded
    """
    check_encoding(request)
    paths: list[Path] = []

    def new_file() -> Path:
        paths.append(service.temp.new_path())
        paths[-1].touch(exist_ok=False)
        return paths[-1]

    try:
        with service.admission.uploading(work) as place:
            pace = UploadPace(service.settings, place)
            with told_when_full():
                form = _Form(layout, service.settings.max_file_size_mb << 20, new_file)
            upload = await _receive(request, form, service, work, pace)
        yield upload
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


async def _receive(
    request: Request, form: _Form, service: Service, work: Work, pace: UploadPace
) -> Upload:
    max_file_bytes = form.max_file_bytes
    max_bytes = form.layout.max_bytes(max_file_bytes, _is_json(request, form))
    stated = request.headers.get("content-length", "")
    num_stated = int(stated) if stated.isdigit() else 0
    if num_stated > max_bytes:
        raise too_large(max_file_bytes)
    min_free_bytes = service.temp.min_free_bytes
    check_room(form.path.parent, num_stated, min_free_bytes)
    num_bytes = 0
    try:
        parser = _parser(request, form, service.admission.uploads.pace)
        with told_when_full():
            async for data in _incoming(request, pace, work):
                num_bytes += len(data)
                work.check()
                if num_bytes > max_bytes:  # in files that we drop
                    raise too_large(max_file_bytes)
                await parser.parse(data)
                if form.pending_bytes >= FLUSH_BYTES:
                    check_room(form.path.parent, form.pending_bytes, min_free_bytes)
                    await _flush(form)
            parser.finalize()
            await _flush(form)
    except FormParserError:
        raise MalformedRequest(form.fault) from None
    if not form.complete:
        raise MalformedRequest("The multipart form is incomplete.")
    if form.file_name is None:
        raise UnsupportedOption(form.without_file)
    dropped = tuple(form.dropped)
    return Upload(form.path, form.file_name, form.lists, form.large, dropped, form.file_bytes)


def _parser(request: Request, form: _Form, pace: Pace) -> PatientParser | JsonBody:
    if _is_json(request, form):
        return JsonBody(form)
    return PatientParser(_boundary(request, form.layout.file_field), form, pace)


def _is_json(request: Request, form: _Form) -> bool:
    kind, _ = _content_type(request)
    return form.layout.or_json and kind == b"application/json"


def _content_type(request: Request) -> tuple[bytes, dict[bytes, bytes]]:
    return _parse_options(request.headers.get("content-type", "").encode("latin-1"))


def _boundary(request: Request, field_name: str) -> bytes:
    kind, options = _content_type(request)
    boundary = options.get(b"boundary")
    if kind == b"multipart/form-data" and not boundary:
        raise MalformedRequest(
            "Content-Type: multipart/form-data lacks its boundary; leave this header to the "
            "library that writes the form."
        )
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedOption(
            f"{field_name}: required; send the form as multipart/form-data, e.g. "
            f"curl -F {field_name}=@speech.mp3"
        )
    return boundary


def _parse_options(header: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The value of a header and its options, by name."""
    if header.count(b";") > MAX_OPTIONS:
        raise MalformedRequest(f"A header has more than {MAX_OPTIONS} options.")
    return parse_options_header(header)


async def _incoming(request: Request, pace: UploadPace, work: Work) -> AsyncIterator[bytes]:
    stream = request.stream()
    try:
        while (data := await pace.next(stream, work)) is not None:
            if data:
                yield data
    except ClientDisconnect:
        raise ClientGone from None


async def _flush(form: _Form) -> None:
    pending, form.pending = form.pending, []
    form.pending_bytes = 0
    for path, pieces in groupby(pending, key=lambda piece: piece[0]):
        await asyncio.to_thread(_append, path, b"".join(data for _, data in pieces))


def _append(path: Path, data: bytes) -> None:
    # "r+" does not recreate a file that was removed with its request
    with path.open("r+b", buffering=0) as file:
        file.seek(0, os.SEEK_END)
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
