"""POST /enqueue: a recording in a bucket becomes a job, whose results go into the bucket."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.api.error_responses import ERROR_RESPONSES, ErrorBody
from app.api.intake import ignored_headers
from app.api.jobs.desk import Desk
from app.api.jobs.enqueue_body import EnqueueBody, EnqueuedBody
from app.api.jobs.json_object import read_json
from app.api.rate_limits import account_of, admit
from app.api.request_state import client_name, record_of
from app.domain.errors import IdempotencyMismatch, StillAccepting
from app.jobs.buckets import check_bucket
from app.jobs.doors.enqueue import ENQUEUE
from app.jobs.idempotency import Idempotency
from app.jobs.job import Job, JobRequest, JobState
from app.jobs.jobs import Jobs
from app.jobs.once import hash_of, submit_once
from app.service.service import Service

DESCRIPTION = """\
The results are written to `results/JOB_ID.md` and `results/JOB_ID.json` in the same bucket, and
then `WEBHOOK_URL` is called: `{"job_id", "status": "done", "md_key", "json_key"}` or
`{"job_id", "status": "error", "error"}`, signed in `X-Modal-Signature`. The same request again
joins its job, or tries it again if it has failed. `Location` is the address of its status.
"""
FORM = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": EnqueueBody.model_json_schema()}},
    }
}
MISMATCH = "job_id: it came with another payload before."
ACCEPTING = "job_id: another request with it is being accepted."
RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"model": EnqueuedBody, "description": "The job is queued, or was before."},
    403: {"model": ErrorBody, "description": "Jobs may not use this bucket."},
    409: {"model": ErrorBody, "description": "The same request is being accepted at this moment."},
    **{
        status: response
        for status, response in ERROR_RESPONSES.items()
        if status in (400, 401, 408, 413, 415, 422, 429, 503)
    },
}


def build_router(service: Service, jobs: Jobs, desk: Desk) -> APIRouter:
    router = APIRouter(tags=["jobs"])

    @router.post(
        "/enqueue",
        status_code=202,
        summary="Transcribe a recording in a bucket, and write the results there",
        description=DESCRIPTION,
        openapi_extra=FORM,
        responses=RESPONSES,
    )
    async def enqueue(request: Request) -> JSONResponse:
        rate_limits = service.calls.rate_limits
        client, account = client_name(request.scope), account_of(request.scope)
        if rate_limits.enabled:
            await admit(request, rate_limits.account(account))
        body = await read_json(request, EnqueueBody)
        check_bucket(body.s3_bucket, service.settings.s3_allowed_buckets)
        model = body.model(service.catalog.resolve, service.catalog.default_model)
        record_of(request).model = model
        asked = body.request(model, client, account)
        job = await desk.ask(partial(_submit, jobs, asked, body))
        headers = {
            "Location": f"{service.settings.root_path}/status/{job.id}",
            **ignored_headers(body.model_extra or (), ()),
        }
        return JSONResponse(EnqueuedBody(job_id=body.job_id).model_dump(), 202, headers)

    return router


def _submit(jobs: Jobs, request: JobRequest, body: EnqueueBody) -> Job:
    """The job of this ID. A failed one is tried again."""
    payload = body.model_dump(include=set(EnqueueBody.model_fields))
    same = Idempotency(f"{ENQUEUE}:{body.job_id.lower()}", hash_of(payload))
    try:
        job = submit_once(jobs.store, request, same)
    except IdempotencyMismatch:
        raise IdempotencyMismatch(MISMATCH) from None
    except StillAccepting:
        raise StillAccepting(ACCEPTING) from None
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        return jobs.retry(job.id, request.client)
    return job
