"""A transcript as text and as a table; the rounding of times."""

from __future__ import annotations

import math
from collections.abc import Iterable

from app.domain.transcript import Segment, Transcript
from app.formats.lines import one_line
from app.formats.subtitles import speaker_prefix


def text_of(segments: Iterable[Segment]) -> str:
    """The whole transcript: segments carry their leading spaces."""
    return "".join(segment.text for segment in segments).strip()


def seconds(value: float) -> float:
    """Rounded to milliseconds."""
    return _milliseconds(value) / 1000


def _milliseconds(value: float) -> int:
    """JSON has no NaN and no subtitle a negative time, wherever one may come from."""
    return max(0, round(value * 1000)) if math.isfinite(value) else 0


def to_text(transcript: Transcript) -> str:
    return "".join(f"{speaker_prefix(s.speaker)}{one_line(s.text)}\n" for s in transcript.segments)


def to_tsv(transcript: Transcript) -> str:
    rows = ["start\tend\ttext"]
    for segment in transcript.segments:
        start_ms, end_ms = _milliseconds(segment.start_s), _milliseconds(segment.end_s)
        rows.append(f"{start_ms}\t{end_ms}\t{one_line(segment.text)}")
    return "\n".join(rows) + "\n"
