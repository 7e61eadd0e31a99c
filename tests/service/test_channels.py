"""Tracks, channels and levels through the service, and transcripts of channels as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.domain.warnings import TranscriptWarning
from tests.support.media import FORMATS, encode, speech
from tests.support.server import Server
from tests.support.tracks import Track, tracks_file, wav
from tests.support.truth import audio_of, truth_of, word_error_rate

SPEECH, OTHER = speech("en_short"), speech("es_short")
DEFAULT = 1


def text_of(name: str) -> str:
    return " ".join(word["word"] for word in truth_of(name)["words"])


def transcribe(server: Server, content: bytes, **query: Any) -> dict[str, Any]:
    query = {"output": "json", "language": "en", **query}
    response = server.post(content, name="recording", **query)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert ("X-ASR-Warning" in response.headers) == bool(body.get("warnings"))
    return body


def heard(body: dict[str, Any]) -> str:
    return " ".join(segment["text"] for segment in body["segments"])


def test_the_track_with_the_sound(server: Server) -> None:
    silence = np.zeros_like(SPEECH)
    for tracks, warnings in (
        ([Track(silence, DEFAULT), Track(SPEECH)], []),
        ([Track(OTHER), Track(SPEECH, DEFAULT)], [TranscriptWarning.OTHER_TRACKS.sentence]),
    ):
        body = transcribe(server, tracks_file("matroska", "libopus", tracks))
        assert word_error_rate(text_of("en_short"), heard(body)) == 0
        assert body.get("warnings", []) == warnings


@pytest.mark.parametrize("parameter", ["1", "es", "spa"])
def test_a_track_that_is_asked_for(server: Server, parameter: str) -> None:
    file = tracks_file("mp4", "aac", [Track(SPEECH, DEFAULT, "eng"), Track(OTHER, 0, "spa")])
    body = transcribe(server, file, language="es", audio_track=parameter)
    assert word_error_rate(text_of("es_short"), heard(body)) == 0
    assert "warnings" not in body
    detected = server.post(file, "/detect-language", audio_track=parameter).json()
    assert detected["language_code"] == "es"


@pytest.mark.parametrize("wanted", ["2", "-1", "de", "tr\u00e8s long" * 10])
def test_a_track_that_is_not_there(server: Server, wanted: str) -> None:
    file = tracks_file("mp4", "aac", [Track(SPEECH, DEFAULT, "eng"), Track(OTHER, 0, "spa")])
    for endpoint in ("/asr", "/detect-language"):
        response = server.post(file, endpoint, audio_track=wanted)
        assert response.status_code == 422
        assert response.json()["detail"].startswith("audio_track: ")
    assert len(wanted) > 40 or "0 (eng), 1 (spa)" in response.json()["detail"]
    assert word_error_rate(text_of("en_short"), heard(transcribe(server, file))) == 0


def test_channels_that_cancel_and_a_quiet_recording(server: Server) -> None:
    for content in (wav([SPEECH, -SPEECH]), wav([SPEECH * np.float32(1e-4)])):
        body = transcribe(server, content)
        assert word_error_rate(text_of("en_short"), heard(body)) == 0
        assert "warnings" not in body


def test_one_channel_of_sixteen(server: Server) -> None:
    silence = np.zeros_like(SPEECH)
    body = transcribe(server, wav([*[silence] * 12, SPEECH, *[silence] * 3]))
    assert word_error_rate(text_of("en_short"), heard(body)) == 0


# -- one party per channel -----------------------------------------------------------------------


def call() -> bytes:
    """The second party answers when the first has asked, and begins before it ends again."""
    size = len(SPEECH) * 3
    first, second = np.zeros(size, np.float32), np.zeros(size, np.float32)
    first[: len(SPEECH)] = SPEECH
    start = len(SPEECH) + 8000
    second[start : start + len(SPEECH)] = SPEECH
    return wav([first, second])


@pytest.mark.parametrize("dialect", ["output", "output_format"])
def test_each_channel_is_a_speaker(server: Server, dialect: str) -> None:
    response = server.post(
        call(), **{dialect: "json"}, language="en", speakers="channels", word_timestamps=True
    )
    assert response.status_code == 200, response.text
    body = response.json()
    starts = [segment["start"] for segment in body["segments"]]
    assert starts == sorted(starts)
    for speaker, shift_s in (("SPEAKER_00", 0.0), ("SPEAKER_01", len(SPEECH) / 16_000 + 0.5)):
        own = [s for s in body["segments"] if s["speaker"] == speaker]
        assert word_error_rate(text_of("en_short"), heard({"segments": own})) == 0
        assert {word["speaker"] for s in own for word in s["words"]} == {speaker}
        first = truth_of("en_short")["words"][0]["start"] + shift_s
        assert own[0]["start"] == pytest.approx(first, abs=0.15)
    assert [s["speaker"] for s in body["speakers"]] == ["SPEAKER_00", "SPEAKER_01"]
    assert "warnings" not in body
    assert body["duration"] == pytest.approx(3 * len(SPEECH) / 16_000, abs=0.1)


def test_channels_as_they_come(server: Server) -> None:
    response = server.post(
        call(), output_format="json", language="en", speakers="channels", stream=True
    )
    assert response.status_code == 200
    assert response.text.count("event: segment") == 4
    assert response.text.index("event: segment") > response.text.rindex("event: text")
    assert '"speaker": "SPEAKER_01"' in response.text


def test_channels_that_are_one(server: Server) -> None:
    raw = (SPEECH * 32768).astype("<i2").tobytes()
    for content, query, warning in (
        (wav([SPEECH]), {}, TranscriptWarning.ONE_CHANNEL.sentence),
        (wav([SPEECH, SPEECH]), {}, TranscriptWarning.SAME_CHANNELS.sentence),
        (raw, {"encode": False}, TranscriptWarning.ONE_CHANNEL.sentence),
    ):
        body = transcribe(server, content, speakers="channels", **query)
        assert word_error_rate(text_of("en_short"), heard(body)) == 0
        assert {segment["speaker"] for segment in body["segments"]} == {"SPEAKER_00"}
        assert body["warnings"] == [warning]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"speakers": "channels", "num_speakers": 2}, "num_speakers: "),
        ({"speakers": "rows"}, "speakers: 'rows' is not allowed; it must be one of voices"),
        ({"speakers": "channels", "audio_track": "7"}, "audio_track: "),
    ],
)  # fmt: skip
def test_what_does_not_go_together(server: Server, query: dict[str, Any], says: str) -> None:
    response = server.post(call(), **query)
    assert response.status_code == 422
    assert response.json()["detail"].startswith(says)
    too_many = server.post(wav([SPEECH] * 9), speakers="channels")
    assert too_many.status_code == 422
    assert "at most 8 channels can be split; the recording has 9" in too_many.json()["detail"]
    assert server.post(audio_of("en_short")).status_code == 200


def test_half_a_file_is_told(server: Server) -> None:
    whole = encode(FORMATS["wma"], (0, np.tile(SPEECH, 3)))
    assert transcribe(server, whole[: len(whole) // 2])["warnings"] == [
        TranscriptWarning.BREAKS_OFF.sentence
    ]
