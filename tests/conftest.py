from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.models.host_memory import keep_freed_memory
from tests.support.fleet import running_fleet
from tests.support.paths import DEMO
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.real_models import SOURCES, whisper_folder
from tests.support.server import Server, running_server
from tests.support.waiting import eventually

THROUGH_RAY = "--through-ray"
SERVERS = {"server", "plain_server", "limited_server", "real_server", "aligning_server"}
# Begun first, so that no process is left alone with them in the end.
LONG = {
    "test_api_fuzz.py", "test_benchmarks.py", "test_concurrency.py", "test_corpus.py",
    "test_models.py", "test_real_whisper.py", "test_soak.py",
}  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        THROUGH_RAY, action="store_true", help="the usual server is a Ray cluster (make test-ray)"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests of Ray run only with the option: nobody without Ray pays for them."""
    hidden = collection_path.name == "ray" and collection_path.parent.name == "tests"
    return True if hidden and not config.getoption(THROUGH_RAY) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)
    if config.getoption(THROUGH_RAY):
        through = [item for item in items if goes_through_ray(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in through])
        items[:] = through


def goes_through_ray(item: pytest.Item) -> bool:
    """Whether the test asks the usual server, and nothing that only one process can answer."""
    fixtures = set(getattr(item, "fixturenames", ()))
    return bool(fixtures & {"server", "fleet"}) and item.get_closest_marker("one_process") is None


def pytest_configure() -> None:
    keep_freed_memory()  # as the service does


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service on a Ray cluster, one for all tests."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture(scope="session")
def through_ray(request: pytest.FixtureRequest) -> bool:
    through: bool = request.config.getoption(THROUGH_RAY)
    return through


@pytest.fixture(scope="session")
def plain_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, through_ray: bool
) -> Iterator[Server]:
    """One service with the demo models for all tests that need no settings of their own."""
    if through_ray:
        yield request.getfixturevalue("fleet")
        return
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
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    remembered: Path,
    through_ray: bool,
) -> Iterator[Server]:
    """Like `server`, for tests that read answers: sounds that any such server has heard cost
    little. Test files take it as their `server`.
    """
    if through_ray:
        yield request.getfixturevalue("fleet")
        return
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests of this process, each with databases of its own."""
    with running_postgres() as running:
        yield running
