"""The HTTP status of each error."""

from __future__ import annotations

from app.domain.errors import (
    Cancelled,
    ClientGone,
    DeadlineExceeded,
    DiskFull,
    FetchFailed,
    Forbidden,
    IdempotencyMismatch,
    MalformedRequest,
    ModelUnavailable,
    NotEnded,
    NoWebSocket,
    Overloaded,
    RateLimited,
    ServiceError,
    ShuttingDown,
    StageFailed,
    StillAccepting,
    Unauthorized,
    UndecodableAudio,
    UnknownJob,
    UnsupportedEncoding,
    UnsupportedOption,
    UploadStalled,
    UploadTooLarge,
    UrlUnusable,
)

STATUSES: dict[type[ServiceError], int] = {
    UndecodableAudio: 400,
    MalformedRequest: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NoWebSocket: 404,
    UnknownJob: 404,
    UploadStalled: 408,
    StillAccepting: 409,
    NotEnded: 409,
    Cancelled: 410,
    UploadTooLarge: 413,
    UnsupportedEncoding: 415,
    UnsupportedOption: 422,
    UrlUnusable: 422,
    IdempotencyMismatch: 422,
    RateLimited: 429,
    ClientGone: 499,
    StageFailed: 500,
    FetchFailed: 502,
    ModelUnavailable: 503,
    Overloaded: 503,
    ShuttingDown: 503,
    DeadlineExceeded: 504,
    DiskFull: 507,
}
RETRY_AFTER_S = 10  # if the error does not say


def status_of(error: ServiceError) -> int:
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)
