"""The use case without HTTP: what a worker that polls a queue would do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.truth import audio_of, truth_of, word_error_rate

WORKER = """\
import json, sys
from pathlib import Path

from app.config.settings import load_settings
from app.domain.errors import ServiceError
from app.domain.options import TranscribeOptions
from app.observability.record import RequestRecord
from app.service.build import build_service, close_service
from app.service.recording import Recording

folder, good, bad = map(Path, sys.argv[1:])
settings = {
    "asr_model": "demo", "cache_dir": folder, "temp_dir": folder / "tmp",
    "rate_limit_audio_minutes_per_hour": 1,
}
service = build_service(load_settings(settings))
told = []
for path in (bad, good, good):
    record = RequestRecord("job", "", "")
    try:
        with service.calls.enter("transcription", record, "worker") as call:
            heard = call.transcribe(Recording(path), TranscribeOptions("demo", diarize=True))
            text = "".join(segment.text for segment in heard.segments)
            told.append([text, record.audio_s, heard.duration_s, heard.speakers_known])
    except ServiceError as error:
        told.append([type(error).__name__, record.audio_s])
close_service(service)
web = [name for name in sys.modules if name.split(".")[0] in ("fastapi", "starlette")]
web += [name for name in sys.modules if name.startswith(("app.api", "app.main", "app.serving"))]
print(json.dumps([told, web, [str(path) for path in (folder / "tmp").glob("*/*")]]))
"""


def test_a_worker_needs_no_web_framework(tmp_path: Path) -> None:
    """It hears what is said, is told what is wrong, and its rate limit counts."""
    bad = tmp_path / "bad.flac"
    bad.write_bytes(b"no media")
    # longer than half of the limit, so that the second time is one too many
    good = audio_of("es_two")
    duration_s = truth_of("es_two")["duration"]
    assert 30 < duration_s <= 60
    arguments = [sys.executable, "-c", WORKER, str(tmp_path / "cache"), str(good), str(bad)]
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=300, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told, web, left = json.loads(done.stdout.splitlines()[-1])
    refused, heard, limited = told
    assert refused == ["UndecodableAudio", None]
    text, audio_s, heard_s, speakers_known = heard
    expected = " ".join(sentence["text"] for sentence in truth_of("es_two")["sentences"])
    assert word_error_rate(expected, text) == 0
    assert audio_s == heard_s == pytest.approx(duration_s, abs=0.1)
    assert speakers_known
    assert limited == ["RateLimited", None]
    assert web == []
    assert left == []
