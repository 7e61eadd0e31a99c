"""The parameters of the jobs' REST interface: parsing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue

from app.api.asr.parameters import OUTPUTS, TASKS
from app.api.decoding_parameters import (
    read_audio_track,
    read_beam_size,
    read_by_channel,
    read_speaker_bounds,
    read_temperature,
)
from app.api.forms import FormLayout
from app.api.parameters import Reader, not_allowed
from app.api.subtitles import SubtitleWishes, read_subtitle_wishes
from app.domain.errors import UnsupportedOption
from app.domain.languages import is_multilingual, is_unset, parse_language
from app.domain.options import Task
from app.formats.table import JSON, OutputFormat
from app.jobs.buckets import object_at
from app.jobs.history import Filters
from app.jobs.job import JobOptions, JobState, Priority, Source, Url
from app.storage.egress import EgressRules

JOB_FORM = FormLayout("file", aliases=("audio_file",), file_optional=True)
MAX_METADATA_BYTES = 16 << 10
MAX_METADATA_DEPTH = 20
PRIORITIES = {priority.value: priority for priority in Priority}
STATES = {
    **{state.value: state for state in JobState},
    "processing": JobState.RUNNING,
    "completed": JobState.DONE,
    "canceled": JobState.CANCELLED,
}
DEFAULT_LIMIT, MAX_LIMIT, MAX_OFFSET = 50, 200, 10_000_000
NO_URLS = "url: this service does not fetch recordings (URL_INGEST); send the file itself."


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator has set. `default_language`: of requests that leave it open. `buckets`:
    those that jobs may read.
    """

    egress: EgressRules
    url_ingest: bool
    default_language: str | None
    buckets: tuple[str, ...] = ()

    def source_at(self, url: str) -> Source:
        """What a client's URL names.

        Raises:
            UnsupportedOption: no URL that may be fetched.
            Forbidden: an object in a bucket that jobs may not use.
        """
        if url.lower().startswith("s3://"):
            return object_at(url, self.buckets)
        if not self.url_ingest:
            raise UnsupportedOption(NO_URLS)
        return Url(url=self.egress.check_url(url, "url"))


@dataclass(frozen=True, slots=True)
class Submission:
    """A parsed request for a job. `options.model`: as the client wrote it; empty: the default.
    `url`: of the recording; empty if it is in the form.
    """

    options: JobOptions
    output: OutputFormat
    url: str
    callback_url: str
    metadata: dict[str, JsonValue]
    priority: Priority
    keep_audio: bool = False
    ignored: tuple[str, ...] = ()  # parameters without effect


def parse_submission(parameters: Mapping[str, str], rules: Rules) -> Submission:
    """The job that `parameters` (query and form, merged) describe. Only notes unknown ones.

    Raises:
        UnsupportedOption: a value that is not allowed; the message names the parameter.
    """
    read = Reader(parameters)
    submission = Submission(
        options=_options(read, rules),
        output=read.choice("format", OUTPUTS, JSON),
        url=_url(read, rules),
        callback_url=_callback(read, rules),
        metadata=_metadata(read.text("metadata")),
        priority=read.choice("priority", PRIORITIES, Priority.NORMAL),
        keep_audio=read.flag("keep_audio", False),
    )
    return replace(submission, ignored=read.ignored())


def _options(read: Reader, rules: Rules) -> JobOptions:
    speakers = read_speaker_bounds(read)
    name = _first(read, "lang", "language")
    return JobOptions(
        model=read.text("model"),
        language=_language(read, name),
        usual_language=rules.default_language if is_unset(read.text(name)) else None,
        multilingual=is_multilingual(read.text(name)),
        task=Task(read.choice("task", TASKS, Task.TRANSCRIBE.value)),
        initial_prompt=read.text(_first(read, "prompt", "initial_prompt")),
        hotwords=read.text("hotwords"),
        temperature=read_temperature(read),
        beam_size=read_beam_size(read),
        diarize=read.flag(_first(read, "diarization", "diarize"), True),
        num_speakers=speakers.num_speakers,
        min_speakers=speakers.min_speakers,
        max_speakers=speakers.max_speakers,
        by_channel=read_by_channel(read),
        audio_track=read_audio_track(read),
    )


def _first(read: Reader, name: str, other: str) -> str:
    """The contract's own name of a parameter, unless only the other one is given."""
    return name if read.text(name) or not read.text(other) else other


def _language(read: Reader, name: str) -> str | None:
    try:
        return parse_language(read.text(name))
    except UnsupportedOption as error:
        raise UnsupportedOption(error.message.replace("language", name, 1)) from None


def _url(read: Reader, rules: Rules) -> str:
    url = read.text("url").strip()
    if url:
        rules.source_at(url)
    return url


def _callback(read: Reader, rules: Rules) -> str:
    url = read.text("callback_url")
    return rules.egress.check_url(url, "callback_url") if url else ""


def _metadata(text: str) -> dict[str, JsonValue]:
    if len(text.encode()) > MAX_METADATA_BYTES:
        raise UnsupportedOption(f"metadata: longer than {MAX_METADATA_BYTES >> 10} kB.")
    try:
        value = json.loads(text or "{}", parse_constant=_no_number)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        depth = _depth(value)
    except (ValueError, RecursionError):  # also halves of surrogate pairs
        raise UnsupportedOption("metadata: is not valid JSON.") from None
    if not isinstance(value, dict):
        raise UnsupportedOption("metadata: must be a JSON object.")
    if depth > MAX_METADATA_DEPTH:
        raise UnsupportedOption(f"metadata: nested more than {MAX_METADATA_DEPTH} deep.")
    return value


def _no_number(name: str) -> Any:
    raise ValueError(name)


def _depth(value: Any) -> int:
    """How deep a value of JSON is nested. Recursive, as the parser is that has read it."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


# -- results and history -------------------------------------------------------------------------


def parse_result_format(
    parameters: Mapping[str, str], default: OutputFormat
) -> tuple[OutputFormat, SubtitleWishes]:
    """The format of a result and the look of its subtitles. Raises UnsupportedOption."""
    read = Reader(parameters)
    output = read.choice("format", OUTPUTS, default)
    return output, read_subtitle_wishes(read, output)


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    limit: int
    offset: int
    cursor: str
    filters: Filters


def parse_history(parameters: Mapping[str, str]) -> HistoryRequest:
    """Raises UnsupportedOption."""
    read = Reader(parameters)
    request = HistoryRequest(
        limit=read.count("limit", MAX_LIMIT) or DEFAULT_LIMIT,
        offset=int(read.number("offset", 0, MAX_OFFSET, 0)),
        cursor=read.text("cursor"),
        filters=Filters(
            states=_states(read.text("status")),
            since=_time(read, "since"),
            until=_time(read, "until"),
            search=read.text("search"),
        ),
    )
    if request.cursor and request.offset:
        raise UnsupportedOption("offset: not allowed beside a cursor.")
    return request


def _states(text: str) -> tuple[JobState, ...]:
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in STATES:
            raise not_allowed("status", name, f"one or more of {', '.join(STATES)}")
    return tuple(STATES[name] for name in names)


def _time(read: Reader, name: str) -> float | None:
    """Seconds since 1970. A time without a zone is UTC."""
    text = read.text(name)
    if not text:
        return None
    try:
        time_s = float(text) if text.replace(".", "", 1).isdigit() else _iso_time_s(text)
    except (ValueError, OverflowError):
        time_s = math.nan
    if not math.isfinite(time_s):
        raise not_allowed(name, text, "a time such as 2026-01-31T12:00:00Z, or seconds since 1970")
    return time_s


def _iso_time_s(text: str) -> float:
    head, space, zone = text.rpartition(" ")
    if space and "T" in head:  # a plus sign that was not escaped
        text = f"{head}+{zone}"
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
