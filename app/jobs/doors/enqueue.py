"""The door of POST /enqueue: recordings come from a bucket, and results go back into it."""

from __future__ import annotations

import json

from pydantic import JsonValue

from app.domain.transcript import Transcript
from app.engine.work import Work
from app.formats.markdown import to_markdown
from app.formats.modal import write_modal_json
from app.jobs.buckets import Buckets
from app.jobs.door import Notice
from app.jobs.job import Job, JobState, S3Object

ENQUEUE = "enqueue"
MARKDOWN_TYPE, JSON_TYPE = "text/markdown", "application/json"
CANCELLED = "The job was cancelled."


def result_keys(job_id: str) -> tuple[str, str]:
    """Where the Markdown and the JSON of a job go. `job_id`: the client's."""
    return f"results/{job_id}.md", f"results/{job_id}.json"


class EnqueueDoor:
    """`webhook_url`: who is told; empty: nobody."""

    def __init__(self, buckets: Buckets, webhook_url: str) -> None:
        self._buckets = buckets
        self._webhook_url = webhook_url

    def publish(self, job: Job, transcript: Transcript, work: Work) -> dict[str, JsonValue]:
        """Written again by a later attempt: the objects are the same."""
        source = job.request.source
        assert isinstance(source, S3Object)
        job_id = _job_id(job)
        md_key, json_key = result_keys(job_id)
        for key, body, kind in (
            (md_key, to_markdown(transcript), MARKDOWN_TYPE),
            (json_key, write_modal_json(transcript, job_id), JSON_TYPE),
        ):
            self._buckets.write(body, source.bucket, key, kind, work)
        return {"md_key": md_key, "json_key": json_key}

    def notice(self, job: Job, transcript: Transcript | None) -> Notice | None:
        if not self._webhook_url:
            return None
        return Notice(self._webhook_url, json.dumps(_body(job)).encode(), form="modal")


def _job_id(job: Job) -> str:
    return str(job.request.details["job_id"])


def _body(job: Job) -> dict[str, JsonValue]:
    body: dict[str, JsonValue] = {"job_id": _job_id(job)}
    if job.state is JobState.DONE:
        return {**body, "status": "done", **(job.published or {})}
    error = CANCELLED if job.state is JobState.CANCELLED else job.error
    return {**body, "status": "error", "error": error}
