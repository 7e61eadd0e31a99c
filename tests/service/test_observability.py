"""What a request leaves behind: one line in the log, figures at /metrics, a trace."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.api.middleware.observation import ObservationMiddleware
from app.observability.record import RequestRecord
from app.observability.tracing import Tracing
from tests.support.monitoring import all_found, queries
from tests.support.server import COMMAND, Server, running_server
from tests.support.truth import audio_of, normalize, truth_of
from tests.support.waiting import PATIENCE_S, eventually

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
STAGES = ["upload", "queue", "decode", "speech", "recognize", "align", "diarize", "format"]


class Collector:
    """Receives spans as OpenTelemetry's collector does: OTLP over HTTP, in protobuf."""

    def __init__(self) -> None:
        self.resources: list[dict[str, Any]] = []
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.receive(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def receive(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(attributes_of(resource.resource))
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)


def attributes_of(holder: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in holder.attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("observed"),
        COMMAND,
        LOG_FORMAT="json",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_BSP_SCHEDULE_DELAY=100,
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test",
    ) as server:
        yield server


def soon(look: Callable[[], Any], wait_s: float = PATIENCE_S) -> Any:
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + wait_s
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return found


def lines_of(server: Server, request_id: str = "") -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in server.log().splitlines()]
    return [line for line in lines if not request_id or line.get("request_id") == request_id]


def request_line(server: Server, request_id: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = soon(
        lambda: [x for x in lines_of(server, request_id) if x["event"] == "request"]
    )
    [line] = found
    return line


def scrape(server: Server) -> dict[str, Metric]:
    response = server.get("/metrics")
    assert response.status_code == 200
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def value(metrics: dict[str, Metric], name: str, **labels: str) -> float:
    """The sum of all samples with this name and these labels."""
    samples = [s for family in metrics.values() for s in family.samples if s.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


def send(
    server: Server, request_id: str, file: Path | bytes, path: str = "/asr", **query: Any
) -> httpx.Response:
    content = file if isinstance(file, bytes) else file.read_bytes()
    return httpx.post(
        server.url + path,
        params=query,
        files={"audio_file": ("secret name.flac", content)},
        headers={"X-Request-ID": request_id, "traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"},
        timeout=120,
    )


@pytest.fixture(scope="module")
def conversation(observed: Server) -> httpx.Response:
    """One request that takes every stage."""
    response = send(observed, "talk", audio_of("en_two"), output="json", diarize="true")
    assert response.status_code == 200
    return response


# -- log -------------------------------------------------------------------------------------------


def test_a_request_is_one_line(observed: Server, conversation: httpx.Response) -> None:
    line = request_line(observed, "talk")
    duration_s = conversation.json()["duration"]
    assert line["level"] == "info"
    assert (line["method"], line["path"], line["status"]) == ("POST", "/asr", 200)
    assert (line["outcome"], line["dialect"], line["model"]) == ("ok", "webservice", "demo")
    assert line["audio_seconds"] == pytest.approx(duration_s, abs=0.01)
    assert line["upload_bytes"] == audio_of("en_two").stat().st_size
    assert [stage for stage in line["stages"] if stage != "load"] == STAGES
    assert all(0 <= seconds <= line["seconds"] for seconds in line["stages"].values())
    processing_s = line["seconds"] - line["stages"]["upload"]
    assert line["rtf"] == pytest.approx(processing_s / line["audio_seconds"], abs=0.01)
    assert not {"error", "warnings", "text", "client_name"} & line.keys()


def test_nothing_of_the_content_is_logged(observed: Server, conversation: httpx.Response) -> None:
    request_line(observed, "talk")
    assert "secret" not in observed.log()
    words = [w for w in normalize(truth_of("en_two")["sentences"][0]["text"]) if len(w) > 5]
    assert words
    assert not any(word in observed.log() for word in words)


def test_other_lines_of_a_request_carry_its_id(observed: Server, conversation: Any) -> None:
    request_line(observed, "talk")
    loaded = [line for line in lines_of(observed, "talk") if line["event"].startswith("loaded")]
    assert loaded, "the aligner is loaded for the first request that needs it"
    assert loaded[0]["trace_id"] == TRACE_ID


def test_probes_are_not_logged(observed: Server) -> None:
    for path in ("/health", "/ready", "/metrics"):
        assert observed.get(path).status_code == 200
    assert observed.get("/queue").status_code == 200
    paths = soon(lambda: (p := [x.get("path") for x in lines_of(observed)]) and "/queue" in p and p)
    assert not {"/health", "/ready", "/metrics"} & set(paths)


@pytest.mark.parametrize(
    ("name", "file", "query", "status", "error", "outcome"),
    [
        ("text", b"no audio at all", {}, 400, "UndecodableAudio", "refused"),
        ("model", b"", {"model": "huge-v9"}, 422, "UnknownModel", "refused"),
        # a model that is offered, but there is no hub to load it from
        ("load", audio_of("en_short"), {"model": "tiny"}, 503, "ModelUnavailable", "failed"),
    ],
)
def test_what_went_wrong_is_told(
    observed: Server,
    name: str,
    file: Path | bytes,
    query: dict[str, str],
    status: int,
    error: str,
    outcome: str,
) -> None:
    before = scrape(observed)
    assert send(observed, f"bad-{name}", file, **query).status_code == status
    line = request_line(observed, f"bad-{name}")
    assert (line["status"], line["error"], line["outcome"]) == (status, error, outcome)
    assert "rtf" not in line
    after = scrape(observed)
    counted = {
        kind: value(after, "whisperx_asr_errors_total", kind=kind) - count
        for kind in (error, "InternalError")
        if (count := value(before, "whisperx_asr_errors_total", kind=kind)) is not None
    }
    assert counted == {error: 1, "InternalError": 0}
    assert send(observed, f"next-{name}", audio_of("en_short")).status_code == 200
    assert request_line(observed, f"next-{name}")["outcome"] == "ok"


def test_a_model_that_cannot_be_loaded_is_one_line(observed: Server) -> None:
    failures = "whisperx_asr_model_load_failures_total"
    before = value(scrape(observed), failures, kind="recognizer")
    query = {"model": "base", "enable_diarization": "false"}  # nobody has asked for it yet
    assert send(observed, "no-hub", audio_of("en_short"), **query).status_code == 503

    def errors() -> list[dict[str, Any]]:
        return [x for x in lines_of(observed, "no-hub") if x["level"] == "error"]

    eventually(lambda: bool(errors()))  # its line may be written after the answer
    [line] = errors()
    assert line["event"].startswith("loading the recognizer base failed: it is not in the cache")
    assert "exception" not in line
    assert value(scrape(observed), failures, kind="recognizer") == before + 1


def test_a_client_that_hangs_up_is_no_failure(observed: Server) -> None:
    gone = value(scrape(observed), "whisperx_asr_errors_total", kind="ClientGone")
    with socket.create_connection(("127.0.0.1", urlsplit(observed.url).port or 0)) as client:
        client.sendall(
            b"POST /asr HTTP/1.1\r\nHost: a\r\nX-Request-ID: gone\r\nContent-Length: 99999\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        )
    line = request_line(observed, "gone")
    assert (line["status"], line["outcome"]) == (499, "cancelled")
    assert value(scrape(observed), "whisperx_asr_errors_total", kind="ClientGone") == gone + 1


def test_the_server_and_hostile_clients_share_the_pipe(observed: Server) -> None:
    """Neither a path nor garbage begins a line of its own: every line stays a JSON object."""
    hostile = "/a%0A%7B%22event%22%3A%22forged%22%7D%1B[31m%E2%80%A8"
    response = httpx.get(observed.url + hostile, headers={"X-Request-ID": "evil"})
    assert response.status_code == 404
    line = request_line(observed, "evil")
    assert line["path"].startswith('/a\n{"event":"forged"}\x1b[31m\u2028')
    assert line["outcome"] == "refused"
    with socket.create_connection(("127.0.0.1", urlsplit(observed.url).port or 0)) as client:
        client.sendall(b"no HTTP\n{}\r\n\r\n")
        assert b"400" in client.recv(1000)
    soon(lambda: [x for x in lines_of(observed) if x["event"].startswith("Invalid HTTP request")])
    assert not [x for x in lines_of(observed) if x["event"] == "forged"]
    assert {x["logger"] for x in lines_of(observed)} >= {"uvicorn.error", "app.request"}
    assert "uvicorn.access" not in {x["logger"] for x in lines_of(observed)}


def test_what_never_became_a_request_is_known_too(observed: Server) -> None:
    refusals = {
        "400": b"no HTTP\r\n\r\n",
        "414": b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "431": b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 300 + b"\r\n",
    }
    metric = "whisperx_asr_connections_refused_total"
    for status, sent in refusals.items():
        before = value(scrape(observed), metric, status=status)
        with socket.create_connection(("127.0.0.1", urlsplit(observed.url).port or 0)) as client:
            client.sendall(sent)
            answer = client.recv(10_000).decode()
        assert answer.split()[1] == status
        named = re.search(r"x-request-id: (\w+)", answer)
        assert named is not None
        [line] = soon(lambda named=named: lines_of(observed, named[1]))
        assert (line["event"], str(line["status"])) == ("connection refused", status)
        assert line["address"] == "127.0.0.1"
        assert value(scrape(observed), metric, status=status) == before + 1


# -- metrics ---------------------------------------------------------------------------------------


def test_a_request_is_counted(observed: Server) -> None:
    before = scrape(observed)
    assert send(observed, "count", audio_of("es_two"), enable_diarization="true").status_code == 200
    line = request_line(observed, "count")
    after = scrape(observed)

    def grown(name: str, **labels: str) -> float:
        full = f"whisperx_asr_{name}"
        return value(after, full, **labels) - value(before, full, **labels)

    labels = {"endpoint": "/asr", "model": "demo"}
    assert grown("requests_total", dialect="whisperx", status="200", **labels) == 1
    assert grown("audio_seconds_total", **labels) == pytest.approx(line["audio_seconds"], abs=0.01)
    processing_s = grown("processing_seconds_total", **labels)
    assert processing_s == pytest.approx(line["rtf"] * line["audio_seconds"], rel=0.02)
    assert grown("rtf_count", **labels) == 1
    assert grown("rtf_sum", **labels) == pytest.approx(line["rtf"], abs=0.001)
    assert grown("upload_bytes_total") == line["upload_bytes"]
    for stage, seconds in line["stages"].items():
        assert grown("stage_seconds_count", stage=stage) == 1
        assert grown("stage_seconds_sum", stage=stage) == pytest.approx(seconds, abs=0.001)
    for kind in ("vad", "recognizer", "aligner", "diarizer"):
        items = grown("batch_items_sum", kind=kind)
        assert grown("batch_items_count", kind=kind) <= items
        assert 1 <= items <= grown("batch_room_items_total", kind=kind)
        assert grown("batch_seconds_sum", kind=kind) > 0


def test_gauges_are_read_at_the_scrape(observed: Server) -> None:
    metrics = scrape(observed)
    assert value(metrics, "whisperx_asr_ready") == 1
    soon(lambda: value(scrape(observed), "whisperx_asr_queue_requests") == 0)
    assert value(metrics, "whisperx_asr_queue_limit_requests") == 100
    names = {
        (s.labels["kind"], s.labels["name"]) for s in metrics["whisperx_asr_model_loaded"].samples
    }
    assert {("vad", "pyannote"), ("recognizer", "demo"), ("diarizer", "diarization")} <= names
    rss = value(metrics, "process_resident_memory_bytes")
    assert 100 << 20 < rss < value(metrics, "whisperx_asr_memory_limit_bytes")
    port = urlsplit(observed.url).port or 0
    with socket.create_connection(("127.0.0.1", port)) as client:  # an upload that takes its time
        client.sendall(
            b"POST /asr HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        )
        waiting = {"state": "waiting"}
        soon(lambda: value(scrape(observed), "whisperx_asr_queue_requests", **waiting) == 1)
    soon(lambda: value(scrape(observed), "whisperx_asr_queue_requests") == 0)


def series(metrics: dict[str, Metric]) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {(s.name, frozenset(s.labels.items())) for m in metrics.values() for s in m.samples}


def test_clients_cannot_make_series(observed: Server) -> None:
    def knock(i: int) -> None:
        observed.get(f"/nothing/{i}")
        observed.get(f"/queue/{i}")
        httpx.delete(f"{observed.url}/queue/{i}")
        send(observed, f"knock-{i}", b"x", model=f"model-{i}", output=f"form-{i}")
        send(observed, f"knock-{i}", b"x", path=f"/asr/{i}", task=f"task-{i}")
        httpx.request(f"BREW{i}", f"{observed.url}/asr")

    def noted(i: int) -> bool:
        # BREW is no request: the parser refuses it
        return [x["event"] for x in lines_of(observed, f"knock-{i}")].count("request") == 2

    knock(0)
    soon(lambda: noted(0))
    before = series(scrape(observed))
    for i in range(1, 6):
        knock(i)
    soon(lambda: noted(5))
    assert series(scrape(observed)) == before


def test_the_formats_of_a_scrape(observed: Server) -> None:
    plain = observed.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    strange = {"Accept": "application/openmetrics-text;version=x"}
    assert httpx.get(observed.url + "/metrics", headers=strange).status_code == 200
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    other = httpx.get(f"{observed.url}/metrics", headers=accept)
    assert other.headers["content-type"].startswith("application/openmetrics-text")
    assert other.text.endswith("# EOF\n")


def test_every_query_finds_what_the_service_exposes(
    observed: Server, conversation: httpx.Response
) -> None:
    asked = queries()
    assert len(asked) > 40
    all_found(asked, scrape(observed))


# -- traces ----------------------------------------------------------------------------------------


def spans_of(collector: Collector, request_id: str) -> tuple[Any, list[Any]]:
    """The span of a request and its children."""

    def look() -> Any:
        for span in list(collector.spans):
            if attributes_of(span).get("asr.request_id") == request_id:
                return span
        return None

    parent = soon(look)
    return parent, [s for s in list(collector.spans) if s.parent_span_id == parent.span_id]


def test_a_request_continues_its_callers_trace(
    observed: Server, conversation: httpx.Response, collector: Collector
) -> None:
    span, children = spans_of(collector, "talk")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    assert span.name == "POST /asr"
    attributes = attributes_of(span)
    assert attributes["http.response.status_code"] == 200
    assert (attributes["asr.dialect"], attributes["asr.model"]) == ("webservice", "demo")
    line = request_line(observed, "talk")
    assert attributes["asr.rtf"] == pytest.approx(line["rtf"], abs=0.001)
    seconds: dict[str, float] = {}
    for child in children:
        assert child.trace_id == span.trace_id
        assert span.start_time_unix_nano <= child.start_time_unix_nano
        assert child.end_time_unix_nano <= span.end_time_unix_nano
        took_s = (child.end_time_unix_nano - child.start_time_unix_nano) / 1e9
        seconds[child.name] = seconds.get(child.name, 0) + took_s
    assert seconds == pytest.approx(line["stages"], abs=0.002)
    assert collector.resources[0]["service.name"] == "whisperx-asr-service"
    assert collector.resources[0]["deployment.environment"] == "test"


def test_a_failed_stage_is_an_error_in_the_trace(observed: Server, collector: Collector) -> None:
    assert send(observed, "broken", b"no audio at all").status_code == 400
    span, children = spans_of(collector, "broken")
    assert attributes_of(span)["error.type"] == "UndecodableAudio"
    [decoding] = [child for child in children if child.name == "decode"]
    assert decoding.status.message == "UndecodableAudio"


# -- what a running service does not do on command -------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [(ZeroDivisionError("secret"), 500, "failed"), (asyncio.CancelledError(), 499, "cancelled")],
)
def test_a_request_that_breaks_is_reported(error: BaseException, status: int, outcome: str) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise error

    reported: list[RequestRecord] = []
    service: Any = SimpleNamespace(tracing=Tracing(), report=reported.append)
    scope = {"type": "http", "method": "GET", "path": "/a", "headers": []}
    scope["state"] = {"request_id": "b", "client_name": "Ada"}
    call: Any = ObservationMiddleware(broken, service)
    with pytest.raises(type(error)):
        asyncio.run(call(scope, None, None))
    [record] = reported
    assert (record.status, record.outcome) == (status, outcome)
    assert (record.request_id, record.endpoint, record.client_name) == ("b", "other", "Ada")


# -- another service: console, everything, transcripts ---------------------------------------------


def test_the_console_shows_what_it_is_asked_to(tmp_path: Path) -> None:
    with running_server(
        tmp_path,
        LOG_LEVEL="debug",
        LOG_TRANSCRIPTS="true",
        DIARIZATION_MODEL="nobody/nothing",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",  # a collector that is not there
        OTEL_BSP_SCHEDULE_DELAY=100,
    ) as server:
        sent = send(server, "shown", audio_of("en_short"), output="json", diarize="true")
        assert sent.status_code == 200
        assert "X-ASR-Warning" in sent.headers
        httpx.get(server.url + "/x%0Aforged status=200%1B[0m")
        soon(lambda: [x for x in server.log().splitlines() if "app.request" in x and "=shown" in x])
        metrics = scrape(server)
        soon(lambda: "Transient error StatusCode.UNAVAILABLE" in server.log())
        log = soon(lambda: "path=/metrics" in server.log() and server.log())
    [line] = [x for x in log.splitlines() if "app.request" in x and "request_id=shown" in x]
    assert f"text={sent.json()['text']!r}" in line
    assert "warnings=['no_diarization_model']" in line
    assert "path=/health" in log or "path=/ready" in log
    assert r"path='/x\\nforged status=200\\x1b[0m'" in log
    assert "\nforged" not in log
    assert "\x1b" not in log  # no colours in a file either
    failures = [x for x in log.splitlines() if "loading the diarizer nobody/nothing failed" in x]
    [failure] = [x for x in failures if "request_id=shown" in x]
    traceback = log.split(failure)[1].splitlines()[1:4]
    assert traceback[0] == "    Traceback (most recent call last):"
    assert all(text.startswith("    ") for text in traceback)
    assert value(metrics, "whisperx_asr_warnings_total", kind="no_diarization_model") == 1
    assert value(metrics, "whisperx_asr_model_load_failures_total", kind="diarizer") >= 1
