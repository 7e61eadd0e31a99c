"""Ears: what a live session asks of the models. Quick for partials, thorough for the final text."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

from app.domain.errors import ServiceError
from app.domain.options import DecodingOptions, SpeakerBounds, TranscribeOptions
from app.domain.transcript import Audio, Hypothesis, Samples, Transcript
from app.engine.work import Work
from app.live.options import LiveOptions
from app.pipeline.hypotheses import Judge
from app.pipeline.support import check_support
from app.pipeline.transcribing import Ear, Transcribing

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


class ModelEars:
    """Implements `Ears` with the models that all requests share. In the session's thread only."""

    def __init__(
        self,
        transcriber: Transcribing,
        ear: Ear,
        start: Callable[[Callable[[], Transcript]], Future[Transcript]],
    ) -> None:
        """`start`: runs a job in a thread of its own."""
        self._transcriber = transcriber
        self._ear = ear
        self._start = start

    def listen(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Hypothesis]:
        live = spoken.options
        options = DecodingOptions(
            language=spoken.language,
            task=live.task,
            initial_prompt=live.prompt,
            hotwords=live.hotwords,
            context=spoken.context,
            beam_size=QUICK_BEAM,
        )
        try:
            check_support(self._ear.traits, _transcribe_options(spoken))
            return self._ear.listen(samples, options, work)
        except ServiceError as error:
            failed: Future[Hypothesis] = Future()
            failed.set_exception(error)
            return failed

    def is_credible(self, hypothesis: Hypothesis) -> bool:
        judge = Judge(self._ear.traits.thresholds)
        return not (judge.is_silence(hypothesis) or judge.repeats_itself(hypothesis))

    def transcribe(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Transcript]:
        options, audio = _transcribe_options(spoken), Audio(samples)
        if spoken.options.diarize:  # its one voice tells the speaker
            options = replace(options, diarize=True, speakers=SpeakerBounds(num_speakers=1))
        return self._start(lambda: self._transcriber.transcribe(audio, options, work))


def _transcribe_options(spoken: Spoken) -> TranscribeOptions:
    live = spoken.options
    return TranscribeOptions(
        model=live.model,
        language=spoken.language,
        task=live.task,
        initial_prompt=live.prompt,
        hotwords=live.hotwords,
        context=spoken.context,
    )
