"""Multipart stream -> temporary file, parsed as it arrives, size checked while reading."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.batching import Work
from app.errors import (
    ClientGone,
    DeadlineExceeded,
    MalformedRequest,
    UnsupportedOption,
    UploadStalled,
    UploadTooLarge,
)
from app.service import Service
from app.settings import Settings
from app.tempdir import check_room, told_when_full

FILE_FIELD = "audio_file"
MAX_FIELD_BYTES = 64 << 10
MAX_FIELDS = 100
MAX_HEADER_BYTES = 16 << 10  # of one part, its file name included
FLUSH_BYTES = 1 << 20
FORM_OVERHEAD_BYTES = (MAX_FIELDS + 2) * MAX_FIELD_BYTES


@dataclass(slots=True)
class Upload:
    """`file_name` is the client's word: for answers only, never for the disk."""

    path: Path
    file_name: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    num_bytes: int = 0


class _Form:
    """The callbacks of the parser: where each byte belongs."""

    def __init__(self, max_file_bytes: int) -> None:
        self.max_file_bytes = max_file_bytes
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None  # set as soon as the file's part begins
        self.file_bytes = 0
        self.pending: list[bytes] = []  # of the file, to be written
        self.pending_bytes = 0
        self.complete = False
        self._num_parts = 0
        self._name = ""
        self._sink: Callable[[bytes], None] = self._ignore
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._content_type = b""
        self._value = b""

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
        self._header_name = self._header_value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        # Some clients send a file without a name, or with one as RFC 5987 spells it.
        is_file = bool(self._content_type) or b"filename" in self._disposition
        if self._name != FILE_FIELD:
            self._sink = self._ignore if b"filename" in options else self._add_to_value
            return
        if not is_file:
            raise UnsupportedOption(
                f"{FILE_FIELD}: a file is required, this is a text field; "
                f"curl sends a file with -F {FILE_FIELD}=@speech.mp3"
            )
        if self.file_name is not None:
            raise UnsupportedOption(f"{FILE_FIELD}: one file is allowed, there are several.")
        self.file_name = options.get(b"filename", b"").decode("utf-8", "replace")
        self._sink = self._add_to_file

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._sink(data[start:end])

    def on_part_end(self) -> None:
        if self._sink == self._add_to_value:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def on_end(self) -> None:
        self.complete = True

    def _add_to_file(self, data: bytes) -> None:
        self.file_bytes += len(data)
        if self.file_bytes > self.max_file_bytes:
            raise too_large(self.max_file_bytes)
        self.pending.append(data)
        self.pending_bytes += len(data)

    def _add_to_value(self, data: bytes) -> None:
        if len(self._value) + len(data) > MAX_FIELD_BYTES:
            raise UnsupportedOption(f"{self._name[:40]}: longer than {MAX_FIELD_BYTES >> 10} kB.")
        self._value += data

    def _ignore(self, data: bytes) -> None:
        """Unknown files are accepted and not kept."""


def too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(f"The upload is larger than the limit of {max_bytes >> 20} MB.")


@asynccontextmanager
async def receive_upload(request: Request, service: Service, work: Work) -> AsyncIterator[Upload]:
    """The form of a request, its file on disk until the block ends.

    Raises:
        DeadlineExceeded, Cancelled: as `work` says
        MalformedRequest, UnsupportedOption, UploadTooLarge, UploadStalled, ClientGone, DiskFull,
        Overloaded
    """
    path = service.temp.new_path()
    try:
        with service.admission.uploading():
            upload = await _receive(request, path, service, work)
        yield upload
    finally:
        path.unlink(missing_ok=True)


async def _receive(request: Request, path: Path, service: Service, work: Work) -> Upload:
    max_file_bytes = service.settings.max_file_size_mb << 20
    max_bytes = max_file_bytes + FORM_OVERHEAD_BYTES
    stated = request.headers.get("content-length", "")
    num_stated = int(stated) if stated.isdigit() else 0
    if num_stated > max_bytes:
        raise too_large(max_file_bytes)
    min_free_bytes = service.temp.min_free_bytes
    check_room(path.parent, num_stated, min_free_bytes)
    form = _Form(max_file_bytes)
    pace = _Pace(service.settings)
    num_bytes = 0
    try:
        parser = _parser(request, form)
        with told_when_full(), path.open("xb", buffering=0) as file:
            async for data in _incoming(request, pace, work):
                num_bytes += len(data)
                work.check()
                if num_bytes > max_bytes:  # in files that nobody wants
                    raise too_large(max_file_bytes)
                parser.write(data)
                if form.pending_bytes >= FLUSH_BYTES:
                    check_room(path.parent, form.pending_bytes, min_free_bytes)
                    await _flush(form, file)
            await _flush(form, file)
    except FormParserError:
        raise MalformedRequest("The multipart form is malformed.") from None
    if not form.complete:
        raise MalformedRequest("The multipart form breaks off before its end.")
    if form.file_name is None:
        raise UnsupportedOption(f"{FILE_FIELD}: required, a multipart file field.")
    return Upload(path, form.file_name, form.fields, form.file_bytes)


def _parser(request: Request, form: _Form) -> MultipartParser:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedOption(
            f"{FILE_FIELD}: required; send the form as multipart/form-data, e.g. "
            f"curl -F {FILE_FIELD}=@speech.mp3"
        )
    names = (
        "on_part_begin",
        "on_part_data",
        "on_part_end",
        "on_header_field",
        "on_header_value",
        "on_header_end",
        "on_headers_finished",
        "on_end",
    )
    callbacks = {name: getattr(form, name) for name in names}
    return MultipartParser(boundary, callbacks, max_header_size=MAX_HEADER_BYTES)  # type: ignore[arg-type]


class _Pace:
    """Tells a slow line from a sender that only keeps its place. Our own waits do not count."""

    def __init__(self, settings: Settings) -> None:
        self.idle_timeout_s = settings.upload_idle_timeout_s
        self._min_bytes_per_s = settings.upload_min_bytes_per_s
        self._num_bytes = 0
        self._waited_s = 0.0

    def observe(self, num_bytes: int, waited_s: float) -> None:
        """Raises UploadStalled where too little came in as long as an upload may pause."""
        self._num_bytes += num_bytes
        self._waited_s += waited_s
        if self._waited_s < self.idle_timeout_s:
            return
        if self._num_bytes < self._min_bytes_per_s * self._waited_s:
            raise UploadStalled(
                f"The upload was slower than {self._min_bytes_per_s} bytes per second."
            )
        self._num_bytes, self._waited_s = 0, 0.0


async def _incoming(request: Request, pace: _Pace, work: Work) -> AsyncIterator[bytes]:
    stream = request.stream()
    while True:
        started = time.monotonic()
        try:
            async with asyncio.timeout(min(pace.idle_timeout_s, work.left_s)):
                data = await anext(stream, None)
        except TimeoutError:
            if work.left_s == 0:
                raise DeadlineExceeded("The upload took longer than a request may.") from None
            raise UploadStalled(
                f"The upload stopped for more than {pace.idle_timeout_s:g} seconds."
            ) from None
        except ClientDisconnect:
            raise ClientGone("The client hung up.") from None
        if data is None:
            return
        pace.observe(len(data), time.monotonic() - started)
        if data:
            yield data


async def _flush(form: _Form, file: BinaryIO) -> None:
    data = b"".join(form.pending)
    form.pending.clear()
    form.pending_bytes = 0
    if data:
        await asyncio.to_thread(_write_all, file, data)


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
