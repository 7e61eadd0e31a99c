"""Turns hypotheses into segments, and cuts segments by characters: text, tokens, words. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

from app.domain.transcript import Chunk, Hypothesis, Segment, SpeechRegion, SpokenWord, Word
from app.text.sentences import SentenceSplitter

# Speech detection may cut off the edges of words; anything longer than this is a pause.
BEFORE_SPEECH_S = 0.1
AFTER_SPEECH_S = 0.3
ALIGNMENT_MARGINS_S = 0.0, 0.2  # before the first speech and after the last

Said = TypeVar("Said", Segment, Hypothesis)
Placed = tuple[int, Word]  # the character of the text at which a word begins, and the word


def cut_text(said: Said, begin: int, end: int) -> Said:
    """The characters `begin` to `end` of its text, with the tokens that end in them.

    The caller sets times, words and speaker.
    """
    kept = [i for i, token_end in enumerate(said.token_ends) if begin < token_end <= end]
    return replace(
        said,
        text=said.text[begin:end],
        tokens=tuple(said.tokens[i] for i in kept),
        token_ends=tuple(said.token_ends[i] - begin for i in kept),
        likelihoods=tuple(said.likelihoods[i] for i in kept) if said.likelihoods else (),
        token_probs=tuple(said.token_probs[i] for i in kept) if said.token_probs else (),
    )


def cut_words(segment: Segment, begin: int, end: int, words: Sequence[Word]) -> Segment:
    """As `cut_text`, with these words and their times; the segment's if they have none."""
    starts = [word.start_s for word in words if word.start_s is not None]
    ends = [word.end_s for word in words if word.end_s is not None]
    return replace(
        cut_text(segment, begin, end),
        words=tuple(words),
        start_s=min(starts, default=segment.start_s),
        end_s=max(ends, default=segment.end_s),
    )


def segments_of(
    chunk: Chunk, hypothesis: Hypothesis, text_language: str, with_words: bool
) -> list[Segment]:
    """A chunk's hypothesis on the recording's timeline: one segment, or sentences with words if
    `with_words` and the hypothesis has words. `text_language`: English for a translation.
    """
    start_s, end_s = _alignable(chunk)
    segment = Segment(
        start_s,
        end_s,
        hypothesis.text,
        chunk=chunk,
        stats=hypothesis.stats,
        tokens=hypothesis.tokens,
        token_ends=hypothesis.token_ends,
        likelihoods=hypothesis.likelihoods,
        token_probs=hypothesis.token_probs,
    )
    if not with_words:
        return [segment]
    if not hypothesis.words:
        return [without_times(segment)]
    placed = list(_placed(chunk, hypothesis.text, hypothesis.words))
    spans = SentenceSplitter(text_language).spans(hypothesis.text)
    return cut_sentences(segment, spans, placed)


def _alignable(chunk: Chunk) -> tuple[float, float]:
    """Start and end of the chunk's speech. An aligner may lose its way in the silence before it."""
    if not chunk.speech:
        return chunk.start_s, chunk.end_s
    before_s, after_s = ALIGNMENT_MARGINS_S
    return (
        max(chunk.start_s, chunk.speech[0].start_s - before_s),
        min(chunk.end_s, chunk.speech[-1].end_s + after_s),
    )


def without_times(segment: Segment) -> Segment:
    """The segment with words without times, from its first speech to its last."""
    speech = segment.chunk.speech if segment.chunk else ()
    return replace(
        segment,
        start_s=speech[0].start_s if speech else segment.start_s,
        end_s=speech[-1].end_s if speech else segment.end_s,
        words=tuple(Word(text) for text in segment.text.split()),
    )


def _placed(chunk: Chunk, text: str, words: Sequence[SpokenWord]) -> Iterator[Placed]:
    """Words on the recording's timeline, in order and only during speech."""
    char, last_s = 0, chunk.start_s
    for word in words:
        written = word.text.strip()
        found = text.find(written, char)
        char = found if found >= 0 else char
        start_s, end_s = _spoken(chunk, word)
        start_s = max(start_s, last_s)
        last_s = end_s = max(end_s, start_s)
        yield char, Word(written, start_s, end_s, score=word.probability)
        char += len(written)


def _spoken(chunk: Chunk, word: SpokenWord) -> tuple[float, float]:
    """The start and end of a word on the timeline, without silence. The alignment path is always on
    some word, so a word seems to last through a pause.
    """
    start_s = min(chunk.start_s + word.start_s, chunk.end_s)
    end_s = min(chunk.start_s + word.end_s, chunk.end_s)
    middle_s = (start_s + end_s) / 2
    region = min(chunk.speech, key=lambda r: _distance_s(r, middle_s), default=None)
    if region is None or _distance_s(region, middle_s) > AFTER_SPEECH_S:
        return start_s, end_s
    return (
        max(start_s, region.start_s - BEFORE_SPEECH_S),
        min(end_s, region.end_s + AFTER_SPEECH_S),
    )


def _distance_s(region: SpeechRegion, at_s: float) -> float:
    return max(region.start_s - at_s, at_s - region.end_s, 0.0)


def cut_sentences(
    segment: Segment, spans: Sequence[tuple[int, int]], placed: Sequence[Placed]
) -> list[Segment]:
    """A sentence for each span, with the words that begin in it and their times.

    `spans` cover the text, and so do the sentences: a span that ends within a word, as after
    "Yahoo!" in "Yahoo!Mail", or in which no word begins, is one sentence with the next.
    """
    within = {char + i for char, word in placed for i in range(1, len(word.text))}
    chars = [char for char, _ in placed]
    cuts = [(0, 0)]  # characters and words before each
    for _, end in spans:
        num_words = bisect_left(chars, end)
        if end not in within and num_words > cuts[-1][1]:
            cuts.append((end, num_words))
    if len(cuts) > 1:
        cuts[-1] = len(segment.text), len(placed)
    return [
        cut_words(segment, begin, end, [word for _, word in placed[first:last]])
        for (begin, first), (end, last) in pairwise(cuts)
    ]
