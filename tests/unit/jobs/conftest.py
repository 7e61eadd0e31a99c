from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.jobs.database import Database
from app.jobs.tables import metadata
from tests.support.job_tables import Process
from tests.support.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """`DATABASE_URL` of a database without tables."""
    if request.param == "sqlite":
        return ""
    fresh: str = request.getfixturevalue("postgres").new_database(secrets.token_hex(8))
    return fresh


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Empty tables."""
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("shared_database")
        with database.begin() as connection:
            names = ", ".join(table.name for table in metadata.sorted_tables)
            connection.execute(sa.text(f"TRUNCATE {names}"))
        yield database
        return
    database = Database("", tmp_path)
    yield database
    database.close()


@pytest.fixture(scope="session")
def shared_database(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    database = Database(postgres.new_database("shared"), tmp_path_factory.mktemp("shared"))
    yield database
    database.close()


@pytest.fixture
def process(database: Database, tmp_path: Path) -> Process:
    return Process(database, tmp_path)
