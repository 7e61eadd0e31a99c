"""Where readable subtitles and their lines end: after sentences, clauses and pauses, not before the
word that a short one belongs to. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.formats.parts import Part

CLAUSE_MARKS = ",;:，、；：،؛؟!?.…。！？।—–"
CLOSERS = "\"'”’»›」』)]"
PAUSE_S = 0.35
SHORT_WORD = 3  # letters: mostly articles, prepositions, conjunctions, in most languages

AFTER_CLAUSE, AFTER_PAUSE, BEFORE_SHORT, ANYWHERE, AFTER_SHORT = 0.3, 0.5, 0.9, 1.2, 2.0
UNEVEN = 1.5  # lines of very different widths


@dataclass(frozen=True, slots=True)
class Unit:
    """Parts that stay on one line. `width`: in columns."""

    parts: Sequence[Part]
    start_s: float
    end_s: float
    width: int
    ends_sentence: bool

    @property
    def gap(self) -> str:
        return self.parts[0].gap

    def break_cost(self, following: Unit) -> float:
        """What it costs to end a line or a subtitle here. 0 at the end of a sentence."""
        if self.ends_sentence:
            return 0.0
        text = self.parts[-1].word.text.rstrip().rstrip(CLOSERS)
        if text[-1:] in CLAUSE_MARKS:
            return AFTER_CLAUSE
        if following.start_s - self.end_s >= PAUSE_S:
            return AFTER_PAUSE
        if following.gap and _is_short(text):
            return AFTER_SHORT
        return BEFORE_SHORT if _is_short(following.parts[0].word.text) else ANYWHERE


def _is_short(text: str) -> bool:
    word = text.strip()
    return len(word) <= SHORT_WORD and word.isalpha() and word.islower()


def num_lines(units: Sequence[Unit], width: int, prefix: int) -> int:
    """How many lines they take at least. `prefix`: columns at the beginning of the first."""
    count, filled = 1, prefix + units[0].width
    for unit in units[1:]:
        needed = len(unit.gap) + unit.width
        if filled + needed > width:
            count, filled = count + 1, unit.width
        else:
            filled += needed
    return count


def lines_of(units: Sequence[Unit], width: int, prefix: int, most: int) -> Sequence[Sequence[Part]]:
    """The units in as few lines as possible, even ones that end well."""
    count = min(most, num_lines(units, width, prefix))
    costs: list[list[float]] = [[0.0, *[math.inf] * len(units)]]
    begins: list[list[int]] = []
    for _ in range(count):
        row, chosen = [math.inf], [0]
        for end in range(1, len(units) + 1):
            best = min(
                (costs[-1][begin] + cost, begin)
                for begin, cost in _line_costs(units, end, width, prefix)
            )
            row.append(best[0])
            chosen.append(best[1])
        costs.append(row)
        begins.append(chosen)
    bounds = [len(units)]
    for chosen in reversed(begins):
        bounds.append(chosen[bounds[-1]])
    bounds.reverse()
    lines = [units[begin:end] for begin, end in pairwise(bounds)]
    return [[part for unit in line for part in unit.parts] for line in lines if line]


def _line_costs(
    units: Sequence[Unit], end: int, width: int, prefix: int
) -> list[tuple[int, float]]:
    """Each possible first unit of a line that ends before `end`, and what the line costs."""
    after = units[end - 1].break_cost(units[end]) if end < len(units) else 0.0
    found: list[tuple[int, float]] = []
    columns = 0
    for begin in range(end - 1, -1, -1):
        columns += units[begin].width + (len(units[begin + 1].gap) if begin < end - 1 else 0)
        shown = columns + (prefix if begin == 0 else 0)
        if shown > width and found:
            break
        slack = max(0, width - shown) / width
        found.append((begin, after + UNEVEN * slack * slack))
    return found
