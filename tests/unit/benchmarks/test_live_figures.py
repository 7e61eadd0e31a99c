"""The figures of the live benchmark, and its reference's agreement, on streams made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.live_figures import Round, StreamTold
from benchmarks.live_spoken import REAL, Spoken, TrueWord, conversations, recordings
from benchmarks.one_lock import Agreement, Heard

SPOKEN = Spoken(
    "s",
    np.zeros(64_000, np.float32),
    tuple(TrueWord(text, i + 1.0) for i, text in enumerate(("We", "have", "five"))),
)


def words(text: str) -> list[dict[str, Any]]:
    return [{"word": word} for word in text.split()]


def partial(committed: str, tentative: str) -> dict[str, Any]:
    told = {"committed": words(committed), "tentative": words(tentative)}
    return {"event": "partial", "utterance": 1, **told}


FINAL = {"event": "final", "utterance": 1, "start": 0.5, "end": 3.5, "text": "We have five."}
FINAL |= {"words": words("We have five."), "rest": words("five.")}
MESSAGES = [
    (1.5, partial("", "we half")),
    (2.5, partial("We have", "nine")),
    (4.0, FINAL),
]


def test_delays_flicker_and_errors() -> None:
    stream = StreamTold(SPOKEN, MESSAGES, ended_well=True)
    assert stream.word_delays(stream.committed) == [1.5, 0.5, 1.0]
    assert stream.word_delays(stream.final) == [3.0, 2.0, 1.0]
    assert stream.end_delays() == [1.0]
    assert stream.flicker() == (2, 3)  # half, nine
    played = Round([stream, stream], cpu_s=2.0)
    assert played.errors.rate == 0
    assert played.compute == 2 / 8
    assert played.keeps_up


@pytest.mark.parametrize(
    ("messages", "ended_well"),
    [(MESSAGES, False), ([], True), ([(at + 6, message) for at, message in MESSAGES], True)],
)
def test_streams_that_fall_behind(messages: Any, ended_well: bool) -> None:
    assert not Round([StreamTold(SPOKEN, messages, ended_well)], 1.0).keeps_up


def test_words_of_the_material_lie_inside_it() -> None:
    for material in (conversations(9), recordings(REAL, 9)):
        assert len(material) >= 5
        for spoken in material:
            ends = [word.end_s for word in spoken.words]
            assert ends == sorted(ends)
            assert 0 < ends[0] < ends[-1] < spoken.duration_s - 1
            assert 5 < spoken.duration_s < 14


def test_the_reference_commits_what_two_transcripts_share() -> None:
    def heard(text: str) -> list[Heard]:
        return [Heard(f" {word}", float(i), i + 0.9) for i, word in enumerate(text.split())]

    agreement = Agreement()
    assert agreement.hear(heard("We have nine")) == []
    assert [word.text for word in agreement.hear(heard("we have five weeks"))] == [" we", " have"]
    assert [word.text for word in agreement.hear(heard("we have five weeks"))] == [
        " five",
        " weeks",
    ]
    assert agreement.last == []
