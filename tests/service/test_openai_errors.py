"""What the official OpenAI package makes of refusals: the right exception, and a retry in time."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from openai import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    DefaultHttpxClient,
    InternalServerError,
    NotFoundError,
    OpenAI,
    RateLimitError,
)
from openai.types import Model

from tests.support.openai_client import MODEL, client_of, spoken, strictly
from tests.support.ports import free_port
from tests.support.server import Server, running_server
from tests.support.truth import audio_of
from tests.support.waiting import eventually

KEYS = {name: f"sk-{name}-9c1185a5c5e9fc54" for name in ("reader", "eager", "patient", "slow")}
REQUESTS_PER_MINUTE = 6
MAX_FILE_SIZE_MB = 2
MAX_RETRY_AFTER_S = 120  # the package waits no longer


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as opened:
        yield opened


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with keys, and with room for one request. Each key has its own share."""
    settings = {
        "API_KEYS": ", ".join(f"{name}:{key}" for name, key in KEYS.items()),
        "RATE_LIMIT_REQUESTS_PER_MINUTE": REQUESTS_PER_MINUTE,
        "MAX_QUEUE_SIZE": 1,
        "MAX_FILE_SIZE_MB": MAX_FILE_SIZE_MB,
        "ALLOWED_MODELS": "demo, owner/repository",
    }
    with running_server(tmp_path_factory.mktemp("guarded"), **settings) as running:
        yield running
        eventually(lambda: running.temp_files() == [])


def ask(client: OpenAI, **options: Any) -> Any:
    create = client.audio.transcriptions.create
    return create(**{"file": audio_of("en_short"), "model": MODEL, **options})


def get(server: Server, path: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEYS['reader']}"}
    return httpx.get(server.url + path, headers=headers, timeout=30)


def works(client: OpenAI) -> None:
    """The next request is served."""
    assert ask(client).text == spoken("en_short")


def told(error: APIStatusError, status: int, **expected: str) -> dict[str, Any]:
    """What an error says of itself, once it has all that a client goes by."""
    assert error.status_code == status
    assert error.request_id
    assert error.response.headers["content-type"] == "application/json"
    body = error.response.json()
    assert body.keys() == {"error"}
    detail: dict[str, Any] = body["error"]
    assert detail.keys() == {"message", "type", "param", "code"}
    assert isinstance(detail["type"], str)
    assert {key: detail[key] for key in expected} == expected
    assert len(detail["message"].split()) > 2
    assert not re.search(r"/(tmp|home|usr)\b|\.py\b|Traceback", detail["message"])
    return detail


# -- bad requests ----------------------------------------------------------------------------------

VERBOSE = {"response_format": "verbose_json"}
VAD = {"type": "server_vad"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"response_format": "docx"}, "response_format"),
    ({"temperature": 1.5}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"extra_body": {"temperature": "nan"}}, "temperature"),
    ({"language": "klingon"}, "language"),
    ({"languages": ["en", "klingon"]}, "languages"),
    ({"timestamp_granularities": ["syllable"], **VERBOSE}, "timestamp_granularities"),
    ({"include": ["secrets"]}, "include"),
    ({"include": ["logprobs"], **VERBOSE}, "include"),
    ({"include": ["logprobs"], "response_format": "text"}, "include"),
    ({"chunking_strategy": '{"a":' + "[" * 60_000}, "chunking_strategy"),
    ({"chunking_strategy": "sometimes"}, "chunking_strategy"),
    ({"chunking_strategy": {**VAD, "threshold": 7}}, "chunking_strategy"),
    ({"chunking_strategy": {**VAD, "silence_duration_ms": -1}}, "chunking_strategy"),
    ({"chunking_strategy": {"type": "client_vad"}}, "chunking_strategy"),
    ({"extra_body": {"stream": "perhaps"}}, "stream"),
    ({"extra_body": {"diarize": "false"}, "response_format": "diarized_json"}, "diarize"),
    ({"extra_body": {"min_speakers": 3, "max_speakers": 2}}, "min_speakers"),
    ({"extra_body": {"num_speakers": 0}}, "num_speakers"),
    ({"extra_body": {"return_speaker_embeddings": "perhaps"}}, "return_speaker_embeddings"),
    ({"extra_body": {"beam_size": 99}}, "beam_size"),
    ({"extra_body": {"vad_onset": 1}}, "vad_onset"),
    ({"extra_body": {"condition_on_previous_text": True}}, "condition_on_previous_text"),
    ({"file": b""}, "file"),
    ({"file": b"no media at all"}, "file"),
    ({"file": ("meeting.mp3", b"no media at all", "audio/mpeg")}, "file"),
    ({"file": b"no media at all", "stream": True}, "file"),
]


@pytest.mark.parametrize(("options", "param"), BAD)
def test_bad_requests(client: OpenAI, options: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as failure:
        ask(client, **options)
    detail = told(failure.value, 400, type="invalid_request_error")
    assert re.sub(r"\W.*", "", detail["param"]) == param
    assert failure.value.param == detail["param"]
    assert param == "file" or param in detail["message"]


@pytest.mark.parametrize("response_format", ["srt", "vtt", "verbose_json"])
def test_formats_that_cannot_be_streamed(client: OpenAI, response_format: str) -> None:
    with pytest.raises(BadRequestError) as failure:
        ask(client, stream=True, response_format=response_format, model="demo")
    told(failure.value, 400, type="invalid_request_error")
    assert failure.value.param in ("stream", "response_format")


def test_whisper_1_streams_no_such_format_and_says_so(client: OpenAI) -> None:
    """As at OpenAI, where clients send `stream` with every request."""
    for response_format, begun in (("srt", "1\n"), ("verbose_json", '{"task"')):
        response = client.audio.transcriptions.with_raw_response.create(  # type: ignore[call-overload]
            file=audio_of("en_short"), model=MODEL, response_format=response_format, stream=True
        )
        assert response.headers["x-asr-ignored"] == "stream"
        assert response.http_response.read().decode().startswith(begun)


@pytest.mark.parametrize("response_format", ["diarized_json", "docx"])
def test_formats_that_no_translation_has(client: OpenAI, response_format: Any) -> None:
    create = client.audio.translations.create
    with pytest.raises(BadRequestError) as failure:
        create(file=audio_of("es_short"), model=MODEL, response_format=response_format)
    told(failure.value, 400, type="invalid_request_error")
    assert failure.value.param == "response_format"


JSON_BODIES: list[tuple[dict[str, Any], str]] = [
    ({}, "input_audio"),
    ({"input_audio": {"data": "%%%%", "format": "mp3"}}, "input_audio"),
    ({"input_audio": {"data": "bm8gbWVkaWE=", "format": "mp3"}}, "file"),
    ({"input_audio": {"data": "bm8gbWVkaWE="}, "known_speaker_references": ["data:,"]},
     "known_speaker_references"),
    ({"input_audio": {"data": "bm8gbWVkaWE="}, "language": "klingon"}, "language"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), JSON_BODIES)
def test_bad_json_bodies(server: Server, body: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{server.url}/v1/audio/transcriptions", json=body, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_all_these_left_nothing_broken(client: OpenAI) -> None:
    works(client)


@pytest.mark.parametrize("name", ["no-such-model", "../etc/passwd", "owner/unknown"])
def test_unknown_models(client: OpenAI, name: str) -> None:
    with pytest.raises(NotFoundError) as failure:
        ask(client, model=name)
    told(failure.value, 404, code="model_not_found", param="model")
    if ".." not in name:  # the package itself refuses to ask
        with pytest.raises(NotFoundError) as failure:
            client.models.retrieve(name)
        told(failure.value, 404, code="model_not_found")


def test_unknown_paths(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as failure:
        client.files.list()
    told(failure.value, 404)


def test_nobody_there() -> None:
    with (
        OpenAI(base_url=f"http://127.0.0.1:{free_port()}/v1", api_key="any", max_retries=0) as lost,
        pytest.raises(APIConnectionError),
    ):
        lost.models.list()


# -- keys and limits -------------------------------------------------------------------------------


def test_a_model_whose_name_has_a_slash(guarded: Server) -> None:
    with client_of(guarded, api_key=KEYS["reader"]) as client:
        assert "owner/repository" in [model.id for model in client.models.list()]
        answer = client.models.with_raw_response.retrieve("owner/repository")
        assert strictly(Model, answer.text).id == "owner/repository"
    plain = get(guarded, "/v1/models/owner/repository")  # the package writes %2F
    assert plain.text == answer.text


@pytest.mark.parametrize("stream", [False, True])
def test_keys(guarded: Server, stream: bool) -> None:
    with client_of(guarded, api_key="sk-guess") as client:
        with pytest.raises(AuthenticationError) as failure:
            client.models.list()
        told(failure.value, 401, code="invalid_api_key")
        with pytest.raises(AuthenticationError) as failure:
            ask(client, stream=stream)
        told(failure.value, 401, code="invalid_api_key")
        assert "sk-guess" not in failure.value.message
    with client_of(guarded, api_key=KEYS["reader"]) as client:
        works(client)


def test_files_that_are_too_large(guarded: Server) -> None:
    with client_of(guarded, api_key=KEYS["reader"]) as client:
        with pytest.raises(APIStatusError) as failure:
            ask(client, file=bytes((MAX_FILE_SIZE_MB << 20) + 1))
        told(failure.value, 413)
        over = {"input_audio": {"data": "A" * (((MAX_FILE_SIZE_MB << 20) + 1) * 4 // 3 + 4)}}
        with pytest.raises(APIStatusError) as failure:
            client.post("/audio/transcriptions", body=over, cast_to=object)
        told(failure.value, 413)
        works(client)


@dataclass
class Watch:
    """The answers that the package got, and how long it waited between its tries."""

    statuses: list[int] = field(default_factory=list)
    retry_after_s: list[str | None] = field(default_factory=list)
    naps_s: list[float] = field(default_factory=list)

    def note(self, response: Any) -> None:
        self.statuses.append(response.status_code)
        self.retry_after_s.append(response.headers.get("retry-after"))


def client_with(key: str, server: Server, *hooks: Any) -> OpenAI:
    """Its client of HTTP tells the hooks of every answer, those before a retry too."""
    web = DefaultHttpxClient(event_hooks={"response": list(hooks)})
    return client_of(server, api_key=KEYS[key], http_client=web)


def test_rate_limits(guarded: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    if (left_s := 60 - time.time() % 60) < 10:  # counts are exact within a minute
        time.sleep(left_s)
    with client_with("eager", guarded, watch.note) as client:
        for _ in range(REQUESTS_PER_MINUTE):
            with pytest.raises(BadRequestError):
                ask(client, file=b"no media")  # it counts all the same
        with pytest.raises(RateLimitError) as failure:
            ask(client)
        told(failure.value, 429, type="rate_limit_error", code="rate_limit_exceeded")
        assert 1 <= int(failure.value.response.headers["retry-after"]) <= MAX_RETRY_AFTER_S
        assert list(client.models.list())  # which costs nothing

        monkeypatch.setattr(time, "sleep", watch.naps_s.append)  # a minute is long
        with pytest.raises(RateLimitError):
            ask(client.with_options(max_retries=2))
    assert watch.statuses[-3:] == [429] * 3
    assert watch.naps_s == [float(told_s or 0) for told_s in watch.retry_after_s[-3:-1]]


@contextmanager
def unfinished_upload(server: Server) -> Iterator[socket.socket]:
    """Takes the only place until the connection is closed."""
    address = urlsplit(server.url)
    with closing(socket.create_connection((address.hostname, address.port))) as connection:
        connection.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\n"
            + f"Authorization: Bearer {KEYS['slow']}\r\n".encode()
            + b"Content-Length: 100000\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n"
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF'
        )
        eventually(lambda: len(get(server, "/queue").json()["requests"]) == 1)
        yield connection


def test_a_full_queue_is_waited_for(guarded: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, sleep = Watch(), time.sleep

    def nap(seconds: float) -> None:
        watch.naps_s.append(seconds)
        connection.close()  # now there is room
        sleep(seconds)

    with (
        unfinished_upload(guarded) as connection,
        client_with("patient", guarded, watch.note) as client,
    ):
        with pytest.raises(InternalServerError) as failure:
            ask(client)
        told(failure.value, 503, type="server_error")
        monkeypatch.setattr(time, "sleep", nap)
        assert ask(client.with_options(max_retries=2)).text == spoken("en_short")
    assert watch.statuses == [503, 503, 200]
    assert watch.naps_s == [float(watch.retry_after_s[1] or 0)]
    assert watch.naps_s[0] >= 1
