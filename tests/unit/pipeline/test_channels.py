"""Transcripts of channels become one."""

from __future__ import annotations

import numpy as np

from app.domain.options import TranscribeOptions
from app.domain.transcript import Audio, Segment, Transcript, Word
from app.domain.warnings import TranscriptWarning
from app.pipeline.channels import merge_channels, transcribe_channels
from app.pipeline.flow import Listener
from app.pipeline.speakers import number_speakers

A, B, C = list(TranscriptWarning)[:3]


def segment(start_s: float, text: str, speaker: str | None = None) -> Segment:
    words = (Word(text, start_s, start_s + 1, speaker=speaker),)
    return Segment(start_s, start_s + 1, text, words, speaker)


def transcript(
    language: str, *segments: Segment, warnings: tuple[TranscriptWarning, ...] = ()
) -> Transcript:
    return Transcript(language, 10.0, "demo", segments, warnings=warnings)


def test_transcripts_become_one_in_the_order_of_time() -> None:
    merged = merge_channels(
        [
            transcript("es", segment(0, " one"), segment(5, " four"), warnings=(A, B)),
            transcript("en", segment(1, " two"), segment(3, " three"), segment(7, " five")),
            transcript("fr", warnings=(B, C)),
        ]
    )
    assert [s.text for s in merged.segments] == [" one", " two", " three", " four", " five"]
    assert [s.speaker for s in merged.segments] == [f"SPEAKER_0{i}" for i in (0, 1, 1, 0, 1)]
    assert all(w.speaker == s.speaker for s in merged.segments for w in s.words or ())
    assert merged.language == "en"
    assert merged.warnings == (A, B, C)
    assert merged.speakers_known


def test_a_short_channel_takes_the_language_of_the_others() -> None:
    audio = [Audio(np.full(10, value, np.float32)) for value in (0, 1)]
    asked: list[tuple[float, str | None]] = []

    def recognize(audio: Audio, options: TranscribeOptions, listener: Listener) -> Transcript:
        asked.append((float(audio.samples[0]), options.language))
        language = options.language or ("nn" if audio.samples[0] == 0 else "en")
        return transcript(language, *[segment(i, " x") for i in range(1 + int(audio.samples[0]))])

    merged = transcribe_channels(recognize, audio, TranscribeOptions("demo", diarize=True))
    assert asked == [(0, None), (1, None), (0, "en")]
    assert merged.language == "en"
    asked.clear()
    transcribe_channels(recognize, audio, TranscribeOptions("demo", language="es"))
    assert asked == [(0, "es"), (1, "es")]


def test_speakers_are_numbered_without_gaps() -> None:
    segments = [segment(i, " x", speaker) for i, speaker in enumerate(
        ["SPEAKER_03", "Anna", "SPEAKER_01", "SPEAKER_10", None, "SPEAKER_03"])]  # fmt: skip
    embeddings = {name: (float(i),) for i, name in enumerate(
        ["SPEAKER_00", "SPEAKER_01", "SPEAKER_03", "SPEAKER_10", "Anna"])}  # fmt: skip
    renamed, vectors = number_speakers(segments, embeddings)
    expected = ["SPEAKER_01", "Anna", "SPEAKER_00", "SPEAKER_02", None, "SPEAKER_01"]
    assert [s.speaker for s in renamed] == expected
    assert [s.words[0].speaker for s in renamed if s.words] == expected
    assert vectors == {
        "SPEAKER_00": (1.0,), "SPEAKER_01": (2.0,), "SPEAKER_02": (3.0,), "Anna": (4.0,)
    }  # fmt: skip
