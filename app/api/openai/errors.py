"""Errors in the form of OpenAI's API."""

from __future__ import annotations

import re
from typing import Any

from app.api.statuses import status_of
from app.domain.errors import (
    RateLimited,
    ServiceError,
    Unauthorized,
    UndecodableAudio,
    UnknownModel,
    UnsupportedOption,
)

OPENAI_RETRY_AFTER_S = 60  # above it OpenAI's clients do not retry at all
PARAMETER = re.compile(r"(\w+)(\[\w*\])?: ")  # start of a message about a parameter
OPENAI_CODES: dict[type[ServiceError], str] = {
    Unauthorized: "invalid_api_key",
    UnknownModel: "model_not_found",
    RateLimited: "rate_limit_exceeded",
}


def openai_status_of(error: ServiceError) -> int:
    """The status that OpenAI's clients expect for an error."""
    if isinstance(error, UnknownModel):
        return 404
    return 400 if isinstance(error, UnsupportedOption) else status_of(error)


def openai_error(error: ServiceError) -> dict[str, Any]:
    """The error body. Source: https://platform.openai.com/docs/guides/error-codes"""
    param = "file" if isinstance(error, UndecodableAudio) else None
    if isinstance(error, UnsupportedOption) and (named := PARAMETER.match(error.message)):
        param = named[1]
    code = OPENAI_CODES.get(type(error), error.code)
    return openai_body(openai_status_of(error), error.message, param, code)


def openai_body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    if status == 429:
        kind = "rate_limit_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
