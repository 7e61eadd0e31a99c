"""Creates the app: mounts routers and middleware, starts and stops the service."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline

from app import __version__
from app.api import errors, ops, page
from app.api.asr import router as asr
from app.api.format import router as format_
from app.api.jobs import enqueue, webhooks
from app.api.jobs import router as job_rest
from app.api.jobs.desk import Desk
from app.api.live import refusals as live_refusals
from app.api.live.router import build_router as build_live_router
from app.api.live.router import check_wyoming, listening_for_wyoming
from app.api.middleware import headers, keys
from app.api.middleware.observation import ObservationMiddleware
from app.api.middleware.request_id import RequestIdMiddleware
from app.api.middleware.trailing_slash import TrailingSlashMiddleware
from app.api.middleware.unread_body import UnreadBodyMiddleware
from app.api.middleware.websockets import WebSocketMiddleware
from app.api.openai import router as openai
from app.jobs.build import build_jobs
from app.jobs.jobs import Jobs
from app.jobs.sqs import SqsWorker, build_sqs_worker
from app.live.live import Live
from app.service.build import CLOSE_TIMEOUT_S, close_service
from app.service.service import Service
from app.service.warmup import warm_up

JOBS_POLL_S = 0.1
DESCRIPTION = """\
Transcribes any audio or video file in the answer to one request: aligned words, speakers, and JSON,
text, SRT, VTT, TSV or Markdown. Speaks the dialects of whisper-asr-webservice and of the WhisperX
ASR API services; every query parameter may also be sent as a form field.
"""


def create_app(service: Service, sqs: bool = False) -> FastAPI:
    """The app that serves a service and closes it at shutdown. `sqs`: it also takes the messages of
    a queue.

    Raises:
        ConfigurationError: jobs or the queue cannot be used.
    """
    settings = service.settings
    jobs = build_jobs(service)
    sqs_worker = build_sqs_worker(service, jobs) if sqs else None
    live = Live(service) if settings.live_max_streams else None
    check_wyoming(settings)

    app: FastAPI = FastAPIOffline(
        title="WhisperX ASR service",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lambda app: running(service, jobs, sqs_worker, live),
        redoc_url=None,  # one page is enough, and this one loads its logo from another host
        root_path=settings.root_path,
        redirect_slashes=False,  # see TrailingSlashMiddleware
        license_info={"name": "MIT"},
    )
    routers = build_routers(service, jobs, live)
    app.add_middleware(UnreadBodyMiddleware)
    app.add_middleware(WebSocketMiddleware, error=live_refusals.refused_handshake(live is not None))
    errors.install(app, [getattr(r, "path", "") for router in routers for r in router.routes])
    keys.install(app, settings, settings.root_path)  # each middleware wraps those added above it
    headers.install(app, settings)
    app.add_middleware(ObservationMiddleware, service=service)
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(TrailingSlashMiddleware)
    for router in routers:
        app.include_router(router)
    return app


def build_routers(service: Service, jobs: Jobs | None, live: Live | None) -> list[APIRouter]:
    """All that is served."""
    routers = [contract.build_router(service) for contract in (asr, openai, format_, ops)]
    routers.append(page.build_router())
    desk = Desk()
    routers.append(job_rest.build_router(service, jobs, desk))
    if jobs is not None:
        routers.append(enqueue.build_router(service, jobs, desk))
        routers.append(webhooks.build_router(jobs, desk))
    if live is not None:
        routers.append(build_live_router(live))
    routers.append(live_refusals.build_router(live is not None))
    return routers


@asynccontextmanager
async def running(
    service: Service, jobs: Jobs | None, sqs_worker: SqsWorker | None, live: Live | None
) -> AsyncIterator[None]:
    """Starts everything, and ends it in reverse order."""
    async with AsyncExitStack() as ending:
        ending.callback(close_service, service, CLOSE_TIMEOUT_S)
        if live is not None:
            ending.callback(live.close)
            await ending.enter_async_context(listening_for_wyoming(live, service.settings.host))
        if jobs is not None:
            ending.push_async_callback(asyncio.to_thread, jobs.close)
            await asyncio.to_thread(jobs.start)
        ending.push_async_callback(jobs_may_end, service)
        if sqs_worker is not None:
            ending.push_async_callback(asyncio.to_thread, sqs_worker.close)
            sqs_worker.start()
        stopping = threading.Event()
        ending.callback(stopping.set)
        # a daemon: shutdown does not wait for a running load or download
        threading.Thread(
            target=warm_up, args=(service, stopping), name="warm-up", daemon=True
        ).start()
        yield


async def jobs_may_end(service: Service) -> None:
    """Wait for what still runs: no request does by now, but jobs may. The server cancels them after
    the same time.
    """
    deadline = time.monotonic() + service.settings.shutdown_grace_s
    while service.admission.num_requests and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(JOBS_POLL_S)
