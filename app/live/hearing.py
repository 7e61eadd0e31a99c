"""Hearing: what a session asks its ears about an utterance, and what was said before."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

from app.domain.transcript import Hypothesis, Samples, Transcript
from app.live.context import Context, LeftContext
from app.live.ears import Ears, Spoken
from app.live.utterance import Utterance


class Hearing:
    """In the session's thread only. An utterance is heard with the options at its start, and after
    what was said before it.
    """

    ears: Ears  # from the moment at which the model is there

    def __init__(self) -> None:
        self._context = Context()
        self._left_context = LeftContext()

    def expect(self, utterance: Utterance) -> None:
        self.ears.expect(utterance.work)

    def listen(self, utterance: Utterance, samples: Samples) -> Future[Hypothesis]:
        return self.ears.listen(samples, self._spoken(utterance), utterance.work)

    def is_credible(self, found: Hypothesis) -> bool:
        return self.ears.is_credible(found)

    def transcribe(self, utterance: Utterance, samples: Samples) -> Future[Transcript]:
        if utterance.left_context is None:
            utterance.left_context = self._left_context.before(utterance.start_s)
            self._left_context.note(utterance.start_s, samples)
        spoken = self._spoken(utterance)
        if utterance.options.use_context and not utterance.hurry:
            spoken = replace(spoken, left_context=utterance.left_context)
        return self.ears.transcribe(samples, spoken, utterance.work)

    def note(self, transcript: Transcript) -> None:
        """What was said."""
        self._context.note(transcript)

    def forget(self) -> None:
        self._context.forget()
        self._left_context.forget()

    def _spoken(self, utterance: Utterance) -> Spoken:
        options, language = utterance.options, utterance.language
        context = self._context.before(language) if options.use_context else ""
        return Spoken(options, language, context, utterance.hurry)
