"""Schemathesis against a running service: whatever is sent, the answer is one that is documented.

Its command line and not its pytest plugin: that one has the phase of systematic edge cases too, and
prints a curl line for each failure. FUZZ_SCALE=10 sends thousands of requests (`make fuzz`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.server import LIMITS, Server, running_server
from tests.support.truth import audio_of
from tests.support.waiting import eventually

SCALE = int(os.environ.get("FUZZ_SCALE", "1"))
SEED = os.environ.get("FUZZ_SEED", "1")
# The edge cases are some hundreds; what refuses them has tests of its own.
PHASES = "fuzzing" if SCALE == 1 else "examples,coverage,fuzzing"
MAX_EXAMPLES = 24 if SCALE == 1 else 100 * SCALE  # of each operation, beside the edge cases

# A schema cannot say which bytes are sound and which names are models: what it allows may be
# refused. What it forbids may be accepted, on purpose: yes and no, empty and unknown parameters.
EXCLUDED = "positive_data_acceptance,negative_data_rejection"


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("limited"), **LIMITS) as running:
        yield running


def test_every_answer_is_a_documented_one(limited_server: Server, tmp_path: Path) -> None:
    """No 5xx, no undocumented status, type, header or body. `make fuzz` shows the summary."""
    report = tmp_path / "report.json"
    command = [
        Path(sys.executable).parent / "schemathesis", "--no-color",
        "run", f"{limited_server.url}/openapi.json",
        "--phases", PHASES, "--max-examples", str(MAX_EXAMPLES), "--seed", SEED,
        "--exclude-checks", EXCLUDED,
        "--workers", "2", "--continue-on-failure", "--request-timeout", "60", "--warnings", "off",
    ]  # fmt: skip
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {
        "SCHEMATHESIS_HOOKS": "tests.support.fuzz_hooks",
        "FUZZ_REPORT": str(report),
        "PYTHONPATH": path,
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, (done.stdout + done.stderr)[-20_000:]
    answers: dict[str, int] = json.loads(report.read_text())
    print(json.dumps(answers, indent=1, sort_keys=True))
    assert sum(answers.values()) > 100
    assert not any(answer.split()[-1].startswith("5") for answer in answers)
    for endpoint, refusals in {
        "POST /asr": {400, 422},
        "POST /detect-language": {400, 422},
        "POST /v1/audio/transcriptions": {400},
        "POST /v1/audio/translations": {400},
    }.items():
        # speech gets through, and so does what is to be refused at every stage
        assert answers[f"{endpoint} 200"] >= 2, answers
        assert {f"{endpoint} {status}" for status in refusals} <= answers.keys()
    eventually(lambda: limited_server.get("/health").json()["requests"] == 0)
    eventually(lambda: limited_server.temp_files() == [])
    assert limited_server.post(audio_of("en_short")).status_code == 200
