"""What happens to jobs when processes die, freeze or end, and when the database or the disk goes.

Each time nothing is lost, and the next job works.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.transcript import SAMPLE_RATE
from app.jobs.database import Database
from tests.support.job_tables import all_values
from tests.support.media import FORMATS, encode, speech
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.server import Server, running_server
from tests.support.site import Site
from tests.support.site import status as status_of
from tests.support.truth import audio_of, truth_of, word_error_rate
from tests.support.waiting import eventually

SCRIPT = ROOT / "tests" / "support" / "faulty_jobs.py"
PATIENCE_S = 300.0
ENDED = ("done", "failed", "cancelled")
STEPS = ("fetch", "decode", "recognize", "align", "diarize", "store", "notify")
SETTINGS: dict[str, Any] = {
    "DIARIZATION_MODEL": "demo",
    "EGRESS_ALLOWED_NETWORKS": "127.0.0.0/8",
    "JOB_RETRY_SECONDS": 0.1,
    "SHUTDOWN_GRACE_SECONDS": 1,
}
PICKLES = ("\x80\x04", "gAS")


# -- what the tests do ---------------------------------------------------------------------------


def faults_of(server: Server) -> Path:
    return server.folder / "faults"


@contextmanager
def service(folder: Path, **settings: Any) -> Iterator[Server]:
    settings = {**SETTINGS, "FAULTS": folder / "faults", **settings}
    with running_server(folder, script=SCRIPT, **settings) as running:
        yield running


def submit(
    server: Server, content: bytes | None = None, metadata: Any = None, **fields: Any
) -> httpx.Response:
    content = audio_of("en_short").read_bytes() if content is None else content
    data = {"metadata": json.dumps(metadata or {}), **fields}
    files = {"file": ("audio.flac", content)}
    return httpx.post(f"{server.url}/transcribe", data=data, files=files, timeout=60)


def accepted(server: Server, *arguments: Any, **fields: Any) -> str:
    response = submit(server, *arguments, **fields)
    assert response.status_code == 202, response.text
    return str(response.json()["task_id"])


def status(server: Server, task_id: str) -> dict[str, Any]:
    """Empty while there is no answer: a process that was killed comes back."""
    with suppress(httpx.TransportError):
        response = server.get(f"/status/{task_id}")
        if response.status_code == 200:
            body: dict[str, Any] = response.json()
            return body
    return {}


def ended(server: Server, task_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while (found := status(server, task_id)).get("status") not in ENDED:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)  # what starts again needs the machine more
    return found


def done(server: Server, task_id: str) -> dict[str, Any]:
    """The status of a job that ended well, with the right words."""
    found = ended(server, task_id)
    assert found["status"] == "done", found
    result = server.get(f"/result/{task_id}").json()
    said = " ".join(sentence["text"] for sentence in truth_of("en_short")["sentences"])
    assert word_error_rate(said, result["full_text"]) < 0.2
    return found


def works(server: Server) -> None:
    assert done(server, accepted(server, diarization="false"))["attempts"] == 1


def fate(server: Server, step: str, what: str) -> None:
    """What the next job meets at a step; `met` tells of it, and not of those before."""
    (faults_of(server) / f"{step}.held").unlink(missing_ok=True)
    (faults_of(server) / step).write_text(what)


def met(server: Server, step: str) -> bool:
    return (faults_of(server) / f"{step}.held").exists()


def num_calls(server: Server, step: str) -> int:
    return len((faults_of(server) / f"{step}.calls").read_text())


def num_running(server: Server) -> int:
    """Jobs on which this process works."""
    return sum(entry["kind"] == "job" for entry in server.get("/queue").json()["requests"])


def cancel(server: Server, task_id: str) -> str:
    answer = httpx.delete(f"{server.url}/cancel/{task_id}", timeout=60)
    return str(answer.json()["status"])


def uploads(server: Server) -> list[Path]:
    return list((server.folder / "data" / "uploads").iterdir())


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A URL for webhooks, and the bodies that came."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/ended", bodies
        http.shutdown()


# -- sudden death --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_at_every_step(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = ""
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").new_database(secrets.token_hex(8))
    fatal = (*STEPS, "keep")
    attempts = len(fatal) + 1
    with service(tmp_path, DATABASE_URL=url, JOB_MAX_ATTEMPTS=attempts, PRELOAD_MODEL="") as server:
        fate(server, STEPS[0], "hold")  # else the process ends before it has answered
        for step in fatal[1:]:
            fate(server, step, "kill")
        task_id = accepted(server, keep_audio="true")
        fate(server, STEPS[0], "kill")
        assert done(server, task_id)["attempts"] == attempts
        assert all(met(server, step) for step in fatal)
        kept = server.get(f"/media/{task_id}").content
        assert kept == audio_of("en_short").read_bytes()
        assert server.get(f"/peaks/{task_id}").json()["peaks"]
        works(server)
        garbage = ended(server, accepted(server, b"nonsense" * 100))
        assert (garbage["status"], garbage["attempts"]) == ("failed", 1)
        eventually(lambda: server.temp_files() == [])
    database = Database(url, tmp_path / "data")
    for place, value in all_values(database):
        text = value if isinstance(value, str) else value.decode("latin-1")
        assert not text.startswith(PICKLES), place
    database.close()


def test_who_kills_its_process_does_so_alone(tmp_path: Path) -> None:
    with service(tmp_path, JOB_MAX_ATTEMPTS=2, PRELOAD_MODEL="") as server:
        beside = accepted(server, metadata={"beside": True}, diarization="false")
        poisoned = accepted(server, metadata={"poison": True}, diarization="false")
        (faults_of(server) / "accepted").touch()
        found = ended(server, poisoned)
        assert (found["status"], found["attempts"]) == ("failed", 2)
        assert "interrupted" in found["error"]["message"]
        assert done(server, beside)["attempts"] <= 2
        works(server)


# -- several processes ---------------------------------------------------------------------------


@dataclass
class Pair:
    """Two machines with one database and one folder of faults and of uploads."""

    one: Server
    two: Server
    settings: dict[str, Any]

    def met(self, step: str) -> tuple[Server, Server]:
        """Who has met its fate there, and the other one."""
        file = faults_of(self.one) / f"{step}.held"
        eventually(lambda: file.exists() and file.read_text(), PATIENCE_S)
        first = int(file.read_text()) == self.one.process.pid
        file.unlink()
        return (self.one, self.two) if first else (self.two, self.one)


@pytest.fixture
def pair(postgres: PostgresServer, tmp_path: Path) -> Iterator[Pair]:
    settings = {
        "DATABASE_URL": postgres.new_database(secrets.token_hex(8)),
        "DATA_DIR": tmp_path / "data",
        "FAULTS": tmp_path / "one" / "faults",
        "JOB_TAKEOVER_SECONDS": 10,  # what runs on a busy machine may not be heard of for 4 s
        "ALONE": "yes",
    }
    with (
        service(tmp_path / "one", **settings) as one,
        service(tmp_path / "two", **settings) as two,
    ):
        yield Pair(one, two, settings)


def test_one_of_two_freezes_and_dies(pair: Pair, tmp_path: Path) -> None:
    with receiver() as (callback, bodies):
        # frozen, taken over, and late
        fate(pair.one, "recognize", "freeze")
        task_id = accepted(pair.one, callback_url=callback)
        worker, other = pair.met("recognize")
        assert done(other, task_id)["attempts"] == 2
        os.kill(worker.process.pid, signal.SIGCONT)
        eventually(lambda: f"result of job {task_id} is refused" in worker.log(), PATIENCE_S)
        assert done(worker, task_id)["attempts"] == 2
        # cancelled through the other one
        fate(pair.one, "decode", "hold")
        task_id = accepted(pair.one)
        worker, other = pair.met("decode")
        assert cancel(other, task_id) == "cancelling"
        (faults_of(pair.one) / "decode").unlink()
        assert ended(other, task_id)["status"] == "cancelled"
        # one ends: the other goes on at once, and it was no attempt
        fate(pair.one, "recognize", "hold")
        task_id = accepted(pair.one, callback_url=callback)
        worker, other = pair.met("recognize")
        worker.process.terminate()
        assert worker.process.wait(60) == 0
        (faults_of(pair.one) / "recognize").unlink()
        assert done(other, task_id)["attempts"] == 1
        # the other dies, and there is nobody until it is started again
        fate(pair.one, "align", "kill")
        task_id = accepted(other, callback_url=callback)
        assert other.process.wait(60) == -signal.SIGKILL
        with service(tmp_path / "three", **pair.settings) as third:
            assert done(third, task_id)["attempts"] == 2
            works(third)
            eventually(lambda: len(bodies) == 3)
    assert len({body["data"]["task_id"] for body in bodies}) == 3


def test_workers_and_webhooks_of_two(postgres: PostgresServer, tmp_path: Path) -> None:
    """Each has its own number of workers. One dies in the middle of its webhooks: none is lost."""
    told, answer = "/told", threading.Event()
    settings = {
        "DATABASE_URL": postgres.new_database(secrets.token_hex(8)),
        "DATA_DIR": tmp_path / "data",
        "FAULTS": tmp_path / "one" / "faults",
        "JOB_TAKEOVER_SECONDS": 4,
        "WEBHOOK_TIMEOUT": 600,
        "PRELOAD_MODEL": "",
        "ALONE": "yes",
    }
    with (
        Site("127.0.0.3", free_port()) as site,
        service(tmp_path / "one", **settings, JOB_WORKERS=3) as one,
        service(tmp_path / "two", **settings, JOB_WORKERS=1) as two,
    ):
        site.answers[told] = lambda handler: (answer.wait(PATIENCE_S), status_of(204)(handler))
        fate(one, "decode", "hold")
        fields = {"callback_url": site.url + told, "diarization": "false"}
        task_ids = [accepted(one, **fields) for _ in range(6)]
        eventually(lambda: (num_running(one), num_running(two)) == (3, 1), PATIENCE_S)
        (faults_of(one) / "decode").unlink()
        for task_id in task_ids:
            done(two, task_id)
        eventually(lambda: site.requests_of(told))
        one.process.kill()
        answer.set()
        for task_id in task_ids:
            eventually(lambda task_id=task_id: delivered(two, task_id), PATIENCE_S)
        works(two)
    heard = {json.loads(got.body)["data"]["task_id"] for got in site.requests_of(told)}
    names = {got.headers["webhook-id"] for got in site.requests_of(told)}
    assert heard == set(task_ids)
    assert len(names) == len(task_ids)


def delivered(server: Server, task_id: str) -> bool:
    [webhook] = server.get(f"/webhooks/{task_id}").json()["webhooks"]
    return bool(webhook["status"] == "delivered")


# -- the database is gone ------------------------------------------------------------------------


def test_the_database_dies_and_comes_back(tmp_path: Path) -> None:
    with (
        running_postgres() as postgres,
        service(tmp_path, DATABASE_URL=postgres.url(), ALONE="yes") as server,
    ):
        fate(server, "recognize", "hold")
        task_id = accepted(server)
        eventually(lambda: met(server, "recognize"), PATIENCE_S)
        before = len(server.log().splitlines())
        postgres.kill()
        (faults_of(server) / "recognize").unlink()
        # its own processes notice a moment later
        eventually(lambda: server.get(f"/status/{task_id}").status_code == 503)
        refused = submit(server)
        assert refused.status_code == 503, refused.text
        assert refused.headers["Retry-After"]
        assert "database" in refused.json()["detail"]
        gone = time.monotonic()
        while time.monotonic() - gone < 5:
            assert server.get("/health").status_code == 200
            time.sleep(0.5)
        postgres.start()
        assert done(server, task_id)["attempts"] == 1
        works(server)
        said = server.log().splitlines()[before:]
        assert len(said) < 60, "\n".join(said)
        assert "Traceback" not in "\n".join(said)
        # it ends in time although there is no database
        postgres.kill()
        server.process.terminate()
        assert server.process.wait(60) == 0


# -- one process ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("alone")
    with service(folder, ALONE="yes", JOB_WORKERS=1, BATCH_SIZE=2) as server:
        yield server


@pytest.mark.parametrize("step", STEPS)
def test_cancelled_at_every_step(alone: Server, step: str) -> None:
    fate(alone, step, "hold")
    task_id = accepted(alone)
    eventually(lambda: met(alone, step), PATIENCE_S)
    assert cancel(alone, task_id) in ("cancelling", "cancelled")
    (faults_of(alone) / step).unlink()
    found = ended(alone, task_id)
    assert (found["status"], found["attempts"], found["eta_seconds"]) == ("cancelled", 1, None)
    assert alone.get(f"/result/{task_id}").status_code != 200
    eventually(lambda: uploads(alone) == [])
    works(alone)
    eventually(lambda: alone.temp_files() == [])


def test_a_long_recording_is_dropped_after_the_batches_that_run(alone: Server) -> None:
    """Its chunks and windows that wait are never computed, and the next job has its place."""
    sound = speech("en_long")
    length_s = len(sound) / SAMPLE_RATE
    long = encode(FORMATS["flac"], *[(i * length_s, sound) for i in range(4)])
    steps = ("recognize", "diarize")
    for step in steps:
        fate(alone, step, "hold")
    task_id = accepted(alone, long)
    for step in steps:
        eventually(lambda step=step: met(alone, step), PATIENCE_S)
    fate(alone, "fetch", "hold")
    waiting = accepted(alone)
    before = {step: num_calls(alone, step) for step in ("fetch", *steps)}
    assert cancel(alone, task_id) == "cancelling"
    for step in steps:
        (faults_of(alone) / step).unlink()
    assert ended(alone, task_id)["status"] == "cancelled"
    eventually(lambda: num_calls(alone, "fetch") > before["fetch"])
    assert [num_calls(alone, step) - before[step] for step in steps] == [0, 0]
    (faults_of(alone) / "fetch").unlink()
    assert done(alone, waiting)["attempts"] == 1


def test_no_room_for_uploads(alone: Server) -> None:
    (faults_of(alone) / "full").touch()
    before = alone.get("/history").json()["total"]
    refused = submit(alone)
    assert refused.status_code == 507, refused.text
    assert "disk space" in refused.json()["detail"]
    assert alone.get("/history").json()["total"] == before
    assert uploads(alone) == []
    (faults_of(alone) / "full").unlink()
    works(alone)
    eventually(lambda: uploads(alone) == alone.temp_files() == [])


def test_an_ended_process_leaves_its_jobs_to_the_next(tmp_path: Path) -> None:
    """Also the old ones to retention."""
    with service(tmp_path, ALONE="yes") as server:
        works(server)
        old = server.get("/history").json()["tasks"][0]["task_id"]
        fate(server, "recognize", "hold")
        running, waiting = (accepted(server, diarization="false") for _ in range(2))
        eventually(lambda: met(server, "recognize"), PATIENCE_S)
        server.process.terminate()
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.log()
        (faults_of(server) / "recognize").unlink()
    with service(tmp_path, ALONE="yes", JOB_KEEP_DAYS=20 / 86_400) as server:
        for task_id in (running, waiting):
            assert done(server, task_id)["attempts"] == 1
        eventually(lambda: server.get(f"/status/{old}").status_code == 404, PATIENCE_S)
        works(server)
