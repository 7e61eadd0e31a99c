"""Errors as OpenAI's API tells them."""

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

OPENAI_RETRY_AFTER_S = 60  # beyond it OpenAI's clients do not come back at all
PARAMETER = re.compile(r"(\w+)(\[\w*\])?: ")  # how messages about one begin
OPENAI_CODES: dict[type[ServiceError], str] = {
    Unauthorized: "invalid_api_key",
    UnknownModel: "model_not_found",
    RateLimited: "rate_limit_exceeded",
}


def openai_status_of(error: ServiceError) -> int:
    """The statuses by which OpenAI's clients tell errors apart."""
    if isinstance(error, UnknownModel):
        return 404
    return 400 if isinstance(error, UnsupportedOption) else status_of(error)


def openai_error(error: ServiceError) -> dict[str, Any]:
    """Source: https://platform.openai.com/docs/guides/error-codes"""
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
