"""Which aligner gives words their times, and what to say where it is the second best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.domain.options import Task, WordAligner
from app.domain.transcript import Segment, Word
from app.domain.warnings import TranscriptWarning
from app.engine.batching import Batcher
from app.engine.model import ModelKey
from app.models.protocols import Aligner
from app.pipeline.optional_stages import optional_stage

MAX_LANGUAGES = 3  # of one recording, whose models are held at a time


class Aligners:
    """Of one request: leases each language's aligner when it is first asked for.

    Where there is none, words have the times of Whisper's cross-attention, and a warning says so.
    """

    def __init__(
        self,
        chosen: WordAligner,
        task: Task,
        key_of: Callable[[str], ModelKey | None],
        lease: Callable[[ModelKey], Batcher[Aligner]],
        strict: bool,
    ) -> None:
        """`strict`: an aligner that cannot be loaded fails the request."""
        self.warnings: list[TranscriptWarning] = []  # what is to be said of words, if there are any
        self._chosen = chosen
        self._task = task
        self._key_of = key_of
        self._lease = lease
        self._strict = strict
        self._leased: dict[str, Batcher[Aligner] | None] = {}

    def words(self, segment: Segment) -> Segment:
        """A segment with the recognizer's words, as far as the operator wants them."""
        if self._chosen is not WordAligner.WAV2VEC2 or segment.words is None:
            return segment
        if self._task is Task.TRANSLATE:
            return replace(segment, words=None)
        return replace(segment, words=tuple(Word(word.text) for word in segment.words))

    def of(self, language: str) -> Batcher[Aligner] | None:
        """The wav2vec2 aligner, or None: then the recognizer's own words are taken."""
        if language not in self._leased:
            self._leased[language] = self._find(language)
        return self._leased[language]

    def _find(self, language: str) -> Batcher[Aligner] | None:
        approximate = self._chosen is WordAligner.AUTO
        if self._task is Task.TRANSLATE:
            if self._chosen is not WordAligner.WAV2VEC2:
                self.warnings.append(TranscriptWarning.APPROXIMATE_TRANSLATION)
            return None
        if self._chosen is WordAligner.WHISPER:
            self.warnings.append(TranscriptWarning.APPROXIMATE_CHOSEN)
            return None
        key = self._key_of(language) if len(self._leased) < MAX_LANGUAGES else None
        if key is None:
            self.warnings.append(
                TranscriptWarning.APPROXIMATE_NO_ALIGNER
                if approximate
                else TranscriptWarning.NO_ALIGNER
            )
            return None
        warning = (
            TranscriptWarning.APPROXIMATE_UNAVAILABLE
            if approximate
            else TranscriptWarning.ALIGNER_UNAVAILABLE
        )
        with optional_stage(warning, warning, self.warnings, self._strict):
            return self._lease(key)
        return None
