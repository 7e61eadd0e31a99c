"""Context: what was said before an utterance, for the recognizer: as text, and as sound."""

from __future__ import annotations

from collections import deque

import numpy as np

from app.domain.transcript import SAMPLE_RATE, Samples, Transcript

CONTEXT_CHARS = 500
LEFT_CONTEXT_S = 12.0
PAUSE = np.zeros(round(0.3 * SAMPLE_RATE), np.float32)
CONNECTED_S = 2.0  # what is said after a longer pause has little to do with what was before


class Context:
    """The end of the text so far, in one language."""

    def __init__(self) -> None:
        self._text = self._language = ""

    def note(self, transcript: Transcript) -> None:
        text = "".join(segment.text for segment in transcript.segments)
        if transcript.language != self._language:
            self.forget()
            self._language = transcript.language
        self._text = (self._text + text)[-CONTEXT_CHARS:]

    def before(self, language: str | None) -> str:
        """The text before an utterance of this language: another one does not count."""
        return self._text if language == self._language else ""

    def forget(self) -> None:
        self._text = ""


class LeftContext:
    """The sound of the last utterances, with a short pause after each."""

    def __init__(self) -> None:
        self._utterances: deque[Samples] = deque()
        self._end_s = 0.0

    def note(self, start_s: float, samples: Samples) -> None:
        """An utterance has ended. The oldest are forgotten once it is too much; one that is too
        long alone leaves nothing.
        """
        if not self.before(start_s):
            self.forget()
        self._utterances.extend((samples, PAUSE))
        self._end_s = start_s + len(samples) / SAMPLE_RATE
        while sum(map(len, self._utterances)) > LEFT_CONTEXT_S * SAMPLE_RATE:
            self._utterances.popleft()
            self._utterances.popleft()

    def before(self, start_s: float) -> tuple[Samples, ...]:
        """What was said just before an utterance that begins at a time."""
        return tuple(self._utterances) if start_s - self._end_s <= CONNECTED_S else ()

    def forget(self) -> None:
        self._utterances.clear()
