"""Properties of the pure parsers, for inputs that nobody would think of (Hypothesis).

FUZZ_SCALE=10 tries ten times as many (`make fuzz`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import srt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from app.api import forms
from app.api.asr.parameters import (
    OUTPUTS,
    AsrRequest,
    Dialect,
    parse_asr_request,
    parse_detect_request,
)
from app.api.asr.router import content_disposition
from app.api.asr.schema import AsrParameters
from app.api.multipart import MAX_HEADER_BYTES
from app.api.parameters import MAX_SPEAKERS, merge_parameters
from app.config.settings import DEMO_DIR, Settings, load_settings, variable_names
from app.domain.errors import ConfigurationError, ServiceError, UnsupportedOption
from app.domain.transcript import Segment, Transcript, Word
from app.formats import asr as formats
from app.formats.subtitles import SubtitleStyle
from app.formats.table import ASR_FORMATS

SCALE = int(os.environ.get("FUZZ_SCALE", "1"))
try_many = settings(
    max_examples=150 * SCALE,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

NAMES = sorted(AsrParameters.model_fields)
PLAUSIBLE = (
    "true", "FALSE", "1", "no", "json", "txt", "SRT", "en", "English", "auto", "translate",
    "2", "100", "101", "0", "-1", "1e3", "٣", "²", "", " ", "\x00", "null", "[]",
)  # fmt: skip
values = st.sampled_from(PLAUSIBLE) | st.text(max_size=30)
parameters = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=10), values, max_size=8)


# -- parameters ----------------------------------------------------------------------------------


@try_many
@given(parameters, parameters, st.sampled_from(Dialect))
def test_parameters_are_read_or_refused_by_name(
    fields: dict[str, str], query: dict[str, str], dialect: Dialect
) -> None:
    merged = merge_parameters({name: [value] for name, value in fields.items()}, query)
    for parse in (partial(parse_asr_request, default_dialect=dialect), parse_detect_request):
        refusal, wanted = "", None
        try:
            wanted = parse(merged)
        except UnsupportedOption as error:
            refusal = error.message
        assert not refusal or refusal.split(":")[0] in NAMES
        assert len(refusal) < 1000
        if isinstance(wanted, AsrRequest):
            assert wanted.output in OUTPUTS.values()
            bounds = wanted.speakers
            assert all(
                number is None or 1 <= number <= MAX_SPEAKERS
                for number in (bounds.num_speakers, bounds.min_speakers, bounds.max_speakers)
            )


@try_many
@given(st.text(max_size=400), st.sampled_from(sorted(output.extension for output in ASR_FORMATS)))
def test_no_file_name_breaks_out_of_its_header(name: str, extension: str) -> None:
    header = content_disposition(name, extension)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert header.startswith('attachment; filename="')
    assert "/" not in header.split('"')[1]
    assert f'.{extension}"' in header
    header.encode("latin-1")


# -- multipart -----------------------------------------------------------------------------------

part_names = st.sampled_from(["audio_file", "language", "x", ""]) | st.text(max_size=8)
heads = st.sampled_from(
    [
        b'Content-Disposition: form-data; name="audio_file"; filename="a.wav"',
        b'Content-Disposition: form-data; name="audio_file"',
        b'Content-Disposition: form-data; name="language"',
        b'content-disposition: form-data; name="x"; filename="b"\r\nContent-Type: a/b',
        b"Content-Disposition: form-data; name*=UTF-8''audio_file; filename*=UTF-8''%ff",
        b'Content-Disposition: form-data; name="audio_file"; filename="a\\"b;c"',
        b"Content-Type: text/plain",
        b"X: y",
        b"",
    ]
) | st.binary(max_size=60)
parts = st.lists(st.tuples(heads, st.binary(max_size=80)), max_size=5)


def read_form(body: bytes, cuts: list[int]) -> Any:
    """What the callbacks make of a body that arrives in pieces; or the error."""
    form = forms.Form(forms.ASR_FORM, 200, lambda: Path("upload"))
    names = [name for name in dir(form) if name.startswith("on_")]
    callbacks: dict[str, Callable[..., None]] = {name: getattr(form, name) for name in names}
    parser = MultipartParser(b"B", callbacks, max_header_size=MAX_HEADER_BYTES)  # type: ignore[arg-type]
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    try:
        for begin, end in pairwise(edges):
            parser.write(body[begin:end])
    except FormParserError:
        return FormParserError
    except ServiceError as error:
        return error.message
    return form.complete, form.lists, form.file_name, b"".join(data for _, data in form.pending)


@try_many
@given(parts, st.lists(st.integers(0, 2000), max_size=6), st.binary(max_size=10))
def test_a_form_is_the_same_however_it_is_cut_into_pieces(
    content: list[tuple[bytes, bytes]], cuts: list[int], tail: bytes
) -> None:
    body = b"".join(b"--B\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in content)
    for whole in (body + b"--B--\r\n" + tail, body + tail):
        at_once = read_form(whole, [])
        assert read_form(whole, cuts) == at_once
        assert read_form(whole, list(range(len(whole)))) == at_once


# -- formats -------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    segments = []
    at_s = 0.0
    for _ in range(draw(st.integers(0, 4))):
        start_s = at_s + draw(st.floats(0, 5))
        at_s = start_s + draw(st.floats(0.01, 5))
        text = " " + draw(texts)
        words = tuple(Word(word, start_s, at_s) for word in text.split())
        speaker = draw(st.none() | st.sampled_from(["SPEAKER_00", "SPEAKER_01"]))
        segments.append(Segment(start_s, at_s, text, words=words, speaker=speaker))
    return Transcript("en", at_s, "demo", tuple(segments))


@try_many
@given(
    transcripts(),
    st.sampled_from(sorted(output.name for output in ASR_FORMATS)),
    st.integers(1, 60) | st.none(),
    st.integers(1, 3) | st.none(),
    st.booleans(),
    st.booleans(),
)
def test_every_transcript_can_be_written_in_every_format(
    transcript: Transcript,
    output: str,
    width: int | None,
    lines: int | None,
    highlight: bool,
    readable: bool,
) -> None:
    style = SubtitleStyle(width, lines, highlight, readable)
    text = formats.write(transcript, OUTPUTS[output], formats.JsonShape(True, True, True), style)
    text.encode()
    if output == "srt":
        cues = list(srt.parse(text))
        assert all(cue.start <= cue.end for cue in cues)
        assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))


# -- settings ------------------------------------------------------------------------------------

VARIABLES = sorted({variable_names(name)[0] for name in Settings.model_fields})
odd_values = (
    st.sampled_from(["", "0", "-1", "1e400", "nan", "inf", "true", "{}", "[", '{"a": 1}', "auto"])
    | st.integers().map(str)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
)


@try_many
@given(st.dictionaries(st.sampled_from(VARIABLES), odd_values, max_size=4))
def test_settings_are_read_or_refused_by_name(values: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(DEMO_DIR)  # where no .env is
        for name, value in values.items():
            patch.setenv(name, value)
        refusal = ""
        try:
            load_settings()
        except ConfigurationError as error:
            refusal = error.message
        assert not refusal or any(name in refusal for name in values)
