"""Deliveries: webhooks that are sent until their receiver has them, across restarts.

A delivery is written in the transaction that ends its job, and its tries are items of the queue. So
none is lost; one whose process ends between the receiver's answer and its note comes twice, with
the same `webhook-id`.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy as sa

from app.domain.errors import DatabaseUnavailable
from app.jobs.database import Database, patiently
from app.jobs.door import Notice
from app.jobs.job import Job
from app.jobs.posting import Posted, Poster
from app.jobs.queue import JobQueue
from app.jobs.receivers import Receivers
from app.jobs.signing import signed_headers
from app.jobs.tables import deliveries

log = logging.getLogger(__name__)

T = TypeVar("T")

DELIVERIES_QUEUE = "deliveries"
DELIVERY_POLL_S = 2.0
DELIVERY_THREADS = 16  # they mostly wait for receivers
MAX_TRIES_KEPT = 50
FAILED = "The service failed on this try."
LOST_S = 900.0  # a try that is so late is no longer in the queue


class DeliveryState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Try:
    """`at`: seconds since 1970. `status`: of the answer; None: none came, and `reason` says why."""

    at: float
    status: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook as it is now. `next_at`: when it is tried next; None: it is not."""

    id: str
    job_id: str
    url: str
    state: DeliveryState
    tries: tuple[Try, ...]
    created_at: float
    next_at: float | None


class Deliveries:
    """`delays_s`: between the tries. `ended`: called when a webhook was delivered or given up."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        poster: Poster,
        secret: str,
        delays_s: Sequence[float],
        clock: Callable[[], float] = time.time,
        ended: Callable[[DeliveryState], object] = lambda state: None,
    ) -> None:
        self._database = database
        self._queue = queue
        self._ended = ended
        self._poster = poster
        self._secret = secret
        self._delays_s = tuple(delays_s)
        self._clock = clock
        self._receivers = Receivers()
        self._closed = threading.Event()

    def close(self) -> None:
        """Give up waiting for the database. Other processes send what is left."""
        self._closed.set()

    def add(self, connection: sa.Connection, job: Job, notice: Notice) -> None:
        """Send a notice once the caller's transaction has ended."""
        delivery_id = f"msg_{secrets.token_hex(16)}"
        now = self._clock()
        connection.execute(
            sa.insert(deliveries).values(
                id=delivery_id,
                job_id=job.id,
                url=notice.url,
                form=notice.form,
                headers=dict(notice.headers),
                body=zlib.compress(notice.body),
                state=DeliveryState.WAITING,
                turn="",
                num_tries=0,
                tries=[],
                created_at=now,
                next_at=now,
            )
        )
        self._queue_turn(connection, job.id, delivery_id, 0.0)

    def _queue_turn(
        self, connection: sa.Connection, job_id: str, delivery_id: str, delay_s: float
    ) -> None:
        """Queue a try. Whatever else is queued for this delivery does nothing from now on."""
        turn = secrets.token_hex(4)
        connection.execute(
            sa.update(deliveries)
            .where(deliveries.c.id == delivery_id)
            .values(turn=turn, next_at=self._clock() + delay_s)
        )
        item = f"{job_id}.{delivery_id}.{turn}"  # begins as those of the job, see JobQueue.forget
        # first tries go before those of receivers that have not answered
        priority = 2 if delay_s else 1
        self._queue.add(connection, DELIVERIES_QUEUE, item, priority, delay_s)

    # -- sending ---------------------------------------------------------------------------------

    def handle(self, item: str) -> None:
        """One try. Raises nothing."""
        _, delivery_id, turn = item.split(".")
        try:
            row = self._patiently(lambda: self._waiting(delivery_id, turn))
            if row is not None:
                self._try_in_turn(row)
        except DatabaseUnavailable:
            log.error("webhook %s is left to others: no database", delivery_id)
        except Exception:  # the boundary of a try
            log.exception("webhook %s failed unexpectedly", delivery_id)

    def _patiently(self, what: Callable[[], T]) -> T:
        return patiently(what, self._closed.is_set)

    def _waiting(self, delivery_id: str, turn: str) -> sa.Row[Any] | None:
        with self._database.read() as connection:
            return connection.execute(_select_waiting(delivery_id, turn)).one_or_none()

    def _try_in_turn(self, row: sa.Row[Any]) -> None:
        """Now, or later if its receiver has enough to do."""
        put_off_s = self._receivers.begin(row.url)
        if put_off_s:
            self._patiently(lambda: self._put_off(row, put_off_s))
            return
        began, failed = time.monotonic(), True
        try:
            failed = self._try(row).may_recover
        finally:
            self._receivers.end(row.url, time.monotonic() - began, failed)

    def _put_off(self, row: sa.Row[Any], delay_s: float) -> None:
        """It counts as no try."""
        with self._database.begin() as connection:
            if connection.execute(_select_waiting(row.id, row.turn)).one_or_none():
                self._queue_turn(connection, row.job_id, row.id, delay_s)

    def _try(self, row: sa.Row[Any]) -> Posted:
        now = self._clock()
        try:
            body = zlib.decompress(row.body)
            signed = signed_headers(row.form, self._secret, row.id, body, now)
            posted = self._poster.post(row.url, body, {**row.headers, **signed})
        except Exception:  # it counts as a try, or there would be no end of them
            log.exception("webhook %s failed unexpectedly", row.id)
            posted = Posted(reason=FAILED)
        self._patiently(lambda: self._note(row, Try(now, posted.status, posted.reason), posted))
        return posted

    def _note(self, row: sa.Row[Any], tried: Try, posted: Posted) -> None:
        num_tries = row.num_tries + 1
        state = self._state(posted, num_tries)
        with self._database.begin() as connection:
            noted = connection.execute(
                sa.update(deliveries)
                .where(
                    deliveries.c.id == row.id,
                    deliveries.c.turn == row.turn,
                    # another process may have taken this try over, and been heard
                    deliveries.c.state != DeliveryState.DELIVERED,
                )
                .values(
                    state=state,
                    num_tries=num_tries,
                    tries=[*row.tries, [tried.at, tried.status, tried.reason]][-MAX_TRIES_KEPT:],
                    next_at=None,
                )
            )
            if noted.rowcount and state is DeliveryState.WAITING:
                delay_s = max(self._delays_s[num_tries - 1], posted.retry_after_s or 0)
                self._queue_turn(connection, row.job_id, row.id, delay_s)
        if noted.rowcount:
            _report(row, tried, state)
            if state is not DeliveryState.WAITING:
                self._ended(state)

    def _state(self, posted: Posted, num_tries: int) -> DeliveryState:
        if posted.accepted:
            return DeliveryState.DELIVERED
        given_up = posted.final or num_tries > len(self._delays_s)
        return DeliveryState.FAILED if given_up else DeliveryState.WAITING

    # -- asking ----------------------------------------------------------------------------------

    def of_job(self, job_id: str) -> list[Delivery]:
        """The webhooks of a job, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(deliveries)
                .where(deliveries.c.job_id == job_id)
                .order_by(deliveries.c.created_at, deliveries.c.id)
            ).all()
        return [_delivery_of(row) for row in rows]

    def resend(self, job_id: str) -> Delivery | None:
        """Send the last webhook of a job again, whatever became of it. None: it has none."""
        found = self.of_job(job_id)
        if not found:
            return None
        with self._database.begin() as connection:
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.id == found[-1].id)
                .values(state=DeliveryState.WAITING, num_tries=0)
            )
            self._queue_turn(connection, job_id, found[-1].id, 0.0)
        return self.of_job(job_id)[-1]

    def requeue_lost(self) -> None:
        """Queue again what should have been tried long ago. Call this now and then."""
        late = (deliveries.c.state == DeliveryState.WAITING) & (
            deliveries.c.next_at < self._clock() - LOST_S
        )
        with self._database.begin() as connection:
            lost = connection.execute(
                sa.select(deliveries.c.id, deliveries.c.job_id).where(late).with_for_update()
            ).all()
            for row in lost:
                self._queue_turn(connection, row.job_id, row.id, 0.0)


def _delivery_of(row: sa.Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        job_id=row.job_id,
        url=row.url,
        state=DeliveryState(row.state),
        tries=tuple(Try(*tried) for tried in row.tries),
        created_at=row.created_at,
        next_at=row.next_at,
    )


def _select_waiting(delivery_id: str, turn: str) -> sa.Select[Any]:
    """The delivery, if nobody has sent it or queued it again since this turn."""
    return sa.select(deliveries).where(
        deliveries.c.id == delivery_id,
        deliveries.c.turn == turn,
        deliveries.c.state == DeliveryState.WAITING,
    )


def _report(row: sa.Row[Any], tried: Try, state: DeliveryState) -> None:
    if state is DeliveryState.DELIVERED:
        return
    fate = "was given up" if state is DeliveryState.FAILED else "is tried again"
    log.warning(
        "webhook %s of job %s %s: %s", row.id, row.job_id, fate, tried.status or tried.reason
    )
