"""The pieces that subtitles are made of: words, or parts of a text whose words have no times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from app.domain.languages import LANGUAGES_WITHOUT_SPACES
from app.domain.transcript import Segment, Word
from app.formats.lines import display_width, line_starts, one_line, smallest_parts
from app.formats.words import word_times


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


def words_of(segment: Segment, language: str) -> Iterator[Part]:
    """The words of a segment, with a gap where its text has whitespace."""
    default_gap = "" if language in LANGUAGES_WITHOUT_SPACES and not is_latin(segment) else " "
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


def is_latin(segment: Segment) -> bool:
    """Whether most characters are ASCII, as in a translation (its language is the spoken one)."""
    return 2 * sum(map(str.isascii, segment.text)) > len(segment.text)


def parts_of(segment: Segment, language: str) -> Iterator[Part]:
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


def timed_parts(segment: Segment, language: str) -> list[Part]:
    """The words of a segment, or the parts of its text. All have times: a word that has none shares
    those between its neighbors.
    """
    parts = [*(words_of if segment.words else parts_of)(segment, language)]
    times = word_times([part.word for part in parts], segment.start_s, segment.end_s)
    return [
        replace(part, word=replace(part.word, start_s=start_s, end_s=end_s))
        for part, (start_s, end_s) in zip(parts, times, strict=True)
    ]


def units_of(parts: Sequence[Part], width: int) -> Iterator[Sequence[Part]]:
    """Groups that stay on one line: parts up to the next that may begin one, if they fit."""
    begins = [i for i, part in enumerate(parts) if part.begins_line]
    for begin, end in zip([0, *begins], [*begins, len(parts)], strict=True):
        unit = parts[begin:end]
        if width_of(unit) <= width:
            yield from [unit] if unit else []
        else:
            yield from ([part] for part in unit)


def width_of(parts: Sequence[Part]) -> int:
    return sum(part.width for part in parts) + sum(len(part.gap) for part in parts[1:])
