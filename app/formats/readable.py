"""Subtitles for people to read: short lines, broken at phrases, long enough on the screen.

What one speaker says without a long pause is divided where the sum of costs is least: a subtitle
that ends within a phrase costs more than one that ends with a sentence, and so does one that is too
fast, too short or too long.

Source: the limits that subtitlers agree on, such as
https://partnerhelp.netflixstudios.com/hc/en-us/articles/217350977
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from app.domain.transcript import Segment, Transcript
from app.formats.breaks import Unit, lines_of, num_lines
from app.formats.cues import Cue, Escape, cues_of, speaker_prefix
from app.formats.lines import display_width
from app.formats.parts import Part, is_latin, timed_parts, units_of, width_of

WIDTH = 42  # columns
SQUARE_WIDTH = 32  # of languages whose letters take two
SQUARE = frozenset({"zh", "yue", "ja", "ko"})
COUNT = 2
COLUMNS_PER_S = 17.0
LEAST_S = 0.8
MOST_S = 7.0
# No subtitle is considered beyond these, however much the limits of lines allow.
LONGEST_S = 3 * MOST_S
MOST_UNITS = 120
LONG_PAUSE_S = 1.5  # no subtitle lasts over it

# Costs. One more subtitle is the unit.
TOO_FAST = 8.0
TOO_LONG_PER_S = 2.0
PAUSE_PER_S = 1.0
SENTENCE_INSIDE = 1.3  # two sentences in one subtitle, if each could have its own


@dataclass(frozen=True, slots=True)
class Caption:
    """A subtitle before its end is settled."""

    lines: Sequence[Sequence[Part]]
    start_s: float
    end_s: float
    needed_s: float  # to read it

    @property
    def speaker(self) -> str | None:
        return self.lines[0][0].segment.speaker


def readable_cues(
    transcript: Transcript,
    limits: tuple[int | None, int | None],
    highlight: bool,
    escape: Escape,
) -> Iterator[Cue]:
    """The subtitles. `limits`: of columns and lines, None: those above."""
    count = limits[1] or COUNT
    runs = [
        found
        for _, run in groupby(transcript.segments, key=lambda segment: segment.speaker)
        for found in _runs(list(run), transcript.language, limits[0])
    ]
    starts = [units[0].start_s for units, _ in runs]
    captions = [
        caption
        for (units, width), following_s in zip(runs, [*starts, math.inf][1:], strict=True)
        for caption in _captions(units, width, count, _room_until_s(units, following_s))
    ]
    for caption, start_s, end_s in _settled(captions, transcript.duration_s):
        yield from _cues(caption, start_s, end_s, highlight, escape)


def _room_until_s(units: Sequence[Unit], following_s: float) -> float:
    """Speakers on channels of their own talk at the same time."""
    return following_s if following_s >= units[-1].start_s else math.inf


def _runs(
    segments: Sequence[Segment], language: str, width: int | None
) -> Iterator[tuple[Sequence[Unit], int]]:
    """What a speaker says without a long pause, and the width of its lines."""
    latin = all(map(is_latin, segments))
    width = width or (SQUARE_WIDTH if language in SQUARE and not latin else WIDTH)
    units = [unit for segment in segments for unit in _units(segment, language, width)]
    pauses_s = [after.start_s - before.end_s for before, after in pairwise(units)]
    begins = [i for i, pause_s in enumerate(pauses_s, 1) if pause_s > LONG_PAUSE_S]
    for begin, end in pairwise([0, *begins, len(units)]):
        if begin < end:
            yield units[begin:end], width


def _units(segment: Segment, language: str, width: int) -> Iterator[Unit]:
    groups = [group for group in units_of(timed_parts(segment, language), width) if group]
    for i, group in enumerate(groups):
        yield Unit(
            group,
            group[0].word.start_s or 0.0,
            group[-1].word.end_s or 0.0,
            width_of(group),
            ends_sentence=i == len(groups) - 1,
        )


def _captions(
    units: Sequence[Unit], width: int, count: int, following_s: float
) -> Iterator[Caption]:
    """The cheapest division. `following_s`: when somebody else speaks."""
    prefix = display_width(speaker_prefix(units[0].parts[0].segment.speaker))
    starts = [*(unit.start_s for unit in units), following_s]
    costs, begins = [0.0], [0]  # of the units up to each
    for end in range(1, len(units) + 1):
        least, best = math.inf, end - 1
        for begin, cost in _costs(units, starts, end, (width, prefix, count)):
            if costs[begin] + cost < least:
                least, best = costs[begin] + cost, begin
        costs.append(least)
        begins.append(best)
    ends = [len(units)]
    while ends[-1] > 0:
        ends.append(begins[ends[-1]])
    for begin, end in pairwise(reversed(ends)):
        own = units[begin:end]
        lines = lines_of(own, width, prefix, count)
        columns = _columns(own)
        yield Caption(lines, own[0].start_s, own[-1].end_s, _needed_s(columns))


def _costs(
    units: Sequence[Unit], starts: Sequence[float], end: int, shape: tuple[int, int, int]
) -> Iterator[tuple[int, float]]:
    """Each possible first unit of a subtitle that ends before `end`, and what it costs."""
    width, prefix, count = shape
    last = units[end - 1]
    base = 1.0 + (last.break_cost(units[end]) if end < len(units) else 0.0)
    columns = 0
    for begin in range(end - 1, -1, -1):
        unit = units[begin]
        is_long = end - begin > MOST_UNITS or last.end_s - unit.start_s > LONGEST_S
        if is_long and begin < end - 1:
            return
        if begin < end - 1:
            following = units[begin + 1]
            base += PAUSE_PER_S * max(0.0, following.start_s - unit.end_s)
            base += SENTENCE_INSIDE if unit.ends_sentence else 0.0
            columns += len(following.gap)
        columns += unit.width
        is_wide = begin < end - 1 and columns + prefix > width
        if is_wide and num_lines(units[begin:end], width, prefix) > count:
            return
        needed_s = _needed_s(columns)
        room_s = starts[end] - unit.start_s
        too_fast = max(0.0, needed_s - room_s) / needed_s
        too_long_s = max(0.0, last.end_s - unit.start_s - MOST_S)
        yield begin, base + TOO_FAST * too_fast + TOO_LONG_PER_S * too_long_s


def _columns(units: Sequence[Unit]) -> int:
    return sum(unit.width for unit in units) + sum(len(unit.gap) for unit in units[1:])


def _needed_s(columns: int) -> float:
    return max(LEAST_S, columns / COLUMNS_PER_S)


def _settled(
    captions: Sequence[Caption], duration_s: float
) -> Iterator[tuple[Caption, float, float]]:
    """Each caption with its start and end, in order. It stays until it is read, if nothing follows;
    a very short one begins earlier, if there is room. Speech of another speaker at the same time
    takes nothing from it.
    """
    shown_s = 0.0
    captions = sorted(captions, key=lambda caption: caption.start_s)
    for caption, (limit_s, own_s) in zip(captions, _limits(captions, duration_s), strict=True):
        spoken_s = min(caption.end_s, own_s)
        end_s = max(spoken_s, min(caption.start_s + caption.needed_s, limit_s))
        start_s = min(caption.start_s, max(shown_s, end_s - LEAST_S))
        yield caption, start_s, max(start_s, end_s)
        shown_s = max(shown_s, end_s)


def _limits(captions: Sequence[Caption], duration_s: float) -> list[tuple[float, float]]:
    """When the next caption follows each, and when the next of its speaker does."""
    limits, next_s, own_s = list[tuple[float, float]](), duration_s, dict[str | None, float]()
    for caption in reversed(captions):
        limits.append((next_s, own_s.get(caption.speaker, math.inf)))
        next_s = own_s[caption.speaker] = caption.start_s
    return limits[::-1]


def _cues(
    caption: Caption, start_s: float, end_s: float, highlight: bool, escape: Escape
) -> Iterator[Cue]:
    cues = [*cues_of(caption.lines, highlight, escape)]
    if not highlight:
        yield replace(cues[0], start_s=start_s, end_s=end_s)
        return
    yield from cues
    if end_s > cues[-1].end_s:  # without a highlight until it is read
        [bare] = cues_of(caption.lines, False, escape)
        yield replace(bare, start_s=cues[-1].end_s, end_s=end_s, is_pause=True)
