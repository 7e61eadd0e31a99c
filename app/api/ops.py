"""/health (is the process alive), /ready (does it take requests), /status, /metrics, /queue."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from app import __version__
from app.api.error_responses import UNAUTHORIZED, ErrorBody
from app.api.head import answer_head
from app.api.ops_bodies import HealthBody, QueueBody, QueueEntryBody, ReadyBody, StatusBody
from app.api.request_state import client_name
from app.engine.model import ModelKind
from app.observability.exposition import expose
from app.service.service import Service
from app.service.vitals import read_vitals


def build_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["service"])

    def loaded_models() -> list[str]:
        return sorted(
            key.name for key in service.models.loaded() if key.kind is ModelKind.RECOGNIZER
        )

    @router.get(
        "/health",
        summary="Whether the process lives",
        responses={503: {"model": HealthBody, "description": "It must be started anew."}},
    )
    async def health(response: Response) -> HealthBody:
        vitals = read_vitals(service)
        response.status_code = 503 if vitals.fatal else 200
        return HealthBody(
            status="unhealthy" if vitals.fatal else "healthy",
            degraded=[*vitals.degraded, *filter(None, [vitals.fatal])],
            device=service.models.device() or service.device,
            compute_type=service.compute_type,
            version=__version__,
            default_model=service.catalog.default_model,
            loaded_models=loaded_models(),
            requests=service.admission.num_requests,
        )

    @router.get("/status", summary="Which version this is, as Bazarr asks for it")
    async def status() -> StatusBody:
        return StatusBody(version=__version__)

    @router.get(
        "/ready",
        summary="Whether it takes requests",
        responses={200: {"model": ReadyBody}, 503: {"model": ErrorBody}},
    )
    async def ready() -> Response:
        if service.ready.is_set():
            return JSONResponse({"status": "ready"})
        return JSONResponse(
            {"detail": "The service is starting or shutting down."}, 503, {"Retry-After": "5"}
        )

    _add_queue(router, service)
    _add_metrics(router, service)
    answer_head(router)
    return router


def _add_queue(router: APIRouter, service: Service) -> None:
    @router.get("/queue", summary="What is under way", responses=UNAUTHORIZED)
    async def queue() -> QueueBody:
        entries = service.admission.entries()
        if service.peers.own_name:
            entries += await asyncio.to_thread(service.peers.entries)
        return QueueBody(
            requests=[
                QueueEntryBody(
                    id=entry.id,
                    client=entry.client or None,
                    kind=entry.kind,
                    state=entry.state,
                    model=entry.model,
                    audio_seconds=_rounded(entry.audio_s),
                    progress=round(entry.progress, 3),
                    elapsed_seconds=round(entry.elapsed_s, 1),
                    seconds_left=_rounded(entry.left_s),
                )
                for entry in entries
            ]
        )

    @router.delete(
        "/queue/{request_id}",
        status_code=204,
        summary="Cancel a request",
        responses={
            **UNAUTHORIZED,
            403: {"model": ErrorBody, "description": "It came with another API key."},
            404: {"model": ErrorBody, "description": "There is none of this id."},
        },
    )
    async def cancel(request: Request, request_id: str) -> Response:
        client = client_name(request.scope)
        found = service.admission.cancel(request_id, client)
        if not found and service.peers.own_name:
            found = await asyncio.to_thread(service.peers.cancel, request_id, client)
        if found:
            return Response(status_code=204)
        return JSONResponse({"detail": "request_id: no such request is in the queue."}, 404)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _add_metrics(router: APIRouter, service: Service) -> None:
    # Not async, so it runs in a thread: a scrape reads files and queries the GPU.
    @router.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
    def metrics(request: Request) -> Response:
        accept, peers = request.headers.get("accept", ""), service.peers
        registry = service.metrics.registry
        body, content_type = expose(registry, accept, peers.own_name, peers.figures())
        return Response(body, headers={"Content-Type": content_type})
