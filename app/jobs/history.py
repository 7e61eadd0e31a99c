"""History: a client's jobs, newest first, in pages."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from app.domain.errors import UnsupportedOption
from app.jobs.database import Database
from app.jobs.job import Job, JobState
from app.jobs.rows import folded, job_of
from app.jobs.spoken import parts_of
from app.jobs.tables import jobs, spoken

MAX_CURSOR = 200
MAX_WORDS = 20  # of a search
WRONG_CURSOR = "cursor: not one that /history returned."


@dataclass(frozen=True, slots=True)
class Filters:
    """What a client looks for. Times are seconds since 1970. `search`: part of the file name or of
    the metadata, or beginnings of words that are all in the transcript; in any case.
    """

    states: tuple[JobState, ...] = ()
    since: float | None = None
    until: float | None = None
    search: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """`cursor`: where the next page begins; empty on the last one."""

    jobs: Sequence[Job]
    cursor: str
    total: int


class History:
    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self, client: str, limit: int, cursor: str = "", offset: int = 0,
        filters: Filters = Filters(),
    ) -> Page:  # fmt: skip
        """`limit` jobs from a cursor or an offset on.

        Raises:
            UnsupportedOption: the cursor is none of ours.
        """
        wanted = self._wanted(client, filters)
        query = sa.select(jobs).where(*wanted)
        if cursor:
            created_at, job_id = _place(cursor)
            query = query.where(
                sa.tuple_(jobs.c.created_at, jobs.c.id) < sa.tuple_(created_at, job_id)
            )
        query = query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.offset(offset).limit(limit + 1)).all()
            if cursor or len(rows) > limit or (offset and not rows):
                total = _count(connection, wanted)
            else:  # the last page: a search need not look at everything twice
                total = offset + len(rows)
        found = [job_of(row) for row in rows[:limit]]
        return Page(found, _cursor(found[-1]) if len(rows) > limit else "", total)

    def _wanted(self, client: str, filters: Filters) -> list[sa.ColumnElement[bool]]:
        wanted = [jobs.c.client == client]
        if filters.states:
            wanted.append(jobs.c.state.in_(filters.states))
        if filters.since is not None:
            wanted.append(jobs.c.created_at >= filters.since)
        if filters.until is not None:
            wanted.append(jobs.c.created_at < filters.until)
        if filters.search:
            wanted.append(self._found(filters.search))
        return wanted

    def _found(self, search: str) -> sa.ColumnElement[bool]:
        # all that earlier versions stored
        name = jobs.c.file_name.icontains(search, autoescape=True)
        known = jobs.c.searchable.contains(folded(search), autoescape=True)
        parts = parts_of(search)[:MAX_WORDS]
        if not parts:
            return sa.or_(known, name)
        said = _read(parts) if self._database.is_sqlite else _indexed(parts)
        return sa.or_(known, name, said)


def _count(connection: sa.Connection, wanted: Sequence[sa.ColumnElement[bool]]) -> int:
    query = sa.select(sa.func.count()).select_from(jobs).where(*wanted)
    return int(connection.execute(query).scalar_one())


def _read(parts: Sequence[str]) -> sa.ColumnElement[bool]:
    """Whether all parts occur, found by reading the words of each of the client's transcripts."""
    occur = [spoken.c.words.contains(part, autoescape=True) for part in parts]
    return sa.exists().where(spoken.c.job_id == jobs.c.id, *occur)


def _indexed(parts: Sequence[str]) -> sa.ColumnElement[bool]:
    """The same by PostgreSQL's index of words. A part has letters and digits only."""
    query = " & ".join(f"'{part.strip()}':*" for part in parts)
    occur = sa.text("spoken.vector @@ CAST(:query AS tsquery)").bindparams(query=query)
    return jobs.c.id.in_(sa.select(spoken.c.job_id).where(occur))


def _cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(json.dumps([job.created_at, job.id]).encode()).decode()


def _place(cursor: str) -> tuple[float, str]:
    try:
        if len(cursor) > MAX_CURSOR:
            raise ValueError
        created_at, job_id = json.loads(base64.urlsafe_b64decode(cursor))
        return float(created_at), str(uuid.UUID(job_id))
    except (ValueError, TypeError, AttributeError):
        raise UnsupportedOption(WRONG_CURSOR) from None
