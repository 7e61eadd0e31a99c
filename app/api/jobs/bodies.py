"""The JSON bodies of the jobs' REST interface."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from app.jobs.job import Job, JobState

PREFIXES = ("", "/api/v1")  # of all addresses of jobs
# As clients of this contract know them.
STATUSES = {state: state.value for state in JobState} | {JobState.RUNNING: "processing"}
CREATED = "Task successfully created"
ID = "1d3a6b2e-8c44-4f1b-9f3b-52dc8a1ff321"
_STATUS = Field(
    description="queued, processing, done, failed or cancelled.", examples=["processing"]
)
TIME = "2026-01-31T12:00:00.000Z"


class SubmittedBody(BaseModel):
    task_id: str = Field(examples=[ID])
    status: str = Field(examples=["queued"])
    message: str = Field(examples=[CREATED])


class FaultBody(BaseModel):
    """Why an attempt failed: the last one, or one after which another follows."""

    code: str = Field(description="Machine readable.", examples=["undecodable_audio"])
    message: str = Field(description="One clear sentence.")


class TaskBody(BaseModel):
    """How far a job is. Times are ISO 8601 in UTC."""

    task_id: str = Field(examples=[ID])
    status: str = _STATUS
    progress: int = Field(description="0 to 100, an estimate.", examples=[42])
    eta_seconds: int | None = Field(description="An estimate; null while there is none.")
    step: str | None = Field(
        description="fetch, decode, recognize, align, diarize, store or notify; null unless it is "
        "processed.",
        examples=["recognize"],
    )
    attempts: int = Field(description="How often it was tried.", examples=[1])
    created_at: str = Field(examples=[TIME])
    started_at: str | None
    finished_at: str | None
    retry_at: str | None = Field(description="When a job is tried again of which a try failed.")
    error: FaultBody | None
    file_name: str = Field(description="Of the upload.", examples=["meeting.mp3"])
    metadata: dict[str, Any] = Field(description="As it was sent.")
    model: str = Field(examples=["large-v3"])
    language: str | None = Field(description="Once it is done.", examples=["en"])
    duration: float | None = Field(description="Of the recording, in seconds, once it is known.")
    warnings: list[str] = Field(description="What the transcript lacks, and why.")
    audio: bool = Field(description="Whether `/media/{task_id}` has the recording.")


class UnfinishedBody(TaskBody):
    """The status of a job that has no result, and why it has none."""

    detail: str


class EndingBody(BaseModel):
    task_id: str = Field(examples=[ID])
    status: str = Field(examples=["cancelled"])


class HistoryBody(BaseModel):
    tasks: list[TaskBody] = Field(description="Newest first.")
    total: int = Field(description="Of all pages.", examples=[1])
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")


class TaskWordBody(BaseModel):
    word: str
    start: float | None = Field(description="Seconds; null if it could not be aligned.")
    end: float | None
    score: float | None = Field(description="How sure its place is, from 0 to 1.")
    speaker: str | None


class TaskSegmentBody(BaseModel):
    """A sentence or less, of one speaker."""

    start: float = Field(description="Seconds.", examples=[0.0])
    end: float = Field(examples=[4.5])
    speaker: str | None = Field(description="Null if they were not told apart.", examples=["spk_1"])
    text: str = Field(examples=["Hello everyone, welcome to the meeting."])
    language: str | None = Field(None, description="Where each part has its own (`multi`).")
    words: list[TaskWordBody] | None = Field(None, description="Where they could be aligned.")


class ResultBody(BaseModel):
    task_id: str = Field(examples=[ID])
    status: str = Field(examples=["done"])
    language: str = Field(examples=["en"])
    model: str = Field(examples=["large-v3"])
    segments: list[TaskSegmentBody]
    full_text: str
    duration: float = Field(description="Of the recording, in seconds.")
    warnings: list[str] = Field(description="What the transcript lacks, and why.")
    processing_time: float | None = Field(description="Seconds.", examples=[12.34])
    file_name: str
    metadata: dict[str, Any] = Field(description="As it was sent.")


def status_of_job(job: Job) -> str:
    return STATUSES[job.state]


def task_fields(job: Job, now: float) -> dict[str, Any]:
    """The fields of a TaskBody. `now`: seconds since 1970."""
    left_s = job.left_s(now)
    fault = {"code": job.error_code, "message": job.error}
    return {
        "task_id": job.id,
        "status": status_of_job(job),
        "progress": int(job.progress),
        "eta_seconds": None if left_s is None else round(left_s),
        "step": job.step,
        "attempts": job.attempts,
        "created_at": iso(job.created_at),
        "started_at": iso_or_none(job.started_at),
        "finished_at": iso_or_none(job.finished_at),
        "retry_at": iso_or_none(job.retry_at) if job.state is JobState.QUEUED else None,
        "error": fault if job.error_code else None,
        "file_name": job.request.file_name,
        "metadata": job.request.metadata,
        "model": job.model,
        "language": job.language or None,
        "duration": None if job.audio_s is None else round(job.audio_s, 3),
        "warnings": list(job.warnings),
        "audio": job.state is JobState.DONE and bool(job.media_type),
    }


def iso_or_none(time_s: float | None) -> str | None:
    return None if time_s is None else iso(time_s)


def iso(time_s: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC."""
    text = datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
