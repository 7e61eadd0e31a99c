"""Transcript -> text, SRT, VTT, TSV, JSON. The only place that rounds time.

The layouts are those of whisperx.utils' writers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from app.transcript import Segment, Transcript, Word

LANGUAGES_WITHOUT_SPACES = ("ja", "zh")
LONG_PAUSE_S = 3.0  # ends a subtitle where segments may be joined
UNBROKEN_WIDTH = 1000  # of lines where no width is given, as in whisperx
ARROW = re.compile("-{2,}>")  # divides times in SRT and VTT, so it may not stand in a text
BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
EXTENSIONS = {"json": "json", "text": "txt", "srt": "srt", "vtt": "vtt", "tsv": "tsv"}


@dataclass(frozen=True, slots=True)
class SubtitleStyle:
    """Segments are joined and broken anew only where width and count are both given."""

    max_line_width: int | None = None
    max_line_count: int | None = None
    highlight_words: bool = False

    @property
    def joins_segments(self) -> bool:
        return self.max_line_width is not None and self.max_line_count is not None


@dataclass(frozen=True, slots=True)
class JsonShape:
    """How the dialects differ."""

    text_is_string: bool
    with_words: bool
    with_embeddings: bool = False


@dataclass(frozen=True, slots=True)
class Cue:
    start_s: float
    end_s: float
    text: str


def write(transcript: Transcript, output: str, shape: JsonShape, style: SubtitleStyle) -> str:
    """The body of a response. `output`: json, text, srt, vtt or tsv."""
    if output == "json":
        return json.dumps(to_json(transcript, shape), ensure_ascii=False, allow_nan=False)
    writers: dict[str, Callable[[Transcript, SubtitleStyle], str]] = {
        "text": lambda t, _: to_text(t),
        "srt": to_srt,
        "vtt": to_vtt,
        "tsv": lambda t, _: to_tsv(t),
    }
    return writers[output](transcript, style)


def text_of(segments: Iterable[Segment]) -> str:
    """The whole transcript: segments carry their leading spaces."""
    return "".join(segment.text for segment in segments).strip()


# -- JSON ----------------------------------------------------------------------------------------


def to_json(transcript: Transcript, shape: JsonShape) -> dict[str, Any]:
    segments = [segment_json(segment, shape.with_words) for segment in transcript.segments]
    text = text_of(transcript.segments)
    words = [_word_json(w) for s in transcript.segments for w in s.words or ()]
    body: dict[str, Any] = {
        "text": text if shape.text_is_string else segments,
        "language": transcript.language,
        "segments": segments,
        "word_segments": words if shape.with_words else [],
        "duration": seconds(transcript.duration_s),
        "model": transcript.model,
    }
    if transcript.speakers_known:
        body["speakers"] = _speakers_json(transcript.segments)
        if shape.with_embeddings:
            body["speaker_embeddings"] = {
                speaker: list(vector)
                for speaker, vector in sorted(transcript.speaker_embeddings.items())
                if all(map(math.isfinite, vector))
            }
    if transcript.warnings:
        body["warnings"] = list(transcript.warnings)
    return body


def segment_json(segment: Segment, with_words: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "start": seconds(segment.start_s),
        "end": seconds(segment.end_s),
        "text": segment.text,
    }
    if segment.speaker is not None:
        body["speaker"] = segment.speaker
    if with_words and segment.words is not None:
        body["words"] = [_word_json(word) for word in segment.words]
    return body


def _word_json(word: Word) -> dict[str, Any]:
    body: dict[str, Any] = {"word": word.text}
    if word.start_s is not None and word.end_s is not None:
        body["start"] = seconds(word.start_s)
        body["end"] = seconds(word.end_s)
    if word.score is not None and math.isfinite(word.score):
        body["score"] = round(word.score, 3)
    if word.speaker is not None:
        body["speaker"] = word.speaker
    return body


def _speakers_json(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    totals: dict[str, list[float]] = {}
    for segment in segments:
        if segment.speaker is not None:
            totals.setdefault(segment.speaker, []).append(segment.end_s - segment.start_s)
    return [
        {
            "speaker": speaker,
            "total_duration": seconds(sum(durations)),
            "segment_count": len(durations),
        }
        for speaker, durations in sorted(totals.items())
    ]


def seconds(value: float) -> float:
    """Rounded to milliseconds."""
    return _milliseconds(value) / 1000


def _milliseconds(value: float) -> int:
    """JSON has no NaN and no subtitle a negative time, wherever one may come from."""
    return max(0, round(value * 1000)) if math.isfinite(value) else 0


# -- text and tables -----------------------------------------------------------------------------


def to_text(transcript: Transcript) -> str:
    return "".join(
        f"{_speaker_prefix(s.speaker)}{_one_line(s.text)}\n" for s in transcript.segments
    )


def to_tsv(transcript: Transcript) -> str:
    rows = ["start\tend\ttext"]
    for segment in transcript.segments:
        start_ms, end_ms = _milliseconds(segment.start_s), _milliseconds(segment.end_s)
        rows.append(f"{start_ms}\t{end_ms}\t{_one_line(segment.text)}")
    return "\n".join(rows) + "\n"


def _speaker_prefix(speaker: str | None) -> str:
    return f"[{speaker}]: " if speaker is not None else ""


def _one_line(text: str) -> str:
    return BREAKS.sub(" ", text).strip()


# -- subtitles -----------------------------------------------------------------------------------


Escape = Callable[[str], str]


def to_srt(transcript: Transcript, style: SubtitleStyle) -> str:
    return "".join(
        f"{number}\n{_clock(start, ',', True)} --> {_clock(end, ',', True)}\n{text}\n\n"
        for number, (start, end, text) in enumerate(_timed_lines(transcript, style, _one_line), 1)
    )


def to_vtt(transcript: Transcript, style: SubtitleStyle) -> str:
    return "WEBVTT\n\n" + "".join(
        f"{_clock(start, '.', False)} --> {_clock(end, '.', False)}\n{text}\n\n"
        for start, end, text in _timed_lines(transcript, style, _escape_vtt)
    )


def _escape_vtt(text: str) -> str:
    """A player takes what follows "<" for a tag. Source: https://www.w3.org/TR/webvtt1/#cue-text"""
    return _one_line(text).replace("&", "&amp;").replace("<", "&lt;")


def _clock(milliseconds: int, mark: str, always_hours: bool) -> str:
    seconds, ms = divmod(milliseconds, 1000)
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    head = f"{hours:02d}:" if always_hours or hours else ""
    return f"{head}{m:02d}:{s:02d}{mark}{ms:03d}"


def _timed_lines(
    transcript: Transcript, style: SubtitleStyle, escape: Escape
) -> Iterator[tuple[int, int, str]]:
    """(start, end) in milliseconds and text; no cue is empty or lasts no time."""
    for cue in subtitle_cues(transcript, style, escape):
        start = _milliseconds(cue.start_s)
        yield start, max(start + 1, _milliseconds(cue.end_s)), ARROW.sub("->", cue.text)


def subtitle_cues(
    transcript: Transcript, style: SubtitleStyle, escape: Escape = _one_line
) -> Iterator[Cue]:
    """`escape` makes of a text what the format can hold, on one line."""
    space = "" if transcript.language in LANGUAGES_WITHOUT_SPACES else " "
    for group in _joined(transcript.segments, style):
        if all(segment.words for segment in group):
            words = [(word, segment) for segment in group for word in segment.words or ()]
            for lines in _break_lines(words, style, len(space)):
                yield from _cues_of(lines, space, style.highlight_words, escape)
            continue
        for segment in group:
            if text := escape(segment.text):
                prefix = _speaker_prefix(segment.speaker)
                yield Cue(segment.start_s, segment.end_s, prefix + text)


def _joined(segments: Sequence[Segment], style: SubtitleStyle) -> Iterator[Sequence[Segment]]:
    """What may share subtitles: each segment alone, or all that follow in one speaker's words."""
    if style.joins_segments:
        for _, run in groupby(segments, key=lambda s: (s.speaker, bool(s.words))):
            yield list(run)
    else:
        yield from ([segment] for segment in segments)


Placed = tuple[Word, Segment]


def _break_lines(
    words: Sequence[Placed], style: SubtitleStyle, space_width: int
) -> Iterator[list[list[Placed]]]:
    """Subtitles as lines of words. The speaker before the first line counts as part of it."""
    width = style.max_line_width or UNBROKEN_WIDTH
    prefix_width = len(_speaker_prefix(words[0][1].speaker))
    lines: list[list[Placed]] = []
    line_width = 0
    last_start_s: float | None = None
    for word, segment in words:
        long_pause = False
        if word.start_s is not None:
            paused = last_start_s is not None and word.start_s - last_start_s > LONG_PAUSE_S
            long_pause = paused and style.joins_segments
            last_start_s = word.start_s
        needed = space_width + len(word.text)
        if lines and not long_pause and line_width + needed <= width:
            lines[-1].append((word, segment))
            line_width += needed
            continue
        full = style.max_line_count is not None and len(lines) >= style.max_line_count
        if lines and (full or long_pause):
            yield lines
            lines = []
        line_width = len(word.text) + (0 if lines else prefix_width)
        lines.append([(word, segment)])
    if lines:
        yield lines


def _cues_of(
    lines: Sequence[Sequence[Placed]], space: str, highlight: bool, escape: Escape
) -> Iterator[Cue]:
    """One cue, or one for each word and each pause between them where words are highlighted."""
    placed = [pair for line in lines for pair in line]
    starts = [w.start_s for w, _ in placed if w.start_s is not None]
    ends = [w.end_s for w, _ in placed if w.end_s is not None]
    start_s = min(starts, default=placed[0][1].start_s)
    end_s = max(ends, default=placed[-1][1].end_s)
    if not highlight or not starts:
        yield Cue(start_s, end_s, _cue_text(lines, space, escape))
        return
    last_s = start_s
    for word, _ in placed:
        if word.start_s is None or word.end_s is None:
            continue
        if _milliseconds(word.start_s) > _milliseconds(last_s):
            yield Cue(last_s, word.start_s, _cue_text(lines, space, escape))
        yield Cue(word.start_s, word.end_s, _cue_text(lines, space, escape, word))
        last_s = word.end_s


def _cue_text(
    lines: Sequence[Sequence[Placed]], space: str, escape: Escape, underlined: Word | None = None
) -> str:
    def shown(word: Word) -> str:
        text = escape(word.text)
        return f"<u>{text}</u>" if word is underlined else text

    rows = (space.join(shown(word) for word, _ in line) for line in lines)
    return _speaker_prefix(lines[0][0][1].speaker) + "\n".join(rows)
