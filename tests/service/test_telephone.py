"""The real telephone conversation that ships inside the pyannote.audio package."""

from __future__ import annotations

import numpy as np

from tests.support.server import Server
from tests.support.telephone import sample_folder

STEP_S = 0.01


def marks(spans: list[tuple[float, float]], duration_s: float) -> np.ndarray:
    line = np.zeros(round(duration_s / STEP_S), bool)
    for start, end in spans:
        line[round(start / STEP_S) : round(end / STEP_S)] = True
    return line


def reference_turns() -> list[tuple[float, float]]:
    rows = [line.split() for line in (sample_folder() / "sample.rttm").read_text().splitlines()]
    return [(float(row[3]), float(row[3]) + float(row[4])) for row in rows]


def test_the_whole_path_on_real_audio(server: Server) -> None:
    """The demo model does not know these words; everything else must hold all the same."""
    response = server.post(sample_folder() / "sample.wav", name="sample.wav")
    assert response.status_code == 200
    body = response.json()
    assert body["duration"] == 30.0
    assert body["language"] in ("en", "es")
    assert body["segments"]
    spoken = marks(reference_turns(), 30)
    found = marks([(s["start"], s["end"]) for s in body["segments"]], 30)
    # nothing is heard in the 6.7 s of silence before the conversation
    assert body["segments"][0]["start"] > 6.0
    assert (found & ~spoken).sum() * STEP_S < 2.0


def test_speakers_of_real_audio_when_their_number_is_known(server: Server) -> None:
    body = server.post(sample_folder() / "sample.wav", name="sample.wav", num_speakers=2).json()
    speakers = {segment["speaker"] for segment in body["segments"]}
    assert speakers <= {"SPEAKER_00", "SPEAKER_01"}
    assert speakers
