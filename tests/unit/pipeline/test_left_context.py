"""What a chunk says, of what was heard with the sound before it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from app.domain.transcript import DecodingStats, Hypothesis, SpokenWord
from app.pipeline.left_context import better_with_context

BEFORE_S = 5.0  # of the words before the chunk, and a pause from 4.4 to 5.3
ALONE = " They argued about the color of the kitchen."


def heard(text: str, logprob: float, times: list[tuple[float, float]]) -> Hypothesis:
    """One token for each word."""
    texts = [f" {word}" for word in text.split()]
    words = [
        SpokenWord(word, *span, probability=0.9)
        for word, span in zip(texts, times, strict=True)
    ]  # fmt: skip
    ends = [sum(map(len, texts[: i + 1])) for i in range(len(texts))]
    stats = DecodingStats(logprob, 0.0, 1.0, 0.0)
    likely = [math.exp(logprob)] * len(texts)
    tokens = range(100, 100 + len(texts))
    return Hypothesis(
        "en", text, tuple(tokens), tuple(ends), stats, tuple(likely), words=tuple(words)
    )


def spaced(num: int, since_s: float) -> list[tuple[float, float]]:
    return [(since_s + i * 0.3, since_s + i * 0.3 + 0.3) for i in range(num)]


def alone(text: str = ALONE, logprob: float = -0.4) -> Hypothesis:
    return heard(text, logprob, spaced(len(text.split()), 0.3))


def together(
    said: str, logprob: float = -0.1, first: tuple[float, float] | None = None
) -> Hypothesis:
    words = said.split()
    times = spaced(len(words), BEFORE_S + 0.3)
    if first is not None:
        times[0] = first
    before = " Was it really closed for repairs?"
    return heard(f"{before}{said}", logprob, [*spaced(6, 2.6), *times])


def text_of(whole: Hypothesis, of: Hypothesis | None = None) -> str | None:
    better = better_with_context(of or alone(), whole, BEFORE_S)
    return better and better.text


def test_the_chunk_is_cut_out_with_tokens_and_times() -> None:
    said = " They argued about the color of the kitchen walls."
    better = better_with_context(alone(), together(said), BEFORE_S)
    assert better is not None
    assert better.text == said
    assert better.tokens == tuple(range(106, 115))
    assert better.token_ends[-1] == len(said)
    assert len(better.likelihoods) == 9
    assert better.words is not None
    assert (better.words[0].text, better.words[-1].text) == (" They", " walls.")
    assert better.words[0].start_s == pytest.approx(0.3)


@pytest.mark.parametrize("first", [(4.5, 5.1), (4.4, 4.9), (3.9, 4.4)])
def test_a_word_with_a_time_within_the_pause_is_kept(first: tuple[float, float]) -> None:
    said = " They argued about the color of the kitchen walls."
    assert text_of(together(said, first=first)) == said


@pytest.mark.parametrize(
    "said",
    [
        "",  # lost
        " argued about the color",
        " They argued about the color of the kitchen and so we did not go there any more.",
        " Was it really closed for repairs? They argued about the color of the kitchen.",
    ],
)
def test_what_is_not_as_long_is_not_believed(said: str) -> None:
    assert text_of(together(said)) is None


def test_what_is_less_likely_is_not_believed() -> None:
    assert text_of(together(ALONE, logprob=-0.5)) is None


def test_a_context_that_is_sure_makes_nothing_likely() -> None:
    whole = together(ALONE, logprob=-0.1)
    likely = tuple(0.99 if i < 6 else 0.5 for i in range(len(whole.tokens)))
    assert text_of(replace(whole, likelihoods=likely)) is None


def test_the_context_is_not_told_for_a_chunk_that_was_lost() -> None:
    lost = heard(" Was it closed? Yes, sir.", -0.1, spaced(5, 3.0))
    assert text_of(lost, alone(" Yes sure.")) is None


def test_no_word_of_a_letter_is_lost_in_the_pause() -> None:
    assert text_of(together(" I saw it.", first=(4.5, 4.9)), alone(" We saw it.")) is None


def test_without_times_of_words_nothing_is_cut() -> None:
    whole = Hypothesis("en", ALONE, (1,), (len(ALONE),), DecodingStats(-0.1, 0.0, 1.0, 0.0))
    assert text_of(whole) is None


def test_a_script_without_spaces() -> None:
    texts = ["今", "天", "天", "气", "很", "好", "我", "们", "去", "公", "园"]
    times = [*spaced(6, 2.6), *spaced(5, BEFORE_S + 0.3)]
    words = tuple(SpokenWord(t, *s, probability=0.9) for t, s in zip(texts, times, strict=True))
    tokens, stats = tuple(range(11)), DecodingStats(-0.1, 0.0, 1.0, 0.0)
    whole = Hypothesis("zh", "".join(texts), tokens, tuple(range(1, 12)), stats, words=words)
    assert text_of(whole, alone("我们去工园")) == "我们去公园"
