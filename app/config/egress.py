"""Egress: where the service itself connects to."""

from __future__ import annotations

from ipaddress import ip_network
from typing import ClassVar

from pydantic import Field, field_validator

from app.config.fields import A_DAY_S, CommaSeparated, SettingsGroup


class EgressSettings(SettingsGroup):
    """Where the service itself connects to: URLs of recordings, and webhooks."""

    title: ClassVar[str] = "URLs"

    url_ingest: bool = Field(
        False,
        validation_alias="URL_INGEST",
        description="Accept URLs of recordings. Pages and playlists need the extra `urls`.",
    )
    url_timeout_s: float = Field(
        3600,
        gt=0,
        le=A_DAY_S,
        validation_alias="URL_TIMEOUT_SECONDS",
        description="Longest time that fetching a URL may take.",
    )
    egress_allowed_networks: CommaSeparated = Field(
        (),
        validation_alias="EGRESS_ALLOWED_NETWORKS",
        description=(
            "Addresses and networks that URLs and webhooks may lead to although they are not "
            "public, e.g. 10.1.2.0/24."
        ),
    )

    @field_validator("egress_allowed_networks")
    @classmethod
    def _allowed_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(f"{network} is not a network such as 10.1.2.0/24") from None
        return value
