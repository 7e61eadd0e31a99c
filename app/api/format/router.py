"""POST /format: a transcript that somebody has corrected, in any format.

So that the page, and other editors, need no writers of their own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from app.api.asr.decoding import Text, about
from app.api.asr.parameters import OUTPUTS
from app.api.asr.schema import OUTPUT, SUBTITLE_STYLE, WIDTH, HighlightWords, MaxLineCount
from app.api.error_responses import ERROR_RESPONSES
from app.api.file_names import content_disposition
from app.api.format.bodies import MAX_MISSES, TranscriptBody, body_schema, num_misses
from app.api.intake import ignored_headers
from app.api.jobs.json_object import parse_json, read_body
from app.api.jobs.parameters import MAX_METADATA_BYTES
from app.api.parameters import Reader, merge_parameters
from app.api.rate_limits import account_of, admit
from app.api.subtitles import SubtitleWishes, read_subtitle_wishes
from app.domain.errors import Overloaded, UnsupportedOption
from app.domain.transcript import Transcript
from app.formats import jobs as formats
from app.formats.subtitles import SubtitleStyle
from app.formats.table import JSON, OutputFormat
from app.service.service import Service
from app.service.threads import Threads

MAX_BYTES = 16 << 20  # some ten hours of speech with all their words
MAX_WORDS = 300_000
MAX_UNDER_WAY = 16
MAX_BYTES_HELD = 16 * MAX_BYTES
RETRY_AFTER_S = 2
MAX_HIGHLIGHTED = 1 << 27  # characters: each word repeats its subtitle
BUSY = "Too many transcripts are being written at this moment; try again later."
DESCRIPTION = """\
Writes a transcript: send the JSON of `GET /result`, corrected as you like. The names of its
speakers may be those of people. Nothing is stored.
"""


class FormatParameters(BaseModel):
    """The query parameters of POST /format."""

    output: Annotated[Text, OUTPUT, about("Format of the answer.", "`json`", "srt")] = None
    subtitle_style: Annotated[
        Text, SUBTITLE_STYLE, about("SRT and VTT: as on `/asr`.", "the service's own", "readable")
    ] = None
    max_line_width: Annotated[
        Text, WIDTH, about("Most characters in a subtitle line.", "that of the style", "42")
    ] = None
    max_line_count: MaxLineCount = None
    highlight_words: HighlightWords = None


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The transcript; `Content-Disposition` names the file.",
        "content": {
            kind.partition(";")[0]: {
                "schema": {"type": "string"} if kind != JSON.media_type else {}
            }
            for kind in dict.fromkeys(output.media_type for output in OUTPUTS.values())
        },
    },
    **{
        status: response
        for status, response in ERROR_RESPONSES.items()
        if status in (400, 401, 408, 413, 415, 422, 429, 503)
    },
}


@dataclass(slots=True)
class Writing:
    """Writes one transcript at a time. For the event loop."""

    threads: Threads = field(default_factory=lambda: Threads(1, thread_name_prefix="format"))
    num_under_way: int = 0
    num_bytes: int = 0

    @contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """Takes the number of bytes that have come: they are held until the end.

        Raises Overloaded: all bodies together are too large.
        """
        own = 0

        def hold(num_bytes: int) -> None:
            nonlocal own
            if self.num_bytes + num_bytes > MAX_BYTES_HELD:
                raise Overloaded(BUSY, RETRY_AFTER_S)
            self.num_bytes += num_bytes
            own += num_bytes

        try:
            yield hold
        finally:
            self.num_bytes -= own

    @contextmanager
    def place(self) -> Iterator[None]:
        """Raises Overloaded."""
        if self.num_under_way >= MAX_UNDER_WAY:
            raise Overloaded(BUSY, RETRY_AFTER_S)
        self.num_under_way += 1
        try:
            yield
        finally:
            self.num_under_way -= 1


def build_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["transcription"])
    writing = Writing()

    @router.post(
        "/format",
        summary="Write a corrected transcript",
        description=DESCRIPTION,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": body_schema()}},
            }
        },
        responses=RESPONSES,
    )
    async def write(request: Request, parameters: Annotated[FormatParameters, Query()]) -> Response:
        if service.calls.rate_limits.enabled:
            await admit(request, service.calls.rate_limits.account(account_of(request.scope)))
        read = Reader(merge_parameters({}, request.query_params))
        output = read.choice("output", OUTPUTS, JSON)
        style = _style(read, output, service.subtitle_style)
        with writing.body() as hold:  # a slow client holds no place meanwhile
            data = await read_body(request, MAX_BYTES, hold)
            with writing.place():
                started = writing.threads.start(lambda: _written(data, output, style))
                response = await asyncio.wrap_future(started)
        response.headers.update(ignored_headers(read.ignored(), ()))
        return response

    return router


def _style(read: Reader, output: OutputFormat, usual: SubtitleStyle) -> SubtitleStyle:
    wishes: SubtitleWishes = read_subtitle_wishes(read, output)
    return wishes.applied_to(usual)


def _written(data: bytes, output: OutputFormat, style: SubtitleStyle) -> Response:
    """Raises MalformedRequest, UnsupportedOption."""
    if data.count(b'"word"') > MAX_WORDS:
        raise UnsupportedOption(f"segments: more than {MAX_WORDS} words.")
    body = parse_json(data, TranscriptBody)
    transcript = body.transcript()
    if num_misses(transcript.segments) > MAX_MISSES:
        raise UnsupportedOption("segments: the texts do not have the words, in their order.")
    headers = {"Content-Disposition": content_disposition(body.file_name, output.extension)}
    if output.writer is None:
        content = _json(body, transcript)
    else:
        content = output.writer(transcript, _bounded(style, transcript)).encode()
    return Response(content, media_type=output.media_type, headers=headers)


def _bounded(style: SubtitleStyle, transcript: Transcript) -> SubtitleStyle:
    """Raises UnsupportedOption: far too much would be written."""
    if not style.highlight_words:
        return style
    num_words = sum(len(segment.words or ()) for segment in transcript.segments)
    longest = max((len(segment.text) for segment in transcript.segments), default=0)
    if style.joins_segments:
        longest = max(longest, (style.max_line_width or 0) * (style.max_line_count or 0))
    if num_words * longest > MAX_HIGHLIGHTED:
        raise UnsupportedOption("highlight_words: the segments are too long for it.")
    return style


def _json(body: TranscriptBody, transcript: Transcript) -> bytes:
    """The same form as a result's."""
    metadata = json.dumps(body.metadata, ensure_ascii=False)
    if len(metadata) > MAX_METADATA_BYTES:
        raise UnsupportedOption(f"metadata: longer than {MAX_METADATA_BYTES >> 10} kB.")
    about = {
        "warnings": body.warnings,
        "processing_time": body.processing_time,
        "file_name": body.file_name,
        "metadata": body.metadata,
    }
    return formats.result_json(body.task_id, transcript, about)
