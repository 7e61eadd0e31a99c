"""Ears: what a live session asks of the models. Quick for partials, thorough for the final text."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

from app.domain.errors import ServiceError
from app.domain.options import BRIEF_S, DecodingOptions, TranscribeOptions
from app.domain.transcript import SAMPLE_RATE, Audio, Hypothesis, Samples, Transcript
from app.engine.work import Work
from app.live.options import LiveOptions
from app.pipeline.hypotheses import Judge
from app.pipeline.support import check_support
from app.pipeline.transcribing import Ear, Transcribing

QUICK_BEAM = 1
TIMEOUT_S, TIMEOUT_PER_S = 300.0, 4.0  # of a transcript; the latter for each second of sound


class Ears(Protocol):
    def expect(self, work: Work) -> None:
        """Somebody speaks: `listen` or `transcribe` will be called soon."""

    def listen(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Hypothesis]:
        """A quick hypothesis for at most 30 s, with the times of its words."""

    def is_credible(self, hypothesis: Hypothesis) -> bool:
        """Whether a quick hypothesis is worth telling."""

    def transcribe(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Transcript]:
        """The transcript of an utterance. Times are seconds from its start."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is known of an utterance. `context`: the text before it, empty if it does not count.
    `hurry`: see `TranscribeOptions`. `left_context`: the sound of the utterances before it.
    """

    options: LiveOptions
    language: str | None
    context: str = ""
    hurry: bool = False
    left_context: tuple[Samples, ...] = ()


class ModelEars:
    """Implements `Ears` with the models that all requests share. In the session's thread only."""

    def __init__(
        self,
        transcriber: Transcribing,
        ear: Ear,
        start: Callable[[Callable[[], Transcript]], Future[Transcript]],
    ) -> None:
        """`start`: runs a job in a thread of its own when it is its turn."""
        self._transcriber = transcriber
        self._ear = ear
        self._start = start

    def expect(self, work: Work) -> None:
        self._ear.expect(work)

    def listen(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Hypothesis]:
        live = spoken.options
        options = DecodingOptions(
            language=spoken.language,
            task=live.task,
            initial_prompt=live.prompt,
            hotwords=live.hotwords,
            context=spoken.context,
            beam_size=QUICK_BEAM,
            brief=len(samples) <= BRIEF_S * SAMPLE_RATE,
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
        if spoken.options.diarize:  # people often answer without a pause: one utterance has two
            options = replace(options, diarize=True)

        def run() -> Transcript:
            work.extend(TIMEOUT_S + TIMEOUT_PER_S * audio.duration_s)  # it may have waited
            return self._transcriber.transcribe(audio, options, work)

        return work.track(self._start(run))


def _transcribe_options(spoken: Spoken) -> TranscribeOptions:
    live = spoken.options
    return TranscribeOptions(
        model=live.model,
        language=spoken.language,
        task=live.task,
        initial_prompt=live.prompt,
        hotwords=live.hotwords,
        context=spoken.context,
        left_context=spoken.left_context,
        hurry=spoken.hurry,
    )
