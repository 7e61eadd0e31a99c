"""Context: what was said before an utterance, for the recognizer."""

from __future__ import annotations

from app.domain.transcript import Transcript

CONTEXT_CHARS = 500


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
