"""The door of POST /enqueue, and the settings of buckets, without a service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.api.jobs.enqueue_body import EnqueueBody
from app.config.settings import Settings, load_settings, variable_names
from app.domain.errors import ConfigurationError, Forbidden, UnknownModel, UnsupportedOption
from app.engine.work import Work
from app.jobs.buckets import Buckets, build_s3, build_uploads, object_at
from app.jobs.doors.enqueue import EnqueueDoor
from app.jobs.job import Job, JobState, S3Object
from app.storage.objects import LocalObjects
from app.storage.s3 import S3, Room
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, running_s3

JOB_ID = "123e4567-e89b-12d3-a456-426614174000"
GIVEN = {"job_id": JOB_ID, "s3_bucket": "b", "object_key": "in/talk.mp4", "media_type": "video"}
URL = "https://app.example.com/api/webhook/modal"


def body(**more: Any) -> EnqueueBody:
    return EnqueueBody.model_validate({**GIVEN, **more})


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for field in Settings.model_fields:
        for name in variable_names(field):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


# -- what is asked for ---------------------------------------------------------------------------


def test_what_is_not_given_is_as_documented() -> None:
    request = body().request("large-v2", "app", "key app")
    assert request.source == S3Object(bucket="b", key="in/talk.mp4")
    assert (request.client, request.account, request.file_name) == ("app", "key app", "talk.mp4")
    options = request.options
    assert (options.model, options.language, options.diarize) == ("large-v2", "en", True)
    assert (options.min_speakers, options.max_speakers) == (2, 6)


@pytest.mark.parametrize(
    ("given", "bounds"),
    [
        ({}, (2, 6)),
        ({"max_speakers": 1}, (1, 1)),
        ({"min_speakers": 8}, (8, 8)),
        ({"min_speakers": 3, "max_speakers": 4}, (3, 4)),
        ({"min_speakers": None}, (None, 6)),
        ({"min_speakers": 9, "max_speakers": None}, (9, None)),
    ],
)
def test_bounds_of_speakers(given: dict[str, Any], bounds: tuple[int | None, int | None]) -> None:
    assert body(**given).speaker_bounds() == bounds


def test_languages_and_models() -> None:
    for written, code in (("auto", None), (None, None), ("pt-BR", "pt"), ("German", "de")):
        assert body(language=written).language == code

    def resolve(name: str) -> str:
        if name not in offered:
            raise UnknownModel(f"model: {name!r} is not offered here.")
        return name

    offered = {"large-v2", "small"}
    assert body().model(resolve, "small") == "large-v2"
    assert body(model_size="small").model(resolve, "large-v2") == "small"
    offered = {"small"}
    assert body().model(resolve, "small") == "small"
    with pytest.raises(UnknownModel, match=r"^model_size: 'large-v2'"):
        body(model_size="large-v2").model(resolve, "small")


def test_no_job_overwrites_its_recording() -> None:
    for ending in ("md", "json"):
        with pytest.raises(UnsupportedOption, match="object_key"):
            body(object_key=f"results/{JOB_ID}.{ending}").request("demo", "", "")


# -- who is told ---------------------------------------------------------------------------------


def ended(state: JobState, **values: Any) -> Job:
    return Job("ours", body().request("demo", "", ""), state, 0.0, **values)


def told(door: EnqueueDoor, job: Job) -> dict[str, Any]:
    notice = door.notice(job, None)
    assert notice is not None
    assert (notice.url, notice.form) == (URL, "modal")
    found: dict[str, Any] = json.loads(notice.body)
    return found


def test_the_notice_is_as_documented(s3: S3) -> None:
    door = EnqueueDoor(Buckets(s3, ("b",), Room(1)), URL)
    keys: dict[str, Any] = {"md_key": f"results/{JOB_ID}.md", "json_key": f"results/{JOB_ID}.json"}
    assert told(door, ended(JobState.DONE, published=keys)) == {
        "job_id": JOB_ID, "status": "done", **keys,
    }  # fmt: skip
    assert told(door, ended(JobState.FAILED, error="There is no such object.")) == {
        "job_id": JOB_ID, "status": "error", "error": "There is no such object.",
    }  # fmt: skip
    assert told(door, ended(JobState.CANCELLED))["status"] == "error"
    assert EnqueueDoor(Buckets(s3, (), Room(1)), "").notice(ended(JobState.DONE), None) is None


def test_a_bucket_that_is_not_allowed_any_more(s3: S3) -> None:
    work = Work("id", 60)
    with pytest.raises(Forbidden):
        Buckets(s3, ("other",), Room(1)).write("x", "b", "k", "text/plain", work)


def test_urls_of_objects() -> None:
    assert object_at("s3://b/a/talk ä.mp4", ("b",)) == S3Object(bucket="b", key="a/talk ä.mp4")
    for url in (
        "s3://b",
        "s3://b/",
        "s3:///a",
        "https://b/a",
        "b/a",
        "s3://b/a\0",
        "s3://b/\ud800",
    ):
        with pytest.raises(UnsupportedOption):
            object_at(url, ("b", ""))
    with pytest.raises(Forbidden):
        object_at("s3://other/a", ("b",))


# -- settings ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as store:
        store.bucket("b")
        yield store


@pytest.fixture(scope="module")
def s3(store: S3Server) -> S3:
    found = build_s3(load_settings(store.settings("b")))
    assert found is not None
    return found


def test_uploads_go_where_the_settings_say(
    store: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The names are those of the replaced service."""
    for name, value in {
        "USE_MINIO": "true",
        "MINIO_ENDPOINT": f"127.0.0.1:{store.port}",
        "MINIO_ACCESS_KEY": ACCESS_KEY,
        "MINIO_SECRET_KEY": SECRET_KEY,
        "MINIO_BUCKET_NAME": "b",
        "MINIO_SECURE": "false",
        "S3_UPLOAD_PREFIX": "some/where/",
        "DATA_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    given = tmp_path / "given"
    given.write_bytes(b"sound")
    build_uploads(settings, build_s3(settings), 0).put(given, "name", lambda: None)
    assert (store.root / "b" / "some" / "where" / "name").read_bytes() == b"sound"
    monkeypatch.setenv("USE_MINIO", "false")
    settings = load_settings()
    assert build_s3(settings) is None
    assert isinstance(build_uploads(settings, None, 0), LocalObjects)


def test_addresses_regions_and_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_S3_BUCKET", "one")
    assert load_settings().s3_allowed_buckets == ("one",)
    monkeypatch.setenv("S3_ALLOWED_BUCKETS", "one, two")
    assert load_settings().s3_allowed_buckets == ("one", "two")
    assert load_settings().s3_address is None
    for written, secure, address in (
        ("minio:9000", "false", "http://minio:9000"),
        ("minio:9000", "true", "https://minio:9000"),
        ("http://minio:9000/", "true", "http://minio:9000"),
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", written)
        monkeypatch.setenv("S3_SECURE", secure)
        assert load_settings().s3_address == address
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_SESSION_TOKEN": "c",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    built = build_s3(load_settings())
    assert built is not None
    client = built._client
    assert client.meta.region_name == "eu-central-1"
    assert client._request_signer._credentials.token == "c"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_ALLOWED_BUCKETS", "s3://media"),
        ("S3_UPLOAD_BUCKET", "my bucket"),
        ("S3_UPLOAD_PREFIX", "/up"),
        ("AWS_ENDPOINT_URL_S3", "ftp://x"),
        ("AWS_ENDPOINT_URL_S3", "http://[x"),
        ("WEBHOOK_URL", "https://app.example.com/"),
        ("WEBHOOK_URL", "app.example.com/webhook"),
        ("WEBHOOK_URL", "http://[x/webhook"),
    ],
)
def test_values_that_are_not_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        load_settings()


def test_a_slash_at_the_end_of_an_address_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that redirects to it gets nothing."""
    monkeypatch.setenv("WEBHOOK_URL", "https://app.example.com/webhook/")
    assert load_settings().webhook_url == "https://app.example.com/webhook/"
