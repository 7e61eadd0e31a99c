"""What a message of the queue asks for. Pure.

Two forms exist. Orator's API sends `{presentationId, jobId, audioUrl: "s3://...", metadata,
queueType: "asr", sentAt, version}`; the documentation of its worker shows `{jobId,
presentationId, audioUrl: "https://...", timestamp}`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StrictInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from app.domain.errors import UnsupportedOption
from app.formats.orator import Order
from app.jobs.audio_urls import AudioPlaces, audio_format
from app.jobs.job import S3Object, Source, Url
from app.storage.egress import MAX_URL_CHARS

OUR_QUEUE = "asr"
MAX_ID_CHARS = 200
NOT_JSON = "The message is not a JSON object."

Number = Annotated[StrictInt, Field(gt=-(2**63), lt=2**63)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)]
Id = Number | Text


class _Body(BaseModel):
    """The fields that count; the others only say when and by whom it was sent."""

    model_config = ConfigDict(extra="ignore", strict=True)

    job_id: Id = Field(alias="jobId")
    presentation_id: Id | None = Field(None, alias="presentationId")
    audio_url: str = Field(alias="audioUrl", min_length=1, max_length=MAX_URL_CHARS)
    metadata: dict[str, JsonValue] | None = None
    queue_type: str | None = Field(None, alias="queueType")


@dataclass(frozen=True, slots=True)
class Ordered:
    """A message that can be worked on."""

    order: Order
    source: Source
    metadata: dict[str, JsonValue]


class BadMessage(Exception):
    """`reason`: for people. `order`: whose job it is, as far as the message tells."""

    def __init__(self, reason: str, order: Order | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.order = order


def read_order(text: str, places: AudioPlaces) -> Ordered:
    """Raises BadMessage: another try would fail, too."""
    try:
        body = _Body.model_validate_json(text)
    except ValidationError as error:
        raise BadMessage(_sentence(error), _order_of(text)) from None
    order = Order(body.job_id, body.presentation_id)
    if body.queue_type not in (None, "", OUR_QUEUE):
        raise BadMessage(f"queueType: this worker takes only {OUR_QUEUE!r}.", order)
    try:
        source = places.source_of(body.audio_url.strip())
    except UnsupportedOption as error:
        raise BadMessage(error.message, order) from None
    order = Order(body.job_id, body.presentation_id, audio_format(source))
    return Ordered(order, source, body.metadata or {})


def key_of(queue_url: str, order: Order, what: Source | str) -> str:
    """The same for each message that asks for the same. A URL's query may be a new signature."""
    match what:
        case Url(url=url):
            what = url.partition("?")[0]
        case S3Object(bucket=bucket, key=key):
            what = f"s3://{bucket}/{key}"
    parts = [queue_url, str(order.job_id), str(order.presentation_id), str(what)]
    return f"sqs:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


def _sentence(error: ValidationError) -> str:
    """What is wrong, without the values."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    if not field:
        return NOT_JSON
    return f"{field}: {_problem(first)}"


def _problem(first: Any) -> str:
    if first["type"] == "missing":
        return "it is missing."
    return f"{first['msg'].removeprefix('Input ')}."


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


class _Ids(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    job_id: Id = Field(alias="jobId")
    presentation_id: Annotated[Id | None, WrapValidator(_or_none)] = Field(
        None, alias="presentationId"
    )


def _order_of(text: str) -> Order | None:
    """The job of a message that is wrong otherwise."""
    try:
        ids = _Ids.model_validate_json(text)
    except ValidationError:
        return None
    return Order(ids.job_id, ids.presentation_id)
