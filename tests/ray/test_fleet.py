"""Two fronts and two transcribers: nothing is lost, whoever dies; each tells what all do."""

from __future__ import annotations

import http.client
import json
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.fleet import replica_names, replicas, samples
from tests.support.media import speech
from tests.support.monitoring import all_found, fleet_queries
from tests.support.server import Server
from tests.support.streams import stream
from tests.support.truth import audio_of, normalize, said_in, truth_of, word_error_rate
from tests.support.waiting import eventually

SHORT, LONG = audio_of("en_short"), audio_of("en_two_b")
BURST = 40
RECOVERY_S = 600.0  # a replica starts within seconds on a machine that does nothing else


@pytest.fixture(autouse=True)
def _complete(fleet: Server) -> Iterator[None]:
    """Whatever a test does, all replicas are there again in the end, and serve."""
    yield
    eventually(lambda: len(replica_names(fleet)) == 4, RECOVERY_S)
    assert text(fleet.post(SHORT, output="json")) == said_in(SHORT.stem)


def text(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return normalize(response.json()["text"])


def kill_one(fleet: Server, deployment: str) -> None:
    replicas(fleet, deployment)[0].send_signal(signal.SIGKILL)


def burst(fleet: Server, meanwhile: Callable[[], None]) -> list[httpx.Response]:
    """Forty requests at a time; `meanwhile` is called once some have their answer."""
    with ThreadPoolExecutor(BURST) as pool:
        asked: list[Future[httpx.Response]] = [
            pool.submit(fleet.post, LONG if i % 4 == 0 else SHORT, output="json")
            for i in range(BURST)
        ]
        eventually(lambda: sum(future.done() for future in asked) >= 3, RECOVERY_S)
        meanwhile()
        return [future.result() for future in asked]


@pytest.mark.parametrize("who", ["Transcriber", "Front", "controller"])
def test_all_of_a_burst_are_answered_whoever_dies(fleet: Server, who: str) -> None:
    answers = burst(fleet, lambda: kill_one(fleet, who))
    assert Counter(answer.status_code for answer in answers) == {200: BURST}
    for i, answer in enumerate(answers):
        wanted = said_in((LONG if i % 4 == 0 else SHORT).stem)
        assert word_error_rate(wanted, " ".join(text(answer))) <= 0.05


def test_what_was_told_is_not_told_again(fleet: Server) -> None:
    """A transcriber dies in the middle of a stream of events; another one goes on."""
    recording = audio_of("en_long")
    killed = threading.Event()
    deltas: list[str] = []
    done = ""
    with (
        recording.open("rb") as file,
        httpx.stream(
            "POST",
            fleet.url + "/v1/audio/transcriptions",
            data={"model": "demo", "stream": "true"},
            files={"file": ("a.flac", file)},
            timeout=600,
        ) as response,
    ):
        assert response.status_code == 200
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            told = json.loads(line.removeprefix("data: "))
            if told["type"] == "transcript.text.delta":
                deltas.append(told["delta"])
            elif told["type"] == "transcript.text.done":
                done = told["text"]
            if deltas and not killed.is_set():
                killed.set()
                busiest(fleet).send_signal(signal.SIGKILL)
    assert killed.is_set()
    assert normalize("".join(deltas)) == normalize(done)
    wanted = [w for s in truth_of("en_long")["sentences"] for w in normalize(s["text"])]
    assert word_error_rate(wanted, done) <= 0.05


def busiest(fleet: Server) -> psutil.Process:
    """The transcriber that has used most of a moment's time."""
    found = replicas(fleet, "Transcriber")
    before = {p.pid: sum(p.cpu_times()[:2]) for p in found}
    time.sleep(0.3)
    return max(found, key=lambda p: sum(p.cpu_times()[:2]) - before[p.pid])


def test_a_stream_loses_no_word_when_a_transcriber_dies(fleet: Server) -> None:
    samples = speech("en_mono")
    with stream(fleet, language="en", interim=True) as client:
        client.say(samples[: len(samples) // 2])
        client.wait(lambda message: "processing_time" in message, patience_s=RECOVERY_S)
        kill_one(fleet, "Transcriber")
        client.say(samples[len(samples) // 2 :])
        client.end(RECOVERY_S)
        words = (word["word"] for word in truth_of("en_mono")["words"])
        assert word_error_rate(words, client.text()) <= 0.05


def test_a_stream_comes_back_when_its_front_dies(fleet: Server) -> None:
    """Its client opens another one, and sends again what had no transcript."""
    sound = speech("en_mono")
    with stream(fleet, language="en") as client:
        client.say(sound[: len(sound) * 2 // 3])
        client.wait(lambda message: message.get("segments"), patience_s=RECOVERY_S)
        front_of_stream(fleet).send_signal(signal.SIGKILL)
        assert client.closed(RECOVERY_S) != 1000
    heard = client.results()
    known_s = max(segment["end"] for result in heard for segment in result["segments"])
    with stream(fleet, language="en") as again:
        again.say(sound[round(known_s * 16_000) :])
        assert again.end(RECOVERY_S)[-1] == {"status": "ended"}
    words = (word["word"] for word in truth_of("en_mono")["words"])
    assert word_error_rate(words, f"{client.text()} {again.text()}") <= 0.05


def front_of_stream(fleet: Server) -> psutil.Process:
    """The front that has a stream open."""
    streams = samples(fleet, "whisperx_asr_live_streams")
    [name] = [labels["replica"] for labels, value in streams if value]
    found = re.search(rf"Front pid=(\d+)\).* replica={name}", fleet.log())
    assert found is not None
    return psutil.Process(int(found[1]))


def test_a_client_that_hangs_up_frees_the_transcriber(fleet: Server) -> None:
    with pytest.raises(httpx.TimeoutException):
        fleet.post(audio_of("en_long"), timeout_s=2.0)
    eventually(lambda: all(value == 0 for value in queued(fleet).values()), RECOVERY_S)


def queued(fleet: Server) -> dict[str, float]:
    """Seconds of audio in progress, by replica."""
    found = samples(fleet, "whisperx_asr_queue_audio_seconds")
    return {labels["replica"]: value for labels, value in found}


def test_any_front_cancels_a_request_of_another(fleet: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(
                httpx.post,
                fleet.url + "/asr",
                files={"audio_file": ("a.flac", audio_of("en_long").read_bytes())},
                headers={"X-Request-ID": f"cancel-{i}"},
                timeout=600,
            )
            for i in range(4)
        ]
        for i in range(4):
            eventually(lambda i=i: f"cancel-{i}" in ids(fleet) or asked[i].done(), RECOVERY_S)
            gone = httpx.delete(f"{fleet.url}/queue/cancel-{i}", timeout=60)
            assert gone.status_code == 204 or asked[i].done()
        answers = [future.result() for future in asked]
    assert {answer.status_code for answer in answers} <= {200, 410}
    assert any(answer.status_code != 200 for answer in answers)
    assert httpx.delete(f"{fleet.url}/queue/unknown", timeout=60).status_code == 404


def ids(fleet: Server) -> set[str]:
    return {entry["id"] for entry in fleet.get("/queue").json()["requests"]}


def test_jobs_are_done_by_any_front_even_if_one_dies(fleet: Server) -> None:
    accepted = [submitted(fleet) for _ in range(6)]
    kill_one(fleet, "Front")
    eventually(lambda: all(state(fleet, job) == "done" for job in accepted), RECOVERY_S)
    texts = [fleet.get(f"/result/{job}?format=txt").text for job in accepted]
    assert [normalize(text) for text in texts] == [said_in(SHORT.stem)] * 6


def submitted(fleet: Server) -> str:
    """The ID of a new job."""
    files = {"file": ("a.flac", SHORT.read_bytes())}
    fields = {"language": "en", "diarize": "false"}
    response = httpx.post(fleet.url + "/transcribe", data=fields, files=files, timeout=60)
    assert response.status_code == 202, response.text
    return str(response.json()["task_id"])


def state(fleet: Server, job: str) -> str:
    response = fleet.get(f"/status/{job}")
    return str(response.json()["status"]) if response.status_code == 200 else ""


def test_figures_and_log_lines_name_their_replica(fleet: Server) -> None:
    kinds = Counter(name.split("#")[0] for name in replica_names(fleet))
    assert kinds == {"Front": 2, "Transcriber": 2}
    batches = samples(fleet, "whisperx_asr_batch_items_count")
    assert {labels["replica"].split("#")[0] for labels, value in batches if value} == {
        "Transcriber"
    }
    requests = samples(fleet, "whisperx_asr_requests_total")
    assert {labels["replica"].split("#")[0] for labels, _ in requests} == {"Front"}
    log = fleet.log()
    assert "replica=Front#" in log
    assert "replica=Transcriber#" in log


def test_the_dashboards_row_for_fleets_finds_its_figures(fleet: Server) -> None:
    families = text_string_to_metric_families(fleet.get("/metrics").text)
    asked = fleet_queries()
    assert len(asked) >= 3
    all_found(asked, {family.name: family for family in families})


def test_loaded_models_are_those_of_transcribers(fleet: Server) -> None:
    eventually(lambda: fleet.get("/health").json()["loaded_models"] == ["demo"])
    model = fleet.get("/v1/models/demo").json()
    assert model["loaded"] is True


def test_an_upload_that_is_too_large_is_refused_before_it_comes(fleet: Server) -> None:
    """As without Ray: nothing of it is read where the client waits for a word."""
    address = urlsplit(fleet.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 0, timeout=300)
    connection.putrequest("POST", "/asr?output=json")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(3 << 30))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert "1000 MB" in json.loads(answer.read())["detail"]
    connection.close()


def test_no_client_commands_the_proxy(fleet: Server) -> None:
    """Neither by its hints, nor by headers that are no text."""
    response = httpx.post(
        fleet.url + "/asr?output=json",
        files={"audio_file": ("a.flac", SHORT.read_bytes())},
        headers={
            "X-Request-Timeout-Seconds": "0.001",
            "X-Session-ID": b"\xff",
            "X-Request-ID": b"\xff",
        },
        timeout=600,
    )
    assert text(response) == said_in(SHORT.stem)
    assert re.fullmatch("[0-9a-f]{16}", response.headers["x-request-id"])
