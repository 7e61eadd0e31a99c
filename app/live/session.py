"""LiveSession: one stream, from its bytes to the events that its client is told. Knows no socket.

All of a session's state belongs to its thread: others leave messages in its inbox.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from functools import partial
from queue import SimpleQueue
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.audio.stream import StreamDecoder
from app.domain.errors import Cancelled, Overloaded, ServiceError, StageFailed
from app.domain.transcript import SAMPLE_RATE, Hypothesis, Samples
from app.engine.work import Work
from app.live import events
from app.live.ears import Ears, Spoken
from app.live.endpointing import FRAME_S, Endpointer, Started
from app.live.options import LiveOptions
from app.live.tape import Tape
from app.live.utterance import Utterance

log = logging.getLogger(__name__)

FRAME_SAMPLES = round(FRAME_S * SAMPLE_RATE)
IDLE_S = 1.0  # of silence that is kept for an utterance to come
LEAST_S = 0.5  # of speech, for a first hypothesis
SHORTEST_STEP_S, LONGEST_STEP_S = 0.5, 2.0
STEP_PER_LATENCY = 1.2
CONTEXT_CHARS = 500
LAGGING_S, LAGGING_EVERY_S = 10.0, 5.0
LOST_S = 60.0
TRIES = 2
TOO_FAR_BEHIND = "The service is too far behind this stream; try again later."


class Track(Protocol):
    def add(self, samples: Samples) -> npt.NDArray[np.float32]:
        """The probability of speech in each frame of 512 samples."""


class LiveSession:
    def __init__(
        self,
        new_track: Callable[[], Track],
        new_work: Callable[[], Work],
        options: LiveOptions,
        tell: Callable[[events.LiveEvent], None],
        clock: Callable[[], float] = time.monotonic,
        start_s: float = 0.0,
        numbers: Iterator[int] | None = None,
    ) -> None:
        """`new_work`: for each utterance, so that a long stream is not taken for one long request.
        `tell` is called in the session's thread. `start_s`: the time of the first sound.
        `numbers`: of the utterances.
        """
        self._new_track = new_track
        self._new_work = new_work
        self._tell = tell
        self._clock = clock
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._waiting_bytes = 0
        self._running = True
        self._finishing = False
        self._numbers = itertools.count(1) if numbers is None else numbers
        self._open: Utterance | None = None
        self._ended: deque[Utterance] = deque()  # whose transcripts are to be told, in order
        self._context = ""
        self._latency_s = 0.0
        self._in_flight = False
        self._heard_s = 0.0
        self._complained = -LAGGING_EVERY_S
        self._use(options, start_s)

    # -- for any thread --------------------------------------------------------------------------

    @property
    def backlog_s(self) -> float:
        """Sound that has arrived and was not looked at yet."""
        return self._waiting_bytes / (self._options.encoding.sample_bytes * self._options.rate)

    def hear(self, data: bytes) -> None:
        """The next bytes of the stream."""
        self._waiting_bytes += len(data)
        self._inbox.put(partial(self._hear, data))

    def commit(self) -> None:
        """End the utterance that is open, if there is one, or was not noticed."""
        self._inbox.put(self._commit)

    def clear(self) -> None:
        """Drop the sound that has no transcript yet."""
        self._inbox.put(self._clear)

    def reconfigure(self, options: LiveOptions) -> None:
        """Other options from here on."""
        self._inbox.put(partial(self._reconfigure, options))

    def look_now(self) -> None:
        """Ask for a hypothesis of the sound so far, however little is new."""
        self._inbox.put(partial(self._look_ahead, 0.0))

    def call(self, function: Callable[[], None]) -> None:
        """Call something in the session's thread, after all that arrived before."""
        self._inbox.put(function)

    def finish(self) -> None:
        """The stream has ended: tell what is left, then `Ended`."""
        self._inbox.put(self._finish)

    def abort(self, reason: ServiceError | None = None) -> None:
        """End at once."""
        self._inbox.put(partial(self._end, reason))

    def run(self, ears: Ears) -> None:
        """Serve the stream until it ends. In a thread of its own."""
        self._ears = ears
        try:
            while self._running:
                self._inbox.get()()
        except ServiceError as error:
            self._end(error)
        except Exception:
            log.exception("a live session failed unexpectedly")
            self._end(StageFailed("A stage failed unexpectedly."))

    # -- sound -----------------------------------------------------------------------------------

    def _use(self, options: LiveOptions, at_s: float) -> None:
        self._options = options
        self._decoder = StreamDecoder(options.encoding, options.rate)
        self._endpointer = None if options.endpoints is None else Endpointer(options.endpoints)
        self._track = self._new_track()
        self._tape = Tape(at_s)
        self._begin_s = at_s  # of the endpointer's time
        self._frames = np.zeros(0, np.float32)  # not complete yet

    def _reconfigure(self, options: LiveOptions) -> None:
        same_sound = (options.encoding, options.rate) == (
            self._options.encoding,
            self._options.rate,
        )
        if same_sound and options.endpoints == self._options.endpoints:
            self._options = options
            return
        self._commit()
        self._use(options, self._tape.end_s)

    def _hear(self, data: bytes) -> None:
        self._waiting_bytes -= len(data)
        if not self._finishing:
            self._take(self._decoder.decode(data))

    def _take(self, samples: Samples) -> None:
        self._tape.add(samples)
        if self._endpointer is None:
            if self._open is None and len(samples):
                self._start(self._tape.end_s - len(samples) / SAMPLE_RATE)
        else:
            self._find_endpoints(self._endpointer, samples)
        if self._open is None:
            self._tape.forget(self._tape.end_s - IDLE_S)
        self._look_ahead()
        self._check_lag()

    def _find_endpoints(self, endpointer: Endpointer, samples: Samples) -> None:
        waiting = np.concatenate([self._frames, samples])
        whole = len(waiting) - len(waiting) % FRAME_SAMPLES
        self._frames = waiting[whole:]
        for probability in self._track.add(waiting[:whole]):
            for found in endpointer.feed(float(probability)):
                at_s = self._begin_s + found.at_s
                if isinstance(found, Started):
                    self._start(at_s)
                else:
                    self._stop(at_s)

    def _start(self, at_s: float) -> None:
        number = next(self._numbers)
        self._open = Utterance(number, at_s, self._new_work(), self._options.language)
        self._heard_s = at_s
        self._tell(events.SpeechStarted(number, at_s))

    def _stop(self, at_s: float) -> None:
        utterance, self._open = self._open, None
        if utterance is None:
            return
        utterance.end_s = at_s
        utterance.ended_at = self._clock()
        self._tell(events.SpeechEnded(utterance.number, at_s))
        self._ended.append(utterance)
        self._transcribe(utterance, self._tape.between(utterance.start_s, at_s))
        self._tape.forget(at_s)

    def _commit(self) -> None:
        self._take(self._decoder.flush())
        if self._endpointer is not None:
            for found in self._endpointer.finish():
                self._stop(min(self._begin_s + found.at_s, self._tape.end_s))
        else:
            self._stop(self._tape.end_s)

    def _clear(self) -> None:
        if self._open is not None:
            self._open.work.cancel(Cancelled("The sound was dropped."))
            self._open = None
        if self._endpointer is not None:
            self._endpointer.finish()
        self._tape.forget(self._tape.end_s)

    # -- partials --------------------------------------------------------------------------------

    @property
    def _step_s(self) -> float:
        """New sound before the next hypothesis: more if the models are busy."""
        wanted = STEP_PER_LATENCY * self._latency_s
        return min(LONGEST_STEP_S, max(SHORTEST_STEP_S, wanted))

    def _look_ahead(self, step_s: float | None = None) -> None:
        """Ask for a hypothesis of the open utterance, if there is enough new sound."""
        utterance = self._open
        if utterance is None or self._in_flight or not self._options.partials:
            return
        now_s = self._tape.end_s
        step_s = max(self._step_s, LEAST_S) if step_s is None else step_s
        if now_s - self._heard_s <= step_s:
            return
        window_s = utterance.window_s(now_s)
        samples = self._tape.between(window_s, now_s)
        self._heard_s, self._in_flight = now_s, True
        asked = self._clock()
        future = self._ears.listen(samples, self._spoken(utterance), utterance.work)
        future.add_done_callback(
            lambda done: self._inbox.put(
                partial(self._listened, utterance, window_s, now_s, asked, done)
            )
        )

    def _listened(
        self,
        utterance: Utterance,
        window_s: float,
        heard_s: float,
        asked: float,
        done: Future[Hypothesis],
    ) -> None:
        self._in_flight = False
        self._latency_s = self._clock() - asked
        hypothesis = _value(done) if utterance is self._open else None
        if hypothesis is not None and self._ears.is_credible(hypothesis):
            agreed = utterance.hear(hypothesis, window_s, heard_s)
            told = (agreed.committed, agreed.tentative, heard_s, hypothesis.language)
            self._tell(events.Partial(utterance.number, *told))
        self._look_ahead()

    def _spoken(self, utterance: Utterance) -> Spoken:
        context = self._context if self._options.use_context else ""
        return Spoken(self._options, utterance.language, context)

    # -- transcripts -----------------------------------------------------------------------------

    def _transcribe(self, utterance: Utterance, samples: Samples) -> None:
        utterance.tries += 1
        future = self._ears.transcribe(samples, self._spoken(utterance), utterance.work)
        utterance.final = future
        future.add_done_callback(
            lambda _: self._inbox.put(partial(self._transcribed, utterance, samples))
        )

    def _transcribed(self, utterance: Utterance, samples: Samples) -> None:
        assert utterance.final is not None
        error = utterance.final.exception() if not utterance.final.cancelled() else None
        if error is not None and utterance.tries < TRIES and not _is_permanent(error):
            utterance.work = self._new_work()
            self._transcribe(utterance, samples)
            return
        while self._ended and _is_done(self._ended[0]):
            self._tell_final(self._ended.popleft())
        if self._finishing and not self._ended:
            self._end(None)

    def _tell_final(self, utterance: Utterance) -> None:
        assert utterance.final is not None
        assert utterance.end_s is not None
        try:
            heard = utterance.final.result()
        except (ServiceError, CancelledError) as error:
            self._tell(events.Failed(utterance.number, _reason(error)))
            return
        transcript = utterance.in_stream(heard)
        text = "".join(segment.text for segment in transcript.segments)
        self._context = (self._context + text)[-CONTEXT_CHARS:]
        self._tell(
            events.Final(
                utterance.number,
                utterance.start_s,
                utterance.end_s,
                transcript,
                utterance.rest(transcript),
            )
        )

    def _check_lag(self) -> None:
        if not self._ended or self._ended[0].ended_at is None:
            return
        behind_s = self._clock() - self._ended[0].ended_at
        if behind_s > LOST_S:
            self._end(Overloaded(TOO_FAR_BEHIND, 30))
        elif behind_s > LAGGING_S and self._clock() - self._complained >= LAGGING_EVERY_S:
            self._complained = self._clock()
            self._tell(events.Lagging(behind_s))

    # -- the end ---------------------------------------------------------------------------------

    def _finish(self) -> None:
        if self._finishing:
            return
        self._commit()
        self._finishing = True
        if not self._ended:
            self._end(None)

    def _end(self, reason: ServiceError | None) -> None:
        if not self._running:
            return
        self._running = False
        for utterance in (*self._ended, *filter(None, [self._open])):
            utterance.work.cancel(reason)
        self._tell(events.Ended(reason))


def _value(done: Future[Hypothesis]) -> Hypothesis | None:
    """None: the hypothesis failed or was not wanted any more. The final text does not need it."""
    if done.cancelled() or done.exception() is not None:
        return None
    return done.result()


def _is_done(utterance: Utterance) -> bool:
    return utterance.final is not None and utterance.final.done()


def _is_permanent(error: BaseException) -> bool:
    return isinstance(error, ServiceError) and error.is_permanent


def _reason(error: BaseException) -> ServiceError:
    return error if isinstance(error, ServiceError) else Cancelled("The work was cancelled.")
