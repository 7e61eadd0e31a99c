"""What is answered about a job: its result, or why it has none."""

from __future__ import annotations

import time

from fastapi import Response
from fastapi.responses import JSONResponse

from app.api.asr.parameters import OUTPUTS
from app.api.file_names import content_disposition
from app.api.intake import warning_headers
from app.api.jobs.bodies import task_fields
from app.api.subtitles import SubtitleWishes
from app.domain.errors import ServiceError, StageFailed
from app.domain.transcript import Transcript
from app.formats import jobs as formats
from app.formats.subtitles import SubtitleStyle
from app.formats.table import JSON, OutputFormat
from app.jobs.job import Job, JobState

RETRY_AFTER_S = 5  # if the time left is not known
UNFINISHED = {
    JobState.QUEUED: "The job waits for its turn; ask again later.",
    JobState.RUNNING: "The job is being processed; ask again later.",
    JobState.CANCELLED: "The job was cancelled.",
}


def result_output(job: Job) -> OutputFormat:
    """The format that was asked for with the job; JSON if this version does not know it."""
    return OUTPUTS.get(job.request.output, JSON)


def result_response(
    job: Job,
    transcript: Transcript,
    output: OutputFormat,
    wishes: SubtitleWishes,
    style: SubtitleStyle,
) -> Response:
    """`style`: the operator's. Takes time in proportion to the transcript."""
    transcript = formats.with_numbered_speakers(transcript)
    headers = warning_headers(transcript.warnings)
    if output.writer is None:
        return Response(_json(job, transcript), media_type=output.media_type, headers=headers)
    headers["Content-Disposition"] = content_disposition(job.request.file_name, output.extension)
    body = output.writer(transcript, wishes.applied_to(style))
    return Response(body, media_type=output.media_type, headers=headers)


def _json(job: Job, transcript: Transcript) -> bytes:
    seconds = job.processing_s
    about = {
        "processing_time": None if seconds is None else round(seconds, 2),
        "file_name": job.request.file_name,
        "metadata": job.request.metadata,
    }
    return formats.result_json(job.id, transcript, about)


def unfinished_response(job: Job) -> Response:
    """409 while the job has not ended, 410 if it was cancelled, else 422 or 500 with its error."""
    now = time.time()
    detail = UNFINISHED.get(job.state, job.error)
    body = {"detail": detail, **task_fields(job, now)}
    if job.state is JobState.FAILED:
        return JSONResponse(body, _status_of_failure(job.error_code))
    if job.state is JobState.CANCELLED:
        return JSONResponse(body, 410)
    left_s = job.left_s(now)
    retry_after_s = RETRY_AFTER_S if left_s is None else max(1, min(60, round(left_s)))
    return JSONResponse(body, 409, {"Retry-After": str(retry_after_s)})


def ended_response(job: Job, detail: str) -> Response:
    """409: the job is in a state in which this cannot be done."""
    return JSONResponse({"detail": detail, **task_fields(job, time.time())}, 409)


def _status_of_failure(code: str) -> int:
    """422 for faults of the recording or the request, which another try does not change."""
    return 422 if code in _permanent_codes(ServiceError) else 500


def _permanent_codes(kind: type[ServiceError]) -> set[str]:
    codes = {kind.code} if kind.is_permanent else set()
    return codes.union(*map(_permanent_codes, kind.__subclasses__()))


def transcript_of(transcript: Transcript | None) -> Transcript:
    """Raises StageFailed if a job that is done has none."""
    if transcript is None:
        raise StageFailed("The transcript of this job is missing.")
    return transcript
