"""The number of speakers, with both kinds of clustering, and diarization that is not to be had."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.support.pipelines import make_vbx_pipeline
from tests.support.server import Server, heard, running_server
from tests.support.truth import audio_of, speaker_accuracy, truth_of, words_of
from tests.support.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def vbx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("vbx")
    pipeline = make_vbx_pipeline(folder / "pipeline")
    with running_server(folder / "service", DIARIZATION_MODEL=pipeline) as running:
        yield running


@pytest.fixture(params=["agglomerative", "vbx"])
def clustering(request: pytest.FixtureRequest) -> Server:
    name = "server" if request.param == "agglomerative" else "vbx_server"
    running: Server = request.getfixturevalue(name)
    return running


def speakers_in(body: dict[str, Any]) -> set[str]:
    return {segment["speaker"] for segment in body["segments"]}


@pytest.mark.parametrize("name", ["en_two", "en_three", "es_two_b"])
def test_right_speakers_without_being_told(vbx_server: Server, name: str) -> None:
    """test_truth.py asks the same of the other clustering."""
    truth = truth_of(name)
    body = heard(vbx_server, name)
    assert len(speakers_in(body)) == len(truth["speakers"])
    assert speaker_accuracy(truth["words"], words_of(body)) >= 0.98


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        ({"num_speakers": 1}, {1}),
        ({"num_speakers": 3}, {3}),
        ({"max_speakers": 1}, {1}),
        ({"min_speakers": 3}, {3}),
        ({"num_speakers": 2, "min_speakers": 5, "max_speakers": 4}, {2}),
    ],
)
def test_number_of_speakers_is_obeyed(
    clustering: Server, query: dict[str, int], allowed: set[int]
) -> None:
    body = clustering.post(audio_of("en_two_b"), **query).json()
    assert len(body["speakers"]) in allowed


@pytest.mark.parametrize("query", [{"num_speakers": 50}, {"min_speakers": 40}])
@pytest.mark.parametrize("name", ["en_short", "es_short"])
def test_more_speakers_than_can_be_found_is_no_error(
    clustering: Server, name: str, query: dict[str, int]
) -> None:
    response = clustering.post(audio_of(name), return_speaker_embeddings="true", **query)
    assert response.status_code == 200
    body = response.json()
    assert body["segments"]
    assert "NaN" not in response.text
    assert "warnings" not in body


def test_embeddings_tell_speakers_apart(clustering: Server) -> None:
    """The same two voices sound alike across recordings, and unlike each other."""
    body = clustering.post(audio_of("en_two_b"), return_speaker_embeddings="true").json()
    vectors = {s: np.array(v) for s, v in body["speaker_embeddings"].items()}
    assert set(vectors) == speakers_in(body)
    first, second = (v / np.linalg.norm(v) for v in vectors.values())
    assert first @ second < 0.6


def test_speakers_are_numbered_in_the_order_in_which_they_speak(clustering: Server) -> None:
    body = heard(clustering, "en_three")
    first_heard = list(dict.fromkeys(segment["speaker"] for segment in body["segments"]))
    assert first_heard == sorted(first_heard)


@pytest.fixture(scope="module")
def no_diarizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The default diarizer lies on a hub that cannot be reached, and no other models do."""
    folder = tmp_path_factory.mktemp("no-diarizer")
    model = "pyannote/speaker-diarization-community-1"
    with running_server(folder, DIARIZATION_MODEL=model) as running:
        yield running


def test_missing_diarization_costs_nobody_the_transcript(no_diarizer: Server) -> None:
    response = no_diarizer.post(audio_of("en_two_b"))
    assert response.status_code == 200
    body = response.json()
    truth = truth_of("en_two_b")
    assert len(words_of(body)) == len(truth["words"])
    assert "speakers" not in body
    assert all("speaker" not in segment for segment in body["segments"])
    [warning] = body["warnings"]
    assert "HF_TOKEN" in warning
    assert response.headers["X-ASR-Warning"] == warning
    assert warning.isascii()
    text = no_diarizer.post(audio_of("en_two_b"), output="txt", diarize="true")
    assert text.status_code == 200
    assert text.headers["X-ASR-Warning"] == warning


def test_a_hub_model_fails_fast_with_503(no_diarizer: Server) -> None:
    started = time.monotonic()
    response = no_diarizer.post(audio_of("en_short"), model="tiny")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "/" not in response.json()["detail"]
    assert time.monotonic() - started < PATIENCE_S
    assert no_diarizer.post(audio_of("en_short")).status_code == 200
