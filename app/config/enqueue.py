"""Enqueue: who is told about jobs that came through POST /enqueue."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from app.config.fields import SettingsGroup


class EnqueueSettings(SettingsGroup):
    """Jobs of buckets, `POST /enqueue`. Their results go into the same bucket."""

    title: ClassVar[str] = "Jobs of buckets"

    webhook_url: str = Field(
        "",
        validation_alias="WEBHOOK_URL",
        description=(
            "Where the end of a job of /enqueue is announced, with its path. Empty: nowhere."
        ),
    )

    @field_validator("webhook_url")
    @classmethod
    def _with_path(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be such as https://example.com/api/webhook/modal")
        if value and not parts.path.strip("/"):
            raise ValueError("must include a path, such as /api/webhook/modal")
        return value
