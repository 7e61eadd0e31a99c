"""Transcript -> subtitles: timed cues, and their files.

If words are known, the layout is that of the writers in whisperx.utils. If not, a segment's text is
broken into lines and its time divided among them. `readable.py` has another layout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from app.domain.transcript import Segment, Transcript, Word
from app.formats.cues import Cue, Escape, cues_of, speaker_prefix
from app.formats.lines import display_width, one_line
from app.formats.parts import Part, timed_parts, units_of, width_of, words_of
from app.formats.readable import readable_cues
from app.formats.times import milliseconds

LONG_PAUSE_S = 3.0  # ends a subtitle if segments may be joined
# Separates times in SRT and VTT, so no text may contain it.
ARROW = re.compile("-{2,}>")
UNBROKEN_WIDTH = 1000  # line width if none is given, as in whisperx


@dataclass(frozen=True, slots=True)
class SubtitleStyle:
    """How to lay out subtitles. Joins and re-breaks segments only if width and count are given.

    `max_line_width` is in columns; a Chinese, Japanese or Korean character takes two. `readable`:
    for people to read, see `readable.py`; it has limits of its own where none are given.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    highlight_words: bool = False
    readable: bool = False

    @property
    def breaks_lines(self) -> bool:
        return self.max_line_width is not None or self.max_line_count is not None

    @property
    def joins_segments(self) -> bool:
        return self.max_line_width is not None and self.max_line_count is not None


PLAIN, READABLE = SubtitleStyle(), SubtitleStyle(readable=True)
STYLES = {"plain": PLAIN, "readable": READABLE}


def subtitle_cues(
    transcript: Transcript, style: SubtitleStyle, escape: Escape = one_line
) -> Iterator[Cue]:
    """The subtitles of a transcript. `escape` makes text safe for the format, on one line."""
    if style.readable:
        limits = style.max_line_width, style.max_line_count
        yield from readable_cues(transcript, limits, style.highlight_words, escape)
        return
    for group in _joined(transcript.segments, style):
        aligned = all(segment.words for segment in group)
        if style.breaks_lines:
            parts = [part for s in group for part in timed_parts(s, transcript.language)]
        elif aligned:
            parts = [part for s in group for part in words_of(s, transcript.language)]
        else:
            parts = [Part(Word(s.text, s.start_s, s.end_s), s) for s in group if escape(s.text)]
        highlight = style.highlight_words and any(map(_is_aligned, group))
        for lines in _break_lines(parts, style):
            yield from cues_of(lines, highlight, escape)


def _is_aligned(segment: Segment) -> bool:
    return any(word.start_s is not None for word in segment.words or ())


def _joined(segments: Sequence[Segment], style: SubtitleStyle) -> Iterator[Sequence[Segment]]:
    """Groups of segments that may share subtitles: single ones, or a speaker's aligned run."""
    if style.joins_segments:
        for (_, aligned), run in groupby(segments, key=lambda s: (s.speaker, bool(s.words))):
            group = list(run)
            yield from [group] if aligned else ([segment] for segment in group)
    else:
        yield from ([segment] for segment in segments)


def _break_lines(parts: Sequence[Part], style: SubtitleStyle) -> Iterator[list[list[Part]]]:
    """Subtitles as lines of parts. The speaker prefix counts toward the first line's width."""
    width = style.max_line_width or UNBROKEN_WIDTH
    lines: list[list[Part]] = []
    line_width = 0
    last_start_s: float | None = None
    for unit in units_of(parts, width):
        long_pause = False
        start_s = unit[0].word.start_s
        if start_s is not None:
            paused = last_start_s is not None and start_s - last_start_s > LONG_PAUSE_S
            long_pause = paused and style.joins_segments
        last_start_s = next(
            (p.word.start_s for p in reversed(unit) if p.word.start_s is not None), last_start_s
        )
        unit_width = width_of(unit)
        needed = len(unit[0].gap) + unit_width
        if lines and not long_pause and line_width + needed <= width:
            lines[-1] += unit
            line_width += needed
            continue
        full = style.max_line_count is not None and len(lines) >= style.max_line_count
        if lines and (full or long_pause):
            yield lines
            lines = []
        prefix = "" if lines else speaker_prefix(unit[0].segment.speaker)
        line_width = unit_width + display_width(prefix)
        lines.append([*unit])
    if lines:
        yield lines


# -- files ----------------------------------------------------------------------------------------


def to_srt(transcript: Transcript, style: SubtitleStyle) -> str:
    return "".join(
        f"{number}\n{_clock(start, ',', True)} --> {_clock(end, ',', True)}\n{text}\n\n"
        for number, (start, end, text) in enumerate(_timed_lines(transcript, style, one_line), 1)
    )


def to_vtt(transcript: Transcript, style: SubtitleStyle, always_hours: bool = False) -> str:
    return "WEBVTT\n\n" + "".join(
        f"{_clock(start, '.', always_hours)} --> {_clock(end, '.', always_hours)}\n{text}\n\n"
        for start, end, text in _timed_lines(transcript, style, _escape_vtt)
    )


def _escape_vtt(text: str) -> str:
    """Escaped text: "<" begins a tag. Source: https://www.w3.org/TR/webvtt1/#cue-text"""
    return one_line(text).replace("&", "&amp;").replace("<", "&lt;")


def _clock(milliseconds: int, mark: str, always_hours: bool) -> str:
    seconds, ms = divmod(milliseconds, 1000)
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    head = f"{hours:02d}:" if always_hours or hours else ""
    return f"{head}{m:02d}:{s:02d}{mark}{ms:03d}"


def _timed_lines(
    transcript: Transcript, style: SubtitleStyle, escape: Escape
) -> Iterator[tuple[int, int, str]]:
    """(start, end, text), times in milliseconds. No cue is empty or shorter than 1 ms."""
    for cue in subtitle_cues(transcript, style, escape):
        start = milliseconds(cue.start_s)
        if cue.is_pause and milliseconds(cue.end_s) <= start:
            continue
        yield start, max(start + 1, milliseconds(cue.end_s)), ARROW.sub("->", cue.text)
