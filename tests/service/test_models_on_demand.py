"""Loading, sharing and unloading of models as a client sees them; and settings that show there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.models.catalog import OPENAI_NAMES
from tests.support.paths import DEMO
from tests.support.server import Server, running_server
from tests.support.truth import audio_of, truth_of, word_error_rate, words_of
from tests.support.waiting import PATIENCE_S, eventually

IDLE_TIMEOUT_S = 8.0


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Nothing preloaded, two models of the operator's own, small limits everywhere."""
    folder = tmp_path_factory.mktemp("tuned")
    local = folder / "our-whisper"
    local.symlink_to(DEMO / "whisper")
    settings = {
        "ASR_MODEL": local,
        "PRELOAD_MODEL": "",
        "ALLOWED_MODELS": f"{local}, demo, owner/repository",
        "ALIGN_MODELS": f'{{"en": "{DEMO / "align"}"}}',
        "DIARIZATION_MODEL": "demo",
        "DIARIZATION_CLUSTERING_THRESHOLD": "1.9",
        "MODEL_IDLE_TIMEOUT": IDLE_TIMEOUT_S,
        "CHUNK_SECONDS": "8",
        "BATCH_SIZE": "2",
        "BEAM_SIZE": "2",
        "ALIGN_BATCH_SIZE": "3",
        "SEGMENTATION_BATCH_SIZE": "4",
        "CPU_THREADS": "1",
        "DEFAULT_LANGUAGE": "eng",
    }
    with running_server(folder / "service", **settings) as running:
        yield running


def loaded(server: Server) -> list[str]:
    models: list[str] = server.get("/health").json()["loaded_models"]
    return models


def test_a_stampede_of_first_requests_loads_once(tuned: Server) -> None:
    assert loaded(tuned) == []
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: tuned.post(audio_of("en_short")), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    log = tuned.log()
    for model in ("recognizer our-whisper", "diarizer"):
        loads = len(re.findall(rf"\bloaded the {model}", log))
        unloads = len(re.findall(rf"\bunloaded the {model}", log))
        assert 1 <= loads <= unloads + 1, "on a slow machine it may be idle in between"
    assert answers[0].json()["model"] == "our-whisper"


def test_a_local_folder_is_known_by_its_name(tuned: Server) -> None:
    listed = [model["id"] for model in tuned.get("/v1/models").json()["data"]]
    assert [name for name in listed if name not in OPENAI_NAMES] == [
        "our-whisper",
        "demo",
        "owner/repository",
    ]
    body = tuned.post(audio_of("en_short"), model="our-whisper", diarize="false").json()
    spoken = [w["word"] for w in truth_of("en_short")["words"]]
    assert word_error_rate(spoken, [w["word"] for w in words_of(body)]) == 0
    assert "/" not in tuned.post(audio_of("en_short"), model="nothing").json()["detail"].replace(
        "owner/repository", ""
    )


@pytest.mark.parametrize("model", ["tiny", "whisper-large-v3", "/etc", str(Path.home())])
def test_nothing_outside_the_list_is_loaded(tuned: Server, model: str) -> None:
    response = tuned.post(audio_of("en_short"), model=model)
    assert response.status_code == 422
    assert "model" in response.json()["detail"]


def test_small_chunks_and_batches_give_the_same_words(tuned: Server) -> None:
    truth = truth_of("en_two_b")
    body = tuned.post(audio_of("en_two_b")).json()
    spoken = [w["word"] for w in truth["words"]]
    assert word_error_rate(spoken, [w["word"] for w in words_of(body)]) <= 0.05
    assert len(body["speakers"]) == 1, "at this clustering threshold everybody is one speaker"


def test_the_operators_language_is_that_of_requests_that_name_none(tuned: Server) -> None:
    for given, language in (
        ({}, "en"),
        ({"language": "undefined"}, "en"),
        ({"language": "auto"}, "es"),
    ):
        assert tuned.post(audio_of("es_short"), **given).json()["language"] == language


def test_an_aligner_of_the_operators_serves_its_language_only(tuned: Server) -> None:
    body = tuned.post(audio_of("es_short"), language="es").json()
    assert body["warnings"]
    assert tuned.post(audio_of("en_short"), language="en").json().get("warnings") is None


def test_idle_models_are_unloaded_and_come_back(tuned: Server) -> None:
    assert tuned.post(audio_of("en_short")).status_code == 200
    assert loaded(tuned) == ["our-whisper"]
    eventually(lambda: loaded(tuned) == [], IDLE_TIMEOUT_S + PATIENCE_S)
    assert tuned.post(audio_of("en_short")).status_code == 200
    assert loaded(tuned) == ["our-whisper"]


def test_a_model_that_is_not_to_be_had_harms_no_other(tuned: Server) -> None:
    response = tuned.post(audio_of("en_short"), model="owner/repository")
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert tuned.post(audio_of("en_short")).status_code == 200
