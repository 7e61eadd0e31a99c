"""Echoes: sentences that a recognizer says twice where the sound ends in the middle of a word."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.domain.transcript import SpokenWord
from app.live.echoes import without_echo

SAID = "Where is the invoice? It is raining at the airport."


def spoken(text: str, ends: Sequence[float]) -> list[SpokenWord]:
    starts = [0.0, *ends]
    return [
        SpokenWord(f" {word}", start_s, end_s, 0.9)
        for word, start_s, end_s in zip(text.split(), starts, ends, strict=False)
    ]


def times(*parts: tuple[int, float]) -> list[float]:
    """Of as many words, each so long."""
    ends, at_s = [], 0.0
    for count, each_s in parts:
        for _ in range(count):
            at_s += each_s
            ends.append(at_s)
    return ends


@pytest.mark.parametrize(
    ("repeated", "ends"),
    [
        ("It is raining at the airport.", times((10, 0.15), (6, 0.0))),
        ("it is raining at the airport", times((4, 0.15), (6, 0.0), (6, 0.15))),
        ("It is raining", times((10, 0.14), (3, 0.0))),
        ("It is raining at the station.", times((10, 0.15), (6, 0.0))),
        ("It is raining at the airport. It is raining at the airport.", times((10, 0.15), (12, 0))),
    ],
    ids=["after", "before", "in part", "another end", "twice"],
)
def test_what_had_no_time_to_be_said_again_was_not(repeated: str, ends: list[float]) -> None:
    kept = without_echo(spoken(f"{SAID} {repeated}", ends))
    assert "".join(word.text for word in kept).strip().lower().rstrip(".") == SAID.lower()[:-1]
    assert kept[-1].end_s - kept[-6].start_s > 0.5, "the times are those of the speech"


@pytest.mark.parametrize(
    "text", [SAID, f"{SAID} It is raining at the airport.", "No, no, no, no.", "Yes.", ""]
)
def test_what_had_the_time_was_said(text: str) -> None:
    words = spoken(text, times((len(text.split()), 0.12)))
    assert without_echo(words) == words
