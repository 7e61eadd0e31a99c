"""Word times from Whisper's cross-attention: tokens and their alignment path -> words.

Source: openai/whisper, timing.py: dynamic time warping over the attention of the alignment heads,
which CTranslate2's `align` computes. Punctuation belongs to the adjacent word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_whisper.transcribe import merge_punctuations

from app.domain.transcript import SpokenWord

FRAME_S = 0.02  # of Whisper's encoder

# Source: openai/whisper, timing.py, add_word_timestamps; plus marks of other scripts.
OPENING_MARKS = "\"'“‘¿¡([{-«„‚「『《〈（【"
CLOSING_MARKS = "\"'.。,，!！?？:：”’)]}、;；…»‹›」』》〉）】।॥؟،؛۔։՝።፣·‧"

# Longer words include a pause: the path must be on some token at all times.
LONGEST_MEDIAN_S = 0.7
LONGEST_BY_MEDIAN = 2.0


def spoken_words(tokenizer: Any, tokens: Sequence[int], alignment: Any) -> tuple[SpokenWord, ...]:
    """The words of a text with their times. `alignment`: of these tokens, from CTranslate2."""
    if not tokens or not alignment.alignments:
        return ()
    words, word_tokens = tokenizer.split_to_word_tokens([*tokens, tokenizer.eot])
    starts_s = _token_starts(alignment.alignments, len(tokens))
    bounds = np.cumsum([0, *(len(t) for t in word_tokens)])
    rows = [
        {"word": word, "tokens": own, "first": int(first), "last": int(last)}
        for word, own, first, last in zip(words, word_tokens, bounds, bounds[1:], strict=False)
    ][:-1]  # the last one is the end of the text
    merge_punctuations(rows, OPENING_MARKS, CLOSING_MARKS)
    probs = alignment.text_token_probs
    spoken = [
        SpokenWord(
            row["word"],
            float(starts_s[row["first"]]),
            float(starts_s[row["last"]]),
            float(np.mean(probs[row["first"] : row["last"]])),
        )
        for row in rows
        if row["word"]
    ]
    return tuple(_shorten(spoken))


def _token_starts(path: Sequence[tuple[int, int]], num_tokens: int) -> Any:
    """When the path reaches each token, and the end: float64 (num_tokens + 1,)."""
    rows, frames = np.asarray(path).T
    first = np.searchsorted(rows, np.arange(num_tokens + 1))
    return frames[np.minimum(first, len(frames) - 1)] * FRAME_S


def _shorten(words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """Cut the pause from long words: before the first word, after all others."""
    lengths = [w.end_s - w.start_s for w in words if w.end_s > w.start_s]
    median_s = min(LONGEST_MEDIAN_S, float(np.median(lengths))) if lengths else LONGEST_MEDIAN_S
    longest_s = LONGEST_BY_MEDIAN * median_s
    shortened = []
    for i, word in enumerate(words):
        start_s, end_s = word.start_s, word.end_s
        if end_s - start_s > longest_s:
            if i == 0:
                start_s = end_s - longest_s
            else:
                end_s = start_s + longest_s
        shortened.append(SpokenWord(word.text, start_s, end_s, word.probability))
    return shortened
