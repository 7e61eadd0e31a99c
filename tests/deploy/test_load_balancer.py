"""nginx with the production configuration; of the replicas behind it only the answers matter."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.api.middleware.keys import NEEDED, UNKNOWN
from tests.support.deployment import nginx_command, nginx_main, nginx_template, without_resolver
from tests.support.ports import free_port
from tests.support.waiting import eventually

KEY = "let me in"
MAX_CONNECTIONS = 3


@dataclass
class Replica:
    """Says of each request what the service would: whether its key opens, whose it is."""

    own_request: str
    has_keys: bool = False
    seen: list[str] = field(default_factory=list)
    body_bytes: int = 0
    upgrades: set[str | None] = field(default_factory=set)
    go_on: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        replica = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                replica.seen.append(f"{self.command} {self.path}")
                replica.upgrades.add(self.headers["Upgrade"])
                length = int(self.headers.get("Content-Length") or 0)
                replica.body_bytes += len(self.rfile.read(length))
                status = replica.status_of(self.command, self.path, self.headers)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if status == 401:
                    self.send_header("WWW-Authenticate", "Bearer")
                    self.send_header("Access-Control-Allow-Origin", "https://a.example")
                given = self.headers["X-Request-Id"]
                self.send_header("X-Request-Id", "taken-2" if given == "taken" else given)
                self.end_headers()

            do_GET = do_POST = do_DELETE = _answer

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def status_of(self, method: str, path: str, headers: Any) -> int:
        if self.has_keys and headers["X-API-Key"] != KEY:
            return 401
        if method == "DELETE":
            return 204 if path == f"/queue/{self.own_request}" else 404
        if path == "/slow":
            self.go_on.wait(30)
        return 200


@pytest.fixture
def replicas() -> Iterator[list[Replica]]:
    running = [Replica("first"), Replica("second"), Replica("third")]
    yield running
    for replica in running:
        replica.go_on.set()
        replica.server.shutdown()
        replica.server.server_close()


@contextmanager
def balanced(folder: Path, replicas: list[Replica], ports: tuple[int, ...] = ()) -> Iterator[str]:
    """The address of the load balancer."""
    port = free_port()
    config = folder / "nginx.conf"
    command = nginx_command(folder, config)
    text = nginx_template(folder, MAX_CONNECTIONS_PER_ADDRESS=MAX_CONNECTIONS)
    text = without_resolver(text, [*(r.server.server_port for r in replicas), *ports])
    text = text.replace("listen 9000;", f"listen 127.0.0.1:{port};")
    config.write_text(nginx_main(folder, text))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _listens(port))
        yield url
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_request_is_cancelled_wherever_it_is(tmp_path: Path, replicas: list[Replica]) -> None:
    with balanced(tmp_path, replicas) as url:
        for name in ("first", "first", "second", "second", "third", "third"):
            assert httpx.delete(f"{url}/queue/{name}").status_code == 204
        assert httpx.delete(f"{url}/queue/nobodys").status_code == 404
        assert httpx.get(f"{url}/queue").status_code == 200


def test_an_upload_without_a_key_is_not_taken_in(tmp_path: Path, replicas: list[Replica]) -> None:
    for replica in replicas:
        replica.has_keys = True
    with balanced(tmp_path, replicas) as url:
        for key, detail in (("", NEEDED), ("guess", UNKNOWN)):
            answer = _upload(url, {"X-API-Key": key} if key else {})
            assert answer.startswith("HTTP/1.1 401 ")
            assert f'{{"detail": "{detail}"}}' in answer
            assert re.search(r"(?i)^www-authenticate: Bearer", answer, re.M)
            assert re.search(r"(?i)^access-control-allow-origin: https://a.example", answer, re.M)
        assert {line for r in replicas for line in r.seen} == {"GET /v1/models"}
        assert list((tmp_path / "uploads").rglob("?*")) == []
        body = bytes(1 << 20)
        response = httpx.post(f"{url}/asr", content=body, headers={"X-API-Key": KEY})
        assert response.status_code == 200
        assert sum(r.body_bytes for r in replicas) == len(body)
        assert httpx.get(f"{url}/asr").status_code == 401  # a replica's own


def _upload(url: str, headers: dict[str, str]) -> str:
    """The answer to an upload of which only the first half is ever sent."""
    host, port = url.removeprefix("http://").split(":")
    lines = [f"{name}: {value}" for name, value in {"Host": host, **headers}.items()]
    head = "\r\n".join(["POST /asr HTTP/1.1", *lines, "Content-Length: 2000000", "", ""])
    with closing(socket.create_connection((host, int(port)), timeout=20)) as connection:
        connection.sendall(head.encode() + bytes(1_000_000))
        received = b""
        while b"}" not in received and (data := connection.recv(65536)):
            received += data
    return received.decode()


def test_where_no_key_is_needed_none_is_asked_for(tmp_path: Path, replicas: list[Replica]) -> None:
    """Nor does a replica hear of an upgrade that the client would like."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    with balanced(tmp_path, replicas) as url:
        response = httpx.post(f"{url}/asr", content=bytes(1000), headers=upgrade)
        assert response.status_code == 200
    assert {upgrade for replica in replicas for upgrade in replica.upgrades} == {None}


def test_no_replica_answers(tmp_path: Path) -> None:
    with balanced(tmp_path, [], (free_port(),)) as url:
        for response in (httpx.post(f"{url}/asr", content=bytes(1000)), httpx.get(f"{url}/asr")):
            assert response.status_code == 502
            assert response.json() == {
                "detail": "No replica of the service answers; try again later."
            }
            assert response.headers["X-Request-Id"]


def test_a_lost_replica_costs_nothing(tmp_path: Path, replicas: list[Replica]) -> None:
    with balanced(tmp_path, replicas[:1], (free_port(),)) as url:
        for _ in range(4):
            assert httpx.post(f"{url}/asr", content=bytes(1000)).status_code == 200


def test_the_request_id_is_the_replicas(tmp_path: Path, replicas: list[Replica]) -> None:
    with balanced(tmp_path, replicas) as url:
        for given, answered in (("mine", "mine"), ("taken", "taken-2")):
            response = httpx.post(f"{url}/asr", content=b"a", headers={"X-Request-Id": given})
            assert response.headers.get_list("x-request-id") == [answered]


def test_one_address_does_not_take_all_connections(tmp_path: Path, replicas: list[Replica]) -> None:
    with balanced(tmp_path, replicas) as url, ThreadPoolExecutor(MAX_CONNECTIONS) as callers:
        slow = [callers.submit(httpx.get, f"{url}/slow", timeout=30) for _ in range(3)]
        eventually(lambda: sum(r.seen.count("GET /slow") for r in replicas) == MAX_CONNECTIONS)
        refused = httpx.get(f"{url}/asr")
        assert refused.status_code == 429
        assert "This address" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) > 0
        for replica in replicas:
            replica.go_on.set()
        assert [answer.result().status_code for answer in slow] == [200] * MAX_CONNECTIONS
        assert httpx.get(f"{url}/asr").status_code == 200
