"""Utterance: one stretch of speech of a stream, from its first hypothesis to its transcript."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.domain.options import BRIEF_S
from app.domain.transcript import (
    Hypothesis,
    LanguageGuess,
    Samples,
    Segment,
    SpokenWord,
    Transcript,
    Word,
)
from app.engine.work import Work
from app.live.agreement import Agreed, Agreement, shifted
from app.live.echoes import without_echo
from app.live.options import LiveOptions

CONTEXT_S = BRIEF_S  # most sound of one hypothesis: what is older is committed by then
KEPT_S = 9.0  # of it, when it becomes too long
SURE_OF_LANGUAGE = 0.6
LANGUAGE_S = 2.0  # of speech, before its language is settled


class Utterance:
    """`start_s`: seconds of the stream. `options`: those at its start. `language`: settled by the
    first long hypothesis, unless it is given. `hurry`: its transcript has no time to lose.
    `left_context`: the sound before it, once its transcript is asked for. `closed`: no more
    hypotheses of it are told.
    """

    def __init__(
        self,
        number: int,
        start_s: float,
        work: Work,
        options: LiveOptions,
        committed: Sequence[SpokenWord] = (),
    ) -> None:
        """`committed`: its first words, if they were told as those of the one before."""
        self.number = number
        self.start_s = start_s
        self.end_s: float | None = None
        self.hurry = False
        self.left_context: tuple[Samples, ...] | None = None
        self.work = work
        self.options = options
        self.language = options.language
        self.probability: float | None = None  # of the language, if it was not given
        self._agreement = Agreement(committed)
        self._window_s = start_s
        self._skipped = False  # sound without a committed word
        self.closed = False

    @property
    def duration_s(self) -> float:
        """0 while it goes on."""
        return 0.0 if self.end_s is None else self.end_s - self.start_s

    def window_s(self, now_s: float) -> float:
        """Where the sound of the next hypothesis begins."""
        if now_s - self._window_s > CONTEXT_S:
            self._window_s = self._cut_before(now_s - KEPT_S, now_s - CONTEXT_S)
        return self._window_s

    def _cut_before(self, at_s: float, earliest_s: float) -> float:
        """The end of the last committed word before a time, or that time if none is near it.

        Then nothing more is committed: the words in between come with the transcript.
        """
        first_s = max(self._window_s, earliest_s)
        ends = [w.end_s for w in self._agreement.committed if first_s < w.end_s <= at_s]
        self._skipped = self._skipped or not ends
        return ends[-1] if ends else at_s

    def hear(
        self, hypothesis: Hypothesis, window_s: float, heard_s: float, in_pause: bool
    ) -> Agreed:
        """Take a hypothesis for the sound from `window_s` to `heard_s`.

        `in_pause`: it ends in one.
        """
        if self.language is None and hypothesis.guesses:
            self._learn_language(hypothesis.guesses[0], heard_s)
        words = shifted(without_echo(hypothesis.words or ()), window_s)
        if self._skipped:
            return Agreed((), words)
        return self._agreement.hear(
            words, window_s, heard_s, in_pause and self._is_sure_of_language
        )

    @property
    def _is_sure_of_language(self) -> bool:
        """Also where the recognizer does not guess it."""
        sure = self.probability is None or self.probability >= SURE_OF_LANGUAGE
        return sure or self.language is not None

    def _learn_language(self, guess: LanguageGuess, heard_s: float) -> None:
        self.probability = guess.probability
        if self._is_sure_of_language and heard_s - self.start_s >= LANGUAGE_S:
            self.language = guess.language

    def cut(self, at_s: float) -> list[SpokenWord]:
        """End it in the middle of speech. The committed words from there on, which are those of the
        next one.
        """
        self.closed = True
        return self._agreement.cut(at_s)

    def rest(self, transcript: Transcript) -> tuple[SpokenWord, ...]:
        """The words of its transcript, in times of the stream, after the committed ones."""
        return self._agreement.remaining(_spoken(transcript))

    def in_stream(self, transcript: Transcript) -> Transcript:
        """Its transcript with times of the stream."""
        by_s = self.start_s
        segments = tuple(_moved(segment, by_s) for segment in transcript.segments)
        return replace(transcript, segments=segments)


def _moved(segment: Segment, by_s: float) -> Segment:
    words = segment.words and tuple(_moved_word(word, by_s) for word in segment.words)
    return replace(
        segment, start_s=segment.start_s + by_s, end_s=segment.end_s + by_s, words=words, chunk=None
    )


def _moved_word(word: Word, by_s: float) -> Word:
    if word.start_s is None or word.end_s is None:
        return word
    return replace(word, start_s=word.start_s + by_s, end_s=word.end_s + by_s)


def _spoken(transcript: Transcript) -> list[SpokenWord]:
    """The words of a transcript; those without times get the place between their neighbors."""
    spoken: list[SpokenWord] = []
    for segment in transcript.segments:
        if not segment.words:
            spoken.extend(_spread(segment))
            continue
        at_s = segment.start_s
        for word, text in zip(segment.words, _as_written(segment), strict=True):
            start_s = at_s if word.start_s is None else word.start_s
            end_s = start_s if word.end_s is None else word.end_s
            spoken.append(SpokenWord(text, start_s, end_s, word.score or 1.0))
            at_s = end_s
    return spoken


def _as_written(segment: Segment) -> list[str]:
    """Its words with a space before each that has one: Chinese has none."""
    texts, at = [], 0
    for word in segment.words or ():
        found = segment.text.find(word.text, at)
        spaced = found < 0 or segment.text[:found][-1:].isspace()
        texts.append(f" {word.text}" if spaced else word.text)
        at = max(at, found + len(word.text))
    return texts


def _spread(segment: Segment) -> list[SpokenWord]:
    """Its words at equal distances: their times are not known."""
    texts = segment.text.split()
    each_s = (segment.end_s - segment.start_s) / max(1, len(texts))
    starts = [segment.start_s + i * each_s for i in range(len(texts))]
    return [
        SpokenWord(f" {text}", start_s, start_s + each_s, 1.0)
        for text, start_s in zip(texts, starts, strict=True)
    ]
