"""Assigns speakers to words by turns, and splits segments where the speaker changes. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from app.domain.transcript import Diarization, Segment, Turn, Word
from app.text.segments import cut_words

NUMBERED = re.compile(r"SPEAKER_(\d+)")  # other speakers have names


class TurnIndex:
    """Finds the turns around a moment. Turns may overlap."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = sorted(turns, key=lambda turn: turn.start_s)
        self._starts = [turn.start_s for turn in self._turns]
        # the latest end so far never decreases, so it can be searched
        self._latest_ends = list(accumulate((turn.end_s for turn in self._turns), max))

    def speaker(self, start_s: float, end_s: float, nearest: bool) -> str | None:
        """The speaker with most of the time between; if there is none, the `nearest` or None."""
        first = bisect_right(self._latest_ends, start_s)
        last = bisect_left(self._starts, end_s)
        shares: dict[str, float] = {}
        for turn in self._turns[first:last]:
            overlap_s = min(turn.end_s, end_s) - max(turn.start_s, start_s)
            if overlap_s > 0:
                shares[turn.speaker] = shares.get(turn.speaker, 0.0) + overlap_s
        if shares:
            return max(shares, key=lambda speaker: shares[speaker])
        return self._nearest(start_s, end_s, first, last) if nearest else None

    def _nearest(self, start_s: float, end_s: float, first: int, last: int) -> str | None:
        if not self._turns:
            return None
        # the last turn to end before this moment ends at _latest_ends[first - 1]
        before = max(self._turns[:first], key=lambda turn: turn.end_s) if first else None
        after = self._turns[last] if last < len(self._turns) else None
        inside = self._turns[first:last]
        near = [turn for turn in (before, after, *inside) if turn is not None]
        return min(near, key=lambda turn: max(turn.start_s - end_s, start_s - turn.end_s)).speaker


def assign_speakers(
    segments: Sequence[Segment], diarization: Diarization, nearest: bool
) -> tuple[Segment, ...]:
    """Segments in which every word has its speaker, split where the speaker changes.

    Exclusive turns decide if the pipeline has them. A segment without words gets its dominant
    speaker. `nearest`: words outside every turn get the nearest speaker.
    """
    index = TurnIndex(diarization.exclusive_turns or diarization.turns)
    return tuple(part for segment in segments for part in _assign(segment, index, nearest))


def number_speakers(
    segments: Sequence[Segment], embeddings: Mapping[str, tuple[float, ...]]
) -> tuple[tuple[Segment, ...], dict[str, tuple[float, ...]]]:
    """Segments, and embeddings of the speakers who say words, renumbered in order without gaps.

    Diarization also numbers people who say no words, and a known voice leaves its number unused.
    """
    heard = {word.speaker for segment in segments for word in segment.words or ()}
    heard |= {segment.speaker for segment in segments}
    numbered = [speaker for speaker in heard if speaker and NUMBERED.fullmatch(speaker)]
    numbered.sort(key=lambda speaker: int(speaker.removeprefix("SPEAKER_")))
    names = {speaker: f"SPEAKER_{i:02d}" for i, speaker in enumerate(numbered)}

    def named(speaker: str | None) -> str | None:
        return None if speaker is None else names.get(speaker, speaker)

    renamed = tuple(
        replace(
            segment,
            speaker=named(segment.speaker),
            words=segment.words
            and tuple(replace(word, speaker=named(word.speaker)) for word in segment.words),
        )
        for segment in segments
    )
    kept = {names.get(s, s): vector for s, vector in embeddings.items() if s in heard}
    return renamed, kept


def _assign(segment: Segment, index: TurnIndex, nearest: bool) -> Iterator[Segment]:
    if not segment.words or all(word.start_s is None for word in segment.words):
        speaker = index.speaker(segment.start_s, segment.end_s, nearest)
        labelled = segment.words and tuple(replace(w, speaker=speaker) for w in segment.words)
        yield replace(segment, speaker=speaker, words=labelled)
        return
    words = _fill_untimed([_assign_word(word, index, nearest) for word in segment.words])
    yield from _split(segment, words)


def _assign_word(word: Word, index: TurnIndex, nearest: bool) -> Word:
    if word.start_s is None or word.end_s is None:
        return word
    return replace(word, speaker=index.speaker(word.start_s, word.end_s, nearest))


def _fill_untimed(words: Sequence[Word]) -> list[Word]:
    """The words. One without times gets the speaker of the word before it, or else after it."""
    filled = list(words)
    for order in (range(len(filled)), range(len(filled) - 1, -1, -1)):
        speaker: str | None = None
        for i in order:
            if filled[i].start_s is None and filled[i].speaker is None:
                filled[i] = replace(filled[i], speaker=speaker)
            speaker = filled[i].speaker
    return filled


def _split(segment: Segment, words: Sequence[Word]) -> Iterator[Segment]:
    """One segment for each run of one speaker's words. A word without a speaker continues a run."""
    begin = 0  # of the run, in words and in characters of the text
    begin_char = char = 0
    speaker: str | None = None
    for i, word in enumerate(words):
        if speaker is not None and word.speaker not in (None, speaker):
            run = cut_words(segment, begin_char, char, words[begin:i])
            yield replace(run, speaker=speaker)
            begin, begin_char, speaker = i, char, None
        speaker = speaker or word.speaker
        found = segment.text.find(word.text, char)
        char = (found if found >= 0 else char) + len(word.text)
    last = cut_words(segment, begin_char, len(segment.text), words[begin:])
    yield replace(last, speaker=speaker)
