from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import Server, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service with the demo models for all tests that need no settings of their own."""
    with running_server(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="session")
def limited_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with limits so narrow that nothing an attacker sends takes long."""
    limits = {"MAX_DURATION_SECONDS": 30, "MAX_FILE_SIZE_MB": 4, "REQUEST_TIMEOUT_SECONDS": 60}
    with running_server(tmp_path_factory.mktemp("limited"), **limits) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_debris(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does, no temporary file is left when it is over."""
    yield
    for name in {"server", "limited_server"} & set(request.fixturenames):
        running: Server = request.getfixturevalue(name)
        assert running.temp_files() == []
