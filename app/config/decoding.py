"""Audio decoding: the processes that read media files."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from app.config.fields import A_YEAR_S, SettingsGroup


class AudioDecodingSettings(SettingsGroup):
    """The processes that decode media files."""

    title: ClassVar[str] = "Audio decoding"

    decode_workers: int = Field(
        2,
        ge=1,
        le=64,
        validation_alias="DECODE_WORKERS",
        description=(
            "Files decoded at a time, each in its own process. One more process serves small files "
            "of clients who would have to wait for others."
        ),
    )
    decode_timeout_s: float = Field(
        900,
        gt=0,
        le=A_YEAR_S,
        validation_alias="DECODE_TIMEOUT_SECONDS",
        description="Longest decoding of a file.",
    )
    decode_memory_mb: int = Field(
        2048,
        ge=512,
        validation_alias="DECODE_MEMORY_MB",
        description="Most memory of one decoding process.",
    )
    max_streams: int = Field(
        100,
        ge=1,
        validation_alias="MAX_STREAMS",
        description="Most audio, video and subtitle tracks in a file.",
    )
