"""The settings of the service, and the only reader of the environment.

Every field understands the names of both families of services that this one replaces. An empty
variable means the same as an unset one.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import load_dotenv
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from app.domain.errors import ConfigurationError
from app.domain.options import WordAligner

DEMO_DIR = Path(__file__).parent.parent / "demo"
A_DAY_S = 86_400
A_YEAR_S = 365 * A_DAY_S  # more than anybody waits, less than timers and locks can count
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@*]+")  # apps have schemes of their own


def _names(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class Settings(BaseSettings):
    """Read once at start. The first of two names wins where both are set."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        frozen=True,
        allow_inf_nan=False,
    )

    # Models
    asr_model: str = Field(
        "large-v3",
        validation_alias=_names("ASR_MODEL", "PRELOAD_MODEL"),
        description="Model of requests that name none.",
    )
    preload_model: str = Field(
        "", validation_alias="PRELOAD_MODEL", description="Model to load at start, before /ready."
    )
    allowed_models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        validation_alias="ALLOWED_MODELS",
        description=(
            "The whole list of models that may be loaded, comma-separated: names, local paths, "
            "hub repositories. Empty: every model that faster-whisper knows, and demo."
        ),
    )
    openai_models: dict[str, str] = Field(
        {},
        validation_alias="OPENAI_MODELS",
        description=(
            "Models that OpenAI's names stand for as JSON, e.g. "
            '{"gpt-4o-mini-transcribe": "small"}. The others stand for ASR_MODEL.'
        ),
    )
    align_models: dict[str, str] = Field(
        default_factory=dict,
        validation_alias="ALIGN_MODELS",
        description='Aligners by language as JSON, e.g. {"cy": "someone/wav2vec2-welsh"}.',
    )
    diarization_model: str = Field(
        "",
        validation_alias="DIARIZATION_MODEL",
        description=(
            "pyannote pipeline: hub name or local path. Empty: "
            "pyannote/speaker-diarization-community-1, or the demo's with the demo model."
        ),
    )
    hf_token: SecretStr = Field(
        SecretStr(""),
        validation_alias=_names("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        description="Hugging Face token; gated models (diarization) need one.",
    )
    cache_dir: Path = Field(
        Path("cache"),
        validation_alias=_names("ASR_MODEL_PATH", "CACHE_DIR"),
        description="Where downloaded models are kept.",
    )
    hub_timeout_s: float = Field(
        10,
        ge=0.1,
        le=A_DAY_S,
        validation_alias="HUB_TIMEOUT_SECONDS",
        description=(
            "How long a model hub may take to connect, to answer and to send on, in seconds; below "
            "1000 bytes per second it counts as silent."
        ),
    )
    torchaudio_url: str = Field(
        "https://download.pytorch.org/torchaudio/models",
        pattern=r"^https?://",
        validation_alias="TORCHAUDIO_URL",
        description=(
            "Where the alignment models of torchaudio (en, fr, de, es, it) are downloaded from: "
            "theirs or a mirror. HF_ENDPOINT names a mirror for all other models."
        ),
    )
    model_idle_timeout_s: float = Field(
        0,
        ge=0,
        le=A_YEAR_S,
        validation_alias=_names("MODEL_IDLE_TIMEOUT", "MODEL_KEEP_ALIVE_SECONDS"),
        description="Unload a model that nobody used for so many seconds. 0: keep it.",
    )
    max_loaded_models: int = Field(
        8,
        ge=1,
        validation_alias="MAX_LOADED_MODELS",
        description="Models in memory at most, aligners and the diarizer counted.",
    )
    model_memory_mb: int = Field(
        0,
        ge=0,
        validation_alias="MODEL_MEMORY_MB",
        description="Memory for the weights of all models in MB. 0: no limit.",
    )

    # Devices
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        validation_alias=_names("ASR_DEVICE", "DEVICE"),
        description="auto takes CUDA where there is one.",
    )
    device_index: int = Field(
        0, ge=0, validation_alias="DEVICE_INDEX", description="Which GPU, where there are several."
    )
    compute_type: Literal[
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
    ] = Field(
        "auto",
        validation_alias=_names("ASR_QUANTIZATION", "COMPUTE_TYPE"),
        description="Precision of recognition. auto: float16 on CUDA, int8 on CPU.",
    )
    align_device: Literal["", "cpu", "cuda"] = Field(
        "", validation_alias="ALIGN_DEVICE", description="Device of alignment. Empty: as DEVICE."
    )
    diarize_device: Literal["", "cpu", "cuda"] = Field(
        "",
        validation_alias="DIARIZE_DEVICE",
        description="Device of diarization. Empty: DEVICE.",
    )
    cpu_threads: int = Field(
        0,
        ge=0,
        validation_alias="CPU_THREADS",
        description="Threads per model on CPU. 0: all.",
    )

    # Recognition
    batch_size: int = Field(
        16, ge=1, le=512, validation_alias="BATCH_SIZE", description="Chunks recognized at once."
    )
    beam_size: int = Field(
        5, ge=1, le=20, validation_alias="BEAM_SIZE", description="Width of the beam search."
    )
    chunk_s: float = Field(
        30, ge=5, le=30, validation_alias="CHUNK_SECONDS", description="Longest chunk in seconds."
    )
    vad_onset: float = Field(
        0.5, gt=0, lt=1, validation_alias="VAD_ONSET", description="Score at which speech begins."
    )
    vad_offset: float = Field(
        0.363, gt=0, lt=1, validation_alias="VAD_OFFSET", description="Score at which speech ends."
    )
    word_aligner: WordAligner = Field(
        WordAligner.AUTO,
        validation_alias="WORD_ALIGNER",
        description=(
            "What gives words their times. auto: a wav2vec2 model where the language has one, else "
            "Whisper's cross-attention; wav2vec2 or whisper: only that."
        ),
    )
    align_batch_size: int = Field(
        8,
        ge=1,
        le=512,
        validation_alias="ALIGN_BATCH_SIZE",
        description="Segments aligned together.",
    )

    # Diarization
    segmentation_batch_size: int = Field(
        0,
        ge=0,
        le=1024,
        validation_alias="SEGMENTATION_BATCH_SIZE",
        description=(
            "Windows that diarization and speech detection work on at once. "
            "0: by device, 32 on CUDA and 8 on CPU."
        ),
    )
    embedding_batch_size: int = Field(
        0,
        ge=0,
        le=1024,
        validation_alias="EMBEDDING_BATCH_SIZE",
        description="Windows whose speakers' voices are embedded at once. 0: by device, as above.",
    )
    diarization_threshold: float | None = Field(
        None,
        gt=0,
        le=2,
        validation_alias="DIARIZATION_CLUSTERING_THRESHOLD",
        description="Distance up to which two voices are one speaker. Empty: the pipeline's own.",
    )
    diarization_min_duration_off: float | None = Field(
        None,
        ge=0,
        le=10,
        validation_alias="DIARIZATION_MIN_DURATION_OFF",
        description="Shortest gap between a speaker's turns in seconds. Empty: the pipeline's own.",
    )
    diarization_params: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        validation_alias="DIARIZATION_PARAMS",
        description='Further pipeline parameters as JSON, e.g. {"clustering": {"Fa": 0.07}}.',
    )
    diarization_part_s: float = Field(
        7200,
        ge=60,
        validation_alias="DIARIZATION_PART_SECONDS",
        description="Longer recordings are clustered in parts whose speakers are joined.",
    )
    assign_nearest_speaker: bool = Field(
        True,
        validation_alias="ASSIGN_NEAREST_SPEAKER",
        description="Whether a word outside every turn takes the nearest speaker.",
    )
    known_speaker_similarity: float = Field(
        0.5,
        ge=-1,
        le=1,
        validation_alias="KNOWN_SPEAKER_SIMILARITY",
        description=(
            "How much alike (cosine) a speaker must be to a reference recording to bear its name."
        ),
    )
    strict_stages: bool = Field(
        False,
        validation_alias="STRICT_STAGES",
        description="Fail a request whose alignment or diarization fails, instead of warning.",
    )

    # Limits
    max_file_size_mb: int = Field(
        1000, ge=1, validation_alias="MAX_FILE_SIZE_MB", description="Largest upload in MB."
    )
    max_duration_s: float = Field(
        28_800,
        gt=0,
        validation_alias="MAX_DURATION_SECONDS",
        description="Longest recording in seconds.",
    )
    max_streams: int = Field(
        100,
        ge=1,
        validation_alias="MAX_STREAMS",
        description="Sound, picture and subtitle tracks that a file may have.",
    )
    max_queue_size: int = Field(
        100, ge=1, validation_alias="MAX_QUEUE_SIZE", description="Requests admitted at a time."
    )
    max_queue_audio_s: float = Field(
        86_400,
        gt=0,
        validation_alias="MAX_QUEUE_AUDIO_SECONDS",
        description="Seconds of audio admitted at a time; a lone request may be longer.",
    )
    request_timeout_s: float = Field(
        14_400,
        gt=0,
        le=A_YEAR_S,
        validation_alias="REQUEST_TIMEOUT_SECONDS",
        description="Longest request in seconds.",
    )
    model_call_timeout_s: float = Field(
        1800,
        ge=0,
        le=A_YEAR_S,
        validation_alias="MODEL_CALL_TIMEOUT_SECONDS",
        description=(
            "How long one call of a model may take in seconds; beyond it /health says unhealthy "
            "and the service ends, to be started anew. 0: for ever."
        ),
    )
    shutdown_drain_s: float = Field(
        5,
        ge=0,
        le=A_YEAR_S,
        validation_alias="SHUTDOWN_DRAIN_SECONDS",
        description=(
            "How long after SIGTERM it still answers newcomers (/ready and /asr with 503), in "
            "seconds, so that load balancers see it."
        ),
    )
    shutdown_grace_s: int = Field(
        50,
        ge=1,
        le=A_YEAR_S,
        validation_alias="SHUTDOWN_GRACE_SECONDS",
        description="How long running requests may go on after that, in seconds.",
    )
    upload_idle_timeout_s: float = Field(
        60,
        gt=0,
        le=A_YEAR_S,
        validation_alias="UPLOAD_IDLE_TIMEOUT_SECONDS",
        description="How long an upload may pause, in seconds.",
    )
    upload_min_bytes_per_s: int = Field(
        1000,
        ge=0,
        validation_alias="UPLOAD_MIN_BYTES_PER_SECOND",
        description="Slowest upload, as a mean over the time that it may pause. 0: any.",
    )
    max_concurrent_uploads: int = Field(
        64,
        ge=1,
        validation_alias="MAX_CONCURRENT_UPLOADS",
        description="Uploads received at a time, of all the requests admitted.",
    )
    max_connections: int = Field(
        1000,
        ge=8,
        validation_alias="MAX_CONNECTIONS",
        description="Connections at a time; beyond them the one that idles longest is closed.",
    )
    connection_timeout_s: float = Field(
        60,
        gt=0,
        le=A_DAY_S,
        validation_alias="CONNECTION_TIMEOUT_SECONDS",
        description=(
            "How long a client may take to send the head of a request, and to take in anything "
            "of an answer, in seconds."
        ),
    )
    decode_workers: int = Field(
        2, ge=1, le=64, validation_alias="DECODE_WORKERS", description="Files decoded at a time."
    )
    decode_timeout_s: float = Field(
        900,
        gt=0,
        le=A_YEAR_S,
        validation_alias="DECODE_TIMEOUT_SECONDS",
        description="Longest decoding in seconds.",
    )
    decode_memory_mb: int = Field(
        2048,
        ge=512,
        validation_alias="DECODE_MEMORY_MB",
        description="Memory that one decoding process may take, in MB.",
    )
    temp_dir: Path = Field(
        Path(tempfile.gettempdir()) / "whisperx-asr",
        validation_alias="TEMP_DIR",
        description="Private directory for uploads and decoded audio; emptied at start.",
    )
    temp_min_free_mb: int | None = Field(
        None,
        ge=0,
        validation_alias="TEMP_MIN_FREE_MB",
        description=(
            "Space that uploads and decoded audio leave free on that disk, in MB. Empty: a "
            "hundredth of the disk, 1000 at most."
        ),
    )

    # Wire
    default_dialect: Literal["whisperx", "webservice"] = Field(
        "whisperx",
        validation_alias="DEFAULT_DIALECT",
        description="Dialect of requests that do not show theirs.",
    )
    subtitle_max_line_width: int | None = Field(
        None,
        ge=1,
        validation_alias="SUBTITLE_MAX_LINE_WIDTH",
        description="Characters per line; Chinese, Japanese and Korean ones count twice.",
    )
    subtitle_max_line_count: int | None = Field(
        None, ge=1, validation_alias="SUBTITLE_MAX_LINE_COUNT", description="Lines per subtitle."
    )
    subtitle_highlight_words: bool = Field(
        False,
        validation_alias="SUBTITLE_HIGHLIGHT_WORDS",
        description="Underline each word as it is spoken (srt and vtt).",
    )

    # Access
    api_keys: SecretStr = Field(
        SecretStr(""),
        validation_alias="API_KEYS",
        description="Keys that requests need, comma-separated: KEY or NAME:KEY. Empty: none.",
    )
    api_keys_file: Path | None = Field(
        None,
        validation_alias="API_KEYS_FILE",
        description="File with further keys, one per line or comma-separated; # begins a comment.",
    )
    ops_require_key: bool = Field(
        True,
        validation_alias="OPS_REQUIRE_KEY",
        description="Whether reading /queue and /metrics needs a key too, where there are keys.",
    )
    rate_limit_requests_per_minute: int = Field(
        0,
        ge=0,
        validation_alias="RATE_LIMIT_REQUESTS_PER_MINUTE",
        description="Transcription requests of one key, or else of one address. 0: no limit.",
    )
    rate_limit_audio_minutes_per_hour: float = Field(
        0,
        ge=0,
        validation_alias="RATE_LIMIT_AUDIO_MINUTES_PER_HOUR",
        description="Minutes of audio of one key, or else of one address. 0: no limit.",
    )
    rate_limit_storage_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="RATE_LIMIT_STORAGE_URL",
        description=(
            "Redis that several replicas count in: redis://[:PASSWORD@]HOST:PORT/DB, rediss:// "
            "with TLS. Empty: each counts for itself."
        ),
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        validation_alias="CORS_ORIGINS",
        description="Web origins whose pages may call the service, comma-separated, or *.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.1", "::1"),
        validation_alias=_names("TRUSTED_PROXIES", "FORWARDED_ALLOW_IPS"),
        description=(
            "Addresses and networks of proxies whose X-Forwarded-For and -Proto count, "
            "comma-separated. *: whoever connects."
        ),
    )

    # Server
    host: str = Field("0.0.0.0", validation_alias="HOST", description="Address to listen on.")
    port: int = Field(
        9000, ge=1, le=65535, validation_alias="PORT", description="Port to listen on."
    )
    root_path: str = Field(
        "",
        validation_alias="ROOT_PATH",
        description="Path prefix that a proxy strips, e.g. /asr-api.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias="LOG_LEVEL", description="debug, info, warning or error."
    )
    log_format: Literal["console", "json"] = Field(
        "console",
        validation_alias="LOG_FORMAT",
        description="console for people, json for log collectors: an object per line.",
    )
    log_transcripts: bool = Field(
        False,
        validation_alias="LOG_TRANSCRIPTS",
        description="Whether the text of each transcript is logged.",
    )

    @field_validator("allowed_models", "cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator(
        "log_level",
        "log_format",
        "device",
        "compute_type",
        "default_dialect",
        "word_aligner",
        mode="before",
    )
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        origins = tuple(origin.lower().rstrip("/") for origin in value)
        for origin in origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin} is no origin such as https://app.example.com")
        return origins

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

    @field_validator("cache_dir", "temp_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    def diarizer_params(self) -> dict[str, dict[str, Any]]:
        """What overrides the diarization pipeline's own parameters, by group."""
        params = {group: dict(values) for group, values in self.diarization_params.items()}
        if self.diarization_threshold is not None:
            params.setdefault("clustering", {})["threshold"] = self.diarization_threshold
        if self.diarization_min_duration_off is not None:
            group = params.setdefault("segmentation", {})
            group["min_duration_off"] = self.diarization_min_duration_off
        return params


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings of the environment and `.env`; `overrides` win over both.

    Raises:
        ConfigurationError: a value that cannot work, with the variable's name and what is allowed.
    """
    # into the environment, so that the libraries' own variables may stand there too
    load_dotenv(Path(".env"), override=False)
    try:
        return Settings(**dict(overrides or {}))  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    except SettingsError as error:  # JSON that is none
        field = str(error).split('"')[1] if '"' in str(error) else "settings"
        raise ConfigurationError(f"{variable_name(field)}: not valid JSON.") from None


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        name = variable_name(str(problem["loc"][0])) if problem["loc"] else "settings"
        lines.append(f"{name}: {problem['msg']} (it is {problem['input']!r})")
    return "; ".join(lines)


def variable_name(field: str) -> str:
    """The environment variable of a field, or of one of its names; both where there are two."""
    for name, info in Settings.model_fields.items():
        alias = info.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [alias]
        if field == name or field in names:
            return " or ".join(str(choice) for choice in names)
    return field
