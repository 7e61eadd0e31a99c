"""Known speakers of the OpenAI API: told by a reference, named by it in the transcript."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from openai import BadRequestError, OpenAI
from openai.types.audio import Transcription, TranscriptionDiarized

from tests.support.media import FORMATS, Media, Samples, encode, speech
from tests.support.openai_client import (
    DIARIZING,
    client_of,
    labels,
    spoken,
    stream_events,
    transcribe,
    words_by_speaker,
)
from tests.support.server import Server
from tests.support.truth import audio_of, matched_words, truth_of, word_error_rate

SAMPLE_RATE = 16_000
PLAIN = FORMATS["wav"]
STUDIO = Media("wav", "pcm_s16le", 48_000, "stereo")
TELEPHONE = Media("wav", "pcm_mulaw", 8_000)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as opened:
        yield opened


def data_url(samples: Samples, media: Media = PLAIN, kind: str = "audio/wav") -> str:
    return f"data:{kind};base64,{base64.b64encode(encode(media, (0.0, samples))).decode()}"


def voice(name: str, speaker: str) -> Samples:
    """The first turn of a speaker's that is long enough, and no longer than OpenAI allows."""
    turn = next(
        turn
        for turn in truth_of(name)["turns"]
        if turn["speaker"] == speaker and 2.5 <= turn["end"] - turn["start"] <= 9.5
    )
    start, end = (round(turn[key] * SAMPLE_RATE) for key in ("start", "end"))
    return speech(name)[start:end]


def noise(duration_s: float) -> Samples:
    rng = np.random.default_rng(7)
    return (0.1 * rng.standard_normal(round(duration_s * SAMPLE_RATE))).astype(np.float32)


def known(client: OpenAI, name: str, references: dict[str, str]) -> TranscriptionDiarized:
    return transcribe(
        client,
        name,
        TranscriptionDiarized,
        model=DIARIZING,
        response_format="diarized_json",
        chunking_strategy="auto",
        known_speaker_names=list(references),
        known_speaker_references=list(references.values()),
    )


def share_named(name: str, segments: Any, names: dict[str, str]) -> float:
    """The share of the words that carry the name of who said them. `names`: by truth."""
    pairs = matched_words(truth_of(name)["words"], words_by_speaker(segments))
    return sum(names[true["speaker"]] == heard["speaker"] for true, heard in pairs) / len(pairs)


def test_known_by_what_they_said_elsewhere(client: OpenAI) -> None:
    """The voices of one conversation, in the words of another."""
    references = {
        "agent": data_url(voice("en_long", "speaker2"), STUDIO),
        "Frau Müller": data_url(voice("en_long", "speaker0")),
    }
    body = known(client, "en_three", references)
    (stranger,) = set(labels(body.segments)) - set(references)
    assert stranger in ("A", "B", "C")
    names = {"speaker0": "Frau Müller", "speaker1": stranger, "speaker2": "agent"}
    assert share_named("en_three", body.segments, names) >= 0.98
    assert word_error_rate(spoken("en_three"), body.text) <= 0.02


def test_a_voice_that_is_not_heard_names_nobody(client: OpenAI) -> None:
    references = {
        "nobody": data_url(voice("en_mono", "speaker0")),
        "Anna": data_url(voice("en_two_b", "speaker1"), FORMATS["mp3"], "audio/mpeg"),
    }
    body = known(client, "en_two_b", references)
    (stranger,) = set(labels(body.segments)) - {"Anna"}
    assert stranger in ("A", "B")
    names = {"speaker0": stranger, "speaker1": "Anna"}
    assert share_named("en_two_b", body.segments, names) >= 0.98


def test_a_reference_in_which_nobody_speaks(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="nobody speaks") as failure:
        known(client, "en_short", {"nobody": data_url(noise(3))})
    assert failure.value.param == "known_speaker_references"


def test_known_in_a_stream(client: OpenAI) -> None:
    events = stream_events(
        client,
        "en_two_b",
        model=DIARIZING,
        response_format="diarized_json",
        known_speaker_names=["Anna", "Bert"],
        known_speaker_references=[
            data_url(voice("en_two_b", "speaker1"), TELEPHONE),
            data_url(voice("en_two_b", "speaker0"), FORMATS["m4a"], "audio/mp4"),
        ],
    )
    segments = [event for event in events if event.type == "transcript.text.segment"]
    assert share_named("en_two_b", segments, {"speaker0": "Bert", "speaker1": "Anna"}) >= 0.98


# -- in every format -------------------------------------------------------------------------------

ASKED: dict[str, Any] = {"diarize": True, "num_speakers": 2, "return_speaker_embeddings": True}


def asked(client: OpenAI, response_format: str, **options: Any) -> Any:
    """The answer to a request that asks for speakers, as JSON or as text."""
    answer = client.audio.transcriptions.with_raw_response.create(
        file=audio_of("en_two_b"), model="whisper-1", response_format=response_format,
        extra_body={**ASKED, **options},
    )  # type: ignore[call-overload]  # fmt: skip
    return answer.http_response.json() if "json" in response_format else answer.text


def test_speakers_of_verbose_json(client: OpenAI) -> None:
    """Only where they are asked for: without, the answer is OpenAI's."""
    both = {"timestamp_granularities": ["word", "segment"]}
    body = asked(client, "verbose_json", **both)
    numbers = {"speaker0": "SPEAKER_00", "speaker1": "SPEAKER_01"}
    if body["words"][0]["speaker"] != numbers[truth_of("en_two_b")["words"][0]["speaker"]]:
        numbers = dict(zip(numbers, reversed(numbers.values()), strict=True))
    pairs = matched_words(truth_of("en_two_b")["words"], body["words"])
    right = sum(numbers[true["speaker"]] == heard["speaker"] for true, heard in pairs)
    assert right / len(pairs) >= 0.98
    assert {segment["speaker"] for segment in body["segments"]} == set(numbers.values())
    assert {len(vector) for vector in body["speaker_embeddings"].values()} == {128}
    assert body["speaker_embeddings"].keys() == set(numbers.values())
    assert "speaker" not in str(asked(client, "verbose_json", diarize=False, **both))


def test_speakers_in_plain_text(client: OpenAI) -> None:
    text = asked(client, "text", num_speakers=None, max_speakers=1)
    assert "[SPEAKER_00]: " in text
    assert "SPEAKER_01" not in text


def test_a_recording_in_a_json_body(client: OpenAI) -> None:
    """As routers send it, with the same options as in a form."""
    data = base64.b64encode(audio_of("en_two_b").read_bytes()).decode()
    body: Any = client.post(
        "/audio/transcriptions",
        body={
            "model": "openai/whisper-1",
            "input_audio": {"data": data, "format": "flac"},
            "language": "en-US",
            "temperature": 0,
            "response_format": "diarized_json",
            "num_speakers": 2,
            "return_speaker_embeddings": True,
            "provider": {"options": {}},
        },
        cast_to=object,
    )
    found = labels(TranscriptionDiarized.model_validate(body).segments)
    assert found == list(body["speaker_embeddings"]) == ["A", "B"]
    assert word_error_rate(spoken("en_two_b"), body["text"]) <= 0.02


# -- refused -----------------------------------------------------------------------------------


VOICE = data_url(noise(3))
REFUSED = {
    "names alone": (["Anna"], None),
    "references alone": (None, [VOICE]),
    "more names": (["Anna", "Bert"], [VOICE]),
    "more references": (["Anna"], [VOICE, VOICE]),
    "one name twice": (["Anna", "Anna"], [VOICE, VOICE]),
    "no name": ([" "], [VOICE]),
    "too short": (["Anna"], [data_url(noise(1.5))]),
    "too long": (["Anna"], [data_url(noise(11))]),
    "no data URL": (["Anna"], ["https://example.com/anna.wav"]),
    "a file": (["Anna"], ["file:///etc/passwd"]),
    "no base64": (["Anna"], ["data:audio/wav;base64,%%%"]),
    "no audio": (["Anna"], ["data:audio/wav;base64," + base64.b64encode(b"RIFF?").decode()]),
    "no base64 at all": (["Anna"], ["data:audio/wav,%41%42"]),
    "nested multiparts": (
        ["Anna"],
        ["data:multipart/mixed; boundary=a;base64," + "--a\nContent-Type: multipart/mixed\n" * 999],
    ),
    "nothing": (["Anna"], ["data:audio/wav;base64,"]),
}


@pytest.mark.parametrize(("names", "references"), REFUSED.values(), ids=REFUSED.keys())
def test_references_that_cannot_be(
    client: OpenAI, names: list[str] | None, references: list[str] | None
) -> None:
    given = {"known_speaker_names": names, "known_speaker_references": references}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    with pytest.raises(BadRequestError) as failure:
        client.audio.transcriptions.create(
            file=audio_of("en_short"), model=DIARIZING, response_format="diarized_json", **options
        )
    assert failure.value.param in (
        "known_speaker_names", "known_speaker_names[]",
        "known_speaker_references", "known_speaker_references[]",
    )  # fmt: skip
    assert failure.value.type == "invalid_request_error"
    assert "passwd" not in failure.value.message
    assert transcribe(client, "en_short", Transcription).text == spoken("en_short")
