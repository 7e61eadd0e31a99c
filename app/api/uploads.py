"""The body of a request -> temporary file. Checks sizes as the data arrives."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from python_multipart.exceptions import FormParserError
from starlette.requests import ClientDisconnect, Request

from app.api.encodings import check_encoding
from app.api.forms import Digest, Form, FormLayout, parse_options, too_large
from app.api.json_body import JsonBody
from app.api.multipart import PatientParser
from app.api.upload_pace import UploadPace
from app.api.urlencoded import URLENCODED, UrlencodedBody
from app.domain.errors import ClientGone, MalformedRequest, UnsupportedOption
from app.engine.work import Work
from app.service.pace import Pace
from app.service.service import Service
from app.storage.shared_file import SharedFile
from app.storage.tempdir import check_room, told_when_full

FLUSH_BYTES = 1 << 20


@dataclass(slots=True)
class Upload:
    """A received form. `file_name` comes from the client: use it in answers, never on disk.

    `lists`: the values of each field, in order; name[] and name[0] count as name. `large`: the
    files that hold the large fields. `dropped`: fields with files too large for a value. `digest`:
    of the recording; empty if nobody asks for it. `has_file`: else it is empty.
    """

    file: SharedFile
    file_name: str = ""
    lists: dict[str, list[str]] = field(default_factory=dict)
    large: dict[str, list[Path]] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    num_bytes: int = 0
    digest: str = ""
    has_file: bool = True


@asynccontextmanager
async def receive_upload(
    request: Request, service: Service, work: Work, layout: FormLayout
) -> AsyncIterator[Upload]:
    """The form of a request. Its files stay on disk until the block ends, that of the recording as
    long as anybody holds it.

    Raises:
        DeadlineExceeded, Cancelled: from `work`
        MalformedRequest, UnsupportedEncoding, UnsupportedOption, UploadTooLarge, UploadStalled,
        ClientGone, DiskFull, Overloaded
    """
    check_encoding(request)
    files: dict[Path, SharedFile] = {}

    def new_file() -> Path:
        path = service.temp.new_path()
        files[path] = SharedFile(path)
        path.touch(exist_ok=False)
        return path

    try:
        with service.admission.uploading(work) as place:
            pace = UploadPace(service.settings, place)
            with told_when_full():
                form = Form(layout, service.settings.max_file_size_mb << 20, new_file)
            if service.settings.join_equal_uploads:
                form.digest = hashlib.sha256()
            await _receive(request, form, service, work, pace)
        yield _upload(form, files[form.path])
    finally:
        for file in files.values():
            file.release()


def _upload(form: Form, file: SharedFile) -> Upload:
    digest = form.digest.hexdigest() if form.digest else ""
    name, dropped = form.file_name or "", tuple(form.dropped)
    has_file = form.file_name is not None
    return Upload(file, name, form.lists, form.large, dropped, form.file_bytes, digest, has_file)


async def _receive(
    request: Request, form: Form, service: Service, work: Work, pace: UploadPace
) -> None:
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
    if form.file_name is None and not form.layout.file_optional:
        raise UnsupportedOption(form.without_file)


def _parser(request: Request, form: Form, pace: Pace) -> PatientParser | JsonBody | UrlencodedBody:
    if _is_json(request, form):
        return JsonBody(form)
    if form.layout.file_optional and _content_type(request)[0] in (URLENCODED, b""):
        return UrlencodedBody(form)
    return PatientParser(_boundary(request, form.layout.file_field), form, pace)


def _is_json(request: Request, form: Form) -> bool:
    kind, _ = _content_type(request)
    return form.layout.or_json and kind == b"application/json"


def _content_type(request: Request) -> tuple[bytes, dict[bytes, bytes]]:
    return parse_options(request.headers.get("content-type", "").encode("latin-1"))


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


async def _incoming(request: Request, pace: UploadPace, work: Work) -> AsyncIterator[bytes]:
    stream = request.stream()
    try:
        while (data := await pace.next(stream, work)) is not None:
            if data:
                yield data
    except ClientDisconnect:
        raise ClientGone from None


async def _flush(form: Form) -> None:
    pending, form.pending = form.pending, []
    form.pending_bytes = 0
    for path, pieces in groupby(pending, key=lambda piece: piece[0]):
        data = b"".join(data for _, data in pieces)
        digest = form.digest if path == form.path else None
        await asyncio.to_thread(_append, path, data, digest)


def _append(path: Path, data: bytes, digest: Digest | None) -> None:
    if digest is not None:
        digest.update(data)
    # "r+" does not recreate a file that was removed with its request
    with path.open("r+b", buffering=0) as file:
        file.seek(0, os.SEEK_END)
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
