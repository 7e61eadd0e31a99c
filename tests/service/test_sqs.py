"""From a message of an SQS queue to Orator's webhook: a running worker between real servers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.jobs.history import History
from app.jobs.job import Job, JobState, S3Object
from tests.support.job_client import JobClient, job_client
from tests.support.keys import ALICE, BOB, bearer
from tests.support.orator import Presentation, Receiver
from tests.support.ports import free_port
from tests.support.s3_server import S3Server, running_s3
from tests.support.server import Server, ended_command, running_server
from tests.support.site import Site, hang_up, in_turn
from tests.support.sqs_server import Letter, Queue, SqsServer, running_sqs
from tests.support.truth import audio_of, speaker_accuracy, truth_of, word_error_rate
from tests.support.waiting import eventually

ALLOWED = "127.0.0.2"
HOOK = "/api/v1/webhooks/asr-complete"
SECRET = "between us"
BUCKET = "bucket"
VISIBILITY_S = 3
WORKER = ("worker", "--sqs")
SETTINGS = {
    "EGRESS_ALLOWED_NETWORKS": f"{ALLOWED}/32",
    "WEBHOOK_SECRET": SECRET,
    "WEBHOOK_RETRY_DELAYS": "1,1",
    "VISIBILITY_TIMEOUT": VISIBILITY_S,
    "WAIT_TIME_SECONDS": 1,
    "MAX_MESSAGES": 10,
    "POLL_INTERVAL": 0.1,
    "MAX_WORKERS": 2,
    "MAX_RETRIES": 3,
    "RETRY_DELAY": 0.2,
    "MIN_SPEAKERS": 1,
    "MAX_SPEAKERS": 5,
    "AWS_REGION": "us-east-1",
    "JOB_TAKEOVER_SECONDS": 5,
    "WORKER_ID": "worker-7",
    "SHUTDOWN_GRACE_SECONDS": 1,
}
numbers = count(1000)


@dataclass
class Scene:
    """Servers around a worker."""

    sqs: SqsServer
    s3: S3Server
    site: Site
    queue: Queue
    dead: Queue
    receiver: Receiver

    def settings(self, **more: Any) -> dict[str, Any]:
        return {
            **SETTINGS,
            **self.s3.settings(BUCKET),
            "AWS_SQS_ASR_QUEUE_URL": self.queue.url,
            "AWS_SQS_ASR_DLQ_URL": self.dead.url,
            "NODE_API_URL": self.site.url,
            **more,
        }

    def order(self, key: str = "short.flac", **more: Any) -> tuple[int, dict[str, Any]]:
        """A new job, and a message as it is really sent."""
        job_id = next(numbers)
        return job_id, {
            "presentationId": job_id + 5000,
            "jobId": job_id,
            "audioUrl": f"s3://{BUCKET}/{key}",
            "metadata": {"title": "Pitch", "language": None},
            "queueType": "asr",
            "sentAt": "2026-01-22T10:30:00Z",
            "version": "1.0",
            **more,
        }

    def send(self, message: dict[str, Any]) -> str:
        return self.queue.send(message, jobId=str(message["jobId"]), queueType="asr")

    def told(self, job_id: Any, number: int = 1) -> list[dict[str, Any]]:
        eventually(lambda: len(self.receiver.of(job_id)) >= number)
        return self.receiver.of(job_id)

    def dead_letters(self, number: int = 1) -> list[Letter]:
        letters: list[Letter] = []

        def arrived() -> bool:
            letters.extend(self.dead.receive())
            return len(letters) >= number

        eventually(arrived)
        return letters

    def wait_until_settled(self) -> None:
        eventually(self.queue.is_empty)

    def works(self) -> None:
        """The next message is worked on as ever."""
        job_id, message = self.order()
        self.send(message)
        assert self.told(job_id)[-1]["status"] == "success"
        self.wait_until_settled()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("sqs")
    with running_sqs() as sqs, running_s3(folder) as s3, Site(ALLOWED, free_port()) as site:
        receiver = Receiver(SECRET)
        site.answers[HOOK] = receiver
        bucket = s3.bucket(BUCKET)
        (bucket / "presentations" / "456").mkdir(parents=True)
        for name, key in (("en_two", "presentations/456/audio.mp3"), ("en_short", "short.flac")):
            (bucket / key).write_bytes(audio_of(name).read_bytes())
        yield Scene(sqs, s3, site, sqs.queue("asr"), sqs.queue("asr-dead"), receiver)


@dataclass
class Worker:
    server: Server
    jobs: JobClient

    def newest(self) -> Job:
        return History(self.jobs.store.database).page("", limit=1).jobs[0]


@contextmanager
def running_worker(folder: Path, scene: Scene, **more: Any) -> Iterator[Worker]:
    with (
        running_server(folder, command=WORKER, **scene.settings(**more)) as server,
        job_client(folder / "data") as jobs,
    ):
        yield Worker(server, jobs)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, scene: Scene) -> Iterator[Worker]:
    with running_worker(tmp_path_factory.mktemp("worker"), scene) as worker:
        yield worker
        assert worker.server.temp_files() == []


def check_truth(found: Presentation, name: str, text: str) -> None:
    """`text`: the whole text, without labels."""
    truth = truth_of(name)
    spoken = " ".join(word["word"] for word in truth["words"])
    assert word_error_rate(spoken, text) <= 0.1
    assert word_error_rate(spoken, " ".join(s["text"] for s in found.segments)) <= 0.1
    assert found.language == truth["language"]
    assert len(found.speakers) == len(truth["speakers"])
    for segment in found.segments:
        assert 0 < segment["confidence"] <= 1
        assert 0 <= segment["start"] < segment["end"] <= truth["duration"] + 0.1
    words = [
        {"word": word, "start": segment["start"], "speaker": segment["speaker"]}
        for segment in found.segments
        for word in segment["text"].split()
    ]
    assert speaker_accuracy(truth["words"], words) >= 0.95
    starts = {segment["start"] for segment in found.segments}
    begun = [min(abs(turn["start"] - start) for start in starts) for turn in truth["turns"]]
    assert sorted(begun)[len(begun) // 2] <= 0.3
    for speaker in found.speakers.values():
        assert 0 < speaker["confidence"] <= 1
        assert speaker["segmentCount"] >= 1
    total_s = sum(speaker["totalDuration"] for speaker in found.speakers.values())
    spoken_s = sum(segment["end"] - segment["start"] for segment in found.segments)
    assert total_s == pytest.approx(spoken_s, abs=0.05)


def without_labels(text: str) -> str:
    return " ".join(line.partition("] ")[2] for line in text.split("\n\n"))


def test_the_documented_message(scene: Scene, worker: Worker) -> None:
    """Word for word; the deployed receiver stores what was said, when and by whom."""
    scene.queue.send(
        {
            "jobId": 123,
            "presentationId": 456,
            "audioUrl": "https://s3.amazonaws.com/bucket/presentations/456/audio.mp3",
            "timestamp": "2026-01-22T10:30:00Z",
        }
    )
    [body] = scene.told(123)
    assert (body["presentationId"], body["status"]) == (456, "success")
    assert body["metadata"]["language"] == "en"
    assert body["metadata"]["audioFormat"] == "mp3"
    assert body["metadata"]["duration"] == pytest.approx(truth_of("en_two")["duration"], abs=0.05)
    assert body["metadata"]["processingTime"] > 0
    stored = scene.receiver.presentations[456]
    check_truth(stored, "en_two", without_labels(stored.text))
    scene.wait_until_settled()
    assert worker.server.get("/ready").status_code == 200


def test_the_message_that_is_sent_and_its_duplicates(scene: Scene, worker: Worker) -> None:
    """Two at a time join one job; one that comes when all is done is only deleted."""
    job_id, message = scene.order()
    scene.s3.freeze()
    try:
        scene.send(message)
        scene.send(message)
        eventually(lambda: scene.queue.counts() == (0, 2))
    finally:
        scene.s3.go_on()
    [body] = scene.told(job_id)
    assert (
        word_error_rate(
            " ".join(w["word"] for w in truth_of("en_short")["words"]),
            without_labels(body["transcript"]["fullText"]),
        )
        <= 0.1
    )
    assert worker.newest().request.metadata == message["metadata"]
    assert worker.newest().request.file_name == "short.flac"
    scene.wait_until_settled()
    scene.send(message)
    eventually(lambda: not scene.queue.counts()[0])
    scene.wait_until_settled()
    scene.works()
    assert len(scene.receiver.of(job_id)) == 1


def test_a_message_stays_hidden_while_its_job_takes_longer(scene: Scene, worker: Worker) -> None:
    job_id, message = scene.order()
    scene.s3.freeze()
    try:
        scene.send(message)
        eventually(lambda: scene.queue.counts() == (0, 1))
        for _ in range(2 * VISIBILITY_S + 1):
            assert scene.queue.receive(wait_s=1) == []
    finally:
        scene.s3.go_on()
    assert [body["status"] for body in scene.told(job_id)] == ["success"]
    scene.wait_until_settled()
    assert scene.dead.is_empty()


def test_messages_that_cannot_be_worked_on(scene: Scene, worker: Worker) -> None:
    """They go to the dead letters at once; whoever is known hears of it."""
    elsewhere, no_bucket = scene.order(audioUrl="s3://secrets/a.mp3")
    web, a_url = scene.order(audioUrl="https://example.com/a.mp3")
    nothing, no_audio = scene.order()
    del no_audio["audioUrl"]
    missing, no_object = scene.order("missing.flac")
    reasons = {
        elsewhere: "audioUrl: 'secrets' is not a bucket that jobs of this service may use "
        "(S3_ALLOWED_BUCKETS).",
        web: "audioUrl: URLs are not accepted here (URL_INGEST).",
        nothing: "audioUrl: it is missing.",
        missing: "There is no such object, or no such bucket.",
    }
    for message in (no_bucket, a_url, no_audio, no_object):
        scene.send(message)
    scene.queue.send("hello")
    letters = scene.dead_letters(5)
    assert {letter.attributes.get("JobId"): letter.attributes["Reason"] for letter in letters} == {
        None: "The message is not a JSON object.",
        **{str(job_id): reason for job_id, reason in reasons.items()},
    }
    assert {letter.attributes["Worker"] for letter in letters} == {"worker-7"}
    assert {letter.attributes.get("queueType") for letter in letters} == {"asr", None}
    for job_id, reason in reasons.items():
        [body] = scene.told(job_id)
        assert body["status"] == "failed"
        assert body["errorMessage"] == body["error"] == reason
    scene.works()


def test_a_receiver_that_fails_for_a_while(scene: Scene, worker: Worker) -> None:
    job_id, message = scene.order()
    scene.receiver.answers[job_id] = [500]
    scene.site.answers[HOOK] = in_turn(hang_up, scene.receiver)
    scene.send(message)
    first, second = scene.told(job_id, 2)
    assert first == second
    scene.wait_until_settled()
    assert scene.dead.is_empty()


def test_a_receiver_that_refuses(scene: Scene, worker: Worker) -> None:
    """A 4xx is not tried again. The message can be moved back once the receiver is mended."""
    job_id, message = scene.order()
    scene.receiver.answers[job_id] = [401]
    scene.send(message)
    [letter] = scene.dead_letters()
    assert letter.attributes["Reason"] == "The webhook was not accepted: status 401."
    assert len(scene.receiver.of(job_id)) == 1
    scene.wait_until_settled()
    scene.queue.send(letter.body)
    assert len(scene.told(job_id, 2)) == 2
    scene.wait_until_settled()
    assert worker.newest().attempts == 1


def test_three_attempts(scene: Scene, worker: Worker) -> None:
    job_id, message = scene.order()
    scene.s3.kill()
    try:
        scene.send(message)
        [letter] = scene.dead_letters()
    finally:
        scene.s3.start()
    assert letter.attributes["Reason"] == "The object store cannot be reached, or broke off."
    assert letter.attributes["JobId"] == str(job_id)
    assert [body["status"] for body in scene.told(job_id)] == ["failed"]
    assert worker.newest().attempts == 3
    scene.wait_until_settled()
    scene.queue.send(letter.body)  # moved back
    assert scene.told(job_id, 2)[-1]["status"] == "success"
    scene.wait_until_settled()


def test_an_outage_of_the_queue(scene: Scene, worker: Worker) -> None:
    """One line in the log, and on it goes."""
    begun = len(worker.server.log())
    scene.sqs.kill()
    eventually(lambda: "SQS cannot be reached" in worker.server.log()[begun:])
    scene.sqs.start()
    scene.queue, scene.dead = scene.sqs.queue("asr"), scene.sqs.queue("asr-dead")
    scene.works()
    lines = worker.server.log()[begun:].splitlines()
    assert sum("polling the queue" in line and "cannot be reached" in line for line in lines) == 1
    assert any("works again" in line for line in lines)


def test_a_message_reappears_when_its_worker_dies(scene: Scene, tmp_path: Path) -> None:
    """The next process goes on with its job. And the documented body, word for word. The job
    belongs to a key.
    """
    receiver = Receiver(SECRET, flat=True)
    scene.site.answers["/flat"] = receiver
    settings = {"WEBHOOK_ENDPOINT": "/flat", "WEBHOOK_FORM": "flat"}
    settings |= {"API_KEYS": f"alice:{ALICE},bob:{BOB}", "SQS_CLIENT": "alice"}
    queue = scene.sqs.queue("reappears")
    job_id, message = scene.order()
    scene.s3.freeze()
    try:
        with running_worker(tmp_path, scene, AWS_SQS_ASR_QUEUE_URL=queue.url, **settings) as first:
            queue.send(message)
            eventually(lambda: queue.counts() == (0, 1))
            eventually(lambda: first.jobs.store.counts()[JobState.RUNNING] == 1)
            first.server.process.send_signal(signal.SIGKILL)
            first.server.process.wait(30)
    finally:
        scene.s3.go_on()
    with running_worker(tmp_path, scene, AWS_SQS_ASR_QUEUE_URL=queue.url, **settings) as second:
        eventually(lambda: len(receiver.of(job_id)) == 1)
        eventually(queue.is_empty)
        history = f"{second.server.url}/history"
        seen = [httpx.get(history, headers=bearer(key), timeout=30) for key in (ALICE, BOB)]
        assert [[task["status"] for task in one.json()["tasks"]] for one in seen] == [["done"], []]
    [body] = receiver.of(job_id)
    assert body.keys() == {
        "jobId", "presentationId", "status", "transcript", "segments", "diarization", "metadata",
    }  # fmt: skip
    stored = receiver.presentations[message["presentationId"]]
    check_truth(stored, "en_short", stored.text)


def test_a_worker_that_stops(scene: Scene, tmp_path: Path) -> None:
    """It lets others have the message whose job has not begun, at once."""
    queue = scene.sqs.queue("stops")
    with running_worker(
        tmp_path, scene, AWS_SQS_ASR_QUEUE_URL=queue.url, VISIBILITY_TIMEOUT=600, MAX_WORKERS=1
    ) as worker:
        scene.s3.freeze()
        try:
            worker.jobs.submit(S3Object(bucket=BUCKET, key="short.flac"))
            eventually(lambda: worker.jobs.store.counts()[JobState.RUNNING] == 1)
            _, message = scene.order()
            queue.send(message)
            eventually(lambda: worker.jobs.store.counts()[JobState.QUEUED] == 1)
            worker.server.process.terminate()
            assert worker.server.process.wait(60) == 0
        finally:
            scene.s3.go_on()
        assert [letter.body for letter in queue.receive(wait_s=1)] != []
        assert worker.newest().request.door == "rest"


def test_a_dry_run(scene: Scene, tmp_path: Path) -> None:
    queue = scene.sqs.queue("dry")
    settings = {"AWS_SQS_ASR_QUEUE_URL": queue.url, "DRY_RUN": True, "NODE_API_URL": ""}
    settings |= {"DIARIZATION_ENABLED": False, "WHISPER_LANGUAGE": "es"}
    job_id, message = scene.order()
    with running_worker(tmp_path, scene, **settings) as worker:
        queue.send(message)
        eventually(lambda: "dry run" in worker.server.log())
        job = worker.newest()
        assert job.state is JobState.DONE
        assert (job.language, job.request.options.diarize) == ("es", False)
    assert not queue.is_empty()
    assert scene.receiver.of(job_id) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"AWS_SQS_ASR_QUEUE_URL": ""}, "AWS_SQS_ASR_QUEUE_URL: worker --sqs needs"),
        ({"NODE_API_URL": "http://localhost:8080"}, "EGRESS_ALLOWED_NETWORKS"),
    ],
)
def test_a_start_that_cannot_work(
    scene: Scene, tmp_path: Path, settings: dict[str, str], sentence: str
) -> None:
    ended = ended_command(tmp_path, *WORKER, PORT=free_port(), **(scene.settings() | settings))
    assert ended.returncode == 2
    assert sentence in ended.stderr
