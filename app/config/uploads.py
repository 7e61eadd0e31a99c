"""Uploads: how large, how slow and how many."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from app.config.fields import A_YEAR_S, SettingsGroup


class UploadSettings(SettingsGroup):
    """How large and how slow uploads may be, and how many run at a time."""

    title: ClassVar[str] = "Uploads"

    max_file_size_mb: int = Field(
        1000, ge=1, validation_alias="MAX_FILE_SIZE_MB", description="Largest upload."
    )
    max_concurrent_uploads: int = Field(
        64,
        ge=1,
        validation_alias="MAX_CONCURRENT_UPLOADS",
        description="Most uploads at a time, out of the requests in progress. Clients share them.",
    )
    upload_idle_timeout_s: float = Field(
        60,
        gt=0,
        le=A_YEAR_S,
        validation_alias="UPLOAD_IDLE_TIMEOUT_SECONDS",
        description="Longest pause of an upload.",
    )
    upload_min_bytes_per_s: int = Field(
        1000,
        ge=0,
        validation_alias="UPLOAD_MIN_BYTES_PER_SECOND",
        description=("Slowest upload, averaged over UPLOAD_IDLE_TIMEOUT_SECONDS. 0: no minimum."),
    )
