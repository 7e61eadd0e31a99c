"""Executors: the processes that run jobs, and which of them live.

A process writes its heartbeat into the database, and holds a lock in the data directory. The lock
tells at once that a process of this machine has ended; the heartbeat tells it of other machines,
and of processes that are frozen.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path

import sqlalchemy as sa

from app.jobs.database import Database
from app.jobs.tables import executors, idempotency


class Executors:
    """This process among those that share the database. `takeover_s`: silent longer is dead."""

    def __init__(self, database: Database, folder: Path, takeover_s: float) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.id = uuid.uuid4().hex
        self._database = database
        self._folder = folder
        self._takeover_s = takeover_s
        self._lock = (folder / self.id).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def beat(self) -> None:
        """Tell the others that this process lives."""
        now = self._database.now()
        insert = self._database.insert(executors).values(id=self.id, seen_at=now)
        with self._database.begin() as connection:
            connection.execute(
                insert.on_conflict_do_update(index_elements=[executors.c.id], set_={"seen_at": now})
            )

    def living(self) -> set[str]:
        """The processes that live. Forgets the others."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(executors.c.id, (self._database.now() - executors.c.seen_at).label("age"))
            ).all()
        living = {row.id for row in rows if row.age < self._takeover_s and not self._ended(row.id)}
        dead = {row.id for row in rows} - living
        if dead:
            self._forget(dead)
        return living | {self.id}

    def _ended(self, executor: str) -> bool:
        """Whether a process of this machine has ended."""
        if executor == self.id:
            return False
        try:
            descriptor = os.open(self._folder / executor, os.O_RDWR)
        except OSError:  # a process of another machine
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _forget(self, dead: set[str]) -> None:
        """Also the idempotency keys of requests that they were accepting."""
        with self._database.begin() as connection:
            connection.execute(
                sa.delete(idempotency).where(
                    idempotency.c.job_id.is_(None), idempotency.c.executor.in_(dead)
                )
            )
            connection.execute(sa.delete(executors).where(executors.c.id.in_(dead)))
        for executor in dead:
            (self._folder / executor).unlink(missing_ok=True)

    def leave(self) -> None:
        """Tell the others that this process ends."""
        self._forget({self.id})

    def close(self) -> None:
        (self._folder / self.id).unlink(missing_ok=True)
        self._lock.close()
