"""Ears: what a live session asks of the models. Quick for partials, thorough for the final text."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from app.domain.options import DecodingOptions, TranscribeOptions
from app.domain.transcript import Audio, Hypothesis, Samples, Transcript
from app.engine.work import Work
from app.live.options import LiveOptions
from app.models.leases import LeasedRecognizer
from app.models.protocols import RecognitionItem
from app.pipeline.hypotheses import Judge
from app.pipeline.transcriber import Transcriber

QUICK_BEAM = 1


class Ears(Protocol):
    def listen(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Hypothesis]:
        """A quick hypothesis for at most 30 s, with the times of its words."""

    def is_credible(self, hypothesis: Hypothesis) -> bool:
        """Whether a quick hypothesis is worth telling."""

    def transcribe(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Transcript]:
        """The transcript of an utterance. Times are seconds from its start."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is known of an utterance. `context`: the text before it, empty if it does not count."""

    options: LiveOptions
    language: str | None
    context: str = ""

    @property
    def prompt(self) -> str:
        return " ".join(filter(None, (self.options.prompt, self.context)))


class ModelEars:
    """Implements `Ears` with the models that all requests share."""

    def __init__(
        self,
        transcriber: Transcriber,
        recognizer: LeasedRecognizer,
        start: Callable[[Callable[[], Transcript]], Future[Transcript]],
    ) -> None:
        """`start`: runs a job in a thread of its own."""
        self._transcriber = transcriber
        self._recognizer = recognizer
        self._start = start
        self._judge = Judge(recognizer.model.thresholds)

    def listen(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Hypothesis]:
        options = DecodingOptions(
            language=spoken.language,
            task=spoken.options.task,
            initial_prompt=spoken.prompt,
            hotwords=spoken.options.hotwords,
            beam_size=QUICK_BEAM,
        )
        [future] = work.submit(self._recognizer.recognition, [RecognitionItem(samples, options)])
        return future

    def is_credible(self, hypothesis: Hypothesis) -> bool:
        return not (self._judge.is_silence(hypothesis) or self._judge.repeats_itself(hypothesis))

    def transcribe(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Transcript]:
        live = spoken.options
        options = TranscribeOptions(
            model=live.model,
            language=spoken.language,
            task=live.task,
            initial_prompt=spoken.prompt,
            hotwords=live.hotwords,
        )
        audio = Audio(samples)
        return self._start(lambda: self._transcriber.transcribe(audio, options, work))
