"""Jobs over HTTP: handed in, followed, fetched, cancelled, found again; each client its own."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest
import srt
import webvtt

from app.api.asr.parameters import OUTPUTS
from app.api.jobs.router import ADDRESSES
from tests.support.curl import curl_program
from tests.support.events import Told, read_events
from tests.support.forms import MULTIPART, form, part
from tests.support.held_server import HOLD, held
from tests.support.keys import BOB, bearer
from tests.support.paths import ROOT
from tests.support.server import Server, running_server
from tests.support.truth import (
    audio_of,
    median_start_error_s,
    speaker_accuracy,
    truth_of,
    word_error_rate,
    words_of,
)
from tests.support.waiting import eventually

SCRIPT = ROOT / "tests" / "support" / "held_server.py"
MVP = "mvp-api-key-123"  # as in the documents of the system that this contract comes from
CAROL = "c4ca4238a0b923820dcc509a6f75849b"
CONVERSATION = "en_two_b"
ENDED = ("done", "failed", "cancelled")
STEPS = ("fetch", "decode", "recognize", "align", "diarize", "store", "notify", None)
URLENCODED = "application/x-www-form-urlencoded"
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker, so that a job that waits for the test holds up those after it."""
    settings: dict[str, Any] = {
        "API_KEYS": f"mvp:{MVP}, bob:{BOB}, carol:{CAROL}",
        "JOB_WORKERS": 1,
        "JOB_RETRY_SECONDS": 0.1,
        "OPS_REQUIRE_KEY": "false",
    }
    folder = tmp_path_factory.mktemp("tasks")
    with running_server(folder, script=SCRIPT, **settings) as running:
        with held(folder):
            pass
        yield running
        eventually(lambda: running.temp_files() == [])


def call(server: Server, method: str, path: str, key: str = MVP, **more: Any) -> httpx.Response:
    more.setdefault("timeout", 60)
    headers = {**bearer(key), **more.pop("headers", {})}
    return httpx.request(method, server.url + path, headers=headers, **more)


def post(
    server: Server,
    content: bytes | None = None,
    name: str = "audio.flac",
    key: str = MVP,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> httpx.Response:
    content = audio_of("en_short").read_bytes() if content is None else content
    files = {"file": (name, content)}
    data = {field: str(value) for field, value in fields.items()}
    return call(server, "POST", "/transcribe", key, data=data, files=files, headers=headers or {})


def handed_in(server: Server, *arguments: Any, **fields: Any) -> str:
    response = post(server, *arguments, **fields)
    assert response.status_code == 202, response.text
    body = response.json()
    assert body["status"] == "queued"
    assert response.headers["location"] == f"/status/{body['task_id']}"
    return str(body["task_id"])


def status(server: Server, task_id: str, key: str = MVP) -> dict[str, Any]:
    response = call(server, "GET", f"/status/{task_id}", key)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def ended(server: Server, task_id: str, key: str = MVP) -> dict[str, Any]:
    eventually(lambda: status(server, task_id, key)["status"] in ENDED, 300)
    return status(server, task_id, key)


def uploads(server: Server) -> list[str]:
    """Recordings that are kept for jobs."""
    return [path.name for path in (server.folder / "data" / "uploads").iterdir()]


@contextmanager
def worker_held(server: Server) -> Iterator[str]:
    """The only worker waits, with the job of this ID, until the block ends."""
    with held(server.folder):
        task_id = handed_in(server, hotwords=HOLD)
        eventually(lambda: status(server, task_id)["status"] == "processing")
        yield task_id
    eventually(lambda: status(server, task_id)["status"] in ENDED)


def works(server: Server) -> None:
    """The next job is done."""
    task_id = handed_in(server, language="en", diarize="false")
    assert ended(server, task_id)["status"] == "done"


# -- the documents of the system whose contract it is ----------------------------------------------


@pytest.mark.parametrize("prefix", ["/api/v1", ""])
def test_the_documented_commands(tasks: Server, prefix: str) -> None:
    program = curl_program()

    def curl(path: str, *arguments: str) -> Any:
        command = [program, *arguments, f"{tasks.url}{prefix}{path}", "-H"]
        output = subprocess.run(
            [*command, f"Authorization: Bearer {MVP}"], capture_output=True, check=True, timeout=120
        ).stdout
        return json.loads(output)

    fields = ["file=@audio.mp3", "lang=auto", "format=json", "diarization=true"]
    if not prefix:
        fields.insert(2, "model=demo")
    (tasks.folder / "audio.mp3").write_bytes(audio_of("en_short").read_bytes())
    fields[0] = f"file=@{tasks.folder}/audio.mp3"
    form_fields = [argument for field in fields for argument in ("-F", field)]
    created = curl("/transcribe", "-X", "POST", *form_fields)
    assert created["status"] == "queued"
    assert created["message"] == "Task successfully created"
    task_id = created["task_id"]
    while (told := curl(f"/status/{task_id}"))["status"] not in ENDED:
        assert told["status"] in ("queued", "processing")
        assert 0 <= told["progress"] <= 100
        assert told["eta_seconds"] is None or told["eta_seconds"] >= 0
        time.sleep(0.1)
    result = curl(f"/result/{task_id}")
    assert result["task_id"] == task_id
    assert result["status"] == "done"
    assert result["language"] == "en"
    assert result["model"] == "demo"
    assert result["processing_time"] > 0
    assert result["full_text"] == "Can you check the report? The building is late."
    assert [segment["text"] for segment in result["segments"]] == [
        "Can you check the report?",
        "The building is late.",
    ]
    assert {segment["speaker"] for segment in result["segments"]} == {"spk_1"}


# -- results ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def conversation(tasks: Server) -> str:
    """The ID of a job with two speakers, asked for as subtitles."""
    task_id = handed_in(
        tasks,
        audio_of(CONVERSATION).read_bytes(),
        "team meeting.flac",
        format="srt",
        metadata='{"room": {"floor": 2}}',
    )
    assert ended(tasks, task_id)["status"] == "done"
    return task_id


def fetch(server: Server, task_id: str, output: str = "") -> httpx.Response:
    query = f"?format={output}" if output else ""
    response = call(server, "GET", f"/result/{task_id}{query}")
    assert response.status_code == 200, response.text
    return response


def test_words_times_and_speakers(tasks: Server, conversation: str) -> None:
    body, truth = fetch(tasks, conversation, "json").json(), truth_of(CONVERSATION)
    spoken = " ".join(sentence["text"] for sentence in truth["sentences"])
    assert word_error_rate(spoken, body["full_text"]) <= 0.02
    found = words_of(body)
    assert median_start_error_s(truth["words"], found) < 0.06
    assert speaker_accuracy(truth["words"], found) >= 0.95
    speakers = [segment["speaker"] for segment in body["segments"]]
    assert list(dict.fromkeys(speakers)) == ["spk_1", "spk_2"]
    assert body["duration"] == pytest.approx(truth["duration"], abs=0.1)
    assert body["metadata"] == {"room": {"floor": 2}}
    assert body["file_name"] == "team meeting.flac"
    assert body["warnings"] == []


def test_every_format_says_the_same(tasks: Server, conversation: str) -> None:
    segments = fetch(tasks, conversation, "json").json()["segments"]
    lines = [f"[{segment['speaker']}]: {segment['text']}" for segment in segments]
    asked = fetch(tasks, conversation)  # in the job's own format
    assert [cue.content for cue in srt.parse(asked.text)] == lines
    assert asked.headers["content-disposition"] == 'attachment; filename="team meeting.flac.srt"'
    assert asked.headers["content-type"].startswith("text/plain")
    captions = webvtt.from_string(fetch(tasks, conversation, "vtt").text).captions
    assert [caption.text for caption in captions] == lines
    assert fetch(tasks, conversation, "text").text.splitlines() == lines
    assert len(fetch(tasks, conversation, "tsv").text.splitlines()) == len(lines) + 1
    if "md" in OUTPUTS:
        assert fetch(tasks, conversation, "md").text.count("## Segment ") == len(lines)
    styled = call(tasks, "GET", f"/result/{conversation}?max_line_width=20")
    assert max(map(len, styled.text.splitlines())) <= 32
    assert call(tasks, "GET", f"/result/{conversation}?format=pdf").status_code == 422


def test_nobody_is_named_where_speakers_are_not_told_apart(tasks: Server) -> None:
    task_id = handed_in(tasks, diarization="false", language="english", temperature="0")
    ended(tasks, task_id)
    body = fetch(tasks, task_id).json()
    assert [segment["speaker"] for segment in body["segments"]] == [None, None]
    assert body["language"] == "en"


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lang", "klingon"),
        ("language", "xx"),
        ("model", "gpt-9"),
        ("format", "docx"),
        ("diarization", "maybe"),
        ("diarize", "2"),
        ("num_speakers", "0"),
        ("min_speakers", "-1"),
        ("max_speakers", "1000"),
        ("speakers", "seats"),
        ("callback_url", "ftp://example.com/x"),
        ("callback_url", "https://"),
        ("callback_url", "example.com/hook"),
        ("callback_url", "http://127.0.0.1/hook"),
        ("callback_url", "http://[::1/"),
        ("metadata", "[1, 2]"),
        ("metadata", '{"a": NaN}'),
        ("metadata", '{"a": 1e999}'),
        ("metadata", '{"a": "\\ud800"}'),
        ("metadata", "{"),
        ("metadata", '{"a": ' + "[" * 8000 + "]" * 8000 + "}"),
        ("metadata", '{"a": ' + "[" * 40 + "]" * 40 + "}"),
        ("metadata", '{"a": "' + "x" * (16 << 10) + '"}'),
        ("metadata", '{"a": "' + "x" * (512 << 10) + '"}'),
        ("priority", "urgent"),
        ("temperature", "7"),
        ("task", "summarize"),
        ("url", "https://example.com/a.mp3"),  # URL_INGEST is off
    ],
)
def test_each_wrong_value_is_named(tasks: Server, field: str, value: str) -> None:
    response = post(tasks, **{field: value})
    assert response.status_code == 422, response.text
    assert response.json()["detail"].startswith(f"{field}: ")
    assert len(response.json()["detail"]) < 3000


def test_a_file_is_needed(tasks: Server) -> None:
    for more in (
        {},
        {"data": {"lang": "en"}},
        {"files": {"recording": ("a.flac", b"x" * 100_000)}},
        {"content": b"\x00RIFF" * 1000, "headers": {"Content-Type": "audio/wav"}},
        {"data": {f"field{i}": "x" for i in range(200)}},
        {"content": b"x" * (1100 << 10), "headers": {"Content-Type": URLENCODED}},
    ):
        response = call(tasks, "POST", "/transcribe", **more)
        assert response.status_code in (400, 422), response.text
    ignored = post(tasks, b"x", num_speakers="", prompt="", foo="1").headers["x-asr-ignored"]
    assert ignored == "foo"
    works(tasks)


def test_another_name_of_the_file_and_parameters_in_the_query(tasks: Server) -> None:
    files = {"audio_file": ("a.flac", audio_of("en_short").read_bytes())}
    response = call(tasks, "POST", "/transcribe?format=text&diarize=false&language=en", files=files)
    assert response.status_code == 202
    assert "x-asr-ignored" not in response.headers
    task_id = response.json()["task_id"]
    ended(tasks, task_id)
    assert fetch(tasks, task_id).text == "Can you check the report?\nThe building is late.\n"


def test_a_strangers_job_does_not_exist(tasks: Server, conversation: str) -> None:
    for task_id in (conversation, NOBODY, "x", "%00", "a" * 5000, "..%2f..%2fetc", "é"):
        key = BOB if task_id == conversation else MVP
        for address, method in (*ADDRESSES.items(), ("/result/{task_id}", "DELETE")):
            if "{task_id}" in address:
                path = address.replace("{task_id}", task_id)
                response = call(tasks, method, path, key)
                assert response.status_code == 404, (path, response.text)
    assert call(tasks, "GET", "/history", BOB).json()["tasks"] == []
    assert httpx.get(f"{tasks.url}/status/{conversation}").status_code == 401
    assert status(tasks, conversation)["status"] == "done"


# -- the same request again ------------------------------------------------------------------------


def test_a_repeated_request_is_one_job(tasks: Server) -> None:
    key, num_uploads = {"Idempotency-Key": "order-7"}, len(uploads(tasks))
    with ThreadPoolExecutor(20) as pool:
        posts = [
            pool.submit(post, tasks, None, "race.flac", MVP, key, language="en", diarize="false")
            for _ in range(20)
        ]
        answers = [answer.result() for answer in posts]
    assert {answer.status_code for answer in answers} <= {202, 409}
    accepted = {answer.json()["task_id"] for answer in answers if answer.status_code == 202}
    assert len(accepted) == 1
    assert call(tasks, "GET", "/history?search=race.flac").json()["total"] == 1
    [task_id] = accepted
    # also once it has ended, and whatever the query and the form say in their own ways
    ended(tasks, task_id)
    again = post(tasks, None, "race.flac", MVP, key, lang="english", diarization="0")
    assert (again.status_code, again.json()["task_id"]) == (202, task_id)
    for other in ({"lang": "es"}, {"metadata": '{"a": 1}'}, {"format": "srt"}):
        refused = post(tasks, None, "race.flac", MVP, key, **{"diarize": "false", **other})
        assert refused.status_code == 422
        assert "Idempotency-Key" in refused.json()["detail"]
    assert post(tasks, b"other", "race.flac", MVP, key, language="en").status_code == 422
    other_client = post(tasks, b"other", "race.flac", BOB, key)
    assert other_client.status_code == 202
    assert other_client.json()["task_id"] != task_id
    eventually(lambda: len(uploads(tasks)) <= num_uploads + 1)  # Bob's, which is no recording


def test_a_key_is_free_again_after_a_refusal(tasks: Server) -> None:
    key = {"Idempotency-Key": "again"}
    assert post(tasks, headers=key, lang="klingon").status_code == 422
    with closing(begun_upload(tasks, "Idempotency-Key: again")):
        eventually(lambda: tasks.temp_files() != [])
        answer = post(tasks, b"x", headers=key)
        assert answer.status_code == 409
        assert int(answer.headers["retry-after"]) >= 1
    eventually(lambda: post(tasks, b"x", headers=key).status_code == 202)
    for wrong in ("", "x" * 256):
        assert post(tasks, headers={"Idempotency-Key": wrong}).status_code == 422


def begun_upload(server: Server, header: str = "") -> socket.socket:
    """A connection that has sent half of its recording."""
    connection = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), 30)
    body = part("file", audio_of(CONVERSATION).read_bytes(), b"half.flac")
    head = (
        f"POST /transcribe HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART}\r\n{header}\r\n"
        f"Authorization: Bearer {MVP}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.replace("\r\n\r\nAuth", "\r\nAuth").encode() + body[: len(body) // 2])
    return connection


def test_nothing_is_left_of_an_upload_that_breaks_off(tasks: Server) -> None:
    before = uploads(tasks)
    with closing(begun_upload(tasks)):
        eventually(lambda: tasks.temp_files() != [])
    eventually(lambda: tasks.temp_files() == [])
    assert uploads(tasks) == before
    assert call(tasks, "GET", "/history?search=half.flac").json()["total"] == 0
    works(tasks)


# -- the end ---------------------------------------------------------------------------------------


def test_a_broken_recording_fails_with_a_sentence(tasks: Server) -> None:
    task_id = handed_in(tasks, b"no media", "broken.mp3")
    told = ended(tasks, task_id)
    assert (told["status"], told["error"]["code"]) == ("failed", "undecodable_audio")
    assert told["attempts"] == 1
    response = call(tasks, "GET", f"/result/{task_id}?format=srt")
    assert response.status_code == 422
    assert response.json()["detail"] == told["error"]["message"]
    assert response.json()["detail"].endswith(".")
    again = call(tasks, "POST", f"/retry/{task_id}")
    assert (again.status_code, again.json()["status"]) == (202, "queued")
    assert ended(tasks, task_id)["status"] == "failed"
    assert call(tasks, "DELETE", f"/cancel/{task_id}").status_code == 409
    works(tasks)
    removed = call(tasks, "DELETE", f"/result/{task_id}")
    assert (removed.status_code, removed.json()["status"]) == (200, "deleted")
    assert call(tasks, "GET", f"/status/{task_id}").status_code == 404
    assert call(tasks, "GET", "/history?search=broken.mp3").json()["total"] == 0


def test_jobs_are_cancelled_waiting_and_running(tasks: Server) -> None:
    before = ended_jobs(tasks)
    with worker_held(tasks) as running:
        waiting = handed_in(tasks, name="waiting.flac")
        early = call(tasks, "GET", f"/result/{waiting}")
        assert early.status_code == 409
        assert early.json()["status"] == "queued"
        assert int(early.headers["retry-after"]) >= 1
        assert call(tasks, "DELETE", f"/result/{running}").status_code == 409
        assert call(tasks, "POST", f"/retry/{running}").status_code == 409
        assert gauge(tasks, "jobs", state="running") == 1
        assert gauge(tasks, "jobs", state="queued") >= 1
        num_uploads = len(uploads(tasks))
        for _ in range(2):
            answer = call(tasks, "DELETE", f"/cancel/{waiting}")
            assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert len(uploads(tasks)) == num_uploads - 1
        answer = call(tasks, "DELETE", f"/cancel/{running}")
        assert answer.json() == {"task_id": running, "status": "cancelling"}
    eventually(lambda: len(uploads(tasks)) == num_uploads - 2)
    for task_id in (waiting, running):
        gone = call(tasks, "GET", f"/result/{task_id}")
        assert (gone.status_code, gone.json()["status"]) == (410, "cancelled")
        assert call(tasks, "POST", f"/retry/{task_id}").status_code == 409
    assert ended_jobs(tasks)["cancelled"] == before["cancelled"] + 1
    works(tasks)
    assert ended_jobs(tasks)["done"] > before["done"]


def gauge(server: Server, name: str, **labels: str) -> float:
    shown = ",".join(f'{label}="{value}"' for label, value in labels.items())
    found = re.search(
        rf"^whisperx_asr_{name}{{{shown}}} (\S+)$", server.get("/metrics").text, re.MULTILINE
    )
    assert found, name
    return float(found[1])


def ended_jobs(server: Server) -> dict[str, float]:
    return {outcome: gauge(server, "jobs_ended_total", outcome=outcome) for outcome in ENDED}


# -- history ---------------------------------------------------------------------------------------


def test_history_has_each_job_once_while_new_ones_come(tasks: Server) -> None:
    def page(query: str) -> dict[str, Any]:
        response = call(tasks, "GET", f"/history?{query}", CAROL)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def hand_in(name: str) -> str:
        return handed_in(tasks, b"x", name, CAROL)

    with worker_held(tasks):
        names = ("100% sure.mp3", "100 sure.mp3", "a_b.mp3", "axb.mp3", "\u202etxt.mp3")
        ids = [hand_in(name) for name in (*names, *(f"{n}.mp3" for n in range(55)))]
        found: list[str] = []
        body = page("limit=7")
        while True:
            found += [task["task_id"] for task in body["tasks"]]
            if body["next_cursor"] is None:
                break
            hand_in("late.mp3")
            body = page(f"limit=7&cursor={body['next_cursor']}")
        assert found == ids[::-1]
        assert [task["task_id"] for task in page("limit=3&offset=66")["tasks"]] == ids[1::-1]
        for search, total in (("100%25", 1), ("a_b", 1), ("SURE", 2), ("%5c", 0), ("%00", 68)):
            assert page(f"search={search}")["total"] == total, search
        assert page("status=queued")["total"] == 68
        assert page("status=done,processing")["total"] == 0
        newest = page("limit=1")["tasks"][0]["created_at"]
        assert page(f"since={newest}")["total"] >= 1
        assert page(f"until={newest.replace('Z', '+00:00')}&limit=1")["total"] < 68
        assert page("since=2999-01-01")["total"] == 0
        with ThreadPoolExecutor(4) as pool:
            everything = [task["task_id"] for task in page("limit=200")["tasks"]]
            list(pool.map(lambda i: call(tasks, "DELETE", f"/cancel/{i}", CAROL), everything))
        assert page("status=cancelled&limit=1")["total"] == 68
    works(tasks)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", "0"),
        ("limit", "201"),
        ("offset", "-1"),
        ("cursor", "x"),
        ("cursor", "WzEsIlx1MDAwMCJd"),  # [1,"\u0000"]
        ("cursor", "W1tbW1tb" * 500),
        ("status", "asleep"),
        ("since", "yesterday"),
        ("until", "9" * 400),
    ],
)
def test_what_history_refuses(tasks: Server, field: str, value: str) -> None:
    response = call(tasks, "GET", "/history", params={field: value})
    assert response.status_code == 422, response.text
    assert response.json()["detail"].startswith(f"{field}: ")


# -- events ----------------------------------------------------------------------------------------


def follow(server: Server, task_id: str) -> list[Told]:
    """All events of a job, until the stream ends by itself."""
    with httpx.stream(
        "GET", f"{server.url}/events/{task_id}", headers=bearer(MVP), timeout=300
    ) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(read_events(response, time.monotonic()))


def test_events_tell_each_step_until_the_end(tasks: Server) -> None:
    with ThreadPoolExecutor(3) as pool:
        with worker_held(tasks):
            task_id = handed_in(tasks)
            followers = [pool.submit(follow, tasks, task_id) for _ in range(3)]
        for follower in followers:
            events = follower.result(300)
            assert [event.name for event in events[:-1]] == ["status"] * (len(events) - 1)
            assert events[0].data["status"] in ("queued", "processing")
            steps = [STEPS.index(e.data["step"]) for e in events if e.data["status"] != "queued"]
            assert steps == sorted(steps)
            progress = [event.data["progress"] for event in events]
            assert progress == sorted(progress)
            assert events[-1].name == "done"
            assert events[-1].data == status(tasks, task_id)
    assert [event.name for event in follow(tasks, task_id)] == ["done"]
    seen = {"Last-Event-ID": "done"}
    assert call(tasks, "GET", f"/events/{task_id}", headers=seen).status_code == 204


def test_events_of_a_failure(tasks: Server) -> None:
    task_id = handed_in(tasks, b"no media")
    *_, last = follow(tasks, task_id)
    assert last.name == "failed"
    assert last.data["error"]["code"] == "undecodable_audio"


# -- names -----------------------------------------------------------------------------------------


NAMES = (
    b'a\\"b.mp3',
    b"../../etc/passwd",
    "\u202egpj.flac".encode(),
    b"a\x00b.flac",
    "日本語 <script>.flac".encode(),
    b"n" * 3000,
    b"",
    b"../x\x1b[31m\xff\x00\xe2\x80\xae%22.flac",
)


def test_a_file_name_is_only_ever_data(tasks: Server) -> None:
    def hand_in(content: bytes, name: bytes) -> str:
        response = call(
            tasks,
            "POST",
            "/transcribe?format=srt&diarize=false&language=en",
            content=form(part("file", content, name)),
            headers={"Content-Type": MULTIPART},
        )
        assert response.status_code == 202, response.text
        return str(response.json()["task_id"])

    for name in NAMES:
        told = status(tasks, hand_in(b"x", name))
        assert "\x00" not in told["file_name"]
        assert len(told["file_name"]) <= 255
    task_id = hand_in(audio_of("en_short").read_bytes(), NAMES[-1])
    assert ended(tasks, task_id)["status"] == "done"
    result = fetch(tasks, task_id)
    disposition = result.headers["content-disposition"]
    assert re.fullmatch(r'attachment; filename="[^"\\/%;]+\.srt"(; filename\*=\S+)?', disposition)
    assert "Can you check the report?" in result.text


def test_model_size_asks_for_the_answer_itself(tasks: Server) -> None:
    files = {"file": ("audio.wav", audio_of("en_short").read_bytes())}
    fields = {"model_size": "demo", "language": "en"}
    answer = call(tasks, "POST", "/transcribe", data=fields, files=files)
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"] == "Can you check the report? The building is late."
    refused = call(tasks, "POST", "/transcribe", data=fields)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("file: ")
