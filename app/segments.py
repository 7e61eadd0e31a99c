"""Cutting a Segment by characters: text, tokens and words stay together. Pure."""

from __future__ import annotations

from dataclasses import replace

from app.transcript import Segment


def cut_segment(segment: Segment, begin: int, end: int) -> Segment:
    """The characters `begin` to `end` of a segment's text, with the tokens that end in them.

    Times, words and speaker are the caller's business.
    """
    kept = [
        (token, token_end)
        for token, token_end in zip(segment.tokens, segment.token_ends, strict=True)
        if begin < token_end <= end
    ]
    return replace(
        segment,
        text=segment.text[begin:end],
        tokens=tuple(token for token, _ in kept),
        token_ends=tuple(token_end - begin for _, token_end in kept),
    )
