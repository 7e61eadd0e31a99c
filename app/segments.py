"""Cutting a Segment by characters: text, tokens and words stay together. Pure."""

from __future__ import annotations

from dataclasses import replace

from app.transcript import Segment


def cut_segment(segment: Segment, begin: int, end: int) -> Segment:
    """The characters `begin` to `end` of a segment's text, with the tokens that end in them.

    Times, words and speaker are the caller's business.
    """
    kept = [i for i, token_end in enumerate(segment.token_ends) if begin < token_end <= end]
    return replace(
        segment,
        text=segment.text[begin:end],
        tokens=tuple(segment.tokens[i] for i in kept),
        token_ends=tuple(segment.token_ends[i] - begin for i in kept),
        token_probs=tuple(segment.token_probs[i] for i in kept) if segment.token_probs else (),
    )
