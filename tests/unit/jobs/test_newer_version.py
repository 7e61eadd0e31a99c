"""A database that a newer version has changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from app.domain.errors import ConfigurationError
from app.jobs.database import Database


def test_the_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    database = Database("", tmp_path)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(ConfigurationError, match="newer version"):
        Database("", tmp_path)
