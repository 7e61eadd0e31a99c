"""S3: buckets that jobs read and write, and one for uploads."""

from __future__ import annotations

import re
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, field_validator

from app.config.fields import CommaSeparated, SettingsGroup

BUCKET = re.compile(r"[a-zA-Z0-9._-]{1,255}")
PREFIX = re.compile(r"[a-zA-Z0-9._/-]{0,200}")


class S3Settings(SettingsGroup):
    """Buckets that jobs read and write, and one for uploads. Needs the extra `s3`."""

    title: ClassVar[str] = "S3"

    s3_allowed_buckets: CommaSeparated = Field(
        (),
        validation_alias=AliasChoices("S3_ALLOWED_BUCKETS", "AWS_S3_BUCKET"),
        description=(
            "Buckets whose objects jobs may name, and into which results of /enqueue are written. "
            "Empty: none."
        ),
    )
    s3_uploads: bool = Field(
        True,
        validation_alias=AliasChoices("S3_UPLOADS", "USE_MINIO"),
        description="Keep uploads of jobs in S3_UPLOAD_BUCKET, if it is set, not in DATA_DIR.",
    )
    s3_upload_bucket: str = Field(
        "",
        validation_alias=AliasChoices("S3_UPLOAD_BUCKET", "MINIO_BUCKET_NAME"),
        description="Bucket for the uploads of jobs. Needed where several machines run jobs.",
    )
    s3_upload_prefix: str = Field(
        "uploads/",
        validation_alias="S3_UPLOAD_PREFIX",
        description=(
            "What the names of uploads begin with in S3_UPLOAD_BUCKET. A bucket with its prefix "
            "belongs to one database."
        ),
    )
    s3_endpoint_url: str = Field(
        "",
        validation_alias=AliasChoices("AWS_ENDPOINT_URL_S3", "MINIO_ENDPOINT"),
        description="Address of an S3-compatible server, https://HOST:PORT. Empty: AWS.",
    )
    s3_secure: bool = Field(
        False,
        validation_alias=AliasChoices("S3_SECURE", "MINIO_SECURE"),
        description="Use TLS for an address without https:// or http://.",
    )

    @field_validator("s3_allowed_buckets")
    @classmethod
    def _buckets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for bucket in value:
            if not BUCKET.fullmatch(bucket):
                raise ValueError(f"{bucket} is not the name of a bucket")
        return value

    @field_validator("s3_upload_bucket")
    @classmethod
    def _bucket(cls, value: str) -> str:
        if value and not BUCKET.fullmatch(value):
            raise ValueError("not the name of a bucket")
        return value

    @field_validator("s3_upload_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if not PREFIX.fullmatch(value) or value.startswith("/"):
            raise ValueError("letters, digits and . _ - / only, not beginning with /")
        return value

    @field_validator("s3_endpoint_url")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query):
            raise ValueError("must be such as https://s3.example.com or minio:9000")
        return value.rstrip("/")

    @property
    def s3_address(self) -> str | None:
        """The endpoint with its scheme; None: AWS."""
        if not self.s3_endpoint_url or "://" in self.s3_endpoint_url:
            return self.s3_endpoint_url or None
        return f"{'https' if self.s3_secure else 'http'}://{self.s3_endpoint_url}"

    @property
    def s3_upload_target(self) -> str:
        """The bucket for uploads; empty: they stay in DATA_DIR."""
        return self.s3_upload_bucket if self.s3_uploads else ""

    @property
    def uses_s3(self) -> bool:
        return bool(self.s3_allowed_buckets or self.s3_upload_target)
