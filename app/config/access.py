"""Access: who may call the service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from app.config.fields import CommaSeparated, SettingsGroup

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@*]+")  # apps have schemes of their own


class AccessSettings(SettingsGroup):
    """Who may call the service."""

    title: ClassVar[str] = "Access"

    api_keys: SecretStr = Field(
        SecretStr(""),
        validation_alias="API_KEYS",
        description="API keys, comma-separated: KEY or NAME:KEY. Empty: no key is needed.",
    )
    api_keys_file: Path | None = Field(
        None,
        validation_alias="API_KEYS_FILE",
        description=(
            "File with more keys, one per line or comma-separated. Comments begin with #."
        ),
    )
    ops_require_key: bool = Field(
        True,
        validation_alias="OPS_REQUIRE_KEY",
        description="Also require a key to read /queue and /metrics, if there are keys.",
    )
    cors_origins: CommaSeparated = Field(
        (),
        validation_alias="CORS_ORIGINS",
        description="Web origins whose pages may call the service, or * for all.",
    )

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        origins = tuple(origin.lower().rstrip("/") for origin in value)
        for origin in origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin} is not an origin such as https://app.example.com")
        return origins
