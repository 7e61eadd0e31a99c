"""Certain words in the order in which they were said."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.domain.transcript import SpokenWord
from app.live.events import (
    Dropped,
    Ended,
    Failed,
    Final,
    LiveEvent,
    Partial,
    Reset,
    SpeechStarted,
)


@dataclass(slots=True)
class _Said:
    words: list[SpokenWord] = field(default_factory=list)
    is_over: bool = False  # nothing more comes of this utterance


class CertainWords:
    """Of one session. People speak on while an utterance is transcribed: what they say then comes
    after the rest of that one.
    """

    def __init__(self) -> None:
        self._utterances: dict[int, _Said] = {}  # by number, in order; those with more to come

    def hear(self, event: LiveEvent) -> list[SpokenWord]:
        """The words that can be told now."""
        match event:
            case SpeechStarted():
                self._utterances[event.utterance] = _Said()
            case Partial():
                self._said(event.utterance).words.extend(event.committed)
            case Final():
                self._end(event.utterance, event.rest)
            case Failed():
                self._end(event.utterance)
            case Dropped():
                self._utterances.pop(event.utterance, None)
            case Reset():
                self._utterances.clear()
        return self._take(everything=isinstance(event, Ended))

    def _said(self, number: int) -> _Said:
        return self._utterances.setdefault(number, _Said())

    def _end(self, number: int, rest: tuple[SpokenWord, ...] = ()) -> None:
        said = self._said(number)
        said.words.extend(rest)
        said.is_over = True

    def _take(self, everything: bool) -> list[SpokenWord]:
        taken: list[SpokenWord] = []
        for number, said in list(self._utterances.items()):
            taken += said.words
            said.words = []
            if said.is_over:
                del self._utterances[number]
            elif not everything:
                break
        return taken
