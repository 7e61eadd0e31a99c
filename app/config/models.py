"""Models: which ones are offered, where they come from, how many stay in memory."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import AliasChoices, Field, SecretStr

from app.config.fields import (
    A_DAY_S,
    A_YEAR_S,
    AbsolutePath,
    ByLanguage,
    CommaSeparated,
    SettingsGroup,
)


class ModelSettings(SettingsGroup):
    """Which models are offered, where they come from, how many stay in memory."""

    title: ClassVar[str] = "Models"

    asr_model: str = Field(
        "large-v3",
        validation_alias=AliasChoices("ASR_MODEL", "PRELOAD_MODEL", "WHISPER_MODEL"),
        description="Default model, for requests that name none.",
    )
    preload_model: str = Field(
        "",
        validation_alias="PRELOAD_MODEL",
        description="Model to load at start; /ready waits for it.",
    )
    allowed_models: CommaSeparated = Field(
        (),
        validation_alias="ALLOWED_MODELS",
        description=(
            "The only models that may be loaded: names, local paths, Hugging Face repositories. "
            "Empty: every model that faster-whisper knows, and demo."
        ),
    )
    openai_models: dict[str, str] = Field(
        {},
        validation_alias="OPENAI_MODELS",
        description=(
            "Models behind OpenAI's model names, e.g. "
            '{"gpt-4o-mini-transcribe": "small"}. Other OpenAI names use ASR_MODEL.'
        ),
    )
    openai_whisper1_model: str = Field(
        "",
        validation_alias="OPENAI_WHISPER1_MODEL",
        description="Model behind whisper-1, where OPENAI_MODELS names none. Empty: ASR_MODEL.",
    )
    align_models: ByLanguage = Field(
        default_factory=dict,
        validation_alias="ALIGN_MODELS",
        description='Alignment models by language, e.g. {"cy": "someone/wav2vec2-welsh"}.',
    )
    diarization_model: str = Field(
        "",
        validation_alias="DIARIZATION_MODEL",
        description=(
            "pyannote pipeline: Hugging Face repository or local path. Empty: "
            "pyannote/speaker-diarization-community-1, or the demo pipeline with the demo model."
        ),
    )
    hf_token: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN"),
        description="Hugging Face token. Gated models, such as diarization, need one.",
    )
    cache_dir: AbsolutePath = Field(
        Path("cache"),
        validation_alias=AliasChoices("ASR_MODEL_PATH", "CACHE_DIR"),
        description="Directory for downloaded models.",
    )
    hub_timeout_s: float = Field(
        10,
        ge=0.1,
        le=A_DAY_S,
        validation_alias="HUB_TIMEOUT_SECONDS",
        description=(
            "How long to wait for a model download to connect, answer or continue. Less than "
            "1000 bytes per second counts as silence."
        ),
    )
    model_load_wait_s: float = Field(
        300,
        gt=0,
        le=A_YEAR_S,
        validation_alias="MODEL_LOAD_WAIT_SECONDS",
        description=(
            "How long a request waits for a model that is being downloaded or loaded. Then it gets "
            "a 503 with Retry-After, or goes on without the aligner or diarizer; loading goes on."
        ),
    )
    torchaudio_url: str = Field(
        "https://download.pytorch.org/torchaudio/models",
        pattern=r"^https?://",
        validation_alias="TORCHAUDIO_URL",
        description=(
            "Where to download torchaudio's alignment models (en, fr, de, es, it), e.g. a mirror. "
            "HF_ENDPOINT sets the mirror for all other models."
        ),
    )
    model_idle_timeout_s: float = Field(
        0,
        ge=0,
        le=A_YEAR_S,
        validation_alias=AliasChoices("MODEL_IDLE_TIMEOUT", "MODEL_KEEP_ALIVE_SECONDS"),
        description="Unload a model that has been unused for this long. 0: never.",
    )
    max_loaded_models: int = Field(
        8,
        ge=1,
        validation_alias="MAX_LOADED_MODELS",
        description="Most models in memory, including aligners and the diarizer.",
    )
    model_memory_mb: int = Field(
        0,
        ge=0,
        validation_alias="MODEL_MEMORY_MB",
        description="Most memory for the weights of all models. 0: no limit.",
    )
    model_call_timeout_s: float = Field(
        1800,
        ge=0,
        le=A_YEAR_S,
        validation_alias="MODEL_CALL_TIMEOUT_SECONDS",
        description=(
            "Longest call of a model. After that /health reports unhealthy and the service exits, "
            "so that it is restarted. 0: no limit."
        ),
    )

    def models_of_openai_names(self) -> dict[str, str]:
        """The models behind OpenAI's model names, where that is not the default model."""
        whisper1 = {"whisper-1": self.openai_whisper1_model} if self.openai_whisper1_model else {}
        return {**whisper1, **self.openai_models}
