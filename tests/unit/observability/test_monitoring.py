"""Stages, logs and tracing by themselves, and the files for Prometheus and Grafana."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.audio.decode_pool import DecodeLimits, DecodePool
from app.config.environment import trace_exporters
from app.domain.errors import ConfigurationError
from app.observability import logs
from app.observability.exposition import expose
from app.observability.gauges import Facts, GpuMemory, Reading, memory_limit_bytes
from app.observability.metrics import Metrics
from app.observability.record import RequestRecord
from app.observability.stages import Stage, StageClock
from app.observability.tracing import Tracing
from app.observability.tracing_setup import build_tracing

# -- stages ----------------------------------------------------------------------------------------


@dataclass
class Job:
    queued: float
    started: float | None = None


def test_waiting_and_work_are_told_apart() -> None:
    clock = StageClock()
    now = time.monotonic()
    with clock.measure_queued(Stage.DECODE, Job(now - 3, now - 1)):
        pass
    with pytest.raises(KeyError), clock.measure_queued(Stage.SPEECH, Job(now - 5)):
        raise KeyError
    with clock.measure(Stage.ALIGN, now - 7):
        pass
    with clock.measure(Stage.LOAD, at_least_s=60):
        pass
    assert clock.seconds() == pytest.approx({"queue": 7, "decode": 1, "align": 7}, abs=0.5)
    assert [str(stage) for stage in clock.seconds()] == ["queue", "decode", "align"]


def test_a_stage_that_breaks_says_why() -> None:
    clock = StageClock()
    with pytest.raises(ValueError, match="no"), clock.measure(Stage.FORMAT):
        raise ValueError("no")
    assert [(t.stage, t.error) for t in clock.times] == [("format", "ValueError")]


# -- metrics ---------------------------------------------------------------------------------------


def test_each_service_has_metrics_of_its_own() -> None:
    facts = Facts("1", "cuda:0", "float16", 10, 60.0, memory_limit_bytes(), ("missing",))
    gpu = GpuMemory("cuda:0", used=3, total=8, reserved=2)
    reading = Reading(False, 1, 2, 30.0, (("recognizer", "tiny"),), (gpu,))
    first, second = (Metrics(facts, lambda: reading) for _ in range(2))
    record = RequestRecord("a", "POST", "/asr", warnings=("missing", "new"), error="ValueError")
    first.request(record)
    text = expose(first.registry)[0].decode()
    for line in (
        'whisperx_asr_warnings_total{kind="missing"} 1.0',
        'whisperx_asr_warnings_total{kind="other"} 1.0',
        'whisperx_asr_errors_total{kind="InternalError"} 1.0',
        'whisperx_asr_gpu_memory_used_bytes{device="cuda:0"} 3.0',
        'whisperx_asr_gpu_memory_total_bytes{device="cuda:0"} 8.0',
        'whisperx_asr_gpu_memory_reserved_bytes{device="cuda:0"} 2.0',
        'whisperx_asr_queue_requests{state="running"} 2.0',
        "whisperx_asr_ready 0.0",
    ):
        assert line in text.splitlines()
    assert 'errors_total{kind="InternalError"} 0.0' in expose(second.registry)[0].decode()


# -- logs ------------------------------------------------------------------------------------------

LINES = """
import logging, sys, threading, warnings
from app.observability import logs
chatty = logging.getLogger("some.library")
chatty.addHandler(logging.StreamHandler())
chatty.propagate = False
logs.configure(sys.argv[1], "info")
logs.quiet_libraries()
chatty.info("from a library\\n%s", "forged")
print("from a library\\nforged")
warnings.warn("heed this\\nforged")
warnings.warn("your torchcodec is\\nmissing")
logging.getLogger("lightning.pytorch.utilities.migration.utils").info("upgraded")
logging.getLogger("a").info("one", extra={"given": "two\\r\\x1b\\u2028x=1", "color_message": "c"})
def fail(): raise ValueError("why\\nforged")
thread = threading.Thread(target=fail); thread.start(); thread.join()
fail()
"""


def log_lines(log_format: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LINES, log_format], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1  # nobody caught the last one
    return done.stderr.splitlines()


def test_json_is_an_object_per_line() -> None:
    found = [json.loads(line) for line in log_lines("json")]
    assert [line["event"] for line in found] == [
        "from a library\nforged",
        "from a library\nforged",
        "heed this\nforged",
        "one",
        "a thread ended",
        "the process ends",
    ]
    levels = [line["level"] for line in found]
    assert levels == ["info", "info", "warning", "info", "error", "critical"]
    assert [line["logger"] for line in found][:3] == ["some.library", "stdout", "py.warnings"]
    assert found[2]["category"] == "UserWarning"
    assert found[3]["given"] == "two\r\x1b\u2028x=1"
    assert "color_message" not in found[3]
    assert found[4]["exception"].endswith("ValueError: why\nforged")


def test_no_line_of_the_console_is_forged() -> None:
    found = log_lines("console")
    own = [line for line in found if not line.startswith("    ")]
    assert len(own) == 6
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in own)
    assert r"from a library\nforged" in own[0]
    assert all(line.isprintable() for line in found)
    assert "    forged" in found, "of the traceback, whose lines are indented"


def test_escape() -> None:
    assert logs.escape("plain, größe 语") == "plain, größe 语"
    assert logs.escape("a\n\x1b\u202e\udc80") == r"a\n\x1b\u202e\udc80"


FLOOD = """
import logging, os
from app.observability import logs
logs.configure("json", "info")
for number in range(2000):
    logging.getLogger("a").info("%d " + 1000 * "x", number)
os.write(1, b"done")
input()
"""


def test_whoever_logs_waits_for_no_reader() -> None:
    """What is more than may wait is dropped, and how much it was is the last line."""
    with subprocess.Popen(
        [sys.executable, "-c", FLOOD],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"done"
        process.stdin.write(b"\n")
        process.stdin.close()
        *lines, last = [json.loads(line)["event"] for line in process.stderr]
    assert [int(line.split()[0]) for line in lines] == list(range(len(lines)))
    assert last == f"{2000 - len(lines)} log lines were dropped: nobody read them in time"


def _warn() -> int:
    warnings.warn("from another process", stacklevel=1)
    logging.getLogger("decoder").info("at work")
    return os.getpid()


def test_decoding_processes_log_alike(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prepare = functools.partial(logs.configure, "json", "info")
    pool = DecodePool(tmp_path, 1, DecodeLimits(60, 1024), prepare)
    try:
        assert pool._schedule(_warn).result(60) != os.getpid()
    finally:
        pool.close()
    found = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["event"] for line in found] == ["from another process", "at work"]


# -- tracing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, ("otlp_proto_grpc",)),
        (
            {
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            ("otlp_proto_http",),
        ),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ("console", "otlp_proto_grpc")),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, ()),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, ()),
        ({"OTEL_SERVICE_NAME": "named"}, ()),
    ],
)
def test_the_usual_variables_turn_tracing_on(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple[str, ...]
) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert trace_exporters() == expected
    if not expected:
        assert type(build_tracing()) is Tracing


def test_an_exporter_that_there_is_none_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")
    with pytest.raises(
        ConfigurationError, match="unknown exporter 'carrier-pigeon'; it must be none, otlp, "
    ):
        build_tracing()


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:1"])
def test_without_the_extra(endpoint: str) -> None:
    script = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from app.observability import logs; logs.configure('json', 'info')\n"
        "from app.observability.tracing import Tracing\n"
        "from app.observability.tracing_setup import build_tracing\n"
        "assert type(build_tracing()) is Tracing\n"
        "assert endpoint or 'opentelemetry.trace' not in sys.modules".replace(
            "endpoint", repr(endpoint)
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
        capture_output=True,
        text=True,
        check=True,
    )
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert len(events) == (1 if endpoint else 0)
    assert all("pip install 'whisperx-asr-service[otel]'" in event for event in events)
