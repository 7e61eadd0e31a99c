"""The results of /stream: one for each chunk of the sound, and events of our own for who asks."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from app.domain.transcript import SpokenWord, Turn
from app.formats.live import aligned_json, spoken_json, stream_seconds
from app.live.certain import CertainWords
from app.live.events import (
    Dropped,
    Ended,
    Failed,
    Final,
    LiveEvent,
    Looked,
    Partial,
    Reset,
    Silence,
    SpeakersKnown,
    SpeechEnded,
    SpeechStarted,
)
from app.live.voices import main_speaker

Message = dict[str, Any]
NEARLY_S = 0.15  # words so close to the end of a chunk may come with the next
ROUNDING_S = 0.01  # clients round the samples of a chunk


class Results:
    """Collects the words that became certain, and makes a result of them at each chunk's end.

    A result waits until the sound of its chunk was listened to. It comes without words if there
    were none: clients may wait for it before they send more.
    """

    def __init__(self, chunk_s: float, start_s: float, language: str | None) -> None:
        self.chunk_s = chunk_s
        self.language = language or ""
        self._received_s = self._looked_s = self._heard_s = start_s
        self._end_s = start_s + chunk_s  # of the chunk whose result comes next
        self._certain = CertainWords()
        self._words: list[SpokenWord] = []
        self._open: dict[int, float] = {}  # utterances without a transcript, and their begin
        self._probability = 1.0 if language else 0.0
        self._num_results = 0
        self._due_since = math.inf

    @property
    def received_s(self) -> float:
        return self._received_s

    @property
    def due(self) -> bool:
        """Whether a chunk has been received whose result was not sent yet."""
        return self._received_s >= self._end_s - ROUNDING_S

    def receive(self, until_s: float) -> None:
        """More sound has come."""
        self._received_s = until_s
        if self.due:
            self._due_since = min(self._due_since, time.monotonic())

    def restart(self) -> None:
        """The next chunk begins with the next sound."""
        self._end_s = self._received_s + self.chunk_s
        self._due_since = math.inf

    def hear(self, event: LiveEvent) -> Iterator[Message]:
        """The results that an event completes."""
        certain = self._certain.hear(event)
        match event:
            case SpeechStarted():
                self._open[event.utterance] = event.at_s
            case Partial():
                if event.utterance == min(self._open, default=event.utterance):
                    self._heard_s = max(self._heard_s, event.heard_s)
                self._learn(event.language, event.probability)
            case Final():
                self._open.pop(event.utterance, None)
                self._heard_s = max(self._heard_s, event.end_s)
                self._learn(event.transcript.language, None)
            case Failed() | Dropped():
                self._open.pop(event.utterance, None)
            case Reset():
                self._words = []
            case Looked():
                self._looked_s = max(self._looked_s, event.at_s)
        self._words.extend(certain)
        yield from self.ready()
        if isinstance(event, Ended) and self._words:
            yield self.take()

    def _learn(self, language: str, probability: float | None) -> None:
        self.language = language or self.language
        if probability is not None:
            self._probability = probability

    def ready(self) -> Iterator[Message]:
        """The results of chunks that were received and listened to."""
        while self.due and self._is_heard(min(self._end_s, self._received_s) - NEARLY_S):
            yield self.take()

    def _is_heard(self, until_s: float) -> bool:
        if self._looked_s < until_s:
            return False
        speaking = any(start_s < until_s for start_s in self._open.values())
        return self._heard_s >= until_s or not speaking

    def overdue(self) -> Iterator[Message]:
        """The results of all chunks that were received, with what is certain by now."""
        while self.due:
            yield self.take()

    def take(self) -> Message:
        """The next result, with what is certain by now."""
        self._end_s = min(self._end_s, max(self._received_s, self._end_s - ROUNDING_S))
        self._end_s += self.chunk_s
        words, self._words = self._words, []
        now = time.monotonic()
        took_s = max(0.0, now - self._due_since)
        self._due_since = now if self.due else math.inf
        return {
            "text": "".join(word.text for word in words).strip(),
            "language": self.language,
            "language_probability": self._probability,
            "segments": [self._segment(words)] if words else [],
            "processing_time": round(took_s, 3),
        }

    def _segment(self, words: list[SpokenWord]) -> Message:
        self._num_results += 1
        return {
            "id": self._num_results - 1,
            "text": "".join(word.text for word in words).strip(),
            "start": stream_seconds(words[0].start_s),
            "end": stream_seconds(words[-1].end_s),
            "words": [spoken_json(word) for word in words],
        }


def own_events(event: LiveEvent) -> Iterator[Message]:
    """What a client hears that asked for `events`."""
    match event:
        case SpeechStarted() | SpeechEnded():
            name = "speech_started" if isinstance(event, SpeechStarted) else "speech_ended"
            yield {"event": name, "utterance": event.utterance, "at": stream_seconds(event.at_s)}
        case Silence():
            yield {"event": "silence", "until": stream_seconds(event.until_s)}
        case Partial():
            yield {
                "event": "partial",
                "utterance": event.utterance,
                "committed": [spoken_json(word) for word in event.committed],
                "tentative": [spoken_json(word) for word in event.tentative],
                "heard": stream_seconds(event.heard_s),
                "language": event.language,
            }
        case Final():
            yield _final(event)
        case SpeakersKnown():
            yield {"event": "speakers", "speakers": [*map(_speakers, event.turns.items())]}
        case Dropped():
            yield {"event": "dropped", "utterance": event.utterance}


def _speakers(spoken: tuple[int, tuple[Turn, ...]]) -> Message:
    utterance, turns = spoken
    return {
        "utterance": utterance,
        "speaker": main_speaker(turns),
        "turns": [
            {
                "speaker": turn.speaker,
                "start": stream_seconds(turn.start_s),
                "end": stream_seconds(turn.end_s),
            }
            for turn in turns
        ],
    }


def _final(event: Final) -> Message:
    segments = event.transcript.segments
    return {
        "event": "final",
        "utterance": event.utterance,
        "start": stream_seconds(event.start_s),
        "end": stream_seconds(event.end_s),
        "text": "".join(segment.text for segment in segments).strip(),
        "rest": [spoken_json(word) for word in event.rest],
        "language": event.transcript.language,
        "words": [aligned_json(word) for segment in segments for word in segment.words or ()],
        **({"speaker": event.speaker} if event.transcript.speakers_known else {}),
        "warnings": [warning.sentence for warning in event.transcript.warnings],
    }
