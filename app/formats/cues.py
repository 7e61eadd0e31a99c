"""Subtitles: lines of parts as timed text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from app.domain.transcript import Word
from app.formats.parts import Part

Escape = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Cue:
    start_s: float
    end_s: float
    text: str
    is_pause: bool = False  # between highlighted words


def speaker_prefix(speaker: str | None) -> str:
    return f"[{speaker}]: " if speaker is not None else ""


def cues_of(lines: Sequence[Sequence[Part]], highlight: bool, escape: Escape) -> Iterator[Cue]:
    """One cue; with highlighted words, one for each word and each pause between words."""
    parts = [part for line in lines for part in line]
    starts = [p.word.start_s for p in parts if p.word.start_s is not None]
    ends = [p.word.end_s for p in parts if p.word.end_s is not None]
    start_s = min(starts, default=parts[0].segment.start_s)
    end_s = max(ends, default=parts[-1].segment.end_s)
    if not highlight or not starts:
        yield Cue(start_s, end_s, _cue_text(lines, escape))
        return
    last_s = start_s
    for part in parts:
        word = part.word
        if word.start_s is None or word.end_s is None:
            continue
        if word.start_s > last_s:
            yield Cue(last_s, word.start_s, _cue_text(lines, escape), is_pause=True)
        yield Cue(word.start_s, word.end_s, _cue_text(lines, escape, word))
        last_s = word.end_s


def _cue_text(
    lines: Sequence[Sequence[Part]], escape: Escape, underlined: Word | None = None
) -> str:
    def shown(part: Part) -> str:
        text = escape(part.word.text)
        return f"<u>{text}</u>" if part.word is underlined else text

    rows = (shown(line[0]) + "".join(part.gap + shown(part) for part in line[1:]) for line in lines)
    speaker = lines[0][0].segment.speaker
    return speaker_prefix(None if speaker is None else escape(speaker)) + "\n".join(rows)
