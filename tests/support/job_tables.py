"""The tables of the jobs without the processes around them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.domain.transcript import Segment, Transcript
from app.jobs.database import Database
from app.jobs.executors import Executors
from app.jobs.job import Job, JobOptions, JobRequest, Source, Upload
from app.jobs.run import Run
from app.jobs.runs import Runs
from app.jobs.store import JobStore

TRANSCRIPT = Transcript("en", 2.0, "demo", (Segment(0.0, 1.0, "Hello."),))


@dataclass
class Line:
    """A queue that only notes what was added: (item, priority, delay_s)."""

    entries: list[tuple[str, int, float]] = field(default_factory=list)

    def add(
        self,
        connection: sa.Connection,
        queue: str,
        item: str,
        priority: int = 1,
        delay_s: float = 0,
    ) -> None:
        self.entries.append((item, priority, delay_s))

    def first(self) -> str:
        """Takes the item whose turn it is."""
        entry = min(self.entries, key=lambda entry: entry[1])
        self.entries.remove(entry)
        return entry[0]


class Process:
    """What a process writes into the tables. `now`: its clock. `ended`: jobs that it has ended."""

    def __init__(self, database: Database, folder: Path, line: Any = None, **limits: Any) -> None:
        self.database = database
        self.line = line or Line()
        self.now = 1000.0
        self.ended: list[Job] = []
        self.executors = Executors(database, folder / "executors", limits.get("takeover_s", 30))
        self.executors.beat()
        self.store = JobStore(
            database, self.line, self.executors.id, limits.get("max_jobs", 10_000), self.clock
        )
        self.runs = Runs(
            database, self.line, self.executors.id, self._ending, self.executors.living, self.clock
        )

    def clock(self) -> float:
        self.now += 0.001
        return self.now

    def _ending(self, connection: sa.Connection, job: Job, transcript: Transcript | None) -> None:
        self.ended.append(job)

    def submit(self, client: str = "a", same: Any = None, **values: Any) -> Job:
        return self.store.submit(request(client, **values), same)

    def begin(self, job: Job) -> Run:
        """A run of a job, once it may begin."""
        self.now = max(self.now, self.store.find(job.id, job.request.client).retry_at or 0.0)
        run = self.runs.begin(job.id)
        assert run is not None
        return run

    def die(self) -> None:
        """As the kernel ends it: its lock is free, its row stays."""
        self.executors._lock.close()


def request(client: str = "a", source: Source | None = None, **values: Any) -> JobRequest:
    return JobRequest(
        client=client,
        source=source or Upload(name="x"),
        options=JobOptions(model="demo"),
        **values,
    )


def all_values(database: Database) -> list[tuple[str, Any]]:
    """All texts and bytes of all tables, ours and the queue's, with their places."""
    found = []
    inspector = sa.inspect(database.engine)
    for schema in inspector.get_schema_names():
        if schema in ("information_schema", "temp"):
            continue
        for table in inspector.get_table_names(schema):
            with database.read() as connection:
                known = sa.Table(table, sa.MetaData(), schema=schema, autoload_with=connection)
                for row in connection.execute(sa.select(known)).mappings():
                    found += [(f"{table}.{name}", value) for name, value in row.items()]
    return [(place, value) for place, value in found if isinstance(value, str | bytes)]
