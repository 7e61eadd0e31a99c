"""What clients see of errors that are nobody's request's fault."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.testclient import TestClient

from app.api.errors import install
from app.jobs.database import UNREACHABLE

SECRET = "postgresql://user:password@10.0.0.1"


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("SELECT", {}, OSError(SECRET)),
        InterfaceError("SELECT", {}, OSError(SECRET)),
        NoConnection(SECRET),
    ],
)
def test_a_database_that_is_gone_is_503(error: Exception) -> None:
    app = FastAPI()
    install(app)

    @app.get("/jobs")
    def jobs() -> None:
        raise error

    answer = TestClient(app).get("/jobs")
    assert answer.status_code == 503
    assert answer.json() == {"detail": UNREACHABLE}
    assert int(answer.headers["retry-after"]) >= 1
