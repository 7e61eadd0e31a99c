from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.models.host_memory import keep_freed_memory
from tests.support.paths import DEMO
from tests.support.real_models import SOURCES, whisper_folder
from tests.support.server import Server, running_server
from tests.support.waiting import eventually

SERVERS = {"server", "plain_server", "limited_server", "real_server", "aligning_server"}
# Begun first, so that no process is left alone with them in the end.
LONG = {
    "test_api_fuzz.py", "test_benchmarks.py", "test_concurrency.py", "test_corpus.py",
    "test_models.py", "test_real_whisper.py", "test_soak.py",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_configure() -> None:
    keep_freed_memory()  # as the service does


@pytest.fixture(scope="session")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service with the demo models for all tests that need no settings of their own."""
    with running_server(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="session")
def server(plain_server: Server) -> Server:
    return plain_server


@pytest.fixture(scope="session")
def remembered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what models answered, for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "remembered"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def remembering_server(
    tmp_path_factory: pytest.TempPathFactory, remembered: Path
) -> Iterator[Server]:
    """Like `server`, for tests that read answers: sounds that any such server has heard cost
    little. Test files take it as their `server`.
    """
    with running_server(tmp_path_factory.mktemp("remembering"), remembered=remembered) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_debris(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does, no temporary file is left when it is over."""
    yield
    for name in SERVERS & set(request.fixturenames):
        running: Server = request.getfixturevalue(name)
        eventually(lambda running=running: running.temp_files() == [])  # some go after the answer


@pytest.fixture(scope="session")
def real_models(request: pytest.FixtureRequest) -> dict[str, Path]:
    """Folders with real Whisper by name: tiny.en and base, kept between runs."""
    parent = request.config.cache.mkdir("real-models")
    return {name: whisper_folder(name, parent) for name in SOURCES}


@pytest.fixture(scope="session")
def real_server(
    real_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, remembered: Path
) -> Iterator[Server]:
    """Real weights, and no aligner for any language: words have Whisper's own times."""
    with running_server(
        tmp_path_factory.mktemp("real"),
        remembered=remembered,
        **real_settings(real_models),
        WORD_ALIGNER="whisper",
    ) as running:
        yield running


@pytest.fixture(scope="session")
def aligning_server(
    real_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, remembered: Path
) -> Iterator[Server]:
    """Real weights and an aligner for English. It is the demo's: it knows the letters, but its
    times of such voices are poor. What is recognized is what `real_server` recognizes.
    """
    aligner = json.dumps({"en": str(DEMO / "align")})
    with running_server(
        tmp_path_factory.mktemp("aligning"),
        remembered=remembered,
        **real_settings(real_models),
        ALIGN_MODELS=aligner,
    ) as running:
        yield running


def real_settings(real_models: dict[str, Path]) -> dict[str, str]:
    return {
        "ASR_MODEL": str(real_models["base"]),
        "PRELOAD_MODEL": str(real_models["base"]),
        "ALLOWED_MODELS": ",".join(map(str, real_models.values())),
        "DIARIZATION_MODEL": "demo",
    }
