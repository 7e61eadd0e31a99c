"""Finals: the transcripts of the utterances of one session that have ended, in their order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial

from app.domain.errors import Cancelled, Overloaded, ServiceError, StageFailed
from app.domain.transcript import Samples, Transcript
from app.engine.work import Work
from app.live import events
from app.live.speakers import Speakers
from app.live.utterance import Utterance

log = logging.getLogger(__name__)

LAGGING_S, LAGGING_EVERY_S = 10.0, 5.0
LOST_S = 60.0
SAME_SPEAKER = 0.5  # cosine of two voices, as of known speakers by default
TRIES = 3  # a neighbor may kill the model, too
TOO_FAR_BEHIND = "The service is too far behind this stream; try again later."

Transcribe = Callable[[Utterance, Samples], Future[Transcript]]


class Finals:
    """In the session's thread only, but for `pending_s`."""

    def __init__(
        self,
        transcribe: Transcribe,
        new_work: Callable[[], Work],
        tell: Callable[[events.LiveEvent], None],
        post: Callable[[Callable[[], None]], None],
        clock: Callable[[], float],
    ) -> None:
        """`post`: runs a function in the session's thread."""
        self._start = transcribe
        self._new_work = new_work
        self._tell = tell
        self._post = post
        self._clock = clock
        self._speakers = Speakers(SAME_SPEAKER)
        self._ended: deque[Utterance] = deque()
        self._complained = -LAGGING_EVERY_S

    def __bool__(self) -> bool:
        """Whether transcripts are under way."""
        return bool(self._ended)

    @property
    def pending_s(self) -> float:
        """Seconds of sound whose transcripts are under way. Any thread."""
        return sum(utterance.duration_s for utterance in tuple(self._ended))

    def add(self, utterance: Utterance, samples: Samples) -> None:
        utterance.ended_at = self._clock()
        self._ended.append(utterance)
        self._transcribe(utterance, samples)

    def drop(self) -> None:
        """Nobody wants these transcripts any more."""
        self.cancel(Cancelled("The sound was dropped."))
        while self._ended:
            self._tell(events.Dropped(self._ended.popleft().number))

    def cancel(self, reason: ServiceError | None) -> None:
        for utterance in self._ended:
            utterance.work.cancel(reason)

    def _transcribe(self, utterance: Utterance, samples: Samples) -> None:
        utterance.tries += 1
        utterance.final = future = self._start(utterance, samples)
        done = partial(self._post, partial(self._transcribed, utterance, samples))
        future.add_done_callback(lambda _: done())

    def _transcribed(self, utterance: Utterance, samples: Samples) -> None:
        assert utterance.final is not None
        if utterance not in self._ended or not utterance.final.done():
            return
        error = _error(utterance.final)
        if error is not None and not error.is_permanent and utterance.tries < TRIES:
            self._tell(events.Troubled(utterance.number, error))
            utterance.work = self._new_work()
            self._transcribe(utterance, samples)
            return
        while self._ended and _is_done(self._ended[0]):
            self._tell_final(self._ended.popleft())

    def _tell_final(self, utterance: Utterance) -> None:
        assert utterance.final is not None
        assert utterance.end_s is not None
        if (error := _error(utterance.final)) is not None:
            self._tell(events.Failed(utterance.number, error))
            return
        transcript = utterance.in_stream(utterance.final.result())
        rest = utterance.rest(transcript)
        start_s, end_s = utterance.start_s, utterance.end_s
        speaker = self._speaker_of(utterance, transcript)
        self._tell(events.Final(utterance.number, start_s, end_s, transcript, rest, speaker))

    def _speaker_of(self, utterance: Utterance, transcript: Transcript) -> str | None:
        for voice in transcript.speaker_embeddings.values():
            return self._speakers.label(utterance.number, voice)
        return None

    def tell_speakers(self) -> None:
        """At the end of the stream."""
        if speakers := self._speakers.corrected():
            self._tell(events.SpeakersKnown(speakers))

    def check_lag(self) -> None:
        """Complain now and then while the oldest transcript is late.

        Raises:
            Overloaded: it is hopeless.
        """
        if not self._ended or self._ended[0].ended_at is None:
            return
        now = self._clock()
        behind_s = now - self._ended[0].ended_at
        if behind_s > LOST_S:
            raise Overloaded(TOO_FAR_BEHIND, 30)
        if behind_s > LAGGING_S and now - self._complained >= LAGGING_EVERY_S:
            self._complained = now
            self._tell(events.Lagging(behind_s))


def _is_done(utterance: Utterance) -> bool:
    return utterance.final is not None and utterance.final.done()


def _error(done: Future[Transcript]) -> ServiceError | None:
    """Why there is no transcript."""
    try:
        error = done.exception()
    except CancelledError:
        return Cancelled("The work was cancelled.")
    if error is None or isinstance(error, ServiceError):
        return error
    log.error("the transcript of an utterance failed unexpectedly", exc_info=error)
    return StageFailed("A stage failed unexpectedly.")
