"""From a URL to a webhook: a running service, real servers before and behind it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from app.jobs.job import Job, JobState, Url
from tests.support.job_client import JobClient, job_client
from tests.support.keys import ALICE, BOB, bearer
from tests.support.ports import free_port
from tests.support.server import Server, running_server
from tests.support.site import Received, Site, content, in_turn, redirect, silent, status
from tests.support.truth import audio_of, truth_of, word_error_rate
from tests.support.waiting import eventually

ALLOWED, REFUSED = "127.0.0.2", "127.0.0.1"
SECRET = "between us"
SETTINGS = {
    "URL_INGEST": True,
    "EGRESS_ALLOWED_NETWORKS": f"{ALLOWED}/32",
    "WEBHOOK_SECRET": SECRET,
    "WEBHOOK_TIMEOUT": 30,
    "WEBHOOK_RETRY_DELAYS": "1,1,1,3600",
    "JOB_TAKEOVER_SECONDS": 5,
}


@dataclass(frozen=True)
class Scene:
    """A service, who hands it jobs, a site with recordings that also receives webhooks."""

    server: Server
    client: JobClient
    site: Site

    def submit(self, path: str, hook: str, **more: Any) -> Job:
        url = Url(url=self.site.url + path)
        return self.client.submit(url, self.site.url + hook, client="alice", **more)

    def webhooks(self, job: Job, key: str = ALICE) -> httpx.Response:
        return httpx.get(f"{self.server.url}/webhooks/{job.id}", headers=bearer(key), timeout=30)

    def resend(self, job: Job, key: str = ALICE) -> httpx.Response:
        url = f"{self.server.url}/webhooks/{job.id}/resend"
        return httpx.post(url, headers=bearer(key), timeout=30)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(ALLOWED, free_port()) as site:
        site.answers["/talk.flac"] = content(audio_of("en_short").read_bytes(), "audio/flac")
        yield site


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("webhooks")
    keys = f"alice:{ALICE},bob:{BOB}"
    with (
        running_server(folder, API_KEYS=keys, **SETTINGS) as server,
        job_client(folder / "data") as client,
    ):
        yield Scene(server, client, site)
        assert server.temp_files() == []


def received(site: Site, path: str, number: int) -> list[Received]:
    eventually(lambda: len(site.requests_of(path)) >= number)
    return site.requests_of(path)


def checked(request: Received) -> dict[str, Any]:
    """The body, if the signature is right."""
    body: dict[str, Any] = Webhook(SECRET.encode()).verify(request.body, request.headers)
    return body


def test_from_a_url_to_a_webhook(scene: Scene) -> None:
    scene.site.answers["/hook"] = in_turn(status(500), status(503), status(204))
    job = scene.submit("/talk.flac", "/hook?token=t", metadata={"page": 7}, file_name="talk.flac")
    tries = received(scene.site, "/hook?token=t", 3)
    body = checked(tries[-1])
    truth = truth_of("en_short")
    assert body["type"] == "transcription.completed"
    assert body["data"]["duration"] == pytest.approx(truth["duration"], abs=0.05)
    assert {key: body["data"][key] for key in ("task_id", "status", "file_name", "metadata")} == {
        "task_id": job.id,
        "status": "completed",
        "file_name": "talk.flac",
        "metadata": {"page": 7},
    }
    transcript = scene.client.store.transcript(job.id)
    assert transcript is not None
    spoken = " ".join(word["word"] for word in truth["words"])
    said = " ".join(segment.text for segment in transcript.segments)
    assert word_error_rate(spoken, said) <= 0.1

    eventually(lambda: scene.webhooks(job).json()["webhooks"][0]["status"] == "delivered")
    [webhook] = scene.webhooks(job).json()["webhooks"]
    assert [one["status"] for one in webhook["tries"]] == [500, 503, 204]
    times = [webhook["created_at"], *(one["at"] for one in webhook["tries"])]
    assert times == sorted(times)
    assert all(datetime.fromisoformat(time).tzinfo is UTC for time in times)
    assert webhook["next_try_at"] is None
    versioned = f"{scene.server.url}/api/v1/webhooks/{job.id}"
    same = httpx.get(versioned, headers=bearer(ALICE), timeout=30)
    assert same.json()["webhooks"] == [webhook]
    delivered = 'whisperx_asr_webhook_deliveries_total{outcome="delivered"}'
    metrics = httpx.get(f"{scene.server.url}/metrics", headers=bearer(ALICE), timeout=30).text
    assert f"{delivered} 0.0" not in metrics
    assert delivered in metrics
    assert webhook["url"] == f"{scene.site.url}/hook"
    assert {one.headers["webhook-id"] for one in tries} == {webhook["id"]}

    assert scene.resend(job).status_code == 202
    again = received(scene.site, "/hook?token=t", 4)[-1]
    assert (again.body, again.headers["webhook-id"]) == (tries[0].body, webhook["id"])


def test_a_url_that_leads_inside(scene: Scene) -> None:
    """The job fails at once, with a clear sentence, and its webhook says so."""
    scene.site.answers["/failed"] = status(204)
    with Site(REFUSED, free_port()) as private:
        scene.site.answers["/inside"] = redirect(f"{private.url}/talk.flac")
        job = scene.submit("/inside", "/failed")
        body = checked(received(scene.site, "/failed", 1)[0])
        assert private.received == []
    assert body["type"] == "transcription.failed"
    message = "The URL leads to an address that is not public."
    assert body["data"]["error"] == {"code": "url_unusable", "message": message}
    ended = scene.client.store.find(job.id, "alice")
    assert (ended.state, ended.attempts) == (JobState.FAILED, 1)
    following = scene.submit("/talk.flac", "/failed")
    eventually(lambda: scene.client.store.find(following.id, "alice").state is JobState.DONE)


def test_a_receiver_inside(scene: Scene) -> None:
    """A transcript is not lost because nobody may be told of it."""
    with Site(REFUSED, free_port()) as private:
        job = scene.client.submit(
            Url(url=f"{scene.site.url}/talk.flac"), f"{private.url}/hook", client="alice"
        )
        eventually(lambda: scene.webhooks(job).json()["webhooks"])
        eventually(lambda: scene.webhooks(job).json()["webhooks"][0]["status"] == "failed")
        assert private.received == []
    [webhook] = scene.webhooks(job).json()["webhooks"]
    assert [one["reason"] for one in webhook["tries"]] == ["The address is not public."]
    assert scene.client.store.find(job.id, "alice").state is JobState.DONE


def test_jobs_of_others(scene: Scene) -> None:
    job = scene.submit("/missing.flac", "/others")
    received(scene.site, "/others", 1)
    unknown = Job(id="not-a-job", request=job.request, state=job.state, created_at=0)
    for other, key in ((job, BOB), (unknown, ALICE)):
        for answer in (scene.webhooks(other, key), scene.resend(other, key)):
            assert answer.status_code == 404
            assert answer.json() == {"detail": "There is no job with this ID."}
    assert scene.webhooks(job, "wrong").status_code == 401


def test_a_job_without_a_webhook(scene: Scene) -> None:
    job = scene.client.submit(Url(url=f"{scene.site.url}/missing.flac"), client="alice")
    eventually(lambda: scene.client.store.find(job.id, "alice").state.ended)
    assert scene.webhooks(job).json() == {"task_id": job.id, "webhooks": []}
    assert scene.resend(job).status_code == 404


def test_a_webhook_outlives_its_process(tmp_path: Path, site: Site) -> None:
    """Killed while it waits for the receiver; the next process sends it."""
    site.answers["/outlives"] = in_turn(silent, status(204))
    with (
        running_server(tmp_path, **SETTINGS) as server,
        job_client(tmp_path / "data") as client,
    ):
        job = client.submit(Url(url=f"{site.url}/talk.flac"), f"{site.url}/outlives")
        received(site, "/outlives", 1)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(30)
    with running_server(tmp_path, **SETTINGS) as server:
        first, second = received(site, "/outlives", 2)
        eventually(
            lambda: server.get(f"/webhooks/{job.id}").json()["webhooks"][0]["status"] == "delivered"
        )
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert json.loads(first.body)["data"]["task_id"] == job.id
    assert checked(second) == json.loads(first.body)
