"""LiveSession: one stream, from its bytes to the events that its client is told. Knows no socket.

All of a session's state belongs to its thread: others leave messages in its inbox.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue

from app.domain.errors import Cancelled, ServiceError, StageFailed
from app.domain.transcript import SpokenWord
from app.engine.work import Work
from app.live import events
from app.live.arrivals import Arrivals
from app.live.ears import Ears
from app.live.endpointing import Mark, Started
from app.live.finals import Finals
from app.live.hearing import Hearing
from app.live.options import LiveOptions
from app.live.partials import Partials
from app.live.sound import Sound, Track
from app.live.utterance import Utterance
from app.live.voices import Voices

log = logging.getLogger(__name__)

MOST_PENDING_S = 60.0  # of sound without a transcript: clients that send faster have to wait
MOST_FAULTS = 3  # without a transcript in between
WATCH_S = 1.0  # between two looks at the transcripts under way

Observe = Callable[[events.LiveEvent, list[float]], None]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a session needs of others, called in its thread. `new_work`: for each utterance, so that
    a long stream is not taken for one long request. `observe`: told each event, with the delays of
    the words that it tells. `voices`: those of the stream, which may have other sessions.
    """

    new_track: Callable[[], Track]
    new_work: Callable[[], Work]
    observe: Observe = lambda event, delays: None
    clock: Callable[[], float] = time.monotonic
    voices: Voices = field(default_factory=Voices)


class LiveSession:
    def __init__(
        self,
        needs: Needs,
        options: LiveOptions,
        tell: Callable[[events.LiveEvent], None],
        start_s: float = 0.0,
        numbers: Iterator[int] | None = None,
    ) -> None:
        """`tell`: in the session's thread. `start_s`: of its sound. `numbers`: of utterances."""
        self._needs = needs
        self._options = options
        self._tell = self._noting(tell, needs.observe)
        self._clock = clock = needs.clock
        self._arrivals = Arrivals()
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._arrived_s = self._taken_s = 0.0  # each is written by one thread
        self._encoding, self._odd = options.encoding, b""  # of what arrives
        self._running = True
        self._finishing = False
        self._faults = 0
        self._numbers = itertools.count(1) if numbers is None else numbers
        self._open: Utterance | None = None
        self._carried: list[SpokenWord] = []  # over a cut, into the next utterance
        self._hearing = hearing = Hearing()
        self._sound = Sound(options, needs.new_track, start_s)
        post = self._inbox.put
        about_partials = self._tell, post, clock, self._paused_at_s
        self._partials = Partials(hearing.listen, hearing.is_credible, *about_partials)
        self._voices = needs.voices
        self._voices.know(options.voices)
        about = self._tell, post, clock, self._voices
        self._finals = Finals(hearing.transcribe, needs.new_work, *about)

    # -- for any thread --------------------------------------------------------------------------

    @property
    def options(self) -> LiveOptions:
        return self._options

    @property
    def backlog_s(self) -> float:
        """Sound not looked at yet, and what waits for its transcript beyond what is allowed."""
        waiting_s = self._arrived_s - self._taken_s
        return waiting_s + max(0.0, self._finals.pending_s - MOST_PENDING_S)

    @property
    def busy(self) -> bool:
        """Whether it is us who keep the client waiting: for the model, or for transcripts."""
        return self._finishing or bool(self._finals) or self.num_waiting > 0

    @property
    def num_waiting(self) -> int:
        """Pieces of sound and other wishes that were not looked at yet."""
        return self._inbox.qsize()

    def hear(self, data: bytes) -> None:
        """The next bytes of the stream. Always from the same thread."""
        odd = (len(self._odd) + len(data)) % self._encoding.sample_bytes
        self._odd = (self._odd + data[-odd:])[-odd:] if odd else b""
        seconds = len(data) / self._options.bytes_per_s
        self._arrived_s += seconds
        self._inbox.put(partial(self._hear, data, seconds, self._clock()))

    def rest(self, options: LiveOptions) -> bytes:
        """The beginning of a sample whose end comes under other options. As `hear`."""
        return self._odd if options.encoding is self._encoding else b""

    def commit(self, otherwise: Callable[[], None] = lambda: None) -> None:
        """End the utterance that is open. `otherwise`: called in the session's thread if none."""
        self._inbox.put(partial(self._commit, otherwise))

    def clear(self) -> None:
        """Drop the utterance that is open, and the sound that none has begun with."""
        self._inbox.put(self._clear)

    def reset(self) -> None:
        """Drop all that has no transcript yet, and forget what was said; tells `Reset`."""
        self._inbox.put(self._reset)

    def reconfigure(self, options: LiveOptions) -> None:
        """Other options from here on."""
        self._odd = self.rest(options)
        self._encoding = options.encoding
        self._inbox.put(partial(self._reconfigure, options))

    def look_now(self) -> None:
        """Ask for a hypothesis of the sound so far, however little is new; tells `Looked`."""
        self._inbox.put(self._look_now)

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
        self._hearing.ears = ears
        try:
            while self._running:
                self._step()
        except ServiceError as error:
            self._end(error)

    def _step(self) -> None:
        try:
            self._next()()
            self._finals.check_lag()
            self._partials.strain = self._finals.strain
            if self._finishing and not self._finals and self._running:
                self._finals.tell_speakers()
                self._end(None)
        except ServiceError:
            raise
        # A bug of ours, or a library's error: it must not end a stream of hours.
        except (Exception, SystemExit):
            log.exception("a live session failed; it goes on")
            self._recover()

    def _recover(self) -> None:
        """Transcribe what was said, and hear the rest afresh. Raises StageFailed, at last."""
        self._faults += 1
        error = StageFailed("A stage failed unexpectedly.")
        if self._faults > MOST_FAULTS:
            raise error
        self._tell(events.Troubled(0 if self._open is None else self._open.number, error))
        self._stop(self._sound.end_s)
        self._sound = self._sound.continued(self._options)
        self._inbox.put(lambda: None)  # the stream may have come to its end meanwhile

    def _next(self) -> Callable[[], None]:
        try:
            return self._inbox.get(timeout=WATCH_S if self._finals else None)
        except Empty:
            return lambda: None

    # -- sound -----------------------------------------------------------------------------------

    def _hear(self, data: bytes, seconds: float, arrived: float) -> None:
        self._taken_s += seconds
        if self._finishing:
            return
        marks = self._sound.hear(data)
        self._arrivals.note(self._sound.end_s, arrived)
        self._follow(marks)
        if self._open is None:
            if self._sound.forget_silence():
                self._tell(events.Silence(self._sound.tape.start_s))
        elif self._open.options.partials and self._sound.is_voiced:
            self._hearing.expect(self._open)
        self._partials.look_ahead()

    def _follow(self, marks: Iterable[Mark]) -> None:
        for mark in marks:
            if isinstance(mark, Started):
                self._start(max(mark.at_s, self._sound.tape.start_s))
            else:
                at_s = min(mark.at_s, self._sound.end_s)
                if mark.cut and self._open is not None:
                    self._carried = self._open.cut(at_s)
                self._stop(at_s)

    def _start(self, at_s: float) -> None:
        number = next(self._numbers)
        carried, self._carried = self._carried, []
        self._open = Utterance(number, at_s, self._needs.new_work(), self._options, carried)
        self._partials.begin(self._open, self._sound.tape)
        self._tell(events.SpeechStarted(number, at_s))

    def _stop(self, at_s: float) -> None:
        utterance, self._open = self._open, None
        if utterance is None:
            return
        self._partials.end()
        if at_s <= utterance.start_s:  # nothing was said since it was cut
            utterance.closed = True
            utterance.work.cancel(Cancelled("There is no sound."))
            self._tell(events.Dropped(utterance.number))
            return
        utterance.end_s = at_s
        utterance.hurry = self._partials.late or bool(self._finals)
        utterance.work = self._needs.new_work()  # the time for its transcript begins now
        self._tell(events.SpeechEnded(utterance.number, at_s))
        self._finals.add(utterance, self._sound.tape.between(utterance.start_s, at_s).copy())
        self._sound.tape.forget(at_s)

    def _commit(self, otherwise: Callable[[], None] = lambda: None) -> None:
        marks = self._sound.finish()
        self._follow(marks)
        if not marks:
            otherwise()

    def _clear(self) -> None:
        self._sound.drop()
        utterance, self._open = self._open, None
        if utterance is not None:
            self._partials.end()
            utterance.closed = True
            utterance.work.cancel(Cancelled("The sound was dropped."))
            self._tell(events.Dropped(utterance.number))

    def _reset(self) -> None:
        self._finals.drop()
        self._clear()
        self._hearing.forget()
        self._tell(events.Reset())

    def _reconfigure(self, options: LiveOptions) -> None:
        suits = self._sound.suits(options)
        if not suits:
            self._commit()
        self._options = options
        self._voices.know(options.voices)
        if not suits:
            self._sound = self._sound.continued(options)

    def _paused_at_s(self) -> float | None:
        wanted = self._open is not None and self._open.options.partials
        return self._sound.paused_at_s if wanted else 0.0

    def _look_now(self) -> None:
        if self._open is not None:
            self._partials.want_now()
            self._partials.look_ahead()
        self._tell(events.Looked(self._sound.end_s))

    # -- what is told ----------------------------------------------------------------------------

    def _noting(
        self, tell: Callable[[events.LiveEvent], None], observe: Observe
    ) -> Callable[[events.LiveEvent], None]:
        """`tell`, keep the text of transcripts as context, and measure."""

        def told(event: events.LiveEvent) -> None:
            if isinstance(event, events.Final):
                self._faults = 0
                self._hearing.note(event.transcript)
            tell(event)
            observe(event, self._arrivals.delays(event, self._clock()))

        return told

    # -- the end ---------------------------------------------------------------------------------

    def _finish(self) -> None:
        if not self._finishing:
            self._commit()
            self._finishing = True

    def _end(self, reason: ServiceError | None) -> None:
        if not self._running:
            return
        self._running = False
        self._finals.cancel(reason)
        if self._open is not None:
            self._open.work.cancel(reason)
        self._tell(events.Ended(reason))
