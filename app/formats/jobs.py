"""Transcript -> the result of a job: speakers named spk_1, spk_2, ... in order of first speech."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from app.domain.transcript import Segment, Transcript, Word
from app.formats.text import text_of
from app.formats.times import seconds


def with_numbered_speakers(transcript: Transcript) -> Transcript:
    """The same transcript with the speakers' names of this contract."""
    names: dict[str, str] = {}
    for speaker in _in_order(transcript):
        names.setdefault(speaker, f"spk_{len(names) + 1}")

    def name_of(speaker: str | None) -> str | None:
        return None if speaker is None else names[speaker]

    def renamed(word: Word) -> Word:
        return replace(word, speaker=name_of(word.speaker))

    segments = tuple(
        replace(
            segment,
            speaker=name_of(segment.speaker),
            words=None if segment.words is None else tuple(map(renamed, segment.words)),
        )
        for segment in transcript.segments
    )
    return replace(transcript, segments=segments, speaker_embeddings={})


def _in_order(transcript: Transcript) -> Iterator[str]:
    """The speakers as they speak, again and again. A segment's own may have none of its words."""
    for segment in transcript.segments:
        for speaker in (*(word.speaker for word in segment.words or ()), segment.speaker):
            if speaker is not None:
                yield speaker


def to_json(transcript: Transcript) -> dict[str, Any]:
    """The part of the body that the transcript has."""
    return {
        "language": transcript.language,
        "model": transcript.model,
        "segments": [_segment_json(segment) for segment in transcript.segments],
        "full_text": text_of(transcript.segments),
        "duration": seconds(transcript.duration_s),
        "warnings": [warning.sentence for warning in transcript.warnings],
    }


def result_json(task_id: str, transcript: Transcript, about: Mapping[str, Any]) -> bytes:
    """The body of a result. `about`: its other fields; they may replace the transcript's."""
    body = {"task_id": task_id, "status": "done", **to_json(transcript), **about}
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()


def _segment_json(segment: Segment) -> dict[str, Any]:
    body: dict[str, Any] = {
        "start": seconds(segment.start_s),
        "end": seconds(segment.end_s),
        "speaker": segment.speaker,
        "text": segment.text.strip(),
    }
    if segment.language is not None:
        body["language"] = segment.language
    if segment.words is not None:
        body["words"] = [_word_json(word) for word in segment.words]
    return body


def _word_json(word: Word) -> dict[str, Any]:
    timed = word.start_s is not None and word.end_s is not None
    scored = word.score is not None and math.isfinite(word.score)
    return {
        "word": word.text,
        "start": seconds(word.start_s) if timed and word.start_s is not None else None,
        "end": seconds(word.end_s) if timed and word.end_s is not None else None,
        "score": round(word.score, 3) if scored and word.score is not None else None,
        "speaker": word.speaker,
    }
