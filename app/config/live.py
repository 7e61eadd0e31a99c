"""Live transcription: streams over WebSockets."""

from __future__ import annotations

from ipaddress import ip_network
from typing import ClassVar

from pydantic import Field, field_validator

from app.config.fields import A_DAY_S, CommaSeparated, SettingsGroup


class LiveSettings(SettingsGroup):
    """Streams over WebSockets."""

    title: ClassVar[str] = "Live transcription"

    live_max_streams: int = Field(
        64,
        ge=0,
        le=4096,
        validation_alias="LIVE_MAX_STREAMS",
        description="Most live streams at a time in this process. 0: no live transcription.",
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
    wyoming_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        validation_alias="WYOMING_PORT",
        description=(
            "Port for Home Assistant's protocol Wyoming, usually 10300. Empty: none. Needs the "
            "extra `wyoming`."
        ),
    )
    wyoming_networks: CommaSeparated = Field(
        (
            "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7",
            "fe80::/10",
        ),
        validation_alias="WYOMING_NETWORKS",
        description="Whose clients the Wyoming port serves: the protocol has no keys.",
    )  # fmt: skip

    @field_validator("wyoming_networks")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)  # raises ValueError
        return value
