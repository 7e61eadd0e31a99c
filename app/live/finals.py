"""Finals: the transcripts of the utterances of one session that have ended, in their order.

An utterance that has ended is transcribed until it is settled: there is a transcript, or an error
that another try would not mend. Those settled are told in the order in which they ended. Each has
one outcome: `Final`, `Failed` or `Dropped`; none is told once the session is over.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import partial

from app.domain.errors import Cancelled, Overloaded, ServiceError, StageFailed
from app.domain.transcript import Samples, Transcript
from app.engine.work import Work
from app.live import events
from app.live.utterance import Utterance
from app.live.voices import Voices, main_speaker, turns_of

log = logging.getLogger(__name__)

LAGGING_S, LAGGING_EVERY_S = 10.0, 5.0
LAGGING_PER_S = 0.5  # later for each second of sound that had to be transcribed
LOST_S = 60.0
LOST_PER_S = 4.0
TRIES = 3  # a neighbor may kill the model, too
TOO_FAR_BEHIND = "The service is too far behind this stream; try again later."

Transcribe = Callable[[Utterance, Samples], Future[Transcript]]


@dataclass(slots=True, eq=False)
class _Pending:
    """An utterance that has ended. `waits_for_s`: seconds of its sound and of what was to be
    transcribed before it. `settled`: the future of its last try, once that is looked at.
    """

    utterance: Utterance
    samples: Samples
    ended_at: float
    waits_for_s: float
    tries: int = 0
    trying: Future[Transcript] | None = None
    settled: Future[Transcript] | None = None

    @property
    def lagging_s(self) -> float:
        """So long after its end, its client is told."""
        return LAGGING_S + LAGGING_PER_S * self.waits_for_s

    @property
    def lost_s(self) -> float:
        """So long after its end, there is no hope."""
        return LOST_S + LOST_PER_S * self.waits_for_s


class Finals:
    """In the session's thread only, but for `pending_s`."""

    def __init__(
        self,
        transcribe: Transcribe,
        new_work: Callable[[], Work],
        tell: Callable[[events.LiveEvent], None],
        post: Callable[[Callable[[], None]], None],
        clock: Callable[[], float],
        voices: Voices | None = None,
    ) -> None:
        """`post`: runs a function in the session's thread."""
        self._start = transcribe
        self._new_work = new_work
        self._tell = tell
        self._post = post
        self._clock = clock
        self._voices = voices or Voices()
        self._pending: deque[_Pending] = deque()
        self._complained: float | None = None  # when; None if all is well

    def __bool__(self) -> bool:
        """Whether transcripts are under way."""
        return bool(self._pending)

    @property
    def pending_s(self) -> float:
        """Seconds of sound whose transcripts are under way. Any thread."""
        return sum(pending.utterance.duration_s for pending in tuple(self._pending))

    @property
    def strain(self) -> float:
        """How late the oldest transcript is: 1 or more where the client is told."""
        if not self._pending:
            return 0.0
        return (self._clock() - self._pending[0].ended_at) / self._pending[0].lagging_s

    def add(self, utterance: Utterance, samples: Samples) -> None:
        waits_for_s = self.pending_s + utterance.duration_s
        pending = _Pending(utterance, samples, self._clock(), waits_for_s)
        self._pending.append(pending)
        self._try(pending)

    def drop(self) -> None:
        """Nobody wants these transcripts any more."""
        dropped = list(self._pending)
        self._pending.clear()  # before their ends are heard of
        self._voices.forget_turns()
        for pending in dropped:
            pending.utterance.closed = True
            pending.utterance.work.cancel(Cancelled("The sound was dropped."))
            self._tell(events.Dropped(pending.utterance.number))

    def cancel(self, reason: ServiceError | None) -> None:
        """The session is over: nothing more is told."""
        cancelled = list(self._pending)
        self._pending.clear()
        for pending in cancelled:
            pending.utterance.work.cancel(reason)

    # -- one utterance ---------------------------------------------------------------------------

    def _try(self, pending: _Pending) -> None:
        pending.tries += 1
        pending.trying = future = self._start(pending.utterance, pending.samples)
        tried = partial(self._tried, pending, future)
        future.add_done_callback(lambda _: self._post(tried))

    def _tried(self, pending: _Pending, future: Future[Transcript]) -> None:
        if pending.trying is not future or pending not in self._pending:
            return
        error = _error(future)
        pending.trying = None
        if error is not None and not error.is_permanent and pending.tries < TRIES:
            self._tell(events.Troubled(pending.utterance.number, error))
            pending.utterance.work = self._new_work()
            self._try(pending)
            return
        pending.settled = future
        self._tell_settled()

    def _tell_settled(self) -> None:
        while self._pending and (settled := self._pending[0].settled) is not None:
            utterance = self._pending.popleft().utterance
            utterance.closed = True
            error = _error(settled)
            if error is None:
                self._tell_final(utterance, settled.result())
            else:
                self._tell(events.Failed(utterance.number, error))

    def _tell_final(self, utterance: Utterance, own: Transcript) -> None:
        assert utterance.end_s is not None
        transcript = utterance.in_stream(own)
        rest = utterance.rest(transcript)
        start_s, end_s = utterance.start_s, utterance.end_s
        transcript = self._voices.name(utterance.number, transcript)
        speaker = main_speaker(turns_of(transcript))
        self._tell(events.Final(utterance.number, start_s, end_s, transcript, rest, speaker))

    def tell_speakers(self) -> None:
        """At the end of the stream."""
        if turns := self._voices.corrected():
            self._tell(events.SpeakersKnown(turns))

    # -- lag -------------------------------------------------------------------------------------

    def check_lag(self) -> None:
        """Complain now and then while the oldest transcript is late: later if it had more to wait
        for.

        Raises:
            Overloaded: it is hopeless, and the client was told before that it lags.
        """
        now, oldest = self._clock(), self._pending[0] if self._pending else None
        behind_s = 0.0 if oldest is None else now - oldest.ended_at
        if oldest is None or self.strain < 1:
            self._complained = None
            return
        if self._complained is None or now - self._complained >= LAGGING_EVERY_S:
            told, self._complained = self._complained is not None, now
            if told and behind_s > oldest.lost_s:
                raise Overloaded(TOO_FAR_BEHIND, 30)
            self._tell(events.Lagging(behind_s))


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
