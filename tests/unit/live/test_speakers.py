from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.domain.transcript import Segment, Transcript, Word
from app.live import speakers as module
from app.live.speakers import Speakers
from app.live.voices import Voices, main_speaker, turns_of

CHANCE = np.random.default_rng(3)
VOICES = np.eye(3, 16)


def said(speaker: int, noise: float = 0.15) -> list[float]:
    return list(VOICES[speaker] * 5 + CHANCE.normal(0, noise, 16))


def heard(speakers: Speakers, utterance: int, voice: list[float], seconds: float = 3.0) -> str:
    return speakers.label(utterance, {"S": voice}, {"S": seconds})["S"]


def corrected(speakers: Speakers) -> list[str]:
    return list(speakers.corrected().values())


def test_voices_get_the_label_of_the_nearest_speaker() -> None:
    speakers, order = Speakers(0.5), [0, 1, 0, 2, 1, 1, 2, 0]
    labels = [heard(speakers, n, said(s)) for n, s in enumerate(order)]
    assert labels == [f"SPEAKER_{s:02d}" for s in order]
    assert corrected(speakers) == labels


def test_an_utterance_of_two() -> None:
    speakers = Speakers(0.5)
    assert heard(speakers, 1, said(1)) == "SPEAKER_00"
    both = speakers.label(2, {"A": said(0), "B": said(1)}, {"A": 2.0, "B": 2.0})
    assert both == {"A": "SPEAKER_01", "B": "SPEAKER_00"}
    assert speakers.corrected()[2, "B"] == "SPEAKER_00"


def test_the_end_corrects_what_could_not_be_known() -> None:
    """A poor first recording of a voice looks like another speaker until others lie between."""
    speakers = Speakers(0.8)
    angles = [0.0, 0.9, 0.55, 0.5, 0.45]
    labels = [heard(speakers, n, [np.cos(a), np.sin(a)]) for n, a in enumerate(angles)]
    assert labels[:2] == ["SPEAKER_00", "SPEAKER_01"]
    assert set(corrected(speakers)) == {"SPEAKER_00"}


def test_a_short_murmur_is_nobody_new_in_the_end() -> None:
    speakers = Speakers(0.8)
    for n in range(4):
        heard(speakers, n, said(n % 2))
    murmur = list(0.6 * VOICES[0] + 0.5 * VOICES[2])
    assert heard(speakers, 4, murmur, 0.4) == "SPEAKER_02"
    assert corrected(speakers)[4] == "SPEAKER_00"


def test_known_voices_have_their_names() -> None:
    speakers = Speakers(0.5)
    # the last is of another model, with which nothing can be compared
    speakers.know({"Anna": tuple(said(1)), "Eve": tuple(said(2)), "Else": (1.0, 2.0)})
    order = [0, 1, 0, 1]
    labels = [heard(speakers, n, said(s)) for n, s in enumerate(order)]
    assert labels == ["SPEAKER_00", "Anna"] * 2
    assert corrected(speakers) == labels


def test_later_utterances_follow_their_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VOICES", 4)
    speakers = Speakers(0.5)
    labels = [heard(speakers, n, said(n % 3)) for n in range(9)]
    assert corrected(speakers) == labels


@pytest.mark.parametrize("voice", [[0.0, 0.0], [float("nan"), 0.0]])
def test_nobody(voice: list[float]) -> None:
    assert Speakers(0.5).corrected() == {}
    speakers = Speakers(0.5)
    assert heard(speakers, 1, voice) == "SPEAKER_00"
    assert heard(speakers, 2, voice) == "SPEAKER_00"
    assert set(corrected(speakers)) == {"SPEAKER_00"}


def spoken(*turns: tuple[str, float]) -> Transcript:
    """Segments of these speakers that last so long, one after the other."""
    segments, at_s = [], 0.0
    for speaker, seconds in turns:
        words = (Word("yes", at_s, at_s + seconds, 1.0, speaker),)
        segments.append(Segment(at_s, at_s + seconds, " yes", words, speaker))
        at_s += seconds
    voices = {"SPEAKER_00": tuple(said(0)), "SPEAKER_01": tuple(said(1))}
    return Transcript("en", at_s, "m", tuple(segments), True, voices)


def test_names_hold_for_all_transcripts_of_a_stream() -> None:
    voices = Voices(0.5)
    first = spoken(("SPEAKER_00", 1.0), ("SPEAKER_00", 1.0), ("SPEAKER_01", 3.0))
    swapped = {"SPEAKER_00": tuple(said(1)), "SPEAKER_01": tuple(said(0))}
    named = voices.name(1, first)
    again = voices.name(2, replace(first, speaker_embeddings=swapped))
    assert [s.speaker for s in again.segments] == ["SPEAKER_01"] * 2 + ["SPEAKER_00"]
    assert [s.words[0].speaker for s in again.segments if s.words] == [
        s.speaker for s in again.segments
    ]
    assert main_speaker(turns_of(named)) == "SPEAKER_01"
    assert main_speaker(turns_of(again)) == "SPEAKER_00"
    assert {u: [t.speaker for t in turns] for u, turns in voices.corrected().items()} == {
        1: ["SPEAKER_00", "SPEAKER_01"],
        2: ["SPEAKER_01", "SPEAKER_00"],
    }
    voices.forget_turns()
    assert voices.corrected() == {}


def test_a_transcript_without_speakers() -> None:
    voices = Voices(0.5)
    plain = Transcript("en", 1.0, "m", (Segment(0.0, 1.0, " yes"),))
    assert voices.name(1, plain) is plain
    assert voices.corrected() == {}
    assert main_speaker(turns_of(plain)) is None


def test_voices_of_two_models_are_different_people() -> None:
    """Their numbers cannot be compared, not even at the end."""
    speakers = Speakers(0.5)
    assert heard(speakers, 1, said(0)) == "SPEAKER_00"
    assert heard(speakers, 2, list(np.eye(3, 32)[0])) == "SPEAKER_01"
    assert heard(speakers, 3, said(0)) == "SPEAKER_00"
    assert speakers.corrected() == {
        (1, "S"): "SPEAKER_00", (3, "S"): "SPEAKER_00", (2, "S"): "SPEAKER_01",
    }  # fmt: skip


def test_no_label_is_given_twice_whoever_becomes_known() -> None:
    speakers = Speakers(0.5)
    speakers.know({"Anna": said(0)})
    labels = [heard(speakers, 1, said(0))]
    speakers.know({})
    labels.append(heard(speakers, 2, said(1)))
    speakers.know({"Anna": said(0)})
    labels.append(heard(speakers, 3, said(2)))
    assert len(set(labels)) == 3
