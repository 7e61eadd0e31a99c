"""The notice of a job's end in the style of Standard Webhooks: what happened to which job.

The transcript is not in it: receivers fetch it with the ID, in the format that they like.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from app.jobs.door import Notice
from app.jobs.job import Job, JobState

# The event and the status for each end that is announced. Who cancels a job knows it.
EVENTS = {
    JobState.DONE: ("transcription.completed", "completed"),
    JobState.FAILED: ("transcription.failed", "failed"),
}


def standard_notice(job: Job) -> Notice | None:
    """The notice for the client's webhook; None if it has none, or the job was cancelled."""
    target = job.request.webhook
    if target is None or job.state not in EVENTS:
        return None
    event, status = EVENTS[job.state]
    body = {"type": event, "timestamp": _timestamp(job), "data": _facts(job, status)}
    return Notice(target.url, json.dumps(body, ensure_ascii=False).encode(), target.form)


def _timestamp(job: Job) -> str:
    ended = datetime.fromtimestamp(job.finished_at or 0.0, UTC)
    return ended.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _facts(job: Job, status: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "task_id": job.id,
        "status": status,
        "file_name": job.request.file_name,
        "metadata": job.request.metadata,
    }
    if job.state is JobState.FAILED:
        return facts | {"error": {"code": job.error_code, "message": job.error}}
    return facts | {
        "language": job.language,
        "duration": job.audio_s,
        "warnings": list(job.warnings),
    }
