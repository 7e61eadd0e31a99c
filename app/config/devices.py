"""Devices: what the models run on."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, Field

from app.config.fields import Lower, SettingsGroup


class DeviceSettings(SettingsGroup):
    """What the models run on, and with which precision."""

    title: ClassVar[str] = "Devices"

    device: Annotated[Literal["auto", "cpu", "cuda"], Lower] = Field(
        "auto",
        validation_alias=AliasChoices("ASR_DEVICE", "DEVICE", "WHISPER_DEVICE"),
        description="Device of all models. auto: CUDA if available.",
    )
    device_index: int = Field(
        0,
        ge=0,
        validation_alias="DEVICE_INDEX",
        description="Which GPU to use if there are several.",
    )
    compute_type: Annotated[
        Literal[
            "auto",
            "default",
            "int8",
            "int8_float32",
            "int8_float16",
            "int8_bfloat16",
            "int16",
            "float16",
            "bfloat16",
            "float32",
        ],
        Lower,
    ] = Field(
        "auto",
        validation_alias=AliasChoices("ASR_QUANTIZATION", "COMPUTE_TYPE", "WHISPER_COMPUTE_TYPE"),
        description="Precision of recognition. auto: float16 on CUDA, int8 on CPU.",
    )
    align_device: Literal["", "cpu", "cuda"] = Field(
        "",
        validation_alias="ALIGN_DEVICE",
        description="Device of alignment. Empty: same as DEVICE.",
    )
    diarize_device: Literal["", "cpu", "cuda"] = Field(
        "",
        validation_alias="DIARIZE_DEVICE",
        description="Device of diarization. Empty: same as DEVICE.",
    )
    cpu_threads: int = Field(
        0,
        ge=0,
        validation_alias="CPU_THREADS",
        description="CPU threads per model. 0: all available cores.",
    )
