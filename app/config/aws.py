"""AWS: the access key and the region for S3 and SQS, or for servers with their interfaces."""

from __future__ import annotations

from typing import ClassVar

from pydantic import AliasChoices, Field, SecretStr

from app.config.fields import SettingsGroup


class AwsSettings(SettingsGroup):
    """The access key and the region for S3 and SQS, or for servers with their interfaces."""

    title: ClassVar[str] = "AWS"

    aws_access_key_id: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("AWS_ACCESS_KEY_ID", "MINIO_ACCESS_KEY"),
        description="Access key. Empty: what AWS's libraries find, such as the machine's role.",
    )
    aws_secret_access_key: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("AWS_SECRET_ACCESS_KEY", "MINIO_SECRET_KEY"),
        description="Secret of the access key.",
    )
    aws_session_token: SecretStr = Field(
        SecretStr(""),
        validation_alias="AWS_SESSION_TOKEN",
        description="Token of a temporary access key.",
    )
    aws_region: str = Field(
        "",
        validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"),
        description="Region of buckets and queues. Empty: what AWS's libraries find.",
    )
