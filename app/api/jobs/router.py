"""/transcribe, /status, /result, /cancel, /retry, /history and /events: jobs over HTTP.

The same addresses are served under /api/v1.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.access.links import read_links
from app.api.head import answer_head
from app.api.jobs import documentation
from app.api.jobs.answers import (
    ended_response,
    result_output,
    result_response,
    transcript_of,
    unfinished_response,
)
from app.api.jobs.bodies import (
    PREFIXES,
    EndingBody,
    HistoryBody,
    SubmittedBody,
    TaskBody,
    status_of_job,
    task_fields,
)
from app.api.jobs.desk import Desk
from app.api.jobs.events import Feed, JobEvents, has_seen_the_end
from app.api.jobs.media import Media, add_media
from app.api.jobs.parameters import Rules, parse_history, parse_result_format
from app.api.jobs.submission import Reception, answer_without_jobs
from app.api.parameters import merge_parameters
from app.api.rate_limits import account_of
from app.api.request_state import client_name
from app.jobs.history import Page
from app.jobs.job import Job, JobState
from app.jobs.jobs import Jobs
from app.service.service import Service
from app.storage.egress import EgressRules

T = TypeVar("T")

TURNED_OFF = "Jobs are turned off on this service (JOBS=false). POST /asr answers at once."
ALREADY_ENDED = "The job has ended already."
NOT_FAILED = "The job has not failed: there is nothing to try again."
RETRIED = "Task will be tried again"
ADDRESSES = {
    "/transcribe": "POST",
    "/status/{task_id}": "GET",
    "/result/{task_id}": "GET",
    "/cancel/{task_id}": "DELETE",
    "/retry/{task_id}": "POST",
    "/history": "GET",
    "/events/{task_id}": "GET",
    "/media/{task_id}": "GET",
    "/media/{task_id}/link": "POST",
    "/peaks/{task_id}": "GET",
}


def build_router(service: Service, jobs: Jobs | None, desk: Desk) -> APIRouter:
    """`jobs` None: they are turned off, and every address says so."""
    router = APIRouter(tags=["jobs"])
    if jobs is None:
        _add_refusals(router, service)
        return router
    settings = service.settings
    rules = Rules(
        EgressRules(settings.egress_allowed_networks),
        settings.url_ingest,
        settings.default_language,
        settings.s3_allowed_buckets,
    )
    enquiries = Enquiries(service, jobs, desk)
    reception = Reception(service, jobs, desk, rules)
    media = Media(jobs, desk, Desk(), read_links(settings))
    feed = Feed(jobs, desk, service.admission)
    for prefix in PREFIXES:
        part = APIRouter(prefix=prefix, include_in_schema=not prefix)
        _add_submission(part, reception, prefix)
        _add_reading(part, enquiries)
        add_media(part, media)
        answer_head(part)  # before the events, which would not end
        _add_changes(part, enquiries)
        _add_events(part, enquiries, feed)
        router.include_router(part)
    return router


def _add_refusals(router: APIRouter, service: Service) -> None:
    async def refuse() -> Response:
        return JSONResponse({"detail": TURNED_OFF}, 404)

    async def transcribe(request: Request) -> Response:
        return await answer_without_jobs(service, request) or await refuse()

    for prefix in PREFIXES:
        for address, method in ADDRESSES.items():
            methods = ["GET", "DELETE"] if address.startswith("/result") else [method]
            answer = transcribe if address == "/transcribe" else refuse
            router.add_api_route(prefix + address, answer, methods=methods, include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Enquiries:
    """Answers about the jobs of a request's client. The rest of a client's jobs do not exist."""

    service: Service
    jobs: Jobs
    desk: Desk

    async def find(self, request: Request, task_id: str) -> Job:
        """Raises UnknownJob."""
        return await self._ask(self.jobs.find, request, task_id)

    async def _ask(self, what: Callable[[str, str], T], request: Request, task_id: str) -> T:
        return await self.desk.ask(partial(what, task_id, client_name(request.scope)))

    async def result(self, request: Request, task_id: str) -> Response:
        return await self.desk.ask(partial(self._result, request, task_id))

    def _result(self, request: Request, task_id: str) -> Response:
        job = self.jobs.find(task_id, client_name(request.scope))
        given = merge_parameters({}, request.query_params)
        output, wishes = parse_result_format(given, result_output(job))
        if job.state is not JobState.DONE:
            return unfinished_response(job)
        transcript = transcript_of(self.jobs.transcript(job.id))
        return result_response(job, transcript, output, wishes, self.service.subtitle_style)

    async def cancel(self, request: Request, task_id: str) -> Response:
        job = await self._ask(self.jobs.cancel, request, task_id)
        if job.state in (JobState.DONE, JobState.FAILED):
            return ended_response(job, ALREADY_ENDED)
        status = status_of_job(job) if job.state.ended else "cancelling"
        return JSONResponse({"task_id": job.id, "status": status})

    async def delete(self, request: Request, task_id: str) -> Response:
        await self._ask(self.jobs.delete, request, task_id)
        return JSONResponse({"task_id": task_id, "status": "deleted"})

    async def retry(self, request: Request, task_id: str) -> Response:
        job = await self.find(request, task_id)
        if job.state is not JobState.FAILED:
            return ended_response(job, NOT_FAILED)
        job = await self._ask(self.jobs.retry, request, task_id)
        body = {"task_id": job.id, "status": status_of_job(job), "message": RETRIED}
        return JSONResponse(body, 202)

    async def history(self, request: Request) -> dict[str, Any]:
        wanted = parse_history(merge_parameters({}, request.query_params))
        client = client_name(request.scope)

        def page() -> Page:
            return self.jobs.history.page(
                client, wanted.limit, wanted.cursor, wanted.offset, wanted.filters
            )

        found, now = await self.desk.ask(page), time.time()
        return {
            "tasks": [task_fields(job, now) for job in found.jobs],
            "total": found.total,
            "next_cursor": found.cursor or None,
        }


def _add_submission(router: APIRouter, reception: Reception, prefix: str) -> None:
    @router.post(
        "/transcribe",
        status_code=202,
        summary="Hand in a recording, to be transcribed later",
        description=documentation.SUBMIT,
        openapi_extra=documentation.SUBMIT_FORM,
        responses=documentation.SUBMIT_RESPONSES,
        response_model=SubmittedBody,
    )
    async def transcribe(request: Request) -> Response:
        return await reception.accept(request, prefix)


def _add_reading(router: APIRouter, enquiries: Enquiries) -> None:
    @router.get(
        "/status/{task_id}",
        summary="How far a job is",
        responses=documentation.JOB_RESPONSES,
        response_model=TaskBody,
    )
    async def status(request: Request, task_id: str) -> Response:
        job = await enquiries.find(request, task_id)
        return JSONResponse(task_fields(job, time.time()))

    @router.get(
        "/result/{task_id}",
        summary="The transcript of a job that is done",
        description=documentation.RESULT,
        openapi_extra=documentation.RESULT_QUERY,
        responses=documentation.RESULT_RESPONSES,
    )
    async def result(request: Request, task_id: str) -> Response:
        return await enquiries.result(request, task_id)

    @router.get(
        "/history",
        summary="All jobs, newest first",
        openapi_extra=documentation.HISTORY_QUERY,
        responses=documentation.HISTORY_RESPONSES,
        response_model=HistoryBody,
    )
    async def history(request: Request) -> Response:
        return JSONResponse(await enquiries.history(request))


def _add_changes(router: APIRouter, enquiries: Enquiries) -> None:
    @router.delete(
        "/cancel/{task_id}",
        summary="Cancel a job",
        description=documentation.CANCEL,
        responses=documentation.CANCEL_RESPONSES,
        response_model=EndingBody,
    )
    async def cancel(request: Request, task_id: str) -> Response:
        return await enquiries.cancel(request, task_id)

    @router.delete(
        "/result/{task_id}",
        summary="Remove a job that has ended, with its upload and its transcript",
        responses=documentation.DELETE_RESPONSES,
        response_model=EndingBody,
    )
    async def delete(request: Request, task_id: str) -> Response:
        return await enquiries.delete(request, task_id)

    @router.post(
        "/retry/{task_id}",
        status_code=202,
        summary="Try a job again that has failed",
        responses=documentation.RETRY_RESPONSES,
        response_model=SubmittedBody,
    )
    async def retry(request: Request, task_id: str) -> Response:
        return await enquiries.retry(request, task_id)


def _add_events(router: APIRouter, enquiries: Enquiries, feed: Feed) -> None:
    @router.get(
        "/events/{task_id}",
        summary="Follow a job by server-sent events",
        description=documentation.EVENTS,
        responses=documentation.EVENTS_RESPONSES,
    )
    async def events(request: Request, task_id: str) -> Response:
        job = await enquiries.find(request, task_id)
        if has_seen_the_end(request, job):
            return Response(status_code=204)
        return JobEvents(request, feed, job, account_of(request.scope))
