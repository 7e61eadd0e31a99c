"""The middleware without the service."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.api import errors
from app.api.middleware import headers, keys
from app.api.middleware.request_id import RequestIdMiddleware
from app.api.middleware.trailing_slash import without_slash
from tests.support.keys import ALICE, PAGE, assert_secure, bearer, settings_of


class Broken(Exception):
    """Raised by an endpoint of the tests' own."""


def test_an_answer_to_our_own_fault_carries_the_headers_too() -> None:
    app = small_app(CORS_ORIGINS="*")

    @app.get("/broken")
    async def broken() -> None:
        raise Broken("a secret of ours")

    response = call(app, "/broken", {"Origin": PAGE})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in response.json()["detail"]
    assert response.headers["access-control-allow-origin"] == "*"
    assert_secure(response)


@pytest.mark.parametrize(
    ("path", "root_path", "served"),
    [
        ("/asr/", "", "/asr"),
        ("/asr", "", "/asr"),
        ("/", "", "/"),
        ("//", "", "//"),
        ("/asr//", "", "/asr//"),
        ("/speech/", "/speech", "/speech/"),
        ("/speech/asr/", "/speech", "/speech/asr"),
    ],
)
def test_one_slash_at_the_end_is_left_out(path: str, root_path: str, served: str) -> None:
    assert without_slash(path, root_path) == served


def small_app(**values: Any) -> FastAPI:
    """The middleware without the service."""
    app = FastAPI()
    settings = settings_of(**values)
    errors.install(app)
    keys.install(app, settings, settings.root_path)
    headers.install(app, settings)
    app.add_middleware(RequestIdMiddleware)
    return app


def call(
    app: FastAPI, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://a"
        ) as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize(("require", "status"), [(True, 401), (False, 404)])
def test_reading_the_queue_and_the_metrics_may_be_open(require: bool, status: int) -> None:
    app = small_app(API_KEYS=ALICE, OPS_REQUIRE_KEY=require, ROOT_PATH="/asr-api")
    for path in ("/queue", "/metrics", "/asr-api/queue"):
        assert call(app, path).status_code == status
        assert call(app, path, method="HEAD").status_code == status
        assert call(app, path, bearer(ALICE)).status_code == 404
        assert call(app, path, method="POST").status_code == 401
    for path in ("/queue/1", "/asr-api/queue/1", "/asr-api/asr", "/asr-api/asr-api/health"):
        assert call(app, path, method="DELETE").status_code == 401
    assert call(app, "/asr-api/health").status_code == 404  # there is none here, but it is open
