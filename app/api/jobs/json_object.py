"""Small JSON bodies: read within limits, and every fault in them named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from app.api.encodings import check_encoding
from app.domain.errors import (
    ClientGone,
    MalformedRequest,
    UnsupportedOption,
    UploadStalled,
    UploadTooLarge,
)

MAX_BODY_BYTES = 256 << 10
BODY_TIMEOUT_S = 60
MAX_FAULTS = 20

Body = TypeVar("Body", bound=BaseModel)


async def read_json(request: Request, kind: type[Body]) -> Body:
    """The body of a request.

    Raises:
        MalformedRequest: it is not JSON.
        UnsupportedOption: a field is missing or not allowed; the message names all such fields.
        UnsupportedEncoding, UploadTooLarge, UploadStalled, ClientGone
    """
    return parse_json(await read_body(request, MAX_BODY_BYTES), kind)


def parse_json(data: bytes, kind: type[Body]) -> Body:
    """Raises MalformedRequest, UnsupportedOption."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise _fault(error) from None


async def read_body(
    request: Request, max_bytes: int, told: Callable[[int], None] = lambda num_bytes: None
) -> bytes:
    """`told`: of the bytes of each piece that comes.

    Raises UnsupportedEncoding, UploadTooLarge, UploadStalled, ClientGone, and what `told` does.
    """
    check_encoding(request)
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for piece in request.stream():
                told(len(piece))
                data += piece
                if len(data) > max_bytes:
                    raise UploadTooLarge(f"The body is larger than {max_bytes >> 10} kB.")
    except TimeoutError:
        raise UploadStalled(f"The body took longer than {BODY_TIMEOUT_S} seconds.") from None
    except ClientDisconnect:
        raise ClientGone from None
    return bytes(data)


def _fault(error: ValidationError) -> MalformedRequest | UnsupportedOption:
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    if any(fault["type"] == "json_invalid" for fault in faults):
        return MalformedRequest("The body is not JSON.")
    if any(not fault["loc"] for fault in faults):
        return UnsupportedOption("The body must be a JSON object.")
    sentences = []
    for fault in faults[:MAX_FAULTS]:
        said = "required" if fault["type"] == "missing" else fault["msg"]
        sentences.append(
            f"{_place(fault['loc'])}: {said.removeprefix('Value error, ').rstrip('.')}"
        )
    return UnsupportedOption("; ".join(dict.fromkeys(sentences)) + ".")


def _place(path: tuple[int | str, ...]) -> str:
    """A field; in a list, the whole path: segments[3].start."""
    if not any(isinstance(step, int) for step in path):
        return str(path[0])
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")
