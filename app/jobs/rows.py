"""Rows of the table of jobs as `Job`, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from pydantic import JsonValue

from app.jobs.job import Job, JobRequest, JobState, JobStep, Priority
from app.jobs.tables import jobs

RANKS = 2**29  # as many turns has each priority
CLASSES = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}


def job_of(row: sa.Row[Any]) -> Job:
    return Job(
        id=row.id,
        request=JobRequest.model_validate(row.request),
        state=JobState(row.state),
        created_at=row.created_at,
        step=JobStep(row.step) if row.step else None,
        progress=row.progress,
        attempts=row.attempts,
        started_at=row.started_at,
        finished_at=row.finished_at,
        retry_at=row.retry_at,
        error_code=row.error_code,
        error=row.error,
        warnings=tuple(row.warnings),
        language=row.language,
        model=row.model,
        audio_s=row.audio_s,
        processing_s=row.processing_s,
        published=row.published,
        cancel_requested=row.cancel_requested,
        media_type=row.media_type,
        media_bytes=row.media_bytes,
    )


def new_row(job_id: str, request: JobRequest, rank: int, now: float) -> dict[str, Any]:
    return {
        "id": job_id,
        "client": request.client,
        "account": request.account or request.client,
        "door": request.door,
        "file_name": request.file_name,
        "request": request.model_dump(mode="json"),
        "state": JobState.QUEUED,
        "progress": 0.0,
        "attempts": 0,
        "priority": CLASSES[request.priority],
        "rank": rank,
        "created_at": now,
        "cancel_requested": False,
        "error_code": "",
        "error": "",
        "warnings": [],
        "language": "",
        "model": request.options.model,
        "searchable": searchable(request),
    }


def searchable(request: JobRequest) -> str:
    """What a search in the history looks at, in one case: the file's name and the metadata."""
    return folded("\n".join([request.file_name, *_texts(request.metadata)]))


def folded(text: str) -> str:
    """Without case, in all alphabets: SQLite itself knows only that of English."""
    return text.casefold().replace("\x00", "")


def _texts(value: JsonValue) -> Iterator[str]:
    """The names and values in a value of JSON."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif value is not None:
        yield str(value)


def queue_priority(priority_class: int, rank: int) -> int:
    """What the queue sorts by: all of a higher class first, then by rank."""
    return priority_class * RANKS + min(rank, RANKS - 1)


def select_job(job_id: str) -> sa.Select[Any]:
    return sa.select(jobs).where(jobs.c.id == job_id)
