from __future__ import annotations

import numpy as np

from app.live.speakers import Speakers

CHANCE = np.random.default_rng(3)
VOICES = np.eye(3, 16)


def said(speaker: int, noise: float = 0.15) -> list[float]:
    return list(VOICES[speaker] * 5 + CHANCE.normal(0, noise, 16))


def test_utterances_get_the_label_of_the_nearest_voice() -> None:
    speakers, order = Speakers(0.5), [0, 1, 0, 2, 1, 1, 2, 0]
    labels = [speakers.label(n, said(s)) for n, s in enumerate(order)]
    assert labels == [f"SPEAKER_{s:02d}" for s in order]
    assert list(speakers.corrected().values()) != []
    assert speakers.corrected() == dict(enumerate(labels))


def test_the_end_corrects_what_could_not_be_known() -> None:
    """A poor first recording of a voice looks like another speaker until others lie between."""
    speakers = Speakers(0.8)
    angles = [0.0, 1.0, 0.55, 0.5, 0.45]
    voices = [[np.cos(a), np.sin(a)] for a in angles]
    labels = [speakers.label(n, voice) for n, voice in enumerate(voices)]
    assert labels[:2] == ["SPEAKER_00", "SPEAKER_01"]
    assert set(speakers.corrected().values()) == {"SPEAKER_00"}


def test_nobody() -> None:
    assert Speakers(0.5).corrected() == {}
    assert Speakers(0.5).label(1, [0.0, 0.0]) == "SPEAKER_00"
