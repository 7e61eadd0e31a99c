"""The door of the SQS queue: whoever sent the message hears of the end, with the transcript."""

from __future__ import annotations

import json
from typing import Any, cast

from pydantic import JsonValue

from app.domain.transcript import Transcript
from app.engine.work import Work
from app.formats.orator import Order, failure_body, success_body
from app.jobs.door import Notice
from app.jobs.job import Job, JobState

SQS = "sqs"
CANCELLED = "The job was cancelled."


class SqsDoor:
    def publish(self, job: Job, transcript: Transcript, work: Work) -> dict[str, JsonValue]:
        return {}

    def notice(self, job: Job, transcript: Transcript | None) -> Notice | None:
        target = job.request.webhook
        if target is None:
            return None
        body = json.dumps(_body(job, transcript), ensure_ascii=False, allow_nan=False)
        return Notice(target.url, body.encode(), target.form)


def details_of(order: Order, message_id: str, flat: bool) -> dict[str, JsonValue]:
    """What a job keeps of its message."""
    return {
        "job_id": order.job_id,
        "presentation_id": order.presentation_id,
        "audio_format": order.audio_format,
        "message_id": message_id,
        "flat": flat,
    }


def _body(job: Job, transcript: Transcript | None) -> dict[str, Any]:
    details = cast(dict[str, Any], job.request.details)
    order = Order(details["job_id"], details["presentation_id"], details["audio_format"])
    if job.state is JobState.DONE and transcript is not None:
        return success_body(transcript, order, job.processing_s, bool(details["flat"]))
    message = CANCELLED if job.state is JobState.CANCELLED else job.error
    return failure_body(order, job.error_code or job.state, message)
