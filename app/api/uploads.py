"""Multipart stream -> temporary file, parsed as it arrives, size checked while reading."""

from __future__ import annotations

import asyncio
import errno
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
    DiskFull,
    MalformedRequest,
    UnsupportedOption,
    UploadStalled,
    UploadTooLarge,
)

FILE_FIELD = "audio_file"
MAX_FIELD_BYTES = 64 << 10
MAX_FIELDS = 100
MAX_HEADER_BYTES = 16 << 10  # of one part, its file name included
FLUSH_BYTES = 1 << 20
FORM_OVERHEAD_BYTES = (MAX_FIELDS + 2) * MAX_FIELD_BYTES
DRAIN_BYTES = 32 << 20  # of a refused upload that are still read, so that its sender hears why
DRAIN_TIMEOUT_S = 10.0
DRAIN_IDLE_S = 0.5


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
async def receive_upload(
    request: Request, path: Path, max_file_bytes: int, idle_timeout_s: float, work: Work
) -> AsyncIterator[Upload]:
    """The form of a request, its file at `path` until the block ends.

    Raises:
        DeadlineExceeded, Cancelled: as `work` says
        MalformedRequest, UnsupportedOption, UploadTooLarge, UploadStalled, ClientGone, DiskFull
    """
    try:
        yield await _receive(request, path, max_file_bytes, idle_timeout_s, work)
    finally:
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - no wait worth a thread


async def _receive(
    request: Request, path: Path, max_file_bytes: int, idle_timeout_s: float, work: Work
) -> Upload:
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > max_file_bytes + FORM_OVERHEAD_BYTES:
        raise too_large(max_file_bytes)
    form = _Form(max_file_bytes)
    num_bytes = 0
    try:
        parser = _parser(request, form)
        with path.open("xb", buffering=0) as file:
            async for data in _incoming(request, idle_timeout_s, work):
                num_bytes += len(data)
                work.check()
                if num_bytes > max_file_bytes + FORM_OVERHEAD_BYTES:  # in files that nobody wants
                    raise too_large(max_file_bytes)
                parser.write(data)
                if form.pending_bytes >= FLUSH_BYTES:
                    await _flush(form, file)
            await _flush(form, file)
    except FormParserError:
        raise MalformedRequest("The multipart form is malformed.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("There is no disk space left for the upload.") from None
        raise
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


async def _incoming(request: Request, idle_timeout_s: float, work: Work) -> AsyncIterator[bytes]:
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(min(idle_timeout_s, work.left_s)):
                data = await anext(stream, None)
        except TimeoutError:
            request.state.body_read = True
            if work.left_s == 0:
                raise DeadlineExceeded("The upload took longer than a request may.") from None
            raise UploadStalled(
                f"The upload stopped for more than {idle_timeout_s:g} seconds."
            ) from None
        except ClientDisconnect:
            raise ClientGone("The client hung up.") from None
        if data is None:
            request.state.body_read = True
            return
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


async def drain(request: Request) -> None:
    """Read on for a while after a refusal: a client that is still sending may not look for the
    answer before it is done, and would see a reset connection instead.
    """
    if getattr(request.state, "body_read", False) or "expect" in request.headers:
        return  # nothing is on its way
    left = DRAIN_BYTES
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while left > 0:
                async with asyncio.timeout(DRAIN_IDLE_S):
                    message = await request.receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
