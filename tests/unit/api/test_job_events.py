"""Streams of a job's events while its database is gone, at the service's end, and too many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request

from app.api.jobs import events
from app.api.jobs.desk import MAX_ASKING, Desk
from app.api.jobs.events import Feed, JobEvents
from app.domain.errors import DatabaseUnavailable, Overloaded
from app.jobs.job import Job, JobOptions, JobRequest, JobState, Upload
from app.jobs.jobs import Jobs
from app.service.admission import Admission

PATIENCE_S = 60
JOB = Job(
    "a", JobRequest(source=Upload(name="x"), options=JobOptions(model="demo")), JobState.QUEUED, 1.0
)


class Store:
    """What the feed asks. `reachable`: else it fails like a database that is gone."""

    def __init__(self) -> None:
        self.job: Job | None = JOB
        self.reachable = True
        self.num_asked = 0

    def several(self, job_ids: Collection[str]) -> dict[str, Job]:
        self.num_asked += 1
        if not self.reachable:
            raise DatabaseUnavailable
        return {job_id: self.job for job_id in job_ids if self.job is not None}


class Stream:
    """An open stream and what it has sent."""

    def __init__(self, feed: Feed, account: str = "me") -> None:
        self.sent = b""
        self.hung_up = asyncio.Event()
        request = Request({"type": "http", "headers": []}, self._receive)
        answer = JobEvents(request, feed, JOB, account)
        self.over = asyncio.ensure_future(answer({"type": "http"}, self._receive, self._send))

    async def _receive(self) -> Any:
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent += message.get("body", b"")


def run(
    play: Callable[[Store, Feed, Admission], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "POLL_S", 0.01)
    monkeypatch.setattr(events, "TICK_S", 0.02)
    store, admission = Store(), Admission(1)

    async def within() -> None:
        feed = Feed(cast(Jobs, SimpleNamespace(store=store)), Desk(), admission)
        async with asyncio.timeout(PATIENCE_S):
            await play(store, feed, admission)

    asyncio.run(within())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - any condition
        await asyncio.sleep(0.01)


def test_streams_outlive_a_database_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(store: Store, feed: Feed, admission: Admission) -> None:
        store.reachable = False
        streams = [Stream(feed) for _ in range(5)]
        await until(lambda: store.num_asked > 3)
        assert all(b'"queued"' in stream.sent and not stream.over.done() for stream in streams)
        store.job = replace(JOB, state=JobState.DONE, progress=100.0)
        store.reachable = True
        await asyncio.gather(*(stream.over for stream in streams))
        assert all(stream.sent.count(b"event: done\n") == 1 for stream in streams)
        num_asked = store.num_asked
        await asyncio.sleep(0.1)
        assert store.num_asked <= num_asked + 1  # nobody listens any more

    run(play, monkeypatch)


def test_a_stream_ends_with_its_client_its_job_and_its_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play(store: Store, feed: Feed, admission: Admission) -> None:
        left = Stream(feed)
        await until(lambda: left.sent)
        left.hung_up.set()
        await left.over
        removed = Stream(feed)
        await until(lambda: removed.sent)
        store.job = None
        await removed.over
        store.job, store.reachable = JOB, False
        last = Stream(feed)
        await until(lambda: last.sent)
        admission.close()
        await last.over

    run(play, monkeypatch)


def test_streams_have_a_bound_for_each_client(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(store: Store, feed: Feed, admission: Admission) -> None:
        streams = [Stream(feed) for _ in range(events.MAX_STREAMS_PER_ACCOUNT)]
        await until(lambda: all(stream.sent for stream in streams))
        with pytest.raises(Overloaded):
            await Stream(feed).over
        other = Stream(feed, "somebody else")
        await until(lambda: other.sent)
        streams[0].hung_up.set()
        await streams[0].over
        again = Stream(feed)
        await until(lambda: again.sent)
        admission.close()
        await asyncio.gather(again.over, other.over, *(stream.over for stream in streams))

    run(play, monkeypatch)


def test_questions_have_a_bound() -> None:
    async def play() -> None:
        desk, answer = Desk(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def question() -> None:
            asyncio.run_coroutine_threadsafe(answer.wait(), loop).result(PATIENCE_S)

        asking = [asyncio.ensure_future(desk.ask(question)) for _ in range(MAX_ASKING)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await desk.ask(lambda: None)
        answer.set()
        await asyncio.gather(*asking)
        assert await desk.ask(lambda: 7) == 7

    asyncio.run(play())
