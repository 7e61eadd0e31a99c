"""/webhooks: what became of the webhooks of a client's job, and sending them again.

The same addresses are served under /api/v1.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from app.api.error_responses import UNAUTHORIZED, ErrorBody
from app.api.jobs.bodies import PREFIXES, TIME, iso, iso_or_none
from app.api.jobs.desk import Desk
from app.api.request_state import client_name
from app.domain.errors import UnknownJob
from app.jobs.deliveries import Delivery
from app.jobs.jobs import Jobs

NO_WEBHOOK = "This job has no webhook, or has not ended."
RESPONSES: dict[int | str, dict[str, Any]] = {
    **UNAUTHORIZED,
    404: {"model": ErrorBody, "description": "No job of this client has this ID."},
}
JobId = Annotated[str, Path(description="The job's ID.", max_length=36)]


class TryBody(BaseModel):
    at: str = Field(description="ISO 8601 in UTC.", examples=[TIME])
    status: int | None = Field(description="Of the receiver's answer; null if none came.")
    reason: str = Field(description="Why none came; else empty.")


class WebhookBody(BaseModel):
    """A webhook that is sent, or was."""

    id: str = Field(description="The same in the header `webhook-id` of each try.")
    url: str = Field(description="Where it goes, without user, password and query.")
    status: str = Field(description="waiting, delivered or failed.", examples=["delivered"])
    tries: list[TryBody] = Field(description="Oldest first.")
    created_at: str = Field(examples=[TIME])
    next_try_at: str | None = Field(description="Null if there is none.")


class WebhooksBody(BaseModel):
    task_id: str
    webhooks: list[WebhookBody]


def build_router(jobs: Jobs, desk: Desk) -> APIRouter:
    router = APIRouter(tags=["jobs"])
    for prefix in PREFIXES:
        router.include_router(_part(prefix, jobs, desk))
    return router


def _part(prefix: str, jobs: Jobs, desk: Desk) -> APIRouter:
    router = APIRouter(prefix=prefix, include_in_schema=not prefix)

    @router.get(
        "/webhooks/{job_id}",
        summary="What became of a job's webhooks",
        responses=RESPONSES,
    )
    async def webhooks(request: Request, job_id: JobId) -> WebhooksBody:
        def look() -> WebhooksBody:
            job = jobs.find(job_id, client_name(request.scope))
            sent = [_body_of(one) for one in jobs.deliveries.of_job(job.id)]
            return WebhooksBody(task_id=job.id, webhooks=sent)

        return await desk.ask(look)

    @router.post(
        "/webhooks/{job_id}/resend",
        status_code=202,
        summary="Send a job's webhook again",
        description="The last one of the job, whatever became of it, with the same ID and body.",
        responses=RESPONSES,
    )
    async def resend(request: Request, job_id: JobId) -> WebhookBody:
        def send_again() -> WebhookBody:
            job = jobs.find(job_id, client_name(request.scope))
            sent = jobs.deliveries.resend(job.id)
            if sent is None:
                raise UnknownJob(NO_WEBHOOK)
            return _body_of(sent)

        return await desk.ask(send_again)

    return router


def _body_of(delivery: Delivery) -> WebhookBody:
    return WebhookBody(
        id=delivery.id,
        url=_shown(delivery.url),
        status=delivery.state,
        tries=[
            TryBody(at=iso(one.at), status=one.status, reason=one.reason) for one in delivery.tries
        ],
        created_at=iso(delivery.created_at),
        next_try_at=iso_or_none(delivery.next_at),
    )


def _shown(url: str) -> str:
    """A URL without what may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
