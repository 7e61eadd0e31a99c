"""API keys, CORS and the headers of every answer, as clients see them."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.access.guesses import GUESSES_PER_MINUTE
from app.api.middleware import headers, keys
from tests.support.keys import ALICE, ALICE_NEW, BOB, NAMELESS, PAGE, SECRETS, assert_secure, bearer
from tests.support.server import COMMAND, Server, running_server
from tests.support.truth import audio_of
from tests.support.waiting import eventually

REQUESTS_PER_MINUTE = 1000


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that asks for keys, and that a page elsewhere may call."""
    folder = tmp_path_factory.mktemp("locked")
    secret = folder / "api_keys"
    secret.write_text(f"# who may use it\nbob:{BOB}  # from marketing\n\nalice:{ALICE_NEW},\n")
    settings = {
        "API_KEYS": f"alice:{ALICE}, {NAMELESS}",
        "API_KEYS_FILE": secret,
        "CORS_ORIGINS": f"{PAGE}/, app://obsidian.md",
        "RATE_LIMIT_REQUESTS_PER_MINUTE": REQUESTS_PER_MINUTE,
        "LOG_LEVEL": "debug",
    }
    with running_server(folder / "service", COMMAND, **settings) as running:
        yield running
        eventually(lambda: running.temp_files() == [])


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def get(server: Server, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.get(server.url + path, headers=headers, timeout=30)


def refused(response: httpx.Response, detail: str = keys.UNKNOWN) -> None:
    assert response.status_code == 401, response.text
    body = response.json()
    if response.url.path.startswith("/v1/"):  # in OpenAI's own words
        assert body["error"]["code"] == "invalid_api_key"
        assert body["error"]["message"] == detail
    else:
        assert body["detail"] == detail
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-request-id"]


def works(server: Server, key: str = ALICE) -> None:
    """The next request is served."""
    response = httpx.post(
        f"{server.url}/asr?encode=false",
        files={"audio_file": ("silence", bytes(3200))},
        headers=bearer(key),
        timeout=60,
    )
    assert response.status_code == 200, response.text
    eventually(lambda: server.temp_files() == [])


# -- with and without ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        *(bearer(key) for key in SECRETS),
        {"Authorization": f"bearer   {BOB}"},
        {"X-API-Key": BOB},
        basic(f"speakr:{ALICE}"),
        basic(f"{ALICE}:"),
        {"X-API-Key": BOB, "Authorization": "Basic cHJveHk6cGFzcw=="},
        {"X-API-Key": "not this one", **bearer(BOB)},
    ],
)
def test_a_key_opens(locked: Server, headers: dict[str, str]) -> None:
    assert get(locked, "/v1/models", headers).status_code == 200


def test_a_key_in_the_address_is_enough_for_clients_that_have_no_other_place(
    locked: Server,
) -> None:
    address = locked.url.replace("http://", f"http://speakr:{ALICE}@")
    with audio_of("en_short").open("rb") as file:
        response = httpx.post(f"{address}/asr?output=txt", files={"audio_file": file}, timeout=60)
    assert response.status_code == 200
    assert response.text.startswith("Can you check")
    assert httpx.get(f"{address}/v1/models").status_code == 200


@pytest.mark.parametrize("path", ["/asr", "/detect-language"])
def test_without_a_key(locked: Server, path: str) -> None:
    refused(locked.post(audio_of("en_short"), path), keys.NEEDED)
    works(locked)


@pytest.mark.parametrize(
    "path", ["/v1/models", "/queue", "/metrics", "/nowhere", "/queue/", "//", "//health"]
)
def test_other_paths_need_a_key_too(locked: Server, path: str) -> None:
    refused(get(locked, path), keys.NEEDED)
    refused(get(locked, path, bearer("guess")))
    assert get(locked, path, bearer(BOB)).status_code != 401


def test_cancelling_needs_a_key(locked: Server) -> None:
    refused(httpx.delete(f"{locked.url}/queue/any"), keys.NEEDED)


@pytest.mark.parametrize(
    "path", ["/health", "/health/", "/ready", "/status", "/docs", "/openapi.json", "/"]
)
def test_open_paths(locked: Server, path: str) -> None:
    assert get(locked, path).status_code in (200, 307)
    assert get(locked, path, bearer("guess")).status_code in (200, 307)
    assert httpx.head(locked.url + path).status_code in (200, 307, 405)


def wrong(key: bytes) -> list[bytes]:
    encoded = base64.b64encode(b"user:" + key)
    return [
        b"X-API-Key: " + key,
        b"Authorization: Bearer " + key,
        b"Authorization: Basic " + encoded,
    ]


@pytest.mark.parametrize(
    "line",
    [
        *wrong(ALICE[:-1].encode()),
        *wrong(ALICE.encode() + b"0"),
        *wrong(ALICE.upper().encode()),
        *wrong(b"alice:" + ALICE.encode()),
        *wrong("käse".encode()),
        *wrong("käse".encode("latin-1")),
        *wrong(b"\xff\xfe\x80"),
        *wrong(b"x" * 20_000),
        *wrong(b"' OR '1'='1"),
        *wrong(b"evil\r\n Set-Cookie: a=b"),
        *wrong(b"evil\x00" + ALICE.encode()),
        *wrong(ALICE.encode() + b"," + BOB.encode()),
        b"Authorization: Basic %%%",
        b"Authorization: Basic",
        b"Authorization: Bearer",
        b"Authorization: " + ALICE.encode(),
        b"Authorization: Digest " + ALICE.encode(),
        b"X-API-Key:",
        b"Cookie: api_key=" + ALICE.encode(),
    ],
)
def test_what_is_no_key(locked: Server, line: bytes) -> None:
    with closing(connect(locked)) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
        answer = connection.recv(1 << 16).lower()
    assert answer.startswith((b"http/1.1 401", b"http/1.1 400"))
    assert b"evil" not in answer
    assert b"set-cookie" not in answer
    assert not any(secret.encode() in answer for secret in SECRETS)
    assert get(locked, "/v1/models", bearer(ALICE)).status_code == 200


def test_guesses_end_for_the_address_that_makes_them(locked: Server) -> None:
    with httpx.Client(base_url=locked.url) as session:

        def ask(key: str, address: str) -> httpx.Response:
            return session.get("/v1/models", headers={"X-API-Key": key, "X-Forwarded-For": address})

        assert ask(ALICE, "192.0.2.66").status_code == 200
        tries = (ask(f"guess{i}", "192.0.2.66") for i in range(3 * GUESSES_PER_MINUTE))
        answer = next(answer for answer in tries if answer.status_code != 401)
        assert answer.status_code == 429
        assert "wrong API keys" in answer.text
        assert 1 <= int(answer.headers["Retry-After"]) <= 120
        assert ask(ALICE, "192.0.2.66").status_code == 200  # it shares the address
        assert ask("guess", "192.0.2.67").status_code == 401
        assert ask(BOB, "192.0.2.67").status_code == 200


def test_a_key_in_the_query_is_none(locked: Server) -> None:
    refused(get(locked, "/v1/models?api_key=guess&token=guess"), keys.NEEDED)


def test_an_open_web_socket_needs_a_key(locked: Server) -> None:
    upgrade = (
        "GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    )
    for key, status in (("", b"401"), (f"X-API-Key: {BOB}\r\n", b"404")):  # no such socket
        with closing(connect(locked)) as connection:
            connection.sendall((upgrade + key + "\r\n").encode())
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 " + status)


# -- uploads without a key -----------------------------------------------------------------------


def connect(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=30)


def head_of_upload(num_bytes: int, *lines: str) -> bytes:
    head = ["POST /asr HTTP/1.1", "Host: a", f"Content-Length: {num_bytes}", *lines]
    return (
        "\r\n".join([*head, "Content-Type: multipart/form-data; boundary=x"]) + "\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("lines", [(), ("Expect: 100-continue",), ("X-API-Key: guess",)])
def test_the_refusal_does_not_wait_for_the_upload(locked: Server, lines: tuple[str, ...]) -> None:
    with closing(connect(locked)) as connection:
        connection.sendall(head_of_upload(900 << 20, *lines))
        answer = b""
        while data := connection.recv(1 << 16):  # until the service closes
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in head.lower()
    assert "detail" in json.loads(body)
    works(locked)


def test_a_large_upload_is_not_read(locked: Server) -> None:
    num_sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal num_sent
        for _ in range(800):
            num_sent += 1 << 20
            yield bytes(1 << 20)

    response = httpx.post(f"{locked.url}/asr", content=endless(), headers=bearer("no"), timeout=60)
    refused(response)
    assert num_sent <= 64 << 20  # what is heard out, and what is on the way
    works(locked)


def test_a_client_that_sends_all_before_it_looks_reads_the_refusal(locked: Server) -> None:
    connection = http.client.HTTPConnection(urlsplit(locked.url).netloc, timeout=30)
    with closing(connection):
        connection.request("POST", "/asr", bytes(5 << 20), {"X-API-Key": "no"})
        answer = connection.getresponse()
        assert answer.status == 401
        assert json.loads(answer.read()) == {"detail": keys.UNKNOWN}
        connection.request("GET", "/v1/models", headers={"X-API-Key": BOB})
        assert connection.getresponse().status == 200


# -- names ---------------------------------------------------------------------------------------


def test_the_queue_shows_names_and_only_the_owner_may_cancel(locked: Server) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="audio_file"; filename="a"\r\n\r\n'
    for key, name, other in ((ALICE_NEW, "alice", BOB), (NAMELESS, "key-2", ALICE)):
        with closing(connect(locked)) as connection:
            key_line = f"Authorization: Bearer {key}"
            connection.sendall(head_of_upload(9999, key_line, f"X-Request-ID: of-{name}") + part)
            entries: list[dict[str, Any]] = []
            while not entries:
                entries = get(locked, "/queue", bearer(BOB)).json()["requests"]
            assert [(e["id"], e["client"]) for e in entries] == [(f"of-{name}", name)]
            address = f"{locked.url}/queue/of-{name}"
            denied = httpx.delete(address, headers=bearer(other))
            assert denied.status_code == 403
            assert "another API key" in denied.json()["detail"]
            # of the same name, not the same key
            assert httpx.delete(
                address, headers=bearer(ALICE if name == "alice" else key)
            ).is_success
            connection.sendall(b"more")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 410")
    works(locked)


def test_each_name_has_limits_of_its_own(locked: Server) -> None:
    def remaining(key: str) -> int:
        response = httpx.post(f"{locked.url}/asr", params={"task": "no"}, headers=bearer(key))
        assert response.status_code == 422
        assert response.headers["ratelimit-limit"] == str(REQUESTS_PER_MINUTE)
        return int(response.headers["ratelimit-remaining"])

    bob = remaining(BOB)
    alice = remaining(ALICE)
    assert remaining(ALICE_NEW) in (alice - 1, alice)  # a minute may pass meanwhile
    assert abs(remaining(BOB) - bob) <= 1
    for path in ("/health", "/queue", "/v1/models", "/docs"):
        assert "ratelimit-limit" not in get(locked, path, bearer(BOB)).headers


def test_no_key_is_ever_shown(locked: Server) -> None:
    for path in ("/openapi.json", "/docs", "/health", "/queue", "/v1/models"):
        text = get(locked, path, bearer(ALICE)).text
        assert not any(secret in text for secret in SECRETS)
    assert "keys exist for alice, key-2, bob" in locked.log()
    eventually(lambda: "path=/v1/models" in locked.log())
    assert not any(secret in locked.log() for secret in SECRETS)
    process = psutil.Process(locked.process.pid)
    assert not any(secret in " ".join(process.cmdline()) for secret in SECRETS)
    children = process.children(recursive=True)
    assert children
    for child in children:  # decoding processes
        assert "API_KEYS" not in child.environ()


def test_metrics_tell_whose_requests_they_were(locked: Server) -> None:
    def counted(metric: str, **labels: str) -> float:
        text = get(locked, "/metrics", bearer(BOB)).text
        families = text_string_to_metric_families(text)
        samples = [s for family in families for s in family.samples if s.name == metric]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    ours = {"client": "bob", "endpoint": "/asr"}
    before = counted("whisperx_asr_requests_total", **ours)
    seconds = counted("whisperx_asr_audio_seconds_total", **ours)
    strangers = counted("whisperx_asr_requests_total", client="none", status="401")
    works(locked, BOB)
    refused(get(locked, "/v1/models", bearer("guess")))
    # what has been answered is counted a moment later
    eventually(lambda: counted("whisperx_asr_requests_total", **ours) == before + 1)
    assert counted("whisperx_asr_audio_seconds_total", **ours) == pytest.approx(seconds + 0.1)
    assert counted("whisperx_asr_processing_seconds_total", **ours) > 0
    refusals = {"client": "none", "status": "401"}
    eventually(lambda: counted("whisperx_asr_requests_total", **refusals) == strangers + 1)


# -- what the schema says ------------------------------------------------------------------------


def test_swagger_offers_to_authorize(locked: Server, server: Server) -> None:
    schema = get(locked, "/openapi.json").json()
    schemes = schema["components"]["securitySchemes"]
    assert schemes["bearer"] == {"type": "http", "scheme": "bearer"}
    assert schemes["header"] == {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    assert {name for choice in schema["security"] for name in choice} == schemes.keys()
    open_operations = {
        f"{method} {path}"
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
        if operation.get("security") == []
    }
    assert open_operations == {"get /health", "get /ready", "get /status"}
    without_keys = server.get("/openapi.json").json()
    assert "securitySchemes" not in without_keys["components"]
    assert "security" not in without_keys


def test_without_keys_the_service_is_open(server: Server) -> None:
    for given in ({}, bearer("any"), basic("any:any")):
        assert get(server, "/v1/models", given).status_code == 200
    eventually(lambda: get(server, "/queue").json() == {"requests": []})


# -- CORS ----------------------------------------------------------------------------------------


def preflight(server: Server, origin: str) -> httpx.Response:
    return httpx.options(
        f"{server.url}/asr",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,x-api-key,x-request-id",
        },
    )


@pytest.mark.parametrize("origin", [PAGE, "app://obsidian.md"])
def test_a_page_elsewhere_may_call(locked: Server, origin: str) -> None:
    allowed = preflight(locked, origin)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == origin
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert "x-api-key" in allowed.headers["access-control-allow-headers"]
    assert allowed.headers["x-request-id"]
    for key, status in ((ALICE, 200), ("guess", 401)):  # a refusal can be read as well
        response = get(locked, "/v1/models", {**bearer(key), "Origin": origin})
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == origin
        exposed = response.headers["access-control-expose-headers"].split(", ")
        assert set(exposed) == set(headers.EXPOSED)
        assert "access-control-allow-credentials" not in response.headers


def test_other_pages_may_not(locked: Server, server: Server) -> None:
    for origin in ("https://evil.example.com", f"{PAGE}.evil.example.com", "null"):
        assert "access-control-allow-origin" not in preflight(locked, origin).headers
        response = get(locked, "/v1/models", {**bearer(ALICE), "Origin": origin})
        assert "access-control-allow-origin" not in response.headers
    off = preflight(server, PAGE)  # no CORS_ORIGINS
    assert off.status_code == 405
    assert not [name for name in off.headers if name.startswith("access-control")]


# -- headers of every answer ---------------------------------------------------------------------


def test_every_answer_is_secured(locked: Server) -> None:
    for path in ("/", "/health", "/docs", "/openapi.json", "/static-offline-docs/favicon.png"):
        assert_secure(get(locked, path))
    for path in ("/nowhere", "/queue", "/asr"):
        assert_secure(get(locked, path))
        assert_secure(get(locked, path, bearer(BOB)))
    assert_secure(preflight(locked, PAGE))
    assert (
        get(locked, "/health").headers["content-security-policy"].startswith("default-src 'none'")
    )


def test_the_policy_lets_the_documentation_work(locked: Server) -> None:
    response = get(locked, "/docs")
    policy = dict(
        part.strip().split(" ", 1)
        for part in response.headers["content-security-policy"].split(";")
    )
    links = re.findall(r'(?:src|href)="([^"]+)"', response.text)
    assert links
    assert all(link.startswith("/") for link in links)
    assert policy["default-src"] == "'self'"
    assert "'unsafe-inline'" in policy["script-src"]  # the script that starts it
    assert "data:" in policy["img-src"]
