"""ServiceError -> status and body. The only table of status codes."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from app.api.observation import record_of
from app.api.request_id import HEADER, request_id_of
from app.errors import (
    Cancelled,
    ClientGone,
    DeadlineExceeded,
    DiskFull,
    MalformedRequest,
    ModelUnavailable,
    Overloaded,
    ServiceError,
    ShuttingDown,
    StageFailed,
    UndecodableAudio,
    UnsupportedOption,
    UploadStalled,
    UploadTooLarge,
)

log = logging.getLogger(__name__)

STATUSES: dict[type[ServiceError], int] = {
    UndecodableAudio: 400,
    MalformedRequest: 400,
    UploadStalled: 408,
    UploadTooLarge: 413,
    UnsupportedOption: 422,
    ClientGone: 499,
    StageFailed: 500,
    Cancelled: 410,
    ModelUnavailable: 503,
    Overloaded: 503,
    ShuttingDown: 503,
    DeadlineExceeded: 504,
    DiskFull: 507,
}
RETRY_AFTER_S = 10  # where the error itself does not know


def status_of(error: ServiceError) -> int:
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)


def error_response(error: ServiceError) -> Response:
    status = status_of(error)
    if status == 499:
        return Response(status_code=status)
    headers = {}
    if status == 503:
        headers["Retry-After"] = str(error.retry_after_s or RETRY_AFTER_S)
    return JSONResponse({"detail": error.message}, status, headers)


def install(app: FastAPI) -> None:
    """Have every error leave as {"detail": "one clear sentence"}."""

    @app.exception_handler(ServiceError)
    async def _service_error(request: Request, error: ServiceError) -> Response:
        record_of(request).error = type(error).__name__
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def _http_error(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"detail": str(error.detail)}, error.status_code, error.headers)

    # The last resort: whatever it is, it is our fault and its text is nobody's business.
    @app.exception_handler(Exception)
    async def _any_error(request: Request, error: Exception) -> Response:
        request_id = request_id_of(request)
        log.error("request %s failed", request_id, exc_info=error)
        detail = f"The service failed on this request (its log says why under {request_id})."
        # beyond the reach of the middleware that sets the header elsewhere
        return JSONResponse({"detail": detail}, 500, {HEADER: request_id})
