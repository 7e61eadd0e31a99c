"""Waiting clients: what happens if they try again, and how their connections stay open."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from app.config.fields import A_DAY_S, SettingsGroup


class WaitingSettings(SettingsGroup):
    """What happens if clients try again while they wait, and how their connections stay open."""

    title: ClassVar[str] = "Waiting clients"

    join_equal_uploads: bool = Field(
        True,
        validation_alias="JOIN_EQUAL_UPLOADS",
        description=(
            "Whether an upload joins one of the same client with the same bytes and parameters "
            "that is being transcribed, or was in the last 5 minutes, instead of being transcribed "
            "again."
        ),
    )
    join_linger_s: float = Field(
        30,
        ge=0,
        le=A_DAY_S,
        validation_alias="JOIN_LINGER_SECONDS",
        description=(
            "How long a transcription goes on for a next try if its client hangs up after more "
            "than 25 seconds, as clients do that time out. Others go first meanwhile."
        ),
    )
    keepalive_bytes_s: float = Field(
        0,
        ge=0,
        le=A_DAY_S,
        validation_alias="KEEPALIVE_BYTES",
        description=(
            "After how many seconds without a byte `/asr` sends a space before a JSON answer, for "
            "proxies that close idle connections. Later errors come with status 200, see "
            "`docs/api.md`. 0: never."
        ),
    )
