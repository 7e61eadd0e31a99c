"""Rows of the table of jobs as `Job`, and back."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

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
    }


def queue_priority(priority_class: int, rank: int) -> int:
    """What the queue sorts by: all of a higher class first, then by rank."""
    return priority_class * RANKS + min(rank, RANKS - 1)


def select_job(job_id: str) -> sa.Select[Any]:
    return sa.select(jobs).where(jobs.c.id == job_id)
