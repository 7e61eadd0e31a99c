"""Transcript -> the bodies and events of /asr."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.domain.transcript import Segment, Transcript, Word
from app.formats.figures import decoder_figures
from app.formats.subtitles import SubtitleStyle
from app.formats.table import OutputFormat
from app.formats.text import text_of
from app.formats.times import seconds
from app.formats.words import WrittenWord, written_words


@dataclass(frozen=True, slots=True)
class JsonShape:
    """What differs between the dialects and requests. `webservice`: `text` is a string, words and
    segments have the fields of Whisper's own JSON.
    """

    webservice: bool
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
    segments = _segments_json(transcript, shape)
    body: dict[str, Any] = {
        "text": text_of(transcript.segments) if shape.webservice else segments,
        "language": transcript.language,
        "segments": segments,
        "word_segments": [word for item in segments for word in item.get("words", ())],
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


def _segments_json(transcript: Transcript, shape: JsonShape) -> list[dict[str, Any]]:
    if shape.webservice:
        return [
            _webservice_segment_json(number, segment, shape.with_words)
            for number, segment in enumerate(transcript.segments)
        ]
    return [segment_json(segment, shape.with_words) for segment in transcript.segments]


def _webservice_segment_json(number: int, segment: Segment, with_words: bool) -> dict[str, Any]:
    body = {
        "id": number,
        **segment_json(segment, with_words=False),
        **decoder_figures(segment),
    }
    if with_words and segment.words is not None:
        body["words"] = [_webservice_word_json(word) for word in written_words(segment)]
    return body


def _webservice_word_json(written: WrittenWord) -> dict[str, Any]:
    body = {
        **_word_json(written.word),
        "word": written.text,
        "start": seconds(written.start_s),
        "end": seconds(written.end_s),
    }
    if written.probability is not None and math.isfinite(written.probability):
        body["probability"] = round(written.probability, 3)
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
