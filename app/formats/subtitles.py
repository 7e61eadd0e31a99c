"""Transcript -> subtitles: timed cues, and their files.

If words are known, the layout is that of the writers in whisperx.utils. If not, a segment's text is
broken into lines and its time divided among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from app.domain.languages import LANGUAGES_WITHOUT_SPACES
from app.domain.transcript import Segment, Transcript, Word
from app.formats.lines import display_width, line_starts, one_line, smallest_parts
from app.formats.times import milliseconds

LONG_PAUSE_S = 3.0  # ends a subtitle if segments may be joined
# Separates times in SRT and VTT, so no text may contain it.
ARROW = re.compile("-{2,}>")
UNBROKEN_WIDTH = 1000  # line width if none is given, as in whisperx

Escape = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class SubtitleStyle:
    """How to lay out subtitles. Joins and re-breaks segments only if width and count are given.

    `max_line_width` is in columns; a Chinese, Japanese or Korean character takes two.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    highlight_words: bool = False

    @property
    def breaks_lines(self) -> bool:
        return self.max_line_width is not None or self.max_line_count is not None

    @property
    def joins_segments(self) -> bool:
        return self.max_line_width is not None and self.max_line_count is not None


@dataclass(frozen=True, slots=True)
class Cue:
    start_s: float
    end_s: float
    text: str
    is_pause: bool = False  # between highlighted words


def speaker_prefix(speaker: str | None) -> str:
    return f"[{speaker}]: " if speaker is not None else ""


def subtitle_cues(
    transcript: Transcript, style: SubtitleStyle, escape: Escape = one_line
) -> Iterator[Cue]:
    """The subtitles of a transcript. `escape` makes text safe for the format, on one line."""
    for group in _joined(transcript.segments, style):
        aligned = all(segment.words for segment in group)
        if aligned:
            parts = [part for s in group for part in _words_of(s, transcript.language)]
        elif style.breaks_lines:
            parts = [part for s in group for part in _parts_of(s, transcript.language)]
        else:
            parts = [Part(Word(s.text, s.start_s, s.end_s), s) for s in group if escape(s.text)]
        for lines in _break_lines(parts, style):
            yield from _cues_of(lines, style.highlight_words and aligned, escape)


def _joined(segments: Sequence[Segment], style: SubtitleStyle) -> Iterator[Sequence[Segment]]:
    """Groups of segments that may share subtitles: single ones, or a speaker's aligned run."""
    if style.joins_segments:
        for (_, aligned), run in groupby(segments, key=lambda s: (s.speaker, bool(s.words))):
            group = list(run)
            yield from [group] if aligned else ([segment] for segment in group)
    else:
        yield from ([segment] for segment in segments)


@dataclass(frozen=True, slots=True)
class Part:
    """A word, or, if words are not known, a piece of the text with its share of the time.

    `gap` precedes it unless it begins a line. It may begin one if `begins_line`, or if nothing else
    fits.
    """

    word: Word
    segment: Segment
    gap: str = " "
    begins_line: bool = True

    @property
    def width(self) -> int:
        return display_width(one_line(self.word.text))


def _words_of(segment: Segment, language: str) -> Iterator[Part]:
    """The words of a segment, with a gap where its text has whitespace."""
    default_gap = "" if language in LANGUAGES_WITHOUT_SPACES and not _is_latin(segment) else " "
    starts: set[int] | None = None
    at = 0
    for word in segment.words or ():
        text = word.text.strip()
        found = segment.text.find(text, at)
        if found < 0:
            yield Part(word, segment, default_gap)
            continue
        between = segment.text[at:found]
        spaced = between != between.rstrip() or (at == 0 and default_gap == " ")
        if not spaced and starts is None:
            starts = line_starts(segment.text, language)
        begins_line = spaced or at == 0 or found in (starts or ())
        yield Part(word, segment, " " if spaced else "", begins_line)
        at = found + len(text)


def _is_latin(segment: Segment) -> bool:
    """Whether most characters are ASCII, as in a translation (its language is the spoken one)."""
    return 2 * sum(map(str.isascii, segment.text)) > len(segment.text)


def _parts_of(segment: Segment, language: str) -> Iterator[Part]:
    """The parts of a segment without words. Its time is divided by characters."""
    text = one_line(segment.text)
    spans = smallest_parts(text, language)
    if not spans:
        return
    starts = line_starts(text, language)
    per_character_s = (segment.end_s - segment.start_s) / len(text)
    nexts = [begin for begin, _ in spans[1:]]
    last = 0
    for (begin, end), following in zip(spans, [*nexts, len(text)], strict=True):
        start_s = segment.start_s + begin * per_character_s
        end_s = min(segment.end_s, segment.start_s + following * per_character_s)
        word = Word(text[begin:end], start_s, end_s)
        yield Part(word, segment, text[last:begin], begin == 0 or begin in starts)
        last = end


def _break_lines(parts: Sequence[Part], style: SubtitleStyle) -> Iterator[list[list[Part]]]:
    """Subtitles as lines of parts. The speaker prefix counts toward the first line's width."""
    width = style.max_line_width or UNBROKEN_WIDTH
    lines: list[list[Part]] = []
    line_width = 0
    last_start_s: float | None = None
    for unit in _units(parts, width):
        long_pause = False
        start_s = unit[0].word.start_s
        if start_s is not None:
            paused = last_start_s is not None and start_s - last_start_s > LONG_PAUSE_S
            long_pause = paused and style.joins_segments
        last_start_s = next(
            (p.word.start_s for p in reversed(unit) if p.word.start_s is not None), last_start_s
        )
        unit_width = _line_width(unit)
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


def _units(parts: Sequence[Part], width: int) -> Iterator[Sequence[Part]]:
    """Groups that stay on one line: parts up to the next that may begin one, if they fit."""
    begins = [i for i, part in enumerate(parts) if part.begins_line]
    for begin, end in zip([0, *begins], [*begins, len(parts)], strict=True):
        unit = parts[begin:end]
        if _line_width(unit) <= width:
            yield from [unit] if unit else []
        else:
            yield from ([part] for part in unit)


def _line_width(parts: Sequence[Part]) -> int:
    return sum(part.width for part in parts) + sum(len(part.gap) for part in parts[1:])


def _cues_of(lines: Sequence[Sequence[Part]], highlight: bool, escape: Escape) -> Iterator[Cue]:
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
    return speaker_prefix(lines[0][0].segment.speaker) + "\n".join(rows)


# -- files ----------------------------------------------------------------------------------------


def to_srt(transcript: Transcript, style: SubtitleStyle) -> str:
    return "".join(
        f"{number}\n{_clock(start, ',', True)} --> {_clock(end, ',', True)}\n{text}\n\n"
        for number, (start, end, text) in enumerate(_timed_lines(transcript, style, one_line), 1)
    )


def to_vtt(transcript: Transcript, style: SubtitleStyle) -> str:
    return "WEBVTT\n\n" + "".join(
        f"{_clock(start, '.', False)} --> {_clock(end, '.', False)}\n{text}\n\n"
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
