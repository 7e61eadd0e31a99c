"""Limits the work admitted at a time, lists it, and estimates when to retry."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.domain.errors import Cancelled, Forbidden, Overloaded, ShuttingDown
from app.engine.work import Work

SMOOTHING = 0.2  # of the running means
FIRST_GUESS_S = 10.0  # assumed duration of a request until one has ended
UPLOAD_RETRY_S = 5
MIN_PROGRESS = 0.15  # below it, the time left cannot be estimated


@dataclass(slots=True)
class Ticket:
    """A request, from the first byte of its upload to the end of its answer, without its content.

    `audio_s` is known once the upload is decoded, `model` once the form is read. `client` is the
    name of its API key, if any. `work_s`: of its audio, what has sound.
    """

    work: Work
    kind: str
    started: float
    client: str = ""
    model: str = ""
    audio_s: float | None = None
    work_s: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A ticket as /queue shows it. `left_s` None: not known yet."""

    id: str
    client: str
    kind: str
    state: str
    model: str
    audio_s: float | None
    progress: float
    elapsed_s: float
    left_s: float | None


class Admission:
    """Counts requests and their seconds of audio."""

    def __init__(
        self,
        max_requests: int,
        max_audio_s: float = math.inf,
        max_uploads: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_requests = max_requests
        self._max_audio_s = max_audio_s
        self._max_uploads = max_uploads
        self._num_uploads = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._tickets: dict[str, Ticket] = {}
        self._mean_s = FIRST_GUESS_S
        self._closed = False

    @property
    def num_requests(self) -> int:
        return len(self._tickets)

    @contextmanager
    def enter(self, kind: str, work: Work, client: str = "") -> Iterator[Ticket]:
        """Take a place until the block ends.

        Raises:
            Overloaded: the queue is full; carries the time after which to retry.
            ShuttingDown: no more requests are admitted.
        """
        ticket = Ticket(work, kind, self._clock(), client)
        with self._lock:
            if self._closed:
                raise ShuttingDown
            if len(self._tickets) >= self._max_requests:
                raise Overloaded("The queue is full; try again later.", self._wait_s())
            while work.request_id in self._tickets:  # a client may reuse an id
                work.request_id += "-2"
            self._tickets[work.request_id] = ticket
        try:
            yield ticket
        finally:
            with self._lock:
                del self._tickets[work.request_id]
                self._mean_s += SMOOTHING * (self._clock() - ticket.started - self._mean_s)

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """Receive an upload until the block ends.

        Raises:
            Overloaded: too many other uploads are running.
        """
        with self._lock:
            if self._num_uploads >= self._max_uploads:
                raise Overloaded("Too many uploads are under way; try again later.", UPLOAD_RETRY_S)
            self._num_uploads += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_uploads -= 1

    def weigh(self, ticket: Ticket, audio_s: float, work_s: float | None = None) -> float:
        """The seconds of a request's audio that were not counted before.

        Counts `work_s` of them against the limit, all if None: a few kilobytes can claim a day of
        gaps, which take no work. A request that is alone may be of any length.

        Raises:
            Overloaded: the admitted requests already have too many seconds of audio.
        """
        work_s = audio_s if work_s is None else work_s
        with self._lock:
            others_s = sum(t.work_s for t in self._tickets.values() if t is not ticket)
            if others_s > 0 and others_s + work_s > self._max_audio_s:
                raise Overloaded(
                    "Too much audio is in the queue already; try again later.", self._wait_s()
                )
            more_s = audio_s - (ticket.audio_s or 0.0)
            ticket.audio_s, ticket.work_s = audio_s, work_s
        return more_s

    def entries(self) -> list[QueueEntry]:
        """All admitted requests, oldest first."""
        with self._lock:
            return [self._entry(ticket) for ticket in self._tickets.values()]

    def cancel(self, request_id: str, client: str = "") -> bool:
        """Cancel a request. False if no request has this id.

        Raises:
            Forbidden: it belongs to another client.
        """
        with self._lock:
            ticket = self._tickets.get(request_id)
        if ticket is None:
            return False
        if ticket.client not in ("", client):
            raise Forbidden("This request came with another API key.")
        ticket.work.cancel(Cancelled("The request was cancelled."))
        return True

    def close(self) -> None:
        """Admit no more requests."""
        with self._lock:
            self._closed = True

    def give_up(self) -> int:
        """Cancel all requests because the service is ending. Returns how many there were."""
        with self._lock:
            tickets = list(self._tickets.values())
        for ticket in tickets:
            ticket.work.cancel(ShuttingDown())
        return len(tickets)

    def _entry(self, ticket: Ticket) -> QueueEntry:
        progress = ticket.work.progress
        return QueueEntry(
            id=ticket.work.request_id,
            client=ticket.client,
            kind=ticket.kind,
            state="running" if progress > 0 else "waiting",
            model=ticket.model,
            audio_s=ticket.audio_s,
            progress=progress,
            elapsed_s=self._clock() - ticket.started,
            left_s=self._left_s(ticket),
        )

    def _left_s(self, ticket: Ticket) -> float | None:
        progress = ticket.work.progress
        if progress < MIN_PROGRESS:
            return None
        return (self._clock() - ticket.started) * (1 - progress) / progress

    def _wait_s(self) -> int:
        """Seconds until a place may be free: the shortest estimate of the time left, else the mean
        duration divided by the number of requests."""
        told = [left for t in self._tickets.values() if (left := self._left_s(t)) is not None]
        shared = self._mean_s / max(1, len(self._tickets))
        return max(1, math.ceil(min(told, default=shared)))
