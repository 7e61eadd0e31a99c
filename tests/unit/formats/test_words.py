"""Words as pieces of the text, with times and probabilities."""

from __future__ import annotations

import math

import pytest

from app.domain.transcript import DecodingStats, Segment, Word
from app.formats.words import word_times, written_words

STATS = DecodingStats(-0.5, 0.0, 1.0, 0.0)


def segment(text: str, *words: Word, ends: tuple[int, ...] = (), **values: object) -> Segment:
    return Segment(1.0, 9.0, text, words, tokens=(0,) * len(ends), token_ends=ends, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" One (two),  three. ", ["One", "(two),", "three."]),
        ("东京，我们", ["东", "京，", "我", "们"]),
        (" a a a", ["a", "a", "a"]),
        (" It 's", ["It", "'s"]),
    ],
)
def test_words_rebuild_the_text(text: str, words: list[str]) -> None:
    written = written_words(segment(text, *(Word(word, 2.0, 3.0) for word in words)))
    assert "".join(word.text for word in written) == text
    assert [word.text.strip() for word in written] == words


def test_a_word_that_the_text_lacks_is_there_too() -> None:
    written = written_words(segment(" One three", Word("One"), Word("two"), Word("three")))
    assert "".join(word.text for word in written) == " One two three"


def test_words_without_times_lie_between_their_neighbors() -> None:
    words = (Word("a"), Word("b", 2.0, 3.0), Word("c"), Word("d"), Word("e", 5.0, 6.0), Word("f"))
    assert word_times(words, 1.0, 9.0) == [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 9)]
    assert word_times(words[:1], 1.0, 9.0) == [(1, 9)]
    assert word_times((), 1.0, 9.0) == []
    late = (Word("a", 2.0, 4.0), Word("b"), Word("c", 3.0, 5.0))
    assert word_times(late, 1.0, 9.0)[1] == (4, 4)


def test_a_probability_is_the_mean_over_the_tokens_of_a_word() -> None:
    words = (Word("Hello,"), Word("world"))
    known = segment(" Hello, world", *words, ends=(3, 6, 7, 13), likelihoods=(0.2, 0.4, 0.6, 0.9))
    assert [w.probability for w in written_words(known)] == [pytest.approx(0.4), 0.9]
    # one token for both, as languages without spaces have them; the second half of a letter
    shared = segment("我们走", Word("我"), Word("们"), Word("走"), ends=(2, 3, 3),
                     likelihoods=(0.5, 0.7, 0.1))  # fmt: skip
    assert [w.probability for w in written_words(shared)] == [0.5, 0.5, 0.7]


def test_without_them_it_is_that_of_the_chunk() -> None:
    assert written_words(segment(" a", Word("a"), stats=STATS))[0].probability == math.exp(-0.5)
    assert written_words(segment(" a", Word("a")))[0].probability is None
