"""CertainWords: told in the order in which they were said, however late a transcript is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.domain.errors import StageFailed
from app.domain.transcript import Transcript
from app.live.certain import CertainWords
from app.live.events import (
    Dropped,
    Ended,
    Failed,
    Final,
    LiveEvent,
    Partial,
    Reset,
    SpeechStarted,
)
from tests.support.spoken import spoken

NOTHING = Transcript("en", 1.0, "m", ())


def partial(utterance: int, text: str) -> Partial:
    return Partial(utterance, tuple(spoken(text)), (), 1.0, "en", None)


def final(utterance: int, rest: str) -> Final:
    return Final(utterance, 0.0, 1.0, NOTHING, tuple(spoken(rest)), None)


FIRST = [SpeechStarted(1, 0.0), partial(1, "one"), SpeechStarted(2, 1.0), partial(2, "three")]


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([*FIRST, final(1, "two"), partial(2, "four")], ["one", "two three", "four"]),
        ([*FIRST, final(1, ""), final(2, "four")], ["one", "three", "four"]),
        ([*FIRST, Failed(1, StageFailed("no")), final(2, "four")], ["one", "three", "four"]),
        ([*FIRST, Dropped(1), partial(2, "four")], ["one", "three", "four"]),
        ([*FIRST, Dropped(2), final(1, "two")], ["one", "two"]),
        ([*FIRST, Dropped(1), Dropped(2), Reset(), SpeechStarted(3, 2.0), partial(3, "five")],
         ["one", "three", "five"]),
        ([*FIRST, Ended(StageFailed("no"))], ["one", "three"]),
    ],
)  # fmt: skip
def test_no_word_comes_before_an_earlier_one(
    events: Sequence[LiveEvent], told: Sequence[str]
) -> None:
    certain = CertainWords()
    heard = ["".join(word.text for word in certain.hear(event)).strip() for event in events]
    assert [text for text in heard if text] == told
