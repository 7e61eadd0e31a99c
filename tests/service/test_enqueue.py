"""POST /enqueue: recordings in a bucket, results in the same bucket; a real S3 server."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.json_bodies import refuse_constant
from tests.support.markdown import read_markdown, seconds_of
from tests.support.ports import free_port
from tests.support.s3_server import ACCESS_KEY, S3Server, running_s3
from tests.support.server import Server, running_server
from tests.support.site import Received, Site, in_turn, status
from tests.support.truth import (
    audio_of,
    median_start_error_s,
    speaker_accuracy,
    truth_of,
    word_error_rate,
    words_of,
)
from tests.support.waiting import eventually

HOOK, SECRET = "/api/webhook/modal", "between us"
TALK, SHORT = "en_two_b", "en_short"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as store:
        media = store.bucket("media")
        (media / "in").mkdir()
        for name in (TALK, SHORT):
            (media / "in" / f"{name}.flac").write_bytes(audio_of(name).read_bytes())
        (media / "in" / "notes.txt").write_text("no sound")
        with (media / "in" / "long.mp4").open("wb") as file:
            file.truncate(3 << 20)
        store.bucket("private")
        yield store


@pytest.fixture(scope="module")
def receiver() -> Iterator[Site]:
    """The application that hands in jobs, and is told how they ended."""
    with Site("127.0.0.2", free_port()) as site:
        site.answers[HOOK] = status(204)
        yield site


@pytest.fixture(scope="module")
def service(
    store: S3Server, receiver: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    settings = {
        "WEBHOOK_URL": receiver.url + HOOK,
        "WEBHOOK_SECRET": SECRET,
        "WEBHOOK_RETRY_DELAYS": "0,1,1",
        "EGRESS_ALLOWED_NETWORKS": "127.0.0.2/32",
        **store.settings("media", "not-there"),
        "ALLOWED_MODELS": "demo",
        "MAX_FILE_SIZE_MB": 2,
        "JOB_RETRY_SECONDS": 0.5,
        "JOB_MAX_ATTEMPTS": 10,
    }
    with running_server(tmp_path_factory.mktemp("service"), **settings) as service:
        yield service


def asked(name: str = f"in/{SHORT}.flac", **more: Any) -> dict[str, Any]:
    """What a job needs, and nothing else."""
    return {
        "job_id": str(uuid.uuid4()),
        "s3_bucket": "media",
        "object_key": name,
        "media_type": "audio",
        **more,
    }


def enqueue(service: Server, body: dict[str, Any]) -> str:
    """The ID of the accepted job, ours."""
    response = httpx.post(f"{service.url}/enqueue", json=body, timeout=60)
    assert response.status_code == 202, response.text
    assert response.json() == {"status": "queued", "job_id": body["job_id"]}
    return response.headers["location"].removeprefix("/status/")


def refused(service: Server, body: Any, status: int = 422) -> str:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(f"{service.url}/enqueue", content=content, timeout=60)
    assert response.status_code == status, response.text
    detail: str = response.json()["detail"]
    return detail


def results(store: S3Server, body: dict[str, Any]) -> tuple[Path, Path]:
    folder = store.root / "media" / "results"
    return folder / f"{body['job_id']}.md", folder / f"{body['job_id']}.json"


def finished(store: S3Server, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The Markdown and the JSON of a job, which is written last."""
    markdown, data = results(store, body)
    eventually(lambda: data.exists() and data.stat().st_size > 0)
    return markdown.read_text(), json.loads(data.read_text(), parse_constant=refuse_constant)


def why_failed(service: Server, job: str) -> str:
    """The sentence with which a job ended."""
    begin = f"job {job} failed: "
    eventually(lambda: begin in service.log())
    return service.log().split(begin)[1].split("  ")[0].split(" [")[0].strip()


def works(service: Server, store: S3Server) -> None:
    """The next job."""
    body = asked()
    enqueue(service, body)
    assert finished(store, body)[1]["text"] == "Can you check the report? The building is late."


# -- what a job does -----------------------------------------------------------------------------


def test_words_times_and_speakers_are_true(service: Server, store: S3Server) -> None:
    """Everything that the documentation of the replaced worker lists is given."""
    body = asked(
        f"in/{TALK}.flac", language="en", model_size="demo", do_diarize=True,
        min_speakers=2, max_speakers=6,
    )  # fmt: skip
    before = (store.root / "media" / body["object_key"]).read_bytes()
    enqueue(service, body)
    markdown, data = finished(store, body)
    truth = truth_of(TALK)
    spoken = " ".join(sentence["text"] for sentence in truth["sentences"])

    assert word_error_rate(spoken, data["text"]) <= 0.02
    assert median_start_error_s(truth["words"], words_of(data)) <= 0.1
    assert speaker_accuracy(truth["words"], words_of(data)) >= 0.95
    about = data["metadata"]
    assert about["job_id"] == body["job_id"]
    assert (about["language"], about["model"], about["num_speakers"]) == ("en", "demo", 2)
    assert about["duration"] == pytest.approx(truth["duration"], abs=0.01)
    assert about["num_words"] == len(data["word_segments"])

    document = read_markdown(markdown)
    assert word_error_rate(spoken, " ".join(text for _, text in document.whole)) <= 0.02
    assert [segment.text for segment in document.segments] == [
        segment["text"].strip() for segment in data["segments"]
    ]
    for written, segment in zip(document.segments, data["segments"], strict=True):
        assert written.speaker == segment["speaker"]
        assert seconds_of(written.start) == int(segment["start"])
        assert written.words == [
            (word["speaker"], f"{word['word']} @ 00:00:{int(word['start']):02d}")
            for word in segment["words"]
        ]
    assert (store.root / "media" / body["object_key"]).read_bytes() == before  # never ours


def test_results_have_their_types(service: Server, store: S3Server) -> None:
    from app.storage.s3 import S3, S3Access
    from tests.support.s3_server import SECRET_KEY

    body = asked(do_diarize=False, language=None, media_type="video")
    enqueue(service, body)
    markdown, _ = finished(store, body)
    assert read_markdown(markdown).whole == [
        (None, "Can you check the report? The building is late.")
    ]
    client = S3(S3Access(store.url, "", ACCESS_KEY, SECRET_KEY))._client
    for ending, kind in (("md", "text/markdown"), ("json", "application/json")):
        key = f"results/{body['job_id']}.{ending}"
        assert client.head_object(Bucket="media", Key=key)["ContentType"] == kind


def test_what_has_no_effect_is_named(service: Server) -> None:
    body = asked(webhook="https://example.com", priority=1)
    response = httpx.post(f"{service.url}/enqueue", json=body)
    assert response.headers["x-asr-ignored"] == "webhook, priority"


# -- who is told ---------------------------------------------------------------------------------


def told(receiver: Site, body: dict[str, Any], times: int = 1) -> list[dict[str, Any]]:
    """What the application hears of a job, checked as it does."""

    def heard() -> list[Received]:
        return [r for r in receiver.requests_of(HOOK) if body["job_id"].encode() in r.body]

    eventually(lambda: len(heard()) >= times)
    for request in heard():
        digest = hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()
        assert request.headers["x-modal-signature"] == digest
        assert request.headers["content-type"] == "application/json"
    return [json.loads(request.body) for request in heard()]


def test_the_application_is_told(service: Server, store: S3Server, receiver: Site) -> None:
    body = asked()
    enqueue(service, body)
    finished(store, body)
    assert told(receiver, body) == [
        {
            "job_id": body["job_id"],
            "status": "done",
            "md_key": f"results/{body['job_id']}.md",
            "json_key": f"results/{body['job_id']}.json",
        }
    ]
    failing = asked("in/nothing.flac")
    enqueue(service, failing)
    assert told(receiver, failing) == [
        {
            "job_id": failing["job_id"],
            "status": "error",
            "error": "There is no such object, or no such bucket.",
        }
    ]


def test_an_application_that_is_down_for_a_moment(
    service: Server, store: S3Server, receiver: Site
) -> None:
    receiver.answers[HOOK] = in_turn(status(500), status(503), status(204))
    body = asked()
    enqueue(service, body)
    first, *others = told(receiver, body, 3)
    assert others == [first, first]
    receiver.answers[HOOK] = status(204)


# -- the same again ------------------------------------------------------------------------------


def test_the_same_id_joins_its_job(service: Server, store: S3Server) -> None:
    body = asked()
    with ThreadPoolExecutor(4) as threads:
        answers = list(
            threads.map(
                lambda _: httpx.post(f"{service.url}/enqueue", json=body, timeout=60),
                range(8),
            )
        )
    assert {answer.status_code for answer in answers} <= {202, 409}
    [job] = {answer.headers["location"] for answer in answers if answer.status_code == 202}
    finished(store, body)
    written = results(store, body)[0].stat().st_mtime_ns
    same = {**body, "job_id": body["job_id"].upper(), "language": "en", "max_speakers": 6}
    again = httpx.post(f"{service.url}/enqueue", json={**body, "language": "en"})
    assert again.headers["location"] == job
    assert "another payload" in refused(service, {**same, "language": "es"})
    assert "another payload" in refused(service, {**body, "object_key": f"in/{TALK}.flac"})
    assert results(store, body)[0].stat().st_mtime_ns == written


def test_a_failed_job_is_tried_again(service: Server, store: S3Server) -> None:
    body = asked("in/late.flac")
    job = enqueue(service, body)
    assert "no such object" in why_failed(service, job)
    (store.root / "media" / "in" / "late.flac").write_bytes(audio_of(SHORT).read_bytes())
    assert enqueue(service, body) == job
    finished(store, body)


# -- what is wrong with a request ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"job_id": "../../x"}, ["job_id: must be a UUID"]),
        (
            {"job_id": None, "media_type": "text"},
            ["job_id: ", "media_type: ", "'video' or 'audio'"],
        ),
        ({"object_key": ""}, ["object_key: "]),
        ({"object_key": "a\0b"}, ["object_key: ", "control characters"]),
        ({"object_key": "ä" * 513}, ["object_key: ", "1024 bytes"]),
        ({"language": "klingon"}, ["language: ", "klingon"]),
        ({"language": "multi"}, ["language: must be one language"]),
        ({"model_size": "large-v2"}, ["model_size: 'large-v2' is not offered here", "demo"]),
        ({"min_speakers": 3, "max_speakers": 2}, ["min_speakers: 3 is not allowed"]),
        ({"min_speakers": 0, "max_speakers": 101}, ["min_speakers: ", "max_speakers: "]),
        ({"do_diarize": "perhaps"}, ["do_diarize: "]),
        ({"s3_bucket": 5}, ["s3_bucket: "]),
    ],
)
def test_each_fault_is_named(service: Server, change: dict[str, Any], says: list[str]) -> None:
    detail = refused(service, asked(**change))
    for part in says:
        assert part in detail
    assert len(detail) < 700


def test_bodies_that_are_none(service: Server, store: S3Server) -> None:
    detail = refused(service, {})
    assert detail == (
        "job_id: required; s3_bucket: required; object_key: required; media_type: required."
    )
    for body in (b"", b"{", b"\xff", b'{"job_id": "\\ud800"}', b"[" * 100_000):
        assert refused(service, body, 400) == "The body is not JSON."
    for body in (b"[]", b"5", b"null", b'"x"'):
        assert refused(service, body) == "The body must be a JSON object."
    assert "256 kB" in refused(service, b" " * (300 << 10), 413)
    assert "bucket" in refused(service, asked(s3_bucket="private"), 403)
    body = asked()
    assert "result" in refused(service, {**body, "object_key": f"results/{body['job_id']}.md"})
    works(service, store)


# -- what is wrong with a bucket -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"object_key": "in/nothing.flac"}, "There is no such object, or no such bucket."),
        ({"s3_bucket": "not-there"}, "There is no such object, or no such bucket."),
        ({"object_key": "in/long.mp4"}, "The object is larger than 2 MB, the limit here."),
        ({"object_key": "in/notes.txt"}, "audio or video file"),
        ({"object_key": "in"}, "There is no such object"),
        ({"object_key": "../private/x"}, "The object store refuses the request"),
    ],
)
def test_why_a_job_failed(
    service: Server, store: S3Server, change: dict[str, Any], says: str
) -> None:
    body = asked(**change)
    job = enqueue(service, body)
    assert says in why_failed(service, job)
    assert f"job {job} is tried again" not in service.log()
    assert not any(path.exists() for path in results(store, body))
    assert service.temp_files() == []


def test_a_key_that_the_store_does_not_accept(service: Server, store: S3Server) -> None:
    other = [part.replace(f"{ACCESS_KEY},", f"{ACCESS_KEY},other-") for part in store.command]
    changed = replace(store, command=other)
    store.kill()
    try:
        changed.start()
        job = enqueue(service, asked())
        assert "denies access" in why_failed(service, job)
        assert ACCESS_KEY not in service.log()
    finally:
        changed.kill()
        store.start()
    works(service, store)


# -- what breaks on the way ----------------------------------------------------------------------


def running(service: Server, job: str, progress: float = 0.0) -> bool:
    entries = service.get("/queue").json()["requests"]
    return any(entry["id"] == job and entry["progress"] >= progress for entry in entries)


def tried_again(service: Server, job: str) -> bool:
    return f"job {job} is tried again" in service.log()


def test_the_store_dies_while_a_recording_comes(service: Server, store: S3Server) -> None:
    store.freeze()
    body = asked()
    job = enqueue(service, body)
    eventually(lambda: running(service, job))
    store.kill()
    eventually(lambda: tried_again(service, job))
    store.start()
    finished(store, body)
    works(service, store)


def test_the_store_dies_before_it_has_the_results(service: Server, store: S3Server) -> None:
    body = asked(f"in/{TALK}.flac")
    job = enqueue(service, body)
    eventually(lambda: running(service, job, 0.01))  # it has the recording
    store.freeze()
    store.kill()
    eventually(lambda: tried_again(service, job))
    assert not any(path.exists() for path in results(store, body))
    store.start()
    _, data = finished(store, body)
    assert data["metadata"]["num_speakers"] == 2
    computed = [line for line in service.log().splitlines() if job in line and "align" in line]
    assert len([line for line in computed if "app.request" in line]) == 1  # not a second time
    works(service, store)


def test_cancelled_while_a_recording_comes(service: Server, store: S3Server) -> None:
    store.freeze()
    try:
        body = asked()
        job = enqueue(service, body)
        eventually(lambda: running(service, job))
        cancelled = httpx.delete(f"{service.url}/queue/{job}")
        assert cancelled.status_code == 204
        eventually(lambda: not running(service, job))  # although the store stands still
    finally:
        store.go_on()
    assert not any(path.exists() for path in results(store, body))
    assert (store.root / "media" / body["object_key"]).exists()
    assert enqueue(service, body) == job  # after all
    finished(store, body)


def test_without_buckets_nothing_is_taken(server: Server) -> None:
    assert "S3_ALLOWED_BUCKETS" in refused(server, asked(), 403)


def test_an_object_is_a_recording_for_the_other_door_too(service: Server) -> None:
    def submit(url: str) -> httpx.Response:
        return httpx.post(f"{service.url}/transcribe", data={"url": url}, timeout=60)

    accepted = submit(f"s3://media/in/{SHORT}.flac")
    assert accepted.status_code == 202, accepted.text
    address = f"{service.url}/result/{accepted.json()['task_id']}"

    eventually(lambda: httpx.get(address, timeout=60).status_code == 200)
    heard = httpx.get(address, timeout=60).json()
    said = [word["word"] for word in truth_of(SHORT)["words"]]
    assert word_error_rate(said, heard["full_text"]) == 0
    assert submit("s3://private/in/talk.flac").status_code == 403
    assert submit("s3://media").status_code == 422
