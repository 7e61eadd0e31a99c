"""IdempotencyKeys: a client's key for a request stands for one job, however often it is sent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from app.domain.errors import IdempotencyMismatch, StillAccepting, UnsupportedOption
from app.jobs.database import Database
from app.jobs.job import Job
from app.jobs.rows import job_of, select_job
from app.jobs.tables import idempotency

MAX_KEY = 255


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's key for a request. `payload`: a hash of what it asks for, hex SHA-256."""

    key: str
    payload: str


class IdempotencyKeys:
    """The keys of all processes. Each is reserved by one of them before its request is read."""

    def __init__(self, database: Database, executor: str, clock: Callable[[], float]) -> None:
        self._database = database
        self._executor = executor
        self._clock = clock
        self._lock = threading.Lock()
        self._accepting: set[tuple[str, str]] = set()  # keys that this process has reserved
        self._owed: set[tuple[str, str]] = set()  # to be given back in the tables
        self._freeing: set[tuple[str, str]] = set()  # that is under way: no reservation would last

    def once(self, client: str, key: str, make: Callable[[], Job]) -> tuple[Job, bool]:
        """The job that has the key, or else the one that `make` gives it to; and whether it is new.

        Raises:
            StillAccepting: another request with this key is being accepted.
        """
        job = self.reserve(client, key)
        if job is not None:
            return job, False
        try:
            job = make()
        except BaseException:
            self.release(client, key)
            raise
        self.let_go(client, key)
        return job, True

    def reserve(self, client: str, key: str) -> Job | None:
        """Take a client's key before its request is read. The job that has it, if any.

        A key that is taken must be given to a job by `give_key`, or back by `release`.

        Raises:
            StillAccepting: another request with this key is being accepted.
            UnsupportedOption: the key is too long.
        """
        if not 0 < len(key) <= MAX_KEY:
            raise UnsupportedOption(f"Idempotency-Key: 1 to {MAX_KEY} characters.")
        with self._lock:
            if (client, key) in self._accepting | self._freeing:
                raise StillAccepting
            self._accepting.add((client, key))
        try:
            job = self._reserve(client, key)
        except BaseException:
            self.let_go(client, key)
            raise
        if job is not None:
            self.let_go(client, key)
        return job

    def _reserve(self, client: str, key: str) -> Job | None:
        mine = (idempotency.c.client == client) & (idempotency.c.key == key)
        try:
            with self._database.begin() as connection:
                row = connection.execute(sa.select(idempotency).where(mine)).one_or_none()
                if row is None:
                    connection.execute(self._reservation(client, key))
                    return None
                if row.job_id is None and row.executor == self._executor:
                    return None  # it was to be given back, but the database was gone then
                if row.job_id is None:
                    raise StillAccepting
                return job_of(connection.execute(select_job(row.job_id)).one())
        except IntegrityError:  # another took it between the two statements
            raise StillAccepting from None

    def _reservation(self, client: str, key: str) -> sa.Insert:
        return sa.insert(idempotency).values(
            client=client, key=key, executor=self._executor, created_at=self._clock()
        )

    def let_go(self, client: str, key: str) -> None:
        """Its request is accepted, or will not be. What the tables say of the key stays."""
        with self._lock:
            self._accepting.discard((client, key))

    def release(self, client: str, key: str) -> None:
        """Give a reserved key back, because its request was not accepted. No effect on a key that a
        job has got."""
        self.give_up(client, key)
        self.give_back()

    def give_up(self, client: str, key: str) -> None:
        """The first half of `release`, without the database: for the event loop."""
        with self._lock:
            self._accepting.discard((client, key))
            self._owed.add((client, key))

    def give_back(self) -> None:
        """Tell the tables of all keys that were given up: another process may want them. Call this
        now and then, as the database may have been gone.
        """
        with self._lock:
            self._owed -= self._accepting  # those are wanted again
            freeing = self._owed - self._freeing
            self._freeing |= freeing
        try:
            for client, key in freeing:
                with self._database.begin() as connection:
                    mine = _reserved(client, key, self._executor)
                    connection.execute(sa.delete(idempotency).where(*mine))
                with self._lock:
                    self._owed.discard((client, key))
        finally:
            with self._lock:
                self._freeing -= freeing

    def check_payload(self, client: str, same: Idempotency) -> None:
        """Raises IdempotencyMismatch if the key came with another payload before."""
        with self._database.read() as connection:
            payload = connection.execute(
                sa.select(idempotency.c.payload).where(
                    idempotency.c.client == client, idempotency.c.key == same.key
                )
            ).scalar()
        if payload != same.payload:
            raise IdempotencyMismatch


def give_key(
    connection: sa.Connection, client: str, same: Idempotency, executor: str, job_id: str
) -> None:
    """Give a reserved key to a job. Raises StillAccepting if another process has it now."""
    given = connection.execute(
        sa.update(idempotency)
        .where(*_reserved(client, same.key, executor))
        .values(job_id=job_id, payload=same.payload)
    )
    if given.rowcount == 0:
        raise StillAccepting


def _reserved(client: str, key: str, executor: str) -> tuple[sa.ColumnElement[bool], ...]:
    """A process's reservation. Others free it if they think that the process has ended."""
    return (
        idempotency.c.client == client,
        idempotency.c.key == key,
        idempotency.c.job_id.is_(None),
        idempotency.c.executor == executor,
    )
