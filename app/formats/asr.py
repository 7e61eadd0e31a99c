"""Transcript -> the bodies and events of /asr."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.domain.transcript import Segment, Transcript, Word
from app.formats.subtitles import SubtitleStyle
from app.formats.table import OutputFormat
from app.formats.text import text_of
from app.formats.times import seconds


@dataclass(frozen=True, slots=True)
class JsonShape:
    """What differs between the dialects and requests."""

    text_is_string: bool
    with_words: bool
    with_embeddings: bool = False


def write(
    transcript: Transcript, output: OutputFormat, shape: JsonShape, style: SubtitleStyle
) -> str:
    """The body of a response."""
    if output.writer is not None:
        return output.writer(transcript, style)
    return json.dumps(to_json(transcript, shape), ensure_ascii=False, allow_nan=False)


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
