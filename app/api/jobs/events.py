"""Server-sent events of a job: its status whenever that changes, until it has ended.

One task asks for all jobs that anybody follows, in one query, so that streams cost no threads.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.intake import hung_up
from app.api.jobs.bodies import status_of_job, task_fields
from app.api.jobs.desk import Desk
from app.api.keepalive import UNBUFFERED
from app.api.sse import HEARTBEAT_S, Event
from app.domain.errors import Overloaded, ServiceError
from app.jobs.job import Job
from app.jobs.jobs import Jobs
from app.service.admission import Admission

POLL_S = 0.7
TICK_S = 1.0  # a stream that hears nothing looks this often whether it should end
MAX_STREAMS, MAX_STREAMS_PER_ACCOUNT = 256, 64
TOO_MANY = "Too many event streams are open; ask for the status instead."
RETRY_AFTER_S = 10


class Follower:
    """One stream's view of its job."""

    def __init__(self, job: Job) -> None:
        self._job: Job | None = job
        self._news = asyncio.Event()
        self._news.set()
        self.gone = False  # the job was removed

    def tell(self, job: Job | None) -> None:
        self._job, self.gone = job, job is None
        self._news.set()

    async def next(self, wait_s: float) -> Job | None:
        """The job as it is now; None if it has not been looked at within `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                await self._news.wait()
        except TimeoutError:
            return None
        self._news.clear()
        return self._job


class Feed:
    """All open streams. For the event loop."""

    def __init__(self, jobs: Jobs, desk: Desk, admission: Admission) -> None:
        self._jobs = jobs
        self._desk = desk
        self._admission = admission
        self._followers: dict[Follower, str] = {}
        self._accounts: Counter[str] = Counter()
        self._polling: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the service is ending, and streams with it."""
        return self._admission.closed

    @contextmanager
    def following(self, job: Job, account: str) -> Iterator[Follower]:
        """Raises Overloaded."""
        if (
            len(self._followers) >= MAX_STREAMS
            or self._accounts[account] >= MAX_STREAMS_PER_ACCOUNT
        ):
            raise Overloaded(TOO_MANY, RETRY_AFTER_S)
        follower = Follower(job)
        self._followers[follower] = job.id
        self._accounts[account] += 1
        try:
            if self._polling is None or self._polling.done():
                self._polling = asyncio.create_task(self._poll())
            yield follower
        finally:
            del self._followers[follower]
            self._accounts -= Counter({account: 1})  # drops what is zero

    async def _poll(self) -> None:
        while self._followers and not self.closed:
            await asyncio.sleep(POLL_S)
            ids = set(self._followers.values())
            try:
                found = await self._desk.ask(partial(self._jobs.store.several, ids))
            except ServiceError:  # the streams stay open
                continue
            for follower, job_id in self._followers.items():
                if job_id in ids:
                    follower.tell(found.get(job_id))


class JobEvents(Response):
    """Follows a job until its end, or that of the service."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, feed: Feed, job: Job, account: str) -> None:
        super().__init__(headers=UNBUFFERED)
        del self.headers["content-length"]
        self._request = request
        self._feed = feed
        self._job = job
        self._account = account
        self._told: dict[str, Any] = {}
        self._told_at = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Overloaded before the answer begins."""
        with self._feed.following(self._job, self._account) as follower:
            start = {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
            await send(start)
            gone = asyncio.ensure_future(hung_up(self._request))
            try:
                await self._follow(follower, gone, send)
            finally:
                gone.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _follow(self, follower: Follower, gone: asyncio.Future[None], send: Send) -> None:
        ended = False
        while not (ended or gone.done() or self._feed.closed or follower.gone):
            job = await follower.next(TICK_S)
            ended = job is not None and job.state.ended
            if data := self._event(job):
                await send({"type": "http.response.body", "body": data, "more_body": True})

    def _event(self, job: Job | None) -> bytes:
        """What to send: news, or a comment after a pause; empty for nothing."""
        fields = self._told if job is None else task_fields(job, time.time())
        if job is not None and _facts(fields) != _facts(self._told):
            self._told, self._told_at = fields, time.monotonic()
            return _encoded(job, fields)
        if time.monotonic() - self._told_at < HEARTBEAT_S:
            return b""
        self._told_at = time.monotonic()
        return Event("", {}).encode()


def _facts(fields: dict[str, Any]) -> dict[str, Any]:
    """Without the estimate, which changes with the time."""
    return {name: value for name, value in fields.items() if name != "eta_seconds"}


def _encoded(job: Job, fields: dict[str, Any]) -> bytes:
    """Its last event is named after the status; its ID tells a browser that comes back."""
    status = status_of_job(job)
    name = status if job.state.ended else "status"
    return b"id: %s\n" % status.encode() + Event(name, fields).encode()


def has_seen_the_end(request: Request, job: Job) -> bool:
    """Whether a browser connects again although it has had the last event."""
    return job.state.ended and request.headers.get("last-event-id") == status_of_job(job)
