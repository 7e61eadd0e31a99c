"""Server: where it listens, what connections may do, how it stops."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import ClassVar

from pydantic import AliasChoices, Field, field_validator

from app.config.fields import A_DAY_S, A_YEAR_S, CommaSeparated, SettingsGroup


class ServerSettings(SettingsGroup):
    """Where the service listens, what connections may do, how it stops."""

    title: ClassVar[str] = "Server"

    host: str = Field("0.0.0.0", validation_alias="HOST", description="Address to listen on.")
    port: int = Field(
        9000, ge=1, le=65535, validation_alias="PORT", description="Port to listen on."
    )
    root_path: str = Field(
        "",
        validation_alias="ROOT_PATH",
        description="Path prefix that a proxy strips, e.g. /asr-api.",
    )
    trusted_proxies: CommaSeparated = Field(
        ("127.0.0.1", "::1"),
        validation_alias=AliasChoices("TRUSTED_PROXIES", "FORWARDED_ALLOW_IPS"),
        description=(
            "Addresses and networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are "
            "trusted, or * for all."
        ),
    )
    max_connections: int = Field(
        1000,
        ge=8,
        validation_alias="MAX_CONNECTIONS",
        description="Most open connections. Above that, the longest idle one is closed.",
    )
    connection_timeout_s: float = Field(
        60,
        gt=0,
        le=A_DAY_S,
        validation_alias="CONNECTION_TIMEOUT_SECONDS",
        description=(
            "How long a client may take to send the headers of a request, or to receive any part "
            "of an answer."
        ),
    )
    keep_alive_timeout_s: float = Field(
        75,
        gt=0,
        le=A_DAY_S,
        validation_alias="KEEP_ALIVE_TIMEOUT_SECONDS",
        description=(
            "How long a connection stays open without a request. Longer than the pools of clients "
            "and load balancers, or requests are lost: they assume up to 60 seconds."
        ),
    )
    shutdown_drain_s: float = Field(
        5,
        ge=0,
        le=A_YEAR_S,
        validation_alias="SHUTDOWN_DRAIN_SECONDS",
        description=(
            "How long the service answers new requests with 503 after SIGTERM, so that load "
            "balancers notice."
        ),
    )
    shutdown_grace_s: int = Field(
        50,
        ge=1,
        le=A_YEAR_S,
        validation_alias="SHUTDOWN_GRACE_SECONDS",
        description="How long running requests may continue after that.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value == ("*",):
            return value
        try:
            return tuple(
                str(ip_network(part, strict=False) if "/" in part else ip_address(part))
                for part in value
            )
        except ValueError as error:
            raise ValueError(f"{error}; e.g. 10.0.0.7 or 10.0.0.0/8") from None
