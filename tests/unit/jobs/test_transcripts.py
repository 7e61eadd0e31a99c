"""A transcript is kept in full."""

from __future__ import annotations

import dataclasses
import json
import zlib
from typing import Any

from app.domain.transcript import (
    Chunk,
    DecodingStats,
    Segment,
    SpeechRegion,
    TokenProb,
    Transcript,
    Word,
)
from app.domain.warnings import TranscriptWarning
from app.jobs.transcripts import pack, unpack

WORDS = (Word(" Grüße,", 0.1, 0.25, 0.987654321, "SPEAKER_00"), Word("\x00\ud7ff🎧"))
FULL = Segment(
    0.1,
    1 / 3,
    "Grüße, \u2028",
    WORDS,
    "SPEAKER_00",
    Chunk(0.0, 29.98, (SpeechRegion(0.1, 0.9),)),
    DecodingStats(-0.123456789, 1e-12, 1.5, 0.2),
    (50_364, 7),
    (3, 9),
    (0.5, 1.0),
    (TokenProb(b"\xe2\x80", -0.25), TokenProb(b"", 0.0)),
    "de",
)
TRANSCRIPT = Transcript(
    "de",
    7200.000001,
    "demo",
    (FULL, Segment(1.0, 2.0, "", ())),
    True,
    {"SPEAKER_00": (0.1, -2.5e-30)},
    tuple(TranscriptWarning),
)


def unset(thing: Any) -> list[str]:
    """The fields of a dataclass that have their default."""
    return [
        field.name
        for field in dataclasses.fields(thing)
        if field.default is not dataclasses.MISSING and getattr(thing, field.name) == field.default
    ]


def test_every_field_survives() -> None:
    for thing in (TRANSCRIPT, FULL, WORDS[0], FULL.chunk):
        assert unset(thing) == [], "fill in what has been added"
    assert unpack(pack(TRANSCRIPT)) == TRANSCRIPT
    bare = Transcript("en", 0.0, "demo")
    assert unpack(pack(bare)) == bare
    assert unpack(pack(bare)).segments == ()


def test_what_another_version_wrote_is_read() -> None:
    """It may know other warnings and further fields."""
    packed = json.loads(zlib.decompress(pack(TRANSCRIPT)))
    packed["warnings"].append("OF_NEXT_YEAR")
    packed["transcript"]["mood"] = "good"
    packed["transcript"]["segments"][0]["mood"] = "good"
    assert unpack(zlib.compress(json.dumps(packed).encode())) == TRANSCRIPT
