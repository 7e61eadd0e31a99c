"""What /docs says about errors. Data only."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from app.storage.tempdir import DISK_FULL


class ErrorBody(BaseModel):
    detail: str = Field(description="One clear sentence.")


# status: its meaning, and an example of its message
ERRORS = {
    400: (
        "Nothing in the upload can be decoded, or there is no sound in it.",
        "The upload is not an audio or video file that can be decoded.",
    ),
    401: (
        "No API key, or one that is not known, where the operator asks for keys.",
        "An API key is needed: send it as Authorization: Bearer KEY or as X-API-Key: KEY.",
    ),
    408: ("The upload stalled or is too slow.", "The upload stopped for more than 60 seconds."),
    410: ("It was cancelled through `DELETE /queue`.", "The request was cancelled."),
    413: (
        "Over the size or duration limit.",
        "The upload is larger than the limit of 1000 MB.",
    ),
    415: (
        "The body is compressed.",
        "Content-Encoding: a compressed body is not supported; send it as it is.",
    ),
    422: (
        "A parameter has a value that is not allowed, or the file is missing.",
        "task: 'foo' is not allowed; it must be one of transcribe, translate.",
    ),
    429: (
        "Over the rate limit of the API key or the address.",
        "More than 60 requests in a minute; try again later.",
    ),
    500: (
        "The service failed for a reason of its own.",
        "The service failed on this request (its log says why under 5f0c2a71).",
    ),
    503: (
        "The queue is full, too many uploads are under way, a model cannot be loaded, or the "
        "service is shutting down.",
        "The queue is full; try again later.",
    ),
    504: ("Over the time limit.", "The request took longer than it may."),
    507: ("No disk space left.", DISK_FULL),
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer"},
    }
}
_RATE_LIMIT = {
    f"RateLimit-{name}": {"description": description, "schema": {"type": kind}}
    for name, description, kind in (
        ("Limit", "What is allowed, of the limit that is the nearest.", "integer"),
        ("Remaining", "What is left of it.", "integer"),
        ("Reset", "Seconds until more is.", "integer"),
        ("Policy", "All limits with their quotas and windows in seconds.", "string"),
    )
}
ERROR_HEADERS = {
    401: {"WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}}},
    429: {**_RETRY_AFTER, **_RATE_LIMIT},
    503: _RETRY_AFTER,
    507: _RETRY_AFTER,
}
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "model": ErrorBody,
        "description": meaning,
        "content": {"application/json": {"example": {"detail": detail}}},
        **({"headers": ERROR_HEADERS[status]} if status in ERROR_HEADERS else {}),
    }
    for status, (meaning, detail) in ERRORS.items()
}
UNAUTHORIZED: dict[int | str, dict[str, Any]] = {401: ERROR_RESPONSES[401]}
