"""Transcript -> the JSON of the streaming service whose clients name their model `model_size`."""

from __future__ import annotations

from typing import Any

from app.domain.transcript import Transcript
from app.formats.text import text_of
from app.formats.times import seconds


def to_json(
    transcript: Transcript, language_probability: float | None, processing_s: float
) -> dict[str, Any]:
    """`language_probability`: None if it is not known."""
    body: dict[str, Any] = {
        "text": text_of(transcript.segments).strip(),
        "language": transcript.language,
        "language_probability": language_probability,
        "segments": [
            {
                "id": number,
                "text": segment.text,
                "start": seconds(segment.start_s),
                "end": seconds(segment.end_s),
            }
            for number, segment in enumerate(transcript.segments)
        ],
        "processing_time": seconds(processing_s),
    }
    if transcript.warnings:
        body["warnings"] = [warning.sentence for warning in transcript.warnings]
    return body
