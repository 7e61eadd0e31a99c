"""Transcription: speech detection, recognition and alignment."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, AliasChoices, Field

from app.config.fields import Lower, SettingsGroup, whisper_language
from app.domain.options import WordAligner


class TranscriptionSettings(SettingsGroup):
    """How speech is detected, recognized and aligned."""

    title: ClassVar[str] = "Transcription"

    default_language: Annotated[str | None, AfterValidator(whisper_language)] = Field(
        None,
        validation_alias=AliasChoices("DEFAULT_LANGUAGE", "WHISPER_LANGUAGE"),
        description=(
            "Language of requests that name none; `auto` in a request still detects it. Empty: "
            "detect."
        ),
    )
    batch_size: int = Field(
        16,
        ge=1,
        le=512,
        validation_alias="BATCH_SIZE",
        description="Chunks recognized in one batch.",
    )
    beam_size: int = Field(
        5, ge=1, le=20, validation_alias="BEAM_SIZE", description="Width of the beam search."
    )
    chunk_s: float = Field(
        30,
        ge=5,
        le=30,
        validation_alias="CHUNK_SECONDS",
        description="Longest chunk of speech that the recognizer gets.",
    )
    vad_onset: float = Field(
        0.5,
        gt=0,
        lt=1,
        validation_alias="VAD_ONSET",
        description="Score above which speech begins.",
    )
    vad_offset: float = Field(
        0.363,
        gt=0,
        lt=1,
        validation_alias="VAD_OFFSET",
        description="Score below which speech ends.",
    )
    word_aligner: Annotated[WordAligner, Lower] = Field(
        WordAligner.AUTO,
        validation_alias="WORD_ALIGNER",
        description=(
            "Where word times come from. auto: a wav2vec2 model if the language has one, else "
            "Whisper's cross-attention; wav2vec2 or whisper: only that."
        ),
    )
    align_batch_size: int = Field(
        8,
        ge=1,
        le=512,
        validation_alias="ALIGN_BATCH_SIZE",
        description="Segments aligned in one batch.",
    )
    strict_stages: bool = Field(
        False,
        validation_alias="STRICT_STAGES",
        description=(
            "Fail a request if its alignment or diarization fails, instead of answering with a "
            "warning."
        ),
    )
