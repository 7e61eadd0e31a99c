"""The bodies and events of OpenAI's API, for transcripts that no recording gives."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from app.api.openai.parameters import DIARIZING_MODEL, OUTPUTS, parse_openai_request
from app.domain.options import Task
from app.domain.transcript import Chunk, DecodingStats, Segment, TokenProb, Transcript, Word
from app.domain.warnings import TranscriptWarning
from app.formats.openai import Deltas, Shape, diarized_segments, done, write
from app.formats.subtitles import SubtitleStyle
from app.formats.table import JSON
from app.formats.text import text_of

STATS = DecodingStats(-0.25, 0.01, 1.2, 0.2)
FIRST = Segment(
    10.0,
    11.5,
    " Grüß Gott.",
    (Word("Grüß", 10.0, 10.5, 0.9), Word("Gott.")),
    chunk=Chunk(9.87, 30.0),
    stats=STATS,
    tokens=(5, 6, 7),
    token_ends=(3, 5, 11),
    token_probs=(TokenProb(b" Gr", -0.1), TokenProb(b"\xc3", -0.2), TokenProb(b"\xbc...", -0.3)),
)
SECOND = replace(FIRST, start_s=12.0, end_s=13.0, text=" Ja. ", words=(), token_probs=())
TRANSCRIPT = Transcript("de", 31.2, "demo", (FIRST, SECOND))


def body_of(output: str, **shape: object) -> dict[str, object]:
    body: dict[str, object] = json.loads(
        write(TRANSCRIPT, Shape(OUTPUTS[output], **shape), SubtitleStyle())  # type: ignore[arg-type]
    )
    return body


def test_verbose_figures_are_the_decoders() -> None:
    body = body_of("verbose_json", with_words=True)
    assert body["language"] == "german"
    assert body["usage"] == {"type": "duration", "seconds": 32}
    assert body["segments"][0] == {  # type: ignore[index]
        "id": 0,
        "seek": 987,
        "start": 10.0,
        "end": 11.5,
        "text": " Grüß Gott.",
        "tokens": [5, 6, 7],
        "temperature": 0.2,
        "avg_logprob": -0.25,
        "compression_ratio": 1.2,
        "no_speech_prob": 0.01,
    }


def test_no_times_are_invented() -> None:
    body = body_of("verbose_json", with_words=True)
    assert body["words"] == [{"word": "Grüß", "start": 10.0, "end": 10.5}]


WITH_SPEAKERS = replace(
    TRANSCRIPT,
    segments=(
        replace(
            FIRST,
            speaker="SPEAKER_00",
            words=(Word("Grüß", 10.0, 10.5, 0.9, speaker="SPEAKER_00"),),
        ),
        replace(SECOND, speaker="Anna"),
    ),
    speakers_known=True,
    speaker_embeddings={"SPEAKER_00": (0.5, 1.0), "Anna": (0.25, 0.0), "SPEAKER_01": (math.nan,)},
)


@pytest.mark.parametrize("output", OUTPUTS)
def test_speakers_that_are_asked_for_are_in_every_format(output: str) -> None:
    shape = Shape(OUTPUTS[output], with_words=True, with_speakers=True, with_embeddings=True,
                  names=("Anna",))  # fmt: skip
    written = write(WITH_SPEAKERS, shape, SubtitleStyle())
    label = "A" if output in ("json", "diarized_json") else "SPEAKER_00"
    if output == "md":
        assert f"**{label}:** Grüß" in written
        assert "**Anna:** Ja." in written
        return
    if "json" not in output:
        assert f"[{label}]: Grüß" in written
        assert "[Anna]: Ja." in written
        return
    body = json.loads(written)
    assert [segment["speaker"] for segment in body["segments"]] == [label, "Anna"]
    assert body["speaker_embeddings"] == {label: [0.5, 1.0], "Anna": [0.25, 0.0]}
    if output == "verbose_json":
        assert [word["speaker"] for word in body["words"]] == [label]
    event = done(WITH_SPEAKERS, replace(shape, output=JSON))
    assert event["speaker_embeddings"].keys() == {"A", "Anna"}


ASKED = [
    ({"response_format": "verbose_json"}, False, False),
    ({"response_format": "verbose_json", "diarize": "true"}, True, False),
    ({"response_format": "srt", "num_speakers": "2"}, True, False),
    ({"return_speaker_embeddings": "1"}, True, False),
    ({"model": "gpt-4o-transcribe-diarize"}, False, False),
    ({"model": "gpt-4o-transcribe-diarize-2025-10-15", "response_format": "vtt"}, True, True),
    ({"model": DIARIZING_MODEL, "response_format": "verbose_json", "diarize": "no"}, False, True),
    ({"response_format": "diarized_json", "max_speakers": "3"}, True, True),
]


@pytest.mark.parametrize(("fields", "diarize", "must"), ASKED)
def test_who_gets_speakers(fields: dict[str, str], diarize: bool, must: bool) -> None:
    lists = {name: [value] for name, value in fields.items()}
    wanted = parse_openai_request(lists, Task.TRANSCRIBE)
    assert (wanted.diarize, wanted.diarize and wanted.must_diarize) == (diarize, diarize and must)


def test_the_last_event() -> None:
    shape = Shape(JSON)
    assert done(TRANSCRIPT, shape) == {
        "type": "transcript.text.done",
        "text": "Grüß Gott. Ja.",
        "segments": [
            {"id": 0, "start": 10.0, "end": 11.5, "text": " Grüß Gott."},
            {"id": 1, "start": 12.0, "end": 13.0, "text": " Ja. "},
        ],
        "languages": [{"code": "de"}],
    }
    lacking = replace(TRANSCRIPT, warnings=(TranscriptWarning.BREAKS_OFF,))
    event = done(lacking, replace(shape, task=Task.TRANSLATE, with_logprobs=True))
    assert event["warnings"] == [TranscriptWarning.BREAKS_OFF.sentence]
    assert "languages" not in event
    assert len(event["logprobs"]) == 3


def test_only_what_is_asked_for() -> None:
    assert "segments" not in body_of("verbose_json", with_words=True, with_segments=False)
    assert "words" not in body_of("verbose_json")
    assert "logprobs" not in body_of("json")


def test_a_translation_is_english() -> None:
    body = body_of("verbose_json", task=Task.TRANSLATE)
    assert (body["task"], body["language"]) == ("translate", "english")


def test_a_letter_may_be_parted() -> None:
    assert body_of("json", with_logprobs=True)["logprobs"] == [
        {"token": " Gr", "logprob": -0.1, "bytes": [32, 71, 114]},
        {"token": "\ufffd", "logprob": -0.2, "bytes": [0xC3]},
        {"token": "\ufffd...", "logprob": -0.3, "bytes": [0xBC, 46, 46, 46]},
    ]


def test_labels() -> None:
    """Names stay, letters follow in the order of speaking, and nobody takes a name of another."""
    speakers = ["SPEAKER_01", "Anna", "SPEAKER_00", "SPEAKER_01", "A", None]
    segments = tuple(replace(FIRST, speaker=speaker) for speaker in speakers)
    found = diarized_segments(replace(TRANSCRIPT, segments=segments), ("Anna", "A"))
    assert [s["speaker"] for s in found] == ["B", "Anna", "C", "B", "A", "unknown"]
    assert len({s["id"] for s in found}) == len(found)


def test_labels_beyond_the_alphabet() -> None:
    segments = tuple(replace(FIRST, speaker=f"SPEAKER_{i:02d}") for i in range(28))
    found = diarized_segments(replace(TRANSCRIPT, segments=segments), ())
    assert [s["speaker"] for s in found[24:]] == ["Y", "Z", "AA", "AB"]


@pytest.mark.parametrize(
    "texts",
    [(" Hello.", " You."), ("", " ", " So", " "), (" a ", " b "), ("今日", "は"), (" ",)],
)
def test_deltas_are_the_text(texts: tuple[str, ...]) -> None:
    segments = [replace(FIRST, text=text) for text in texts]
    deltas = Deltas(with_logprobs=False)
    told = [deltas.delta(segment) for segment in segments]
    assert "".join(d["delta"] for d in told if d) == text_of(segments)
    assert all(d["delta"] for d in told if d)
