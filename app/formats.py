"""Transcript -> text, SRT, VTT, TSV, JSON. The only place that rounds time.

The layouts are those of whisperx.utils' writers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from app.transcript import Segment, Transcript, Word

LANGUAGES_WITHOUT_SPACES = ("ja", "zh")
LONG_PAUSE_S = 3.0  # ends a subtitle where segments may be joined
EXTENSIONS = {"json": "json", "text": "txt", "srt": "srt", "vtt": "vtt", "tsv": "tsv"}


@dataclass(frozen=True, slots=True)
class SubtitleStyle:
    """Segments are joined and broken anew only where width and count are both given."""

    max_line_width: int | None = None
    max_line_count: int | None = None
    highlight_words: bool = False


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


# -- JSON ----------------------------------------------------------------------------------------


def to_json(transcript: Transcript, shape: JsonShape) -> dict[str, Any]:
    segments = [_segment_json(segment, shape.with_words) for segment in transcript.segments]
    text = "".join(segment.text for segment in transcript.segments).strip()
    words = [_word_json(w) for s in transcript.segments for w in s.words or ()]
    body: dict[str, Any] = {
        "text": text if shape.text_is_string else segments,
        "language": transcript.language,
        "segments": segments,
        "word_segments": words if shape.with_words else [],
        "duration": _seconds(transcript.duration_s),
        "model": transcript.model,
    }
    if transcript.speakers_known:
        body["speakers"] = _speakers_json(transcript.segments)
        if shape.with_embeddings:
            body["speaker_embeddings"] = {
                speaker: list(vector)
                for speaker, vector in sorted(transcript.speaker_embeddings.items())
            }
    if transcript.warnings:
        body["warnings"] = list(transcript.warnings)
    return body


def _segment_json(segment: Segment, with_words: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "start": _seconds(segment.start_s),
        "end": _seconds(segment.end_s),
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
        body["start"] = _seconds(word.start_s)
        body["end"] = _seconds(word.end_s)
    if word.score is not None:
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
            "total_duration": _seconds(sum(durations)),
            "segment_count": len(durations),
        }
        for speaker, durations in sorted(totals.items())
    ]


def _seconds(value: float) -> float:
    return round(value, 3)


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
    return " ".join(text.split())


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


# -- subtitles -----------------------------------------------------------------------------------


def to_srt(transcript: Transcript, style: SubtitleStyle) -> str:
    return "".join(
        f"{number}\n{_clock(start, ',', True)} --> {_clock(end, ',', True)}\n{text}\n\n"
        for number, (start, end, text) in enumerate(_timed_lines(transcript, style), 1)
    )


def to_vtt(transcript: Transcript, style: SubtitleStyle) -> str:
    return "WEBVTT\n\n" + "".join(
        f"{_clock(start, '.', False)} --> {_clock(end, '.', False)}\n{text}\n\n"
        for start, end, text in _timed_lines(transcript, style)
    )


def _clock(milliseconds: int, mark: str, always_hours: bool) -> str:
    seconds, ms = divmod(milliseconds, 1000)
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    head = f"{hours:02d}:" if always_hours or hours else ""
    return f"{head}{m:02d}:{s:02d}{mark}{ms:03d}"


def _timed_lines(transcript: Transcript, style: SubtitleStyle) -> Iterator[tuple[int, int, str]]:
    """(start, end) in milliseconds and text; no cue is empty or lasts no time."""
    for cue in subtitle_cues(transcript, style):
        text = cue.text.replace("-->", "->")
        start = _milliseconds(cue.start_s)
        yield start, max(start + 1, _milliseconds(cue.end_s)), text


def subtitle_cues(transcript: Transcript, style: SubtitleStyle) -> Iterator[Cue]:
    space = "" if transcript.language in LANGUAGES_WITHOUT_SPACES else " "
    if style.max_line_width is None or style.max_line_count is None:
        groups = [[segment] for segment in transcript.segments]
    else:  # joined, but never across speakers
        runs = groupby(transcript.segments, key=lambda s: (s.speaker, s.words is None))
        groups = [list(run) for _, run in runs]
    for group in groups:
        if any(not segment.words for segment in group):
            for segment in group:
                if text := _one_line(segment.text):
                    prefix = _speaker_prefix(segment.speaker)
                    yield Cue(segment.start_s, segment.end_s, prefix + text)
            continue
        words = [(word, segment) for segment in group for word in segment.words or ()]
        for lines in _break_lines(words, style, len(space)):
            yield from _cues_of(lines, space, style.highlight_words)


Placed = tuple[Word, Segment]


def _break_lines(
    words: Sequence[Placed], style: SubtitleStyle, space_width: int
) -> Iterator[list[list[Placed]]]:
    """Subtitles as lines of words."""
    width = style.max_line_width or 1000
    lines: list[list[Placed]] = []
    line_width = 0
    last_start_s: float | None = None
    for word, segment in words:
        pause_s = 0.0
        if word.start_s is not None:
            pause_s = 0.0 if last_start_s is None else word.start_s - last_start_s
            last_start_s = word.start_s
        long_pause = style.max_line_count is not None and pause_s > LONG_PAUSE_S
        needed = space_width + len(word.text)
        if lines and not long_pause and line_width + needed <= width:
            lines[-1].append((word, segment))
            line_width += needed
            continue
        full = style.max_line_count is not None and len(lines) >= style.max_line_count
        if lines and (full or long_pause):
            yield lines
            lines = []
        lines.append([(word, segment)])
        line_width = len(word.text)
    if lines:
        yield lines


def _cues_of(lines: list[list[Placed]], space: str, highlight: bool) -> Iterator[Cue]:
    placed = [pair for line in lines for pair in line]
    prefix = _speaker_prefix(placed[0][1].speaker)
    starts = [w.start_s for w, _ in placed if w.start_s is not None]
    ends = [w.end_s for w, _ in placed if w.end_s is not None]
    start_s = min(starts, default=placed[0][1].start_s)
    end_s = max(ends, default=placed[-1][1].end_s)

    def text(marked: int = -1) -> str:
        number = 0
        shown = []
        for line in lines:
            parts = []
            for word, _ in line:
                parts.append(_underline(word.text) if number == marked else word.text)
                number += 1
            shown.append(space.join(parts))
        return prefix + "\n".join(shown)

    if not highlight or not starts:
        yield Cue(start_s, end_s, text())
        return
    last_s = start_s
    for number, (word, _) in enumerate(placed):
        if word.start_s is None or word.end_s is None:
            continue
        if _milliseconds(word.start_s) > _milliseconds(last_s):
            yield Cue(last_s, word.start_s, text())
        yield Cue(word.start_s, word.end_s, text(number))
        last_s = word.end_s


def _underline(word: str) -> str:
    return re.sub(r"^(\s*)(.*)$", r"\1<u>\2</u>", word)
