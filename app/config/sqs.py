"""SQS: the queue that `whisperx-asr worker --sqs` takes its work from, and who hears of the end."""

from __future__ import annotations

import re
import socket
from enum import StrEnum
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, ValidationInfo, field_validator

from app.config.fields import Lower, SettingsGroup

LONGEST_VISIBILITY_S = 12 * 3600  # SQS's own limit, counted from when a message is received
AWS_HOST = re.compile(r"(?:sqs\.)?([a-z]+(?:-[a-z]+)+-\d+)\.(?:queue\.)?amazonaws\.com(?:\.cn)?")


class ReceiverForm(StrEnum):
    """Whose body the webhook has: they differ in what `transcript` and `diarization` are."""

    NESTED = "nested"
    FLAT = "flat"


class SqsSettings(SettingsGroup):
    """Jobs from an SQS queue, `whisperx-asr worker --sqs`. Needs the extra `s3`."""

    title: ClassVar[str] = "SQS"

    sqs_queue_url: str = Field(
        "",
        validation_alias=AliasChoices("AWS_SQS_ASR_QUEUE_URL", "SQS_QUEUE_URL"),
        description="The queue. Its address is also that of the server.",
    )
    sqs_dead_letter_queue_url: str = Field(
        "",
        validation_alias=AliasChoices("AWS_SQS_ASR_DLQ_URL", "SQS_DLQ_URL"),
        description=(
            "Where messages go whose job failed, with the reason. Empty: they stay in the queue, "
            "and its redrive policy decides."
        ),
    )
    sqs_visibility_s: int = Field(
        300,
        ge=2,
        le=LONGEST_VISIBILITY_S,
        validation_alias=AliasChoices("VISIBILITY_TIMEOUT", "SQS_VISIBILITY_SECONDS"),
        description=(
            "How long a message stays hidden from others after its worker has died. A worker "
            "extends it while it lives."
        ),
    )
    sqs_wait_s: int = Field(
        20,
        ge=0,
        le=20,
        validation_alias=AliasChoices("WAIT_TIME_SECONDS", "SQS_WAIT_SECONDS"),
        description="How long SQS waits for a message before it answers that there is none.",
    )
    sqs_max_messages: int = Field(
        1,
        ge=1,
        le=10,
        validation_alias=AliasChoices("MAX_MESSAGES", "SQS_MAX_MESSAGES"),
        description="Most messages taken at a time. Never more than there are free workers.",
    )
    sqs_poll_interval_s: float = Field(
        5,
        ge=0.1,
        le=3600,
        validation_alias=AliasChoices("POLL_INTERVAL", "SQS_POLL_INTERVAL_SECONDS"),
        description="Pause after a poll that found no message or failed.",
    )
    sqs_diarize: bool = Field(
        True,
        validation_alias=AliasChoices("DIARIZATION_ENABLED", "SQS_DIARIZE"),
        description="Tell speakers apart in recordings of the queue.",
    )
    sqs_min_speakers: int | None = Field(
        None,
        ge=1,
        validation_alias=AliasChoices("MIN_SPEAKERS", "SQS_MIN_SPEAKERS"),
        description="Speakers at least, in recordings of the queue.",
    )
    sqs_max_speakers: int | None = Field(
        None,
        ge=1,
        validation_alias=AliasChoices("MAX_SPEAKERS", "SQS_MAX_SPEAKERS"),
        description="Speakers at most, in recordings of the queue.",
    )
    sqs_dry_run: bool = Field(
        False,
        validation_alias=AliasChoices("DRY_RUN", "SQS_DRY_RUN"),
        description="Transcribe, but send no webhook and leave the messages in the queue.",
    )
    sqs_worker: str = Field(
        "",
        max_length=128,
        validation_alias=AliasChoices("WORKER_ID", "SQS_WORKER"),
        description="Name of this worker in the log and in dead letters. Empty: the host's name.",
    )
    sqs_client: str = Field(
        "",
        max_length=64,
        validation_alias="SQS_CLIENT",
        description=(
            "Name of the API key to which jobs of the queue belong: with it they can be seen, "
            "cancelled and tried again. Empty: where keys are set, nobody sees them."
        ),
    )
    receiver_url: str = Field(
        "",
        validation_alias="NODE_API_URL",
        description=(
            "Server that hears of the end of jobs of the queue. Needs EGRESS_ALLOWED_NETWORKS "
            "unless its address is public."
        ),
    )
    receiver_path: str = Field(
        "/api/v1/webhooks/asr-complete",
        validation_alias="WEBHOOK_ENDPOINT",
        description="Path on that server.",
    )
    receiver_form: Annotated[ReceiverForm, Lower] = Field(
        ReceiverForm.NESTED,
        validation_alias="WEBHOOK_FORM",
        description=(
            "nested: `transcript` and `diarization` are objects; flat: a text and a list, as in "
            "the documentation of Orator's worker."
        ),
    )

    @field_validator("sqs_queue_url", "sqs_dead_letter_queue_url")
    @classmethod
    def _queue(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (
            parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.strip("/")
        ):
            raise ValueError("must be such as https://sqs.eu-west-1.amazonaws.com/123456789012/asr")
        return value

    @field_validator("receiver_url")
    @classmethod
    def _receiver(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be such as https://api.example.com")
        return value

    @field_validator("sqs_max_speakers")
    @classmethod
    def _bounds(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("sqs_min_speakers")
        if value is not None and least is not None and least > value:
            raise ValueError(f"must not be less than MIN_SPEAKERS, {least}")
        return value

    @property
    def sqs_region(self) -> str:
        """The region in the queue's address; empty: it has none."""
        host = urlsplit(self.sqs_queue_url).hostname or ""
        found = AWS_HOST.fullmatch(host)
        return found[1] if found else ""

    @property
    def sqs_worker_name(self) -> str:
        return self.sqs_worker or socket.gethostname()

    @property
    def receiver_webhook(self) -> str:
        """Where the end of a job is posted; empty: nowhere."""
        address = self.receiver_url.rstrip("/")
        return f"{address}/{self.receiver_path.lstrip('/')}" if address else ""
