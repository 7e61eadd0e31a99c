"""Hearing: what a session asks its ears about an utterance, and the text that was said before."""

from __future__ import annotations

from concurrent.futures import Future

from app.domain.transcript import Hypothesis, Samples, Transcript
from app.live.context import Context
from app.live.ears import Ears, Spoken
from app.live.utterance import Utterance


class Hearing:
    """In the session's thread only. An utterance is heard with the options at its start, and after
    what was said before it.
    """

    ears: Ears  # from the moment at which the model is there

    def __init__(self) -> None:
        self._context = Context()

    def expect(self, utterance: Utterance) -> None:
        self.ears.expect(utterance.work)

    def listen(self, utterance: Utterance, samples: Samples) -> Future[Hypothesis]:
        return self.ears.listen(samples, self._spoken(utterance), utterance.work)

    def is_credible(self, found: Hypothesis) -> bool:
        return self.ears.is_credible(found)

    def transcribe(self, utterance: Utterance, samples: Samples) -> Future[Transcript]:
        return self.ears.transcribe(samples, self._spoken(utterance), utterance.work)

    def note(self, transcript: Transcript) -> None:
        """What was said."""
        self._context.note(transcript)

    def forget(self) -> None:
        self._context.forget()

    def _spoken(self, utterance: Utterance) -> Spoken:
        options, language = utterance.options, utterance.language
        context = self._context.before(language) if options.use_context else ""
        return Spoken(options, language, context, utterance.hurry)
