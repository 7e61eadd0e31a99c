"""Transcript -> plain text and TSV."""

from __future__ import annotations

from collections.abc import Iterable

from app.domain.transcript import Segment, Transcript
from app.formats.cues import speaker_prefix
from app.formats.lines import one_line
from app.formats.times import milliseconds


def text_of(segments: Iterable[Segment]) -> str:
    """The text of all segments, which carry their own leading spaces."""
    return "".join(segment.text for segment in segments).strip()


def to_text(transcript: Transcript) -> str:
    return "".join(f"{speaker_prefix(s.speaker)}{one_line(s.text)}\n" for s in transcript.segments)


def to_tsv(transcript: Transcript) -> str:
    rows = ["start\tend\ttext"]
    for segment in transcript.segments:
        start_ms, end_ms = milliseconds(segment.start_s), milliseconds(segment.end_s)
        rows.append(f"{start_ms}\t{end_ms}\t{one_line(segment.text)}")
    return "\n".join(rows) + "\n"
