"""The body of POST /enqueue, and the job that it asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.api.parameters import MAX_SPEAKERS
from app.domain.errors import UnknownModel, UnsupportedOption
from app.domain.languages import is_multilingual, parse_language
from app.jobs.buckets import KEYS, is_key
from app.jobs.doors.enqueue import ENQUEUE, result_keys
from app.jobs.job import JobOptions, JobRequest, S3Object

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
USUAL_MODEL = "large-v2"  # if the client names none
LEAST_SPEAKERS, MOST_SPEAKERS = 2, 6

Resolve = Callable[[str], str]  # a model's name -> the canonical one; raises UnknownModel


def _job_id(value: str) -> str:
    if not UUID.fullmatch(value):
        raise ValueError("must be a UUID, such as 123e4567-e89b-12d3-a456-426614174000")
    return value


def _object_key(value: str) -> str:
    if not is_key(value):
        raise ValueError(KEYS)
    return value


def _language(value: str | None) -> str | None:
    if is_multilingual(value or ""):
        raise ValueError("must be one language, or auto")
    try:
        return parse_language(value or "")
    except UnsupportedOption as error:
        raise ValueError(error.message.removeprefix("language: ").rstrip(".")) from None


class EnqueueBody(BaseModel):
    """A recording in a bucket, and how to transcribe it."""

    model_config = ConfigDict(extra="allow")  # what has no effect is named in the answer

    job_id: Annotated[
        str,
        Field(description="A UUID of the client's.", json_schema_extra={"format": "uuid"}),
        AfterValidator(_job_id),
    ]
    s3_bucket: Annotated[str, Field(min_length=1, description="One of `S3_ALLOWED_BUCKETS`.")]
    object_key: Annotated[str, Field(description="The recording."), AfterValidator(_object_key)]
    media_type: Annotated[
        Literal["video", "audio"], Field(description="Either is recognized in any file.")
    ]
    language: Annotated[
        str | None,
        Field(description="Code, tag or English name; `auto` or null: detected."),
        AfterValidator(_language),
    ] = "en"
    model_size: Annotated[
        str | None,
        Field(description="One of `/v1/models`; default `large-v2`, or the service's own."),
    ] = None
    do_diarize: Annotated[bool, Field(description="Tell speakers apart.")] = True
    min_speakers: Annotated[
        int | None, Field(ge=1, le=MAX_SPEAKERS, description="null: no bound.")
    ] = LEAST_SPEAKERS
    max_speakers: Annotated[
        int | None, Field(ge=1, le=MAX_SPEAKERS, description="null: no bound.")
    ] = MOST_SPEAKERS

    def speaker_bounds(self) -> tuple[int | None, int | None]:
        """A bound that was not given follows the other one. Raises UnsupportedOption."""
        least, most = self.min_speakers, self.max_speakers
        if least is None or most is None or least <= most:
            return least, most
        if "min_speakers" not in self.model_fields_set:
            return most, most
        if "max_speakers" not in self.model_fields_set:
            return least, least
        raise UnsupportedOption(
            f"min_speakers: {least} is not allowed; it must not exceed max_speakers, which is "
            f"{most}."
        )

    def model(self, resolve: Resolve, default: str) -> str:
        """The canonical name. Raises UnknownModel."""
        if self.model_size:
            return _renamed(resolve, self.model_size)
        try:
            return resolve(USUAL_MODEL)
        except UnknownModel:
            return default

    def request(self, model: str, client: str, account: str) -> JobRequest:
        """Raises UnsupportedOption."""
        if self.object_key in result_keys(self.job_id):
            raise UnsupportedOption("object_key: the result of the job goes there.")
        least, most = self.speaker_bounds()
        return JobRequest(
            client=client,
            account=account,
            door=ENQUEUE,
            source=S3Object(bucket=self.s3_bucket, key=self.object_key),
            options=JobOptions(
                model=model,
                language=self.language,
                diarize=self.do_diarize,
                min_speakers=least,
                max_speakers=most,
            ),
            output="md",
            file_name=self.object_key.rpartition("/")[2],
            details={"job_id": self.job_id},
        )


def _renamed(resolve: Resolve, name: str) -> str:
    try:
        return resolve(name)
    except UnknownModel as error:
        raise UnknownModel(error.message.replace("model: ", "model_size: ", 1)) from None


class EnqueuedBody(BaseModel):
    """The answer of POST /enqueue."""

    status: Literal["queued"] = "queued"
    job_id: str = Field(description="That of the request.")
