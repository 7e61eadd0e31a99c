"""Fleet: how many processes serve and transcribe on a Ray cluster."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from app.config.fields import A_DAY_S, A_YEAR_S, SettingsGroup


class FleetSettings(SettingsGroup):
    """The processes of a Ray cluster (extra `ray`, see docs/ray.md). Without Ray, nothing."""

    title: ClassVar[str] = "Ray"

    fleet_fronts: int = Field(
        1,
        ge=1,
        le=1000,
        validation_alias="FLEET_FRONTS",
        description="Processes that serve HTTP and WebSockets and decode uploads. No GPU.",
    )
    fleet_min_transcribers: int = Field(
        1,
        ge=0,
        le=1000,
        validation_alias="FLEET_MIN_TRANSCRIBERS",
        description=(
            "Fewest processes that hold models. 0: none while nobody uses them; the first request "
            "then waits for one to start."
        ),
    )
    fleet_max_transcribers: int = Field(
        1,
        ge=1,
        le=1000,
        validation_alias="FLEET_MAX_TRANSCRIBERS",
        description="Most processes that hold models.",
    )
    fleet_transcriber_gpus: float | None = Field(
        None,
        ge=0,
        le=16,
        validation_alias="FLEET_TRANSCRIBER_GPUS",
        description=(
            "GPUs of each such process; two of them share one with 0.5. Empty: 1 if DEVICE is cuda "
            "or the cluster has GPUs, otherwise 0."
        ),
    )
    fleet_target_audio_s: float = Field(
        600,
        gt=0,
        validation_alias="FLEET_TARGET_AUDIO_SECONDS",
        description=(
            "Seconds of audio that may wait for each such process: with more, another one is "
            "started."
        ),
    )
    fleet_scale_down_s: float = Field(
        300,
        ge=0,
        le=A_DAY_S,
        validation_alias="FLEET_SCALE_DOWN_SECONDS",
        description="How long fewer such processes must be enough before one is ended.",
    )
    fleet_drain_s: float | None = Field(
        None,
        gt=0,
        le=A_YEAR_S,
        validation_alias="FLEET_DRAIN_SECONDS",
        description=(
            "How long a process that is to end may still work on what it has. Empty: a minute more "
            "than REQUEST_TIMEOUT_SECONDS."
        ),
    )

    @model_validator(mode="after")
    def _most_are_no_less_than_fewest(self) -> Self:
        if self.fleet_max_transcribers < self.fleet_min_transcribers:
            raise ValueError("FLEET_MAX_TRANSCRIBERS is less than FLEET_MIN_TRANSCRIBERS")
        return self
