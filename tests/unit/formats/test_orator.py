"""The body of Orator's webhook, in both forms."""

from __future__ import annotations

import json
import math

import pytest

from app.domain.transcript import DecodingStats, Segment, Transcript, Word
from app.formats.orator import Order, failure_body, success_body

ORDER = Order(123, "p-456", "mp3")
STATS = DecodingStats(math.log(0.95), 0.0, 1.0, 0.0)
TRANSCRIPT = Transcript(
    language="vi",
    duration_s=205.8,
    model="demo",
    speakers_known=True,
    segments=(
        Segment(
            0.5,
            2.5,
            " Hello everyone",
            words=(
                Word("Hello", 0.5, 1.5, speaker="SPEAKER_00"),
                Word("everyone", 1.9, 2.3, speaker="SPEAKER_00"),
                Word("1984", speaker="SPEAKER_00"),
            ),
            speaker="SPEAKER_00",
            stats=STATS,
        ),
        Segment(3.0, 4.0, " Hi.", words=(Word("Hi.", 3.0, 3.9),), speaker="SPEAKER_01"),
        Segment(5.0, 6.0, " (music)"),
        Segment(7.0, 9.0, " Well,", words=None, speaker="SPEAKER_00", stats=STATS),
    ),
)
SPEAKERS = [
    {
        "aiSpeakerLabel": "SPEAKER_00",
        "totalDuration": 4.0,
        "segmentCount": 2,
        "confidence": 0.7,  # 1.4 s of words in 2 s; the other segment has none
    },
    {
        "aiSpeakerLabel": "SPEAKER_01",
        "totalDuration": 1.0,
        "segmentCount": 1,
        "confidence": 0.0,  # its only word was outside of the speaker's turns
    },
]


def test_as_documented() -> None:
    body = success_body(TRANSCRIPT, ORDER, 45.2, flat=True)
    assert body["transcript"] == "Hello everyone Hi. (music) Well,"
    assert body["diarization"] == SPEAKERS
    documented = {
        "text": "Hello everyone",
        "startTime": 0.5,
        "endTime": 2.5,
        "speakerLabel": "SPEAKER_00",
        "confidence": 0.95,
    }
    assert body["segments"][0].items() >= documented.items()
    assert body["metadata"].items() >= {
        "language": "vi", "duration": 205.8, "audioFormat": "mp3", "processingTime": 45.2,
    }.items()  # fmt: skip
    assert (body["jobId"], body["presentationId"], body["status"]) == (123, "p-456", "success")


def test_as_the_deployed_receiver_reads_it() -> None:
    body = success_body(TRANSCRIPT, ORDER, None, flat=False)
    transcript, diarization = body["transcript"], body["diarization"]
    assert transcript["fullText"] == (
        "[SPEAKER_00] Hello everyone\n\n[SPEAKER_01] Hi.\n\n(music)\n\n[SPEAKER_00] Well,"
    )
    assert transcript["segments"] == body["segments"]
    assert [one["order"] for one in transcript["segments"]] == [1, 2, 3, 4]
    assert [one["confidence"] for one in transcript["segments"]] == [0.95, None, None, 0.95]
    assert diarization["segmentSpeakerMappings"] == [
        {"order": 1, "aiSpeakerLabel": "SPEAKER_00"},
        {"order": 2, "aiSpeakerLabel": "SPEAKER_01"},
        {"order": 4, "aiSpeakerLabel": "SPEAKER_00"},
    ]
    first = diarization["speakers"][0]
    assert first["segments"] == [
        {"startTime": 0.5, "endTime": 2.5},
        {"startTime": 7.0, "endTime": 9.0},
    ]
    assert first["metadata"] == {
        "segmentCount": 2, "totalDuration": 4.0, "confidence": 0.7, "percentage": 80.0,
    }  # fmt: skip
    assert body["metadata"]["processingTime"] is None


@pytest.mark.parametrize("flat", [True, False])
def test_silence(flat: bool) -> None:
    body = success_body(Transcript("en", 3.0, "demo"), Order("j"), 1.0, flat)
    assert body["segments"] == []
    json.dumps(body, allow_nan=False)


def test_no_figure_is_invented() -> None:
    strange = Segment(0.0, 0.0, "x", speaker="A", stats=DecodingStats(math.nan, 0.0, 1.0, 0.0))
    body = success_body(Transcript("en", 1.0, "demo", (strange,)), ORDER, 1.0, flat=False)
    assert body["segments"][0]["confidence"] is None
    [speaker] = body["diarization"]["speakers"]
    assert (speaker["confidence"], speaker["metadata"]["percentage"]) == (None, 0.0)


def test_a_failure_for_both_receivers() -> None:
    body = failure_body(ORDER, "undecodable_audio", "No sound.")
    assert body == {
        "jobId": 123, "presentationId": "p-456", "status": "failed", "error": "No sound.",
        "errorMessage": "No sound.", "errorCode": "undecodable_audio",
    }  # fmt: skip
