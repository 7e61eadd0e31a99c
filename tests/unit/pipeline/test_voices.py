"""Known voices and the speakers of a recording."""

from __future__ import annotations

import pytest

from app.domain.transcript import Diarization, Turn
from app.pipeline.voices import match_voices, rename_speakers

ANNA, BEN, CLEO = (1.0, 0.0, 0.1), (0.0, 1.0, 0.1), (0.1, 0.0, 1.0)


def test_each_voice_finds_its_speaker() -> None:
    speakers = {"SPEAKER_00": (0.1, 2.0, 0.2), "SPEAKER_01": (3.0, 0.2, 0.1)}
    assert match_voices(speakers, {"Anna": ANNA, "Ben": BEN}, 0.5) == {
        "SPEAKER_00": "Ben",
        "SPEAKER_01": "Anna",
    }


def test_a_stranger_stays_one() -> None:
    assert match_voices({"SPEAKER_00": CLEO}, {"Anna": ANNA, "Ben": BEN}, 0.5) == {}


def test_a_voice_is_one_speaker_only() -> None:
    """The one that is the most like it."""
    speakers = {"SPEAKER_00": (1.0, 0.5, 0.0), "SPEAKER_01": (1.0, 0.0, 0.1)}
    assert match_voices(speakers, {"Anna": ANNA}, 0.5) == {"SPEAKER_01": "Anna"}


def test_the_pairs_are_the_best_in_all() -> None:
    """Both are nearest to Anna; the second has nobody else."""
    speakers = {"SPEAKER_00": (1.0, 0.8, 0.0), "SPEAKER_01": (1.0, 0.0, 0.0)}
    found = match_voices(speakers, {"Anna": ANNA, "Ben": BEN}, 0.5)
    assert found == {"SPEAKER_00": "Ben", "SPEAKER_01": "Anna"}


def test_what_is_too_little_alike_takes_nobodys_place() -> None:
    """Together 0.49 and 0.49 are more than 0.9 and nothing, but no pair of them is one."""
    first, second = (0.9, 0.4359, 0.0), (0.49, 0.0, 0.8717)
    found = match_voices(
        {"SPEAKER_00": first, "SPEAKER_01": second}, {"Anna": (1, 0, 0), "Ben": (0, 1, 0)}, 0.5
    )
    assert found == {"SPEAKER_00": "Anna"}


def test_any_likeness_may_be_enough() -> None:
    speakers = {"SPEAKER_00": (-1.0, 0.2, 0.0), "SPEAKER_01": (0.3, -1.0, 0.0)}
    found = match_voices(speakers, {"Anna": (1, 0, 0)}, -0.99)
    assert found == {"SPEAKER_01": "Anna"}


@pytest.mark.parametrize(
    ("speakers", "known"), [({}, {"Anna": ANNA}), ({"A": ANNA}, {}), ({"A": (0, 0, 0)}, {"B": BEN})]
)
def test_nobody_to_match(speakers: dict[str, tuple[float, ...]], known: dict[str, tuple]) -> None:
    assert match_voices(speakers, known, 0.5) == {}


def test_names_are_put_everywhere() -> None:
    turns = (Turn(0, 1, "SPEAKER_00"), Turn(1, 2, "SPEAKER_01"))
    named = rename_speakers(
        Diarization(turns, turns[1:], {"SPEAKER_00": ANNA, "SPEAKER_01": BEN}),
        {"SPEAKER_01": "Ben"},
    )
    assert [turn.speaker for turn in named.turns] == ["SPEAKER_00", "Ben"]
    assert [turn.speaker for turn in named.exclusive_turns] == ["Ben"]
    assert named.embeddings == {"SPEAKER_00": ANNA, "Ben": BEN}
