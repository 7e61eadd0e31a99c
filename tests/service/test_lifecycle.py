"""Start, stop and sudden death, as an operator or a load balancer sees them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.forms import answer, connect, file_part, request_head, works
from tests.support.held_server import GATE, HOLD
from tests.support.paths import ROOT
from tests.support.server import Server, ended_start, running_server, server_environment
from tests.support.truth import audio_of
from tests.support.waiting import eventually

HELD = ROOT / "tests" / "support" / "held_server.py"  # requests are long that it holds
STOP_S = 60.0  # far above what it takes, far below the grace that is set here


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(8)
    yield pool
    pool.shutdown(wait=False, cancel_futures=True)


def begin(server: Server, callers: ThreadPoolExecutor, count: int) -> list[Future[Any]]:
    """Requests that are recognized when this returns, until the gate is opened."""
    ask = partial(server.post, audio_of("en_short"), hotwords=HOLD)
    answers = [callers.submit(ask) for _ in range(count)]

    def running() -> bool:
        entries = server.get("/queue").json()["requests"]
        return sum(entry["audio_seconds"] is not None for entry in entries) == count

    eventually(running)
    return answers


def refuses(server: Server) -> bool:
    """Its door is closed."""
    try:
        connect(server).close()
    except ConnectionRefusedError:
        return True
    return False


# -- the end -------------------------------------------------------------------------------------


def test_a_balancer_sees_the_end_coming(tmp_path: Path, callers: ThreadPoolExecutor) -> None:
    """SIGTERM: newcomers are sent elsewhere for a while, then the door is closed; who is still
    being served when the grace is over hears of it.
    """
    settings = {"SHUTDOWN_DRAIN_SECONDS": 6, "SHUTDOWN_GRACE_SECONDS": 1, "DECODE_WORKERS": 1}
    with (
        running_server(tmp_path, script=HELD, **settings) as server,
        closing(connect(server)) as half,
    ):
        long = begin(server, callers, 2)
        half.sendall(request_head(1_000_000) + file_part()[:1000])
        eventually(lambda: len(server.get("/queue").json()["requests"]) == 3)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: server.get("/ready").status_code == 503)
        assert server.get("/health").status_code == 200
        newcomer = server.post(audio_of("en_short"))
        assert newcomer.status_code == 503
        assert newcomer.headers["Retry-After"]
        assert newcomer.headers["Connection"] == "close"
        assert "shutting down" in newcomer.json()["detail"]
        for request in long:
            cut_off = request.result(STOP_S)
            assert cut_off.status_code == 503
            assert cut_off.headers["Retry-After"]
            assert "shutting down" in cut_off.json()["detail"]
        assert answer(half)[0] == 503
        (tmp_path / GATE).touch()  # no model's call is given up while it runs
        assert server.process.wait(STOP_S) == 0
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        assert list((server.folder / "tmp").iterdir()) == []
        assert "Traceback" not in server.log()


def test_killed_under_load_and_started_anew(tmp_path: Path, callers: ThreadPoolExecutor) -> None:
    port = 0
    with running_server(tmp_path, script=HELD) as server:
        port = int(server.url.rsplit(":", 1)[1])
        children = psutil.Process(server.process.pid).children(recursive=True)
        answers = begin(server, callers, 2)
        half = connect(server)
        half.sendall(request_head(1_000_000) + file_part()[:300_000])
        eventually(lambda: server.temp_files() != [])
        server.process.kill()
        server.process.wait()
        for request in answers:
            with pytest.raises(httpx.TransportError):
                request.result(STOP_S)
        half.close()
        _, alive = psutil.wait_procs(children, timeout=60)
        assert alive == []
        assert len(server.temp_files()) > 0
    with running_server(tmp_path, port=port, script=HELD) as server:
        assert server.temp_files() == []
        assert len(list((tmp_path / "tmp").iterdir())) == 1
        works(server)
        # and now the soft way: what is under way may end, however often a closing terminal says so
        [running] = begin(server, callers, 1)
        for _ in range(2):
            server.process.send_signal(signal.SIGHUP)
        eventually(lambda: refuses(server))
        (tmp_path / GATE).touch()
        assert running.result(60).status_code == 200
        assert server.process.wait(STOP_S) == 0
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_model_that_does_not_return(tmp_path: Path, callers: ThreadPoolExecutor) -> None:
    """/health says so, and the service ends by itself, with an error for whoever starts it anew."""
    settings = {
        "MODEL_CALL_TIMEOUT_SECONDS": 2,
        "SHUTDOWN_DRAIN_SECONDS": 6,
        "SHUTDOWN_GRACE_SECONDS": 1,
    }
    with running_server(tmp_path, script=HELD, **settings) as server:
        [request] = begin(server, callers, 1)
        eventually(lambda: server.get("/health").status_code == 503)
        assert server.get("/health").json()["status"] == "unhealthy"
        eventually(lambda: server.get("/ready").status_code == 503)
        assert request.result(STOP_S).status_code == 503
        assert server.process.wait(STOP_S) == 1
        assert "does not return" in server.log()


def test_a_disk_without_room(tmp_path: Path) -> None:
    """TEMP_MIN_FREE_MB asks for all of the disk but a megabyte."""
    total_mb = psutil.disk_usage(str(tmp_path)).total >> 20
    settings = {"TEMP_MIN_FREE_MB": total_mb - 1, "PRELOAD_MODEL": ""}
    with running_server(tmp_path, **settings) as server:
        refusal = server.post(audio_of("en_short"))
        assert refusal.status_code == 507
        assert "disk space" in refusal.json()["detail"]
        health = server.get("/health")
        assert health.status_code == 200
        assert health.json()["degraded"] == [
            "The disk of the temporary files is full: uploads are refused."
        ]
        # SIGINT is typed by people: no drain, no grace without requests, and no trace
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(STOP_S) == 0


# -- the start -----------------------------------------------------------------------------------


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = ended_start(tmp_path, HOST="127.0.0.1", PORT=port)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"whisperx-asr: HOST, PORT: cannot listen on 127.0.0.1:{port}: Address already in use."
    ]


def test_a_signal_before_there_is_a_server(tmp_path: Path) -> None:
    """As process 1 of a container it would be ignored by default."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve"],
        env=server_environment(tmp_path, PORT=1, HOST="127.0.0.1", CACHE_DIR=tmp_path / "made"),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    try:
        eventually((tmp_path / "made").exists)
        process.terminate()
        assert process.wait(STOP_S) == 0
    finally:
        process.kill()
        process.wait()
