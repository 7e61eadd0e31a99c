"""Every container and codec that people record with, through the service, against known truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.media import FORMATS, PRIMING_S, Media, encode, speech
from tests.support.server import Server
from tests.support.truth import (
    matched_words,
    median_start_error_s,
    truth_of,
    word_error_rate,
    words_of,
)

TRUTH = truth_of("en_short")
MIDDLE_S = 2.1  # between the two sentences
WARNING = "breaks off"


@pytest.fixture(scope="module")
def sound() -> Any:
    return speech("en_short")


def transcribe(server: Server, media: bytes, **query: Any) -> dict[str, Any]:
    response = server.post(media, name="recording", language="en", diarize=False, **query)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert ("X-ASR-Warning" in response.headers) == bool(body.get("warnings"))
    return body


# 8 kHz: the demo model, which never heard a telephone, takes one of the words for another
OF_TELEPHONES = {"wav from the telephone", "wav mu-law", "amr", "3gp"}


def true_words(shift_s: float = 0.0, second_sentence_s: float = 0.0) -> list[dict[str, Any]]:
    """The true words, all later by the one and those of the second sentence by the other too."""
    return [
        {
            **word,
            "start": word["start"]
            + shift_s
            + (second_sentence_s if word["start"] > MIDDLE_S else 0.0),
        }
        for word in TRUTH["words"]
    ]


def check_words(
    body: dict[str, Any], expected: list[dict[str, Any]], within_s: float, num_misheard: int = 0
) -> None:
    """Every word is there, where it was spoken; the aligner may be off by more for a few."""
    words = words_of(body)
    assert len(words) == len(expected)
    error_rate = word_error_rate((w["word"] for w in expected), (w["word"] for w in words))
    assert error_rate <= num_misheard / len(expected)
    assert median_start_error_s(expected, words) <= within_s
    errors = [abs(t["start"] - h["start"]) for t, h in matched_words(expected, words)]
    assert max(errors) <= within_s + 0.12


@pytest.mark.parametrize("kind", FORMATS)
def test_words_and_times_are_those_of_the_recording(server: Server, sound: Any, kind: str) -> None:
    body = transcribe(server, encode(FORMATS[kind], (0, sound)))
    num_misheard = 1 if kind in OF_TELEPHONES else 0
    check_words(body, true_words(), 0.03 + PRIMING_S.get(kind, 0), num_misheard)
    assert body["duration"] == pytest.approx(TRUTH["duration"], abs=0.1)
    assert "warnings" not in body


def test_raw_samples_without_a_header(server: Server, sound: Any) -> None:
    raw = (sound * 32768).astype("<i2").tobytes()
    for upload in (raw, raw + b"\0"):  # half a sample at the end is none
        body = transcribe(server, upload, encode="false", output="json", word_timestamps=True)
        check_words(body, true_words(), 0.02)


@pytest.mark.parametrize("kind", ["wav", "mp3", "webm", "mp4 with video"])
def test_a_file_that_breaks_off_is_transcribed_with_a_warning(
    server: Server, sound: Any, kind: str
) -> None:
    whole = encode(FORMATS[kind], (0, sound))
    response = server.post(whole[: int(len(whole) * 0.7)], language="en", diarize=False)
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["text"][0]["text"].strip() == "Can you check the report?"
    assert WARNING in body["warnings"][0]
    assert WARNING in response.headers["X-ASR-Warning"]


@pytest.mark.parametrize("kind", ["mkv with video", "m4a"])
def test_sound_that_starts_late(server: Server, sound: Any, kind: str) -> None:
    body = transcribe(server, encode(FORMATS[kind], (2, sound)))
    check_words(body, true_words(2), 0.03)
    assert body["duration"] == pytest.approx(TRUTH["duration"] + 2, abs=0.1)


def test_a_gap_becomes_silence(server: Server, sound: Any) -> None:
    cut = int(MIDDLE_S * 16_000)
    media = Media("matroska", "aac", 44_100)
    body = transcribe(server, encode(media, (0, sound[:cut]), (MIDDLE_S + 3, sound[cut:])))
    check_words(body, true_words(0, 3), 0.03)
    assert body["duration"] == pytest.approx(TRUTH["duration"] + 3, abs=0.1)
    assert "warnings" not in body


def test_a_transport_stream_counts_from_its_own_start(server: Server, sound: Any) -> None:
    """Its clock stands at over a second when it begins, and the pictures begin before the sound."""
    media = replace(FORMATS["transport stream"], video_s=5.0)
    check_words(transcribe(server, encode(media, (1, sound))), true_words(1), 0.03)
