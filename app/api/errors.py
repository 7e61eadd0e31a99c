"""ServiceError -> response, in the form of the contract that the request used."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.addresses import SHOWN, address_meant, known_addresses
from app.api.openai.errors import OPENAI_RETRY_AFTER_S, openai_body, openai_error, openai_status_of
from app.api.request_state import report_error, request_id_of
from app.api.statuses import RETRY_AFTER_S, status_of
from app.domain.errors import (
    ServiceError,
    ShuttingDown,
)
from app.jobs.database import UNREACHABLE_ERRORS, unreachable
from app.observability.record import INTERNAL_ERROR, RequestRecord

ABOUT_THE_FILE = (400, 413, 415, 422)  # statuses that another try does not change
log = logging.getLogger(__name__)


def error_response(error: ServiceError, scope: Scope) -> Response:
    status, openai = status_of(error), speaks_openai(scope)
    if status == 499:
        return Response(status_code=status)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (429, 503, 507) or error.retry_after_s is not None:
        retry_after_s = error.retry_after_s or RETRY_AFTER_S
        if openai and status == 503:
            retry_after_s = min(retry_after_s, OPENAI_RETRY_AFTER_S)
        headers["Retry-After"] = str(retry_after_s)
    if status == 415:
        headers["Accept-Encoding"] = "identity"
    if isinstance(error, ShuttingDown):
        headers["Connection"] = "close"  # the next request goes to another replica
    if openai and status == 504:
        headers["X-Should-Retry"] = "false"  # a retry would take as long
    if openai:
        return JSONResponse(openai_error(error), openai_status_of(error), headers)
    return JSONResponse(_body(error.message, status, scope), status, headers)


def _body(message: str, status: int, scope: Scope) -> dict[str, Any]:
    """Bazarr does not look at the status of `/detect-language`. It remembers that a file has no
    language if the answer has no code, and tries again later if there is a code without a name.
    Clients of the streaming service look for an `error` in the answers of `/transcribe`.
    """
    body = {"detail": message}
    if _path(scope) == "/transcribe":
        body["error"] = message
    if _path(scope) == "/detect-language" and status not in ABOUT_THE_FILE:
        body["language_code"] = "error"
    return body


def _path(scope: Scope) -> str:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path


def speaks_openai(scope: Scope) -> bool:
    return _path(scope).startswith("/v1/")


def install(app: FastAPI, paths: Iterable[str] = ()) -> None:
    """Answer every error with {"detail": "one clear sentence"}, on /v1 with OpenAI's error body.

    `paths`: all that is served.
    """
    known = known_addresses(paths)

    @app.exception_handler(ServiceError)
    async def _service_error(request: Request, error: ServiceError) -> Response:
        report_error(request, error)
        return error_response(error, request.scope)

    async def _database_error(request: Request, error: Exception) -> Response:
        log.error("the database of the jobs cannot be reached: %s", type(error).__name__)
        return await _service_error(request, unreachable())

    for kind in UNREACHABLE_ERRORS:
        app.add_exception_handler(kind, _database_error)

    @app.exception_handler(HTTPException)
    async def _http_error(request: Request, error: HTTPException) -> Response:
        return _http_error_response(error, request.scope, known)

    app.add_middleware(LastResortMiddleware)


def _http_error_response(error: HTTPException, scope: Scope, known: frozenset[str]) -> Response:
    """Says which address was meant, in the form of the contract that it belongs to."""
    path, root_path = scope["path"], scope.get("root_path", "")
    meant = address_meant(path, known) if error.status_code == 404 else None
    openai = meant.startswith("/v1/") if meant else speaks_openai(scope)
    message = str(error.detail)
    if openai or meant:
        message += f": {scope.get('method', '')} {path[:SHOWN]} is not served here"
        message += f"; use {root_path}{meant}." if meant else "."
    body: dict[str, Any] = {"detail": message}
    if openai:
        body = openai_body(error.status_code, message)
    return JSONResponse(body, error.status_code, error.headers)


class LastResortMiddleware:
    """Answers any other exception with a 500. Its text stays in the log.

    Innermost of all middleware, so that this answer carries the headers of the others too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            request = Request(scope)
            record: RequestRecord | None = getattr(request.state, "record", None)
            if record is not None:
                record.error = INTERNAL_ERROR
            request_id = request_id_of(request)
            log.error("request %s failed", request_id, exc_info=error)
            detail = f"The service failed on this request (its log says why under {request_id})."
            openai = speaks_openai(scope)
            body = openai_body(500, detail) if openai else _body(detail, 500, scope)
            await JSONResponse(body, 500)(scope, receive, send)
