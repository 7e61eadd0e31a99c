"""Which aligner gives words their times, and the warning if it is only the second best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.domain.options import Task, WordAligner
from app.domain.transcript import Segment, Word
from app.domain.warnings import TranscriptWarning
from app.engine.model import ModelKey
from app.models.leases import LeasedAligner
from app.pipeline.optional_stages import optional_stage

MAX_LANGUAGES = 3  # of one recording: it holds so many aligners at most


class Aligners:
    """The aligners of one request, each leased when its language first occurs.

    Without an aligner, words have the times of Whisper's cross-attention, and a warning says so.
    """

    def __init__(
        self,
        chosen: WordAligner,
        task: Task,
        key_of: Callable[[str], ModelKey | None],
        lease: Callable[[ModelKey], LeasedAligner],
        strict: bool,
    ) -> None:
        """`strict`: an aligner that cannot be loaded fails the request."""
        self.warnings: list[TranscriptWarning] = []  # for a transcript that has words
        self._chosen = chosen
        self._task = task
        self._key_of = key_of
        self._lease = lease
        self._strict = strict
        self._leased: dict[str, LeasedAligner | None] = {}

    def words(self, segment: Segment) -> Segment:
        """The segment with the recognizer's words, if the operator wants them."""
        if self._chosen is not WordAligner.WAV2VEC2 or segment.words is None:
            return segment
        if self._task is Task.TRANSLATE:
            return replace(segment, words=None)
        return replace(segment, words=tuple(Word(word.text) for word in segment.words))

    def of(self, language: str) -> LeasedAligner | None:
        """The wav2vec2 aligner; None if the recognizer's own words are to be used."""
        if language not in self._leased:
            self._leased[language] = self._find(language)
        return self._leased[language]

    def _find(self, language: str) -> LeasedAligner | None:
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
