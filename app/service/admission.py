"""Limits the work admitted at a time, lists it, and estimates when to retry."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from app.domain.errors import Cancelled, Forbidden, Overloaded, ServiceError, ShuttingDown
from app.engine.work import Work
from app.service.shares import share, who_gives_way
from app.service.upload_places import GAVE_WAY, UploadPlace, UploadPlaces

SMOOTHING = 0.2  # of the running means
FIRST_GUESS_S = 10.0  # assumed duration of a request until one has ended
FIRST_PACE = 0.1  # assumed seconds of work for a second of audio, likewise
MIN_PROGRESS = 0.15  # below it, the time left cannot be estimated


@dataclass(slots=True)
class Ticket:
    """A request, from the first byte of its upload to the end of its answer, without its content.

    `audio_s` is known once the upload is decoded, `model` once the form is read. `client` is the
    name of its API key, if any; `account` tells whose share of the places it takes. Once it
    `gave_way`, it is cancelled and has no place any more. `work_s`: of its audio, what has sound.
    Background work is on the list, but has no place: it neither takes one from others nor loses it.
    """

    work: Work
    kind: str
    started: float
    client: str = ""
    model: str = ""
    audio_s: float | None = None
    work_s: float = 0.0
    account: str = ""
    gave_way: bool = False

    @property
    def has_place(self) -> bool:
        return not (self.gave_way or self.work.background)

    @property
    def begun(self) -> bool:
        """Whether models have worked for it."""
        return self.work.progress > 0

    def give_way(self, reason: ServiceError) -> None:
        self.gave_way = True
        self.work.cancel(reason)


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
        self._mean_s = FIRST_GUESS_S
        self._pace = FIRST_PACE
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether no more requests are admitted."""
        return self._closed

    @property
    def num_requests(self) -> int:
        return len(self._tickets)

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
                raise Overloaded("The queue is full; try again later.", self._wait_s())
            while work.request_id in self._tickets:  # a client may reuse an id
                work.request_id += "-2"
            self._tickets[work.request_id] = ticket
        try:
            yield ticket
        finally:
            with self._lock:
                del self._tickets[work.request_id]
                self._learn(ticket)

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

    def _make_room(self, held: Sequence[Ticket], account: str, places: float) -> bool:
        """Whether one of the tickets gave way to the account."""
        ticket = who_gives_way(held, account, places)
        if ticket is None:
            return False
        ticket.give_way(Overloaded(GAVE_WAY, self._wait_s()))
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
            others = [t for t in self._held() if t is not ticket and t.work_s]
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
                    self._wait_for_audio_s(others, others_s + work_s - self._max_audio_s),
                )
            more_s = audio_s - (ticket.audio_s or 0.0)
            ticket.audio_s, ticket.work_s = audio_s, work_s
        return more_s

    def entries(self) -> list[QueueEntry]:
        """All admitted requests, oldest first."""
        with self._lock:
            return [self._entry(t) for t in self._tickets.values() if not t.gave_way]

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
            has_place=ticket.has_place,
        )

    def _left_s(self, ticket: Ticket) -> float | None:
        progress = ticket.work.progress
        if progress < MIN_PROGRESS:
            return None
        return (self._clock() - ticket.started) * (1 - progress) / progress

    def _learn(self, ticket: Ticket) -> None:
        """Note how long a request took."""
        if ticket.work.background:
            return
        took_s = self._clock() - ticket.started
        self._mean_s += SMOOTHING * (took_s - self._mean_s)
        if ticket.work_s and ticket.begun:
            self._pace += SMOOTHING * (took_s / ticket.work_s - self._pace)

    def _expected_s(self, ticket: Ticket) -> float | None:
        """Seconds until the request ends, by its progress or else its audio; None: not known."""
        left_s = self._left_s(ticket)
        if left_s is None and ticket.work_s:
            elapsed_s = self._clock() - ticket.started
            left_s = max(0.0, ticket.work_s * self._pace - elapsed_s)
        return left_s

    def _wait_s(self) -> int:
        """Seconds until a place may be free: the shortest estimate of the time left, else the mean
        duration divided by the number of requests."""
        held = self._held()
        told = [left for ticket in held if (left := self._expected_s(ticket)) is not None]
        shared = self._mean_s / max(1, len(held))
        return max(1, math.ceil(min(told, default=shared)))

    def _wait_for_audio_s(self, tickets: Sequence[Ticket], too_much_s: float) -> int:
        """Seconds until so much of the tickets' audio may be done."""
        wait_s = 0.0
        for left_s, work_s in sorted((self._expected_s(t) or 0.0, t.work_s) for t in tickets):
            if too_much_s <= 0:
                break
            wait_s, too_much_s = left_s, too_much_s - work_s
        return max(1, math.ceil(wait_s))


def _work_s(tickets: Sequence[Ticket]) -> float:
    return sum(ticket.work_s for ticket in tickets)
