"""Which job a message of the SQS queue gets, on real tables."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from app.domain.errors import StageFailed
from app.jobs.audio_urls import AudioPlaces
from app.jobs.job import Job, JobOptions, JobState
from app.jobs.sqs_intake import Intake, Terms
from app.jobs.sqs_queue import Message
from tests.support.job_tables import Process

TERMS = Terms("https://sqs/1/asr", AudioPlaces(("bucket",)), JobOptions(model="demo"))
BODY = json.dumps({"presentationId": 1, "jobId": 7, "audioUrl": "s3://bucket/audio.mp3"})


def intake(process: Process) -> Intake:
    jobs: Any = SimpleNamespace(
        store=process.store,
        submit=lambda request, same: process.store.submit(request, same),
        retry=process.store.retry,
    )
    return Intake(jobs, TERMS)


def failed(process: Process, job_id: str) -> Job:
    job = process.store.find(job_id, "")
    while job.state is not JobState.FAILED:
        process.runs.fail(process.begin(job), StageFailed("broken"), 0.0)
        job = process.store.find(job_id, "")
    return job


def test_a_message_that_was_moved_back_is_a_new_request_whoever_has_had_it(
    process: Process,
) -> None:
    """Its count of receipts shows nothing: a worker may have released it, or somebody looked."""
    sqs = intake(process)
    job_id = sqs.accept(Message("first", "r", BODY))
    failed(process, job_id)
    assert sqs.accept(Message("first", "r", BODY)) == job_id
    assert process.store.find(job_id, "").state is JobState.FAILED, "it was tried enough"
    assert sqs.accept(Message("moved back", "r", BODY)) == job_id
    job = process.store.find(job_id, "")
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)
    assert job.request.details["job_id"] == 7
    failed(process, job_id)
    assert sqs.accept(Message("moved back", "r", BODY)) == job_id
    assert process.store.find(job_id, "").state is JobState.FAILED
