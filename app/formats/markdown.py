"""Transcript -> Markdown in three parts: the whole text by speaker, timed segments, timed words.

Whatever is said stays text. Characters that Markdown or HTML would read are escaped, and only
where they would be read, so that ordinary sentences look the same in the source.

Source: https://spec.commonmark.org/0.31.2/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from app.domain.transcript import Segment, Transcript, Word
from app.formats.lines import one_line
from app.formats.text import text_of
from app.formats.times import milliseconds

# An underscore between letters is none of Markdown's: SPEAKER_00 stays as it is.
_SIGNS = re.compile(r"[\\`*\[~]|(?<![^\W_])_|_(?![^\W_])")
_ENTITY = re.compile(r"&(?=#?\w{1,40};)")
_NUMBER = re.compile(r"(\d{1,9})([.)])(?=\s|$)")  # begins a list
_BEGINS_BLOCK = tuple("#+-=>")


def to_markdown(transcript: Transcript) -> str:
    blocks = [
        "# Full Transcript",
        *_paragraphs(transcript.segments),
        "# Timestamped Transcript",
        *_sections(transcript.segments),
    ]
    return "\n\n".join(blocks) + "\n"


def _paragraphs(segments: Iterable[Segment]) -> Iterator[str]:
    """What each speaker says until the next one does."""
    for speaker, spoken in groupby(segments, key=lambda segment: segment.speaker):
        text = text_of(spoken)
        if text and speaker is None:
            yield _beginning(text)
        elif text:
            yield f"{_label(speaker)} {_inline(text)}"


def _sections(segments: Sequence[Segment]) -> Iterator[str]:
    for number, segment in enumerate(segments, 1):
        times = f"[{_clock(segment.start_s)} - {_clock(segment.end_s)}]"
        speaker = "" if segment.speaker is None else f" ({_inline(segment.speaker)})"
        yield f"## Segment {number}: {times}{speaker}"
        if text := _beginning(segment.text):
            yield text
        if lists := [*_word_lists(segment)]:
            yield "### Word-level timestamps"
            yield from lists


def _word_lists(segment: Segment) -> Iterator[str]:
    """A list for each speaker, if the words are known and any has a time."""
    words = [word for word in segment.words or () if one_line(word.text)]
    if all(word.start_s is None for word in words):
        return

    def speaker_of(word: Word) -> str | None:
        return word.speaker or segment.speaker

    for speaker, spoken in groupby(words, key=speaker_of):
        items = [_item(word) for word in spoken]
        yield "\n".join(items if speaker is None else [_label(speaker), *items])


def _item(word: Word) -> str:
    """A word that could not be aligned stands without a time."""
    time = "" if word.start_s is None else f" @ {_clock(word.start_s)}"
    return f"- {_beginning(word.text)}{time}"


def _label(speaker: str | None) -> str:
    return f"**{_inline(speaker or '')}:**"


def _clock(seconds: float) -> str:
    """Whole seconds, those that have passed."""
    minutes, s = divmod(milliseconds(seconds) // 1000, 60)
    hours, m = divmod(minutes, 60)
    return f"{hours:02d}:{m:02d}:{s:02d}"


# -- text ----------------------------------------------------------------------------------------


def _inline(text: str) -> str:
    """Text that follows something else on its line."""
    escaped = _SIGNS.sub(r"\\\g<0>", one_line(text).replace("\0", ""))
    return _ENTITY.sub("&amp;", escaped).replace("<", "&lt;")


def _beginning(text: str) -> str:
    """Text that begins a line."""
    escaped = _inline(text)
    if escaped.startswith(_BEGINS_BLOCK):
        return f"\\{escaped}"
    number = _NUMBER.match(escaped)
    return f"{number[1]}\\{escaped[number.end(1) :]}" if number else escaped
