"""Rate limits: how much one client may ask for."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from app.config.fields import SettingsGroup


class RateLimitSettings(SettingsGroup):
    """How much one client may ask for: an API key, or an address if there are no keys."""

    title: ClassVar[str] = "Rate limits"

    rate_limit_requests_per_minute: int = Field(
        0,
        ge=0,
        validation_alias="RATE_LIMIT_REQUESTS_PER_MINUTE",
        description="Most transcription requests of a client in a minute. 0: no limit.",
    )
    rate_limit_audio_minutes_per_hour: float = Field(
        0,
        ge=0,
        validation_alias="RATE_LIMIT_AUDIO_MINUTES_PER_HOUR",
        description="Most minutes of audio of a client in an hour. 0: no limit.",
    )
    rate_limit_storage_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="RATE_LIMIT_STORAGE_URL",
        description=(
            "Redis in which several replicas count together: redis://[:PASSWORD@]HOST:PORT/DB, or "
            "rediss:// for TLS. Empty: each replica counts for itself."
        ),
    )
