"""Joining: one computation for all who ask for the same, at the same time or soon after.

The normal case is a client that timed out, hung up and tries again. A computation has a thread and
a `Work` of its own, so that whoever asked can leave while others still wait for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass

from app.domain.errors import (
    Cancelled,
    ClientGone,
    ServiceError,
    ShuttingDown,
    UndecodableAudio,
    UnsupportedOption,
    UploadTooLarge,
)
from app.domain.transcript import Segment, Transcript
from app.observability.record import RequestRecord
from app.pipeline.flow import Listener
from app.service.computation import Computation, Member, Telling
from app.service.threads import Threads
from app.service.ticket import Ticket

log = logging.getLogger(__name__)

# What would happen to everybody who asks for the same.
SHARED_FAULTS = (UndecodableAudio, UploadTooLarge, UnsupportedOption)
MAX_LINGERING = 8  # computations that nobody waits for
MAX_KEPT = 64


@dataclass(frozen=True, slots=True)
class JoiningLimits:
    """`keep_s`: how long a transcript can be joined after its end. `keep_audio_s`: most audio in
    all that are kept, about 2 kB for each second. `linger_s`: how long it is computed further if
    the last client hung up after more than `patience_s`, so probably timed out.
    """

    keep_s: float = 300.0
    keep_audio_s: float = 36_000.0
    linger_s: float = 30.0
    patience_s: float = 25.0


class Failed(Exception):
    """What was computed for others failed for a reason that need not hold for this request."""

    def __init__(self, reason: BaseException, told: bool) -> None:
        """`told`: the listener has heard of it already."""
        super().__init__()
        self.reason = reason
        self.told = told


class Joining:
    """All computations that can be joined. Any thread."""

    def __init__(self, threads: Threads, limits: JoiningLimits | None = None) -> None:
        self._threads = threads
        self.limits = limits or JoiningLimits()
        self._lock = threading.RLock()
        self._known: OrderedDict[Hashable, Computation] = OrderedDict()
        self._num_lingering = 0
        self._closed = False

    def enter(
        self, key: Hashable | None, ticket: Ticket, record: RequestRecord
    ) -> tuple[Computation, Member]:
        """What is computed under this key, or a new one that must be begun. None: nobody joins."""
        with self._lock:
            self.forget()
            found = None if key is None else self._known.get(key)
            computation = found or Computation(key, ticket, record)
            if found is None and key is not None:
                self._known[key] = computation
            member = Member(ticket.work, found is None)
            self._add(computation, member)
            ticket.source, record.joined = computation.ticket, not member.is_first
        return computation, member

    def _add(self, computation: Computation, member: Member) -> None:
        self._stop_lingering(computation)
        computation.work.extend(member.work.left_s)
        member.work.follow(computation.work)
        for telling in computation.told:
            member.news.put(telling)
        if computation.ended is None:
            computation.members.add(member)
        else:
            member.end()

    def begin(
        self,
        computation: Computation,
        compute: Callable[[Listener], Transcript],
        clean_up: Callable[[], None],
    ) -> None:
        """Compute it in a thread of its own, then clean up."""

        def tell(telling: Telling) -> None:
            with self._lock:
                computation.tell(telling)

        def recognized(segment: Segment) -> None:
            tell(lambda listener: listener.recognized(segment))

        def settled(segment: Segment) -> None:
            tell(lambda listener: listener.settled(segment))

        try:
            running = self._threads.start(lambda: compute(Listener(recognized, settled)))
        except ServiceError as error:
            running = Future()
            running.set_exception(error)
        running.add_done_callback(lambda done: self._end(computation, done, clean_up))

    def _end(
        self, computation: Computation, done: Future[Transcript], clean_up: Callable[[], None]
    ) -> None:
        clean_up()
        with self._lock:
            computation.error = ShuttingDown() if done.cancelled() else done.exception()
            if computation.error is None:
                computation.transcript = done.result()
            self._stop_lingering(computation)
            computation.ended = time.monotonic()
            if computation.transcript is None or self._closed:
                self._drop(computation)
            for member in computation.members:
                member.end()
            computation.members.clear()
        computation.over.set()
        self.forget()

    def wait(
        self,
        computation: Computation,
        member: Member,
        listener: Listener,
        record: RequestRecord,
    ) -> Transcript:
        """The transcript, once the listener has heard all that was told of it.

        Raises:
            ServiceError: the request is over, or the recording is at fault.
            Failed: another fault, and the request is not the first.
        """
        try:
            told = member.listen(listener)
        except BaseException as reason:
            member.end()
            self._leave(computation, member, reason)
            raise
        if computation.transcript is not None:
            return computation.answer(record)
        error = computation.error
        assert error is not None
        if member.is_first or isinstance(error, SHARED_FAULTS):
            raise copy(error) if isinstance(error, ServiceError) else error
        raise Failed(error, told)

    def _leave(self, computation: Computation, member: Member, reason: BaseException) -> None:
        with self._lock:
            computation.members.discard(member)
            if computation.members or computation.ended is not None:
                return
            if self._may_linger(computation, member, reason):
                self._linger(computation)
                return
            self._drop(computation)
        computation.work.cancel(
            reason if isinstance(reason, ServiceError) else Cancelled("Nobody waits for it.")
        )
        computation.over.wait()  # so that nothing of a request is left once it has its answer

    # -- with the lock ---------------------------------------------------------------------------

    def _may_linger(self, computation: Computation, member: Member, reason: BaseException) -> bool:
        waited_s = time.monotonic() - member.since
        return (
            isinstance(reason, ClientGone)
            and waited_s > self.limits.patience_s
            and self.limits.linger_s > 0
            and self._num_lingering < MAX_LINGERING
            and self._known.get(computation.key) is computation
            and not self._closed
        )

    def _linger(self, computation: Computation) -> None:
        """Go on for a while, behind everything that somebody waits for."""
        log.info("nobody waits any more; the transcription goes on for a second try")
        computation.work.background = True
        self._num_lingering += 1
        timer = threading.Timer(self.limits.linger_s, self._give_up, [computation])
        timer.daemon = True
        timer.name = "linger"
        computation.lingering = timer
        timer.start()

    def _stop_lingering(self, computation: Computation) -> None:
        if computation.lingering is not None:
            computation.lingering.cancel()
            computation.lingering = None
            computation.work.background = False
            self._num_lingering -= 1

    def _drop(self, computation: Computation) -> None:
        if self._known.get(computation.key) is computation:
            del self._known[computation.key]

    # --------------------------------------------------------------------------------------------

    def _give_up(self, computation: Computation) -> None:
        """Its time is over, and nobody has come back."""
        with self._lock:
            if computation.lingering is None:
                return
            self._drop(computation)
        computation.work.cancel(ClientGone())

    def forget(self) -> None:
        """Drop transcripts that are too old or too many. Call it now and then."""
        with self._lock:
            now = time.monotonic()
            kept = [c for c in self._known.values() if c.ended is not None]
            kept.sort(key=lambda c: c.ended or 0.0, reverse=True)
            left_s, num_left = self.limits.keep_audio_s, MAX_KEPT
            for computation in kept:
                assert computation.transcript is not None
                assert computation.ended is not None
                left_s -= computation.transcript.duration_s
                num_left -= 1
                old = computation.ended + self.limits.keep_s < now
                if old or left_s < 0 or num_left < 0:
                    self._drop(computation)

    def close(self) -> None:
        """End what nobody waits for, and keep nothing more."""
        with self._lock:
            self._closed = True
            unattended = [c for c in self._known.values() if not c.members]
            self._known = OrderedDict()
        for computation in unattended:
            computation.work.cancel(ShuttingDown())

    def shut_down(self) -> None:
        self.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
