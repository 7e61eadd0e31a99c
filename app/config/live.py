"""Live transcription: streams over WebSockets."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from app.config.fields import A_DAY_S, SettingsGroup


class LiveSettings(SettingsGroup):
    """Streams over WebSockets."""

    title: ClassVar[str] = "Live transcription"

    live_max_streams: int = Field(
        64,
        ge=0,
        le=4096,
        validation_alias="LIVE_MAX_STREAMS",
        description="Most streams at a time in this process. 0: no live transcription.",
    )
    live_max_streams_per_client: int = Field(
        16,
        ge=1,
        le=4096,
        validation_alias="LIVE_MAX_STREAMS_PER_CLIENT",
        description="Most streams at a time of one API key, or of one address without keys.",
    )
    live_max_session_s: float = Field(
        14_400,
        gt=0,
        le=7 * A_DAY_S,
        validation_alias="LIVE_MAX_SESSION_SECONDS",
        description="Longest time that a stream may be open.",
    )
    live_idle_timeout_s: float = Field(
        120,
        gt=0,
        le=A_DAY_S,
        validation_alias="LIVE_IDLE_TIMEOUT_SECONDS",
        description="A stream is closed if its client sends nothing for so long.",
    )
