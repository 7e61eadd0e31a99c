"""Transcript -> the body of Orator's webhook, in the forms of its receivers.

The receiver that is deployed reads `transcript` and `diarization` as objects (nested); the
documentation of its worker shows a text and a list in their place (flat). A segment has the names
of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.domain.transcript import Segment, Transcript, Word
from app.formats.text import text_of
from app.formats.times import seconds

SUCCESS, FAILED = "success", "failed"
PARAGRAPH = "\n\n"


@dataclass(frozen=True, slots=True)
class Order:
    """What the message asked for. The IDs come back as they came: numbers or texts.

    `audio_format`: the ending of the file's name, if it has one.
    """

    job_id: int | str
    presentation_id: int | str | None = None
    audio_format: str | None = None

    @property
    def ids(self) -> dict[str, Any]:
        return {"jobId": self.job_id, "presentationId": self.presentation_id}


def success_body(
    transcript: Transcript, order: Order, processing_s: float | None, flat: bool
) -> dict[str, Any]:
    """The body for a transcript. `processing_s`: how long it took, if that is known."""
    segments = [_segment(number, one) for number, one in enumerate(transcript.segments, start=1)]
    speakers = _speakers(transcript.segments)
    return {
        **order.ids,
        "status": SUCCESS,
        "transcript": text_of(transcript.segments) if flat else _nested(transcript, segments),
        "segments": segments,
        "diarization": speakers if flat else _nested_speakers(transcript.segments, speakers),
        "metadata": {
            "language": transcript.language,
            "duration": seconds(transcript.duration_s),
            "audioFormat": order.audio_format,
            "processingTime": None if processing_s is None else seconds(processing_s),
            "warnings": [warning.sentence for warning in transcript.warnings],
        },
    }


def failure_body(order: Order, code: str, message: str) -> dict[str, Any]:
    """`error` is what the deployed receiver reads, `errorMessage` what its worker sends."""
    return {
        **order.ids,
        "status": FAILED,
        "error": message,
        "errorMessage": message,
        "errorCode": code,
    }


# -- segments ------------------------------------------------------------------------------------


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    start_s, end_s = seconds(segment.start_s), seconds(segment.end_s)
    return {
        "order": number,
        "text": segment.text.strip(),
        "startTime": start_s,
        "endTime": end_s,
        "startTimestamp": start_s,
        "endTimestamp": end_s,
        "speakerLabel": segment.speaker,
        "aiSpeakerLabel": segment.speaker,
        "confidence": _confidence(segment),
    }


def _confidence(segment: Segment) -> float | None:
    """The mean probability of a token, geometric; of the segment's chunk. None: not known."""
    if segment.stats is None or not math.isfinite(segment.stats.avg_logprob):
        return None
    return round(min(1.0, math.exp(segment.stats.avg_logprob)), 3)


def _nested(transcript: Transcript, segments: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "fullText": PARAGRAPH.join(map(_paragraph, transcript.segments)),
        "language": transcript.language,
        "segments": segments,
    }


def _paragraph(segment: Segment) -> str:
    label = f"[{segment.speaker}] " if segment.speaker is not None else ""
    return f"{label}{segment.text.strip()}"


# -- speakers ------------------------------------------------------------------------------------


def _speakers(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """A summary of each speaker, by label."""
    by_speaker: dict[str, list[Segment]] = {}
    for segment in segments:
        if segment.speaker is not None:
            by_speaker.setdefault(segment.speaker, []).append(segment)
    return [_speaker(label, by_speaker[label]) for label in sorted(by_speaker)]


def _speaker(label: str, segments: Sequence[Segment]) -> dict[str, Any]:
    return {
        "aiSpeakerLabel": label,
        "totalDuration": seconds(_total_s(segments)),
        "segmentCount": len(segments),
        "confidence": _mean_overlap(label, segments),
    }


def _total_s(segments: Sequence[Segment]) -> float:
    return sum(segment.end_s - segment.start_s for segment in segments)


def _mean_overlap(label: str, segments: Sequence[Segment]) -> float | None:
    """How much of the speaker's segments the words cover that were found in that speaker's turns:
    the mean over the segments, 0 to 1. None if no word has a time.
    """
    shares = [share for one in segments if (share := _overlap(label, one)) is not None]
    return round(sum(shares) / len(shares), 3) if shares else None


def _overlap(label: str, segment: Segment) -> float | None:
    length_s = segment.end_s - segment.start_s
    words = [word for word in segment.words or () if word.start_s is not None]
    if not words or length_s <= 0:
        return None
    return min(1.0, sum(_length_s(word) for word in words if word.speaker == label) / length_s)


def _length_s(word: Word) -> float:
    if word.start_s is None or word.end_s is None:
        return 0.0
    return max(0.0, word.end_s - word.start_s)


def _nested_speakers(segments: Sequence[Segment], speakers: list[dict[str, Any]]) -> dict[str, Any]:
    whole_s = _total_s([segment for segment in segments if segment.speaker is not None])
    return {
        "speakers": [
            {
                **speaker,
                "segments": _times_of(speaker["aiSpeakerLabel"], segments),
                "metadata": {
                    "segmentCount": speaker["segmentCount"],
                    "totalDuration": speaker["totalDuration"],
                    "confidence": speaker["confidence"],
                    "percentage": _percentage(speaker["totalDuration"], whole_s),
                },
            }
            for speaker in speakers
        ],
        "segmentSpeakerMappings": [
            {"order": number, "aiSpeakerLabel": segment.speaker}
            for number, segment in enumerate(segments, start=1)
            if segment.speaker is not None
        ],
    }


def _times_of(label: str, segments: Sequence[Segment]) -> list[dict[str, float]]:
    return [
        {"startTime": seconds(segment.start_s), "endTime": seconds(segment.end_s)}
        for segment in segments
        if segment.speaker == label
    ]


def _percentage(part_s: float, whole_s: float) -> float:
    return round(100 * part_s / whole_s, 1) if whole_s > 0 else 0.0
