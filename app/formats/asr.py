"""Transcript -> text, SRT, VTT, TSV, JSON. The only place that rounds time.

The layouts are those of whisperx.utils' writers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.domain.transcript import Segment, Transcript, Word
from app.formats.lines import one_line
from app.formats.subtitles import Escape, SubtitleStyle, subtitle_cues
from app.formats.text import _milliseconds, seconds, text_of, to_text, to_tsv

ARROW = re.compile("-{2,}>")  # divides times in SRT and VTT, so it may not stand in a text
EXTENSIONS = {"json": "json", "text": "txt", "srt": "srt", "vtt": "vtt", "tsv": "tsv"}


@dataclass(frozen=True, slots=True)
class JsonShape:
    """How the dialects differ."""

    text_is_string: bool
    with_words: bool
    with_embeddings: bool = False


def write(transcript: Transcript, output: str, shape: JsonShape, style: SubtitleStyle) -> str:
    """The body of a response. `output`: json, text, srt, vtt or tsv."""
    if output == "json":
        return json.dumps(to_json(transcript, shape), ensure_ascii=False, allow_nan=False)
    writers: dict[str, Callable[[Transcript, SubtitleStyle], str]] = {
        "text": lambda t, _: to_text(t),
        "srt": to_srt,
        "vtt": to_vtt,
        "tsv": lambda t, _: to_tsv(t),
    }
    return writers[output](transcript, style)


# -- JSON ----------------------------------------------------------------------------------------


def to_json(transcript: Transcript, shape: JsonShape) -> dict[str, Any]:
    segments = [segment_json(segment, shape.with_words) for segment in transcript.segments]
    text = text_of(transcript.segments)
    words = [_word_json(w) for s in transcript.segments for w in s.words or ()]
    body: dict[str, Any] = {
        "text": text if shape.text_is_string else segments,
        "language": transcript.language,
        "segments": segments,
        "word_segments": words if shape.with_words else [],
        "duration": seconds(transcript.duration_s),
        "model": transcript.model,
    }
    if transcript.speakers_known:
        body["speakers"] = _speakers_json(transcript.segments)
        if shape.with_embeddings:
            body["speaker_embeddings"] = {
                speaker: list(vector)
                for speaker, vector in sorted(transcript.speaker_embeddings.items())
                if all(map(math.isfinite, vector))
            }
    if transcript.warnings:
        body["warnings"] = [warning.sentence for warning in transcript.warnings]
    return body


def segment_json(segment: Segment, with_words: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "start": seconds(segment.start_s),
        "end": seconds(segment.end_s),
        "text": segment.text,
    }
    if segment.speaker is not None:
        body["speaker"] = segment.speaker
    if segment.language is not None:
        body["language"] = segment.language
    if with_words and segment.words is not None:
        body["words"] = [_word_json(word) for word in segment.words]
    return body


def _word_json(word: Word) -> dict[str, Any]:
    body: dict[str, Any] = {"word": word.text}
    if word.start_s is not None and word.end_s is not None:
        body["start"] = seconds(word.start_s)
        body["end"] = seconds(word.end_s)
    if word.score is not None and math.isfinite(word.score):
        body["score"] = round(word.score, 3)
    if word.speaker is not None:
        body["speaker"] = word.speaker
    return body


def _speakers_json(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    totals: dict[str, list[float]] = {}
    for segment in segments:
        if segment.speaker is not None:
            totals.setdefault(segment.speaker, []).append(segment.end_s - segment.start_s)
    return [
        {
            "speaker": speaker,
            "total_duration": seconds(sum(durations)),
            "segment_count": len(durations),
        }
        for speaker, durations in sorted(totals.items())
    ]


# -- text and tables -----------------------------------------------------------------------------


# -- subtitles -----------------------------------------------------------------------------------


def to_srt(transcript: Transcript, style: SubtitleStyle) -> str:
    return "".join(
        f"{number}\n{_clock(start, ',', True)} --> {_clock(end, ',', True)}\n{text}\n\n"
        for number, (start, end, text) in enumerate(_timed_lines(transcript, style, one_line), 1)
    )


def to_vtt(transcript: Transcript, style: SubtitleStyle) -> str:
    return "WEBVTT\n\n" + "".join(
        f"{_clock(start, '.', False)} --> {_clock(end, '.', False)}\n{text}\n\n"
        for start, end, text in _timed_lines(transcript, style, _escape_vtt)
    )


def _escape_vtt(text: str) -> str:
    """A player takes what follows "<" for a tag. Source: https://www.w3.org/TR/webvtt1/#cue-text"""
    return one_line(text).replace("&", "&amp;").replace("<", "&lt;")


def _clock(milliseconds: int, mark: str, always_hours: bool) -> str:
    seconds, ms = divmod(milliseconds, 1000)
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    head = f"{hours:02d}:" if always_hours or hours else ""
    return f"{head}{m:02d}:{s:02d}{mark}{ms:03d}"


def _timed_lines(
    transcript: Transcript, style: SubtitleStyle, escape: Escape
) -> Iterator[tuple[int, int, str]]:
    """(start, end) in milliseconds and text; no cue is empty or lasts no time."""
    for cue in subtitle_cues(transcript, style, escape):
        start = _milliseconds(cue.start_s)
        if cue.is_pause and _milliseconds(cue.end_s) <= start:
            continue
        yield start, max(start + 1, _milliseconds(cue.end_s)), ARROW.sub("->", cue.text)
