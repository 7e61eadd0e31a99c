"""Admission: limits the work admitted at a time, and lists it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from app.domain.errors import Cancelled, Forbidden, Overloaded, ShuttingDown
from app.engine.work import Work
from app.service.shares import share, who_gives_way
from app.service.ticket import Ticket
from app.service.upload_places import GAVE_WAY, UploadPlace, UploadPlaces
from app.service.waiting_times import WaitingTimes


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A ticket as /queue shows it. `left_s` None: not known yet. `has_place`: it counts against
    the limits of the queue."""

    id: str
    client: str
    kind: str
    state: str
    model: str
    audio_s: float | None
    progress: float
    elapsed_s: float
    left_s: float | None
    has_place: bool


class Admission:
    """Counts requests and their seconds of audio, and shares both among clients."""

    def __init__(
        self,
        max_requests: int,
        max_audio_s: float = math.inf,
        uploads: UploadPlaces | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_requests = max_requests
        self._max_audio_s = max_audio_s
        self.uploads = uploads or UploadPlaces()
        self._clock = clock
        self._lock = threading.Lock()
        self._tickets: dict[str, Ticket] = {}
        self._computed: list[Ticket] = []  # for tickets that have a place
        self._times = WaitingTimes(clock)
        self._closed = False

    @property
    def num_requests(self) -> int:
        return len(self._tickets)

    @property
    def closed(self) -> bool:
        """Whether the service is ending."""
        return self._closed

    @contextmanager
    def enter(self, kind: str, work: Work, client: str = "", account: str = "") -> Iterator[Ticket]:
        """Take a place until the block ends. If all are taken, a client with more than its share
        gives way with a request that has not begun.

        Raises:
            Overloaded: the queue is full; carries the time after which to retry.
            ShuttingDown: no more requests are admitted.
        """
        ticket = Ticket(work, kind, self._clock(), client, account=account or client)
        with self._lock:
            if self._closed:
                raise ShuttingDown
            held = self._held()
            if (
                ticket.has_place
                and len(held) >= self._max_requests
                and not self._make_room(held, ticket.account, self._max_requests)
            ):
                retry_s = self._times.until_place_s(held)
                raise Overloaded("The queue is full; try again later.", retry_s)
            while work.request_id in self._tickets:  # a client may reuse an id
                work.request_id += "-2"
            self._tickets[work.request_id] = ticket
        try:
            yield ticket
        finally:
            with self._lock:
                del self._tickets[work.request_id]
                self._times.learn(ticket)

    @contextmanager
    def computing(self, ticket: Ticket) -> Iterator[None]:
        """Until the block ends, something is computed for one or several other tickets. It counts
        with its audio. It is on the list only when nobody asks for it any more, that is, when it is
        in the background.
        """
        with self._lock:
            self._computed.append(ticket)
        try:
            yield
        finally:
            with self._lock:
                self._computed.remove(ticket)
                self._times.learn_pace(ticket)

    @contextmanager
    def uploading(self, work: Work) -> Iterator[UploadPlace]:
        """Receive the upload of an admitted request until the block ends.

        Raises:
            Overloaded: too many other uploads are running.
        """
        with self._lock:
            ticket = self._tickets[work.request_id]
        with self.uploads.enter(ticket) as place:
            yield place

    def _held(self) -> list[Ticket]:
        """The tickets that have a place, oldest first."""
        return [ticket for ticket in self._tickets.values() if ticket.has_place]

    def _counted(self) -> list[Ticket]:
        """The tickets whose audio counts."""
        return [t for t in (*self._tickets.values(), *self._computed) if t.has_place]

    @property
    def audio_s(self) -> float:
        """Seconds of decoded audio of those who have a place."""
        with self._lock:
            return sum(ticket.audio_s or 0.0 for ticket in self._counted())

    def _make_room(self, held: Sequence[Ticket], account: str, places: float) -> bool:
        """Whether one of the tickets gave way to the account."""
        ticket = who_gives_way(held, account, places)
        if ticket is None:
            return False
        ticket.give_way(Overloaded(GAVE_WAY, self._times.until_place_s(held)))
        return True

    def weigh(self, ticket: Ticket, audio_s: float, work_s: float | None = None) -> float:
        """The seconds of a request's audio that were not counted before.

        Counts `work_s` of them against the limit, all if None: a few kilobytes can claim a day of
        gaps, which take no work. A request that is alone may be of any length, and what is within
        a client's share always fits, whatever others have in the queue. So does background work.

        Raises:
            Overloaded: the admitted requests already have too many seconds of audio.
        """
        work_s = audio_s if work_s is None else work_s
        with self._lock:
            others = [t for t in self._counted() if t is not ticket and t.work_s]
            others_s = _work_s(others)
            own_s = _work_s([t for t in others if t.account == ticket.account]) + work_s
            if (
                ticket.has_place
                and others_s > 0
                and others_s + work_s > self._max_audio_s
                and own_s > share(others, ticket.account, self._max_audio_s)
            ):
                raise Overloaded(
                    "Too much audio is in the queue already; try again later.",
                    self._times.until_audio_s(others, others_s + work_s - self._max_audio_s),
                )
            more_s = audio_s - (ticket.audio_s or 0.0)
            ticket.audio_s, ticket.work_s = audio_s, work_s
        return more_s

    def entries(self) -> list[QueueEntry]:
        """All admitted requests, oldest first."""
        with self._lock:
            return [self._entry(t) for t in self._listed() if not t.gave_way]

    def cancel(self, request_id: str, client: str = "") -> bool:
        """Cancel a request. False if no request has this id.

        Raises:
            Forbidden: it belongs to another client.
        """
        with self._lock:
            found = [t for t in self._listed() if t.work.request_id == request_id]
        ticket = next(iter(found), None)
        if ticket is None:
            return False
        if ticket.client != client:
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
            computed = list(self._computed)
        for ticket in (*tickets, *computed):
            ticket.work.cancel(ShuttingDown())
        return len(tickets)

    def _listed(self) -> list[Ticket]:
        """All requests, and what is still computed though nobody asks for it."""
        return [*self._tickets.values(), *(t for t in self._computed if t.work.background)]

    def _entry(self, ticket: Ticket) -> QueueEntry:
        progress = ticket.work.progress
        return QueueEntry(
            id=ticket.work.request_id,
            client=ticket.client,
            kind=ticket.kind,
            state="running" if progress > 0 else "waiting",
            model=ticket.model,
            audio_s=(ticket.source or ticket).audio_s,
            progress=progress,
            elapsed_s=self._clock() - ticket.started,
            left_s=self._times.left_s(ticket),
            has_place=ticket.has_place,
        )


def _work_s(tickets: Sequence[Ticket]) -> float:
    return sum(ticket.work_s for ticket in tickets)
