"""Transcript -> the JSON object that stands beside the Markdown in a bucket."""

from __future__ import annotations

import json
from typing import Any

from app.domain.transcript import Transcript
from app.formats.asr import JsonShape, to_json
from app.formats.text import text_of
from app.formats.times import seconds

SHAPE = JsonShape(webservice=False, with_words=True)


def write_modal_json(transcript: Transcript, job_id: str) -> str:
    """WhisperX's result (segments, words, language) and what is known about the whole."""
    body = to_json(transcript, SHAPE)
    body["text"] = text_of(transcript.segments)
    body["metadata"] = _metadata(transcript, job_id)
    return json.dumps(body, ensure_ascii=False, allow_nan=False)


def _metadata(transcript: Transcript, job_id: str) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "language": transcript.language,
        "duration": seconds(transcript.duration_s),
        "model": transcript.model,
        "num_segments": len(transcript.segments),
        "num_words": sum(len(segment.words or ()) for segment in transcript.segments),
        "num_speakers": _num_speakers(transcript),
        "warnings": [warning.sentence for warning in transcript.warnings],
    }


def _num_speakers(transcript: Transcript) -> int | None:
    """None if speakers were not told apart."""
    if not transcript.speakers_known:
        return None
    return len({segment.speaker for segment in transcript.segments} - {None})
