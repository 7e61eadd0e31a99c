"""The results of /stream: one for each chunk of the sound, and events of our own for who asks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from app.domain.transcript import SpokenWord
from app.formats.live import aligned_json, spoken_json, stream_seconds
from app.live.events import Ended, Failed, Final, LiveEvent, Partial, SpeechEnded, SpeechStarted

Message = dict[str, Any]
NEARLY_S = 0.15  # words so close to the end of a chunk may come with the next


class Results:
    """Collects the words that became certain, and makes a result of them at each chunk's end.

    A result waits until the sound of its chunk was listened to. It comes without words if there
    were none: clients may wait for it before they send more.
    """

    def __init__(self, chunk_s: float, start_s: float, language: str | None) -> None:
        self.chunk_s = chunk_s
        self.received_s = self._heard_s = start_s
        self._end_s = start_s + chunk_s  # of the chunk whose result comes next
        self._words: list[SpokenWord] = []
        self._open: set[int] = set()  # utterances without a transcript
        self._language = language or ""
        self._num_results = 0
        self._since = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether a chunk has been received whose result was not sent yet."""
        return self.received_s >= self._end_s

    def hear(self, event: LiveEvent) -> Iterator[Message]:
        """The results that an event completes."""
        match event:
            case SpeechStarted():
                self._open.add(event.utterance)
            case Partial():
                self._words.extend(event.committed)
                self._heard_s = max(self._heard_s, event.heard_s)
                self._language = event.language or self._language
            case Final():
                self._open.discard(event.utterance)
                self._words.extend(event.rest)
                self._heard_s = max(self._heard_s, event.end_s)
                self._language = event.transcript.language or self._language
            case Failed():
                self._open.discard(event.utterance)
        yield from self.ready()
        if isinstance(event, Ended) and self._words:
            yield self.take()

    def ready(self) -> Iterator[Message]:
        """The results of chunks that were received and listened to."""
        while self.due and (not self._open or self._heard_s >= self._end_s - NEARLY_S):
            yield self.take()

    def take(self) -> Message:
        """The next result, with what is certain by now."""
        self._end_s += self.chunk_s
        words, self._words = self._words, []
        now = time.monotonic()
        took_s, self._since = now - self._since, now
        return {
            "text": "".join(word.text for word in words).strip(),
            "language": self._language,
            "language_probability": 1.0 if self._language else 0.0,
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
        "warnings": [warning.sentence for warning in event.transcript.warnings],
    }
