"""Diarization: who speaks when."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import AliasChoices, Field

from app.config.fields import SettingsGroup


class DiarizationSettings(SettingsGroup):
    """How speakers are told apart."""

    title: ClassVar[str] = "Diarization"

    segmentation_batch_size: int = Field(
        0,
        ge=0,
        le=1024,
        validation_alias="SEGMENTATION_BATCH_SIZE",
        description=(
            "Audio windows in one batch of diarization's segmentation and of speech detection. "
            "0: 32 on CUDA, 8 on CPU."
        ),
    )
    embedding_batch_size: int = Field(
        0,
        ge=0,
        le=1024,
        validation_alias="EMBEDDING_BATCH_SIZE",
        description="Audio windows in one batch of voice embeddings. 0: 32 on CUDA, 8 on CPU.",
    )
    diarization_threshold: float | None = Field(
        None,
        gt=0,
        le=2,
        validation_alias=AliasChoices(
            "DIARIZATION_CLUSTERING_THRESHOLD", "DIARIZE_CLUSTERING_THRESHOLD"
        ),
        description=(
            "Largest distance between two voices of the same speaker. Empty: the pipeline's own."
        ),
    )
    diarization_min_duration_off: float | None = Field(
        None,
        ge=0,
        le=10,
        validation_alias=AliasChoices("DIARIZATION_MIN_DURATION_OFF", "DIARIZE_MIN_DURATION_OFF"),
        description="Shortest gap between a speaker's turns. Empty: the pipeline's own.",
    )
    diarization_params: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("DIARIZATION_PARAMS", "DIARIZE_PARAM_OVERRIDES"),
        description='Further pipeline parameters, e.g. {"clustering": {"Fa": 0.07}}.',
    )
    diarization_part_s: float = Field(
        7200,
        ge=60,
        validation_alias="DIARIZATION_PART_SECONDS",
        description=(
            "Longer recordings are clustered in parts of this length; speakers are then matched "
            "across the parts."
        ),
    )
    assign_nearest_speaker: bool = Field(
        True,
        validation_alias=AliasChoices("ASSIGN_NEAREST_SPEAKER", "DIARIZE_FILL_NEAREST"),
        description="Give a word outside every turn to the nearest speaker.",
    )
    known_speaker_similarity: float = Field(
        0.5,
        ge=-1,
        le=1,
        validation_alias="KNOWN_SPEAKER_SIMILARITY",
        description=(
            "Smallest cosine similarity between a speaker and a reference recording for the "
            "speaker to get its name."
        ),
    )

    def diarizer_params(self) -> dict[str, dict[str, Any]]:
        """The parameters that override the pipeline's own, by group."""
        params = {group: dict(values) for group, values in self.diarization_params.items()}
        if self.diarization_threshold is not None:
            params.setdefault("clustering", {})["threshold"] = self.diarization_threshold
        if self.diarization_min_duration_off is not None:
            group = params.setdefault("segmentation", {})
            group["min_duration_off"] = self.diarization_min_duration_off
        return params
