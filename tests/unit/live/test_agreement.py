"""Agreement: committed words never change, and none is lost or told twice."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from app.domain.transcript import SpokenWord
from app.live.agreement import Agreement
from tests.support.spoken import spoken

FAR_S = 1e9


def text_of(words: Sequence[SpokenWord]) -> str:
    return "".join(word.text for word in words).strip()


def test_words_that_two_hypotheses_share_are_committed() -> None:
    agreement = Agreement()
    assert agreement.hear(spoken("we will reach"), 0, FAR_S).committed == ()
    agreed = agreement.hear(spoken("We will, read the"), 0, FAR_S)
    assert text_of(agreed.committed) == "We will,"
    assert text_of(agreed.tentative) == "read the"
    agreed = agreement.hear(spoken("we will read the report"), 0, FAR_S)
    assert text_of(agreed.committed) == "read the"
    assert text_of(agreement.remaining(spoken("We will read the reports today"))) == "reports today"


def test_a_word_at_the_end_of_the_sound_is_not_certain() -> None:
    agreement = Agreement()
    agreement.hear(spoken("with Linda"), 0, 0.85)
    agreed = agreement.hear(spoken("with Linda"), 0, 0.9)
    assert (text_of(agreed.committed), text_of(agreed.tentative)) == ("with", "Linda")


def test_before_a_pause_one_hypothesis_is_enough() -> None:
    agreement = Agreement()
    agreement.hear(spoken("with"), 0, 0.5)
    agreed = agreement.hear(spoken("with Linda"), 0, 0.9, in_pause=True)
    assert (text_of(agreed.committed), agreed.tentative) == ("with Linda", ())
    assert text_of(agreement.remaining(spoken("With Linda today"))) == "today"


@pytest.mark.parametrize("shift_s", [-0.3, -0.1, 0.1, 0.3])
def test_other_times_of_the_same_words_lose_nothing(shift_s: float) -> None:
    agreement = Agreement()
    for _ in range(2):
        agreement.hear(spoken("a b c d", start_s=1), 0, FAR_S)
    rest = agreement.remaining(spoken("a b c d e f", start_s=1 + shift_s))
    assert text_of(rest) == "e f"
    assert rest[0].start_s >= agreement.committed_s


def test_words_that_are_said_twice_stay() -> None:
    agreement = Agreement()
    agreement.hear(spoken("no no"), 0, FAR_S)
    agreement.hear(spoken("no no no"), 0, FAR_S)
    agreed = agreement.hear(spoken("no no no no I said no"), 0, FAR_S)
    assert text_of(agreement.committed) == "no no no"
    assert text_of(agreed.tentative) == "no I said no"


def test_a_window_that_begins_later_goes_on_where_words_are_committed() -> None:
    agreement = Agreement()
    for _ in range(2):
        agreement.hear(spoken("one two three four five six"), 0, FAR_S)
    since_s = agreement.committed[2].end_s
    agreed = agreement.hear(spoken("four five six seven", start_s=since_s), since_s, FAR_S)
    assert text_of(agreed.tentative) == "seven"


def test_letters_without_spaces_are_matched_whatever_the_words() -> None:
    agreement = Agreement()
    words = [SpokenWord("你好", 0, 0.8, 1), SpokenWord("世界", 0.8, 1.6, 1)]
    for _ in range(2):
        agreement.hear(words, 0, FAR_S)
    letters = [SpokenWord(c, i * 0.4, i * 0.4 + 0.4, 1) for i, c in enumerate("你好世界吗")]
    assert text_of(agreement.remaining(letters)) == "吗"


@pytest.mark.parametrize("seed", range(30))
def test_what_is_committed_never_changes_and_is_in_order(seed: int) -> None:
    """Random hypotheses: cut anywhere, with wrong words, and times that wander."""
    chance = random.Random(seed)
    said = spoken(" ".join(chance.choice(["ba", "be", "bi", "bo", "bu"]) for _ in range(40)))
    agreement, told = Agreement(), []
    for heard in range(1, 41):
        hypothesis = [
            SpokenWord(
                w.text if chance.random() < 0.9 else " xa",
                w.start_s + chance.uniform(-0.1, 0.1), w.end_s + chance.uniform(-0.1, 0.1), 1,
            )
            for w in said[: heard + chance.randint(0, 1)]
        ]  # fmt: skip
        told += agreement.hear(hypothesis, 0, FAR_S).committed
        assert list(agreement.committed) == told
    everything = [*told, *agreement.remaining(said)]
    starts = [word.start_s for word in everything]
    assert starts == sorted(starts)
    assert abs(len(everything) - 40) <= 3


def test_true_hypotheses_tell_everything_once() -> None:
    said = spoken("the cat and the dog and the cat and the bird and the cat")
    agreement, told = Agreement(), []
    for heard in range(1, len(said) + 1):
        told += agreement.hear(said[:heard], 0, FAR_S).committed
    assert text_of([*told, *agreement.remaining(said)]) == text_of(said)


def test_words_after_a_cut_are_those_of_the_next_utterance() -> None:
    """What was told of them is not told again, and is missing nowhere."""
    said = spoken("we will reach the summit before it rains", 1.0)
    first = Agreement()
    for _ in range(2):
        first.hear(said, 0, FAR_S)
    second = Agreement(first.cut(4.4))
    assert text_of(first.committed) == "we will reach the"
    assert first.remaining(said[:4]) == ()
    assert text_of(second.committed) == "summit before it rains"
    again = spoken("Summit before it rains again", 1.0, 4.1)
    assert second.hear(again, 4.4, FAR_S).committed == ()
    assert text_of(second.hear(again, 4.4, FAR_S).committed) == "again"
    assert second.remaining(again) == ()
