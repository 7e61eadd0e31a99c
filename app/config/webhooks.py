"""Webhooks: how the end of a job is announced."""

from __future__ import annotations

from typing import ClassVar

from pydantic import AliasChoices, Field, SecretStr, field_validator

from app.config.fields import A_DAY_S, CommaSeparated, SettingsGroup

# At once, then quickly, then up to a day. Source of the later ones: the schedule in the
# specification of Standard Webhooks.
DELAYS = ("5", "10", "20", "300", "1800", "7200", "18000", "36000", "21600")


class WebhookSettings(SettingsGroup):
    """How the end of a job is announced."""

    title: ClassVar[str] = "Webhooks"

    webhook_secret: SecretStr = Field(
        SecretStr(""),
        validation_alias="WEBHOOK_SECRET",
        description=(
            "Secret that signs webhooks: whsec_BASE64 or any text. Empty: they are not signed."
        ),
    )
    webhook_timeout_s: float = Field(
        30,
        gt=0,
        le=600,
        validation_alias=AliasChoices("WEBHOOK_TIMEOUT_SECONDS", "WEBHOOK_TIMEOUT"),
        description="Longest time that a receiver may take to answer.",
    )
    webhook_retry_delays: CommaSeparated = Field(
        DELAYS,
        validation_alias="WEBHOOK_RETRY_DELAYS",
        description=(
            "Seconds between the tries to deliver a webhook. After the last one it is given up."
        ),
    )

    @field_validator("webhook_retry_delays")
    @classmethod
    def _delays(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for delay in value:
            if not delay.isdecimal() or int(delay) > A_DAY_S:
                raise ValueError(f"{delay} is not a number of seconds up to {A_DAY_S}")
        return value
