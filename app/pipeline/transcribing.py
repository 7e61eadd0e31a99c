"""Transcribing: what the service asks of the models, wherever they run.

`Transcriber` does it in this process. Where the models run in other processes, something with the
same methods passes the work on.
"""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from app.domain.options import DecodingOptions, TranscribeOptions
from app.domain.transcript import Audio, Hypothesis, LanguageGuess, Samples, Transcript
from app.engine.work import Work
from app.models.protocols import Abilities, HypothesisThresholds
from app.pipeline.flow import NOBODY, Listener


@dataclass(frozen=True, slots=True)
class Traits:
    """What a recognizer knows and can do, without its weights."""

    languages: frozenset[str]
    abilities: Abilities
    thresholds: HypothesisThresholds


class Ear(Protocol):
    """A recognizer alone, for quick hypotheses of sound that goes on. In one thread only."""

    @property
    def traits(self) -> Traits: ...

    def expect(self, work: Work) -> None:
        """Somebody speaks: `listen` will be called soon."""

    def listen(self, samples: Samples, options: DecodingOptions, work: Work) -> Future[Hypothesis]:
        """The hypothesis for at most 30 s. Raises ServiceError, or the future does."""


class Transcribing(Protocol):
    """All methods block. Any thread."""

    def transcribe(
        self, audio: Audio, options: TranscribeOptions, work: Work, listener: Listener = NOBODY
    ) -> Transcript:
        """The transcript of `audio`: recognized, aligned, diarized.

        Raises:
            ServiceError: recognition failed, or `work` was cancelled.
        """

    def detect_language(
        self, audio: Audio, model: str, work: Work, is_all: bool
    ) -> LanguageGuess | None:
        """The language of most of the speech, or None if it is unclear. With `is_all`, `audio` is
        the whole recording, and even silence has a language.
        """

    def ear(self, model: str, work: Work) -> AbstractContextManager[Ear]:
        """The recognizer, loaded until the block ends.

        Raises:
            ServiceError: it cannot be loaded.
        """

    def prepare(self, model: str, language: str | None, work: Work) -> None:
        """Load what a transcript needs besides the recognizer. `language` None: not known yet.

        Raises:
            ServiceError
        """

    def close(self) -> None: ...
