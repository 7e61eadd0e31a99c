"""Limits: how much work the service accepts."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from app.config.fields import A_YEAR_S, SettingsGroup


class LimitSettings(SettingsGroup):
    """How much work the service accepts."""

    title: ClassVar[str] = "Limits"

    max_duration_s: float = Field(
        28_800,
        gt=0,
        validation_alias="MAX_DURATION_SECONDS",
        description="Longest recording.",
    )
    max_queue_size: int = Field(
        100,
        ge=1,
        validation_alias="MAX_QUEUE_SIZE",
        description="Most requests in progress, waiting ones included. Clients share them.",
    )
    max_queue_audio_s: float = Field(
        86_400,
        gt=0,
        validation_alias="MAX_QUEUE_AUDIO_SECONDS",
        description="Most audio in progress. Clients share it. A single request may exceed it.",
    )
    request_timeout_s: float = Field(
        14_400,
        gt=0,
        le=A_YEAR_S,
        validation_alias="REQUEST_TIMEOUT_SECONDS",
        description="Longest time that a request may take.",
    )
