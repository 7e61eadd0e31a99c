"""Jobs: accepted work that is done later, and where it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import AliasChoices, Field, SecretStr

from app.config.fields import A_DAY_S, A_YEAR_S, AbsolutePath, SettingsGroup


class JobSettings(SettingsGroup):
    """Accepted work that is done later, and where it is kept."""

    title: ClassVar[str] = "Jobs"

    jobs: bool = Field(
        True,
        validation_alias="JOBS",
        description="Accept jobs (/transcribe, /status, /result, /enqueue) and run them.",
    )
    database_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="DATABASE_URL",
        description=(
            "PostgreSQL database of the jobs, for several machines: postgresql://USER:PASSWORD@"
            "HOST/NAME. Empty: an SQLite file in DATA_DIR."
        ),
    )
    data_dir: AbsolutePath = Field(
        Path("data"),
        validation_alias=AliasChoices("DATA_DIR", "UPLOAD_DIR"),
        description="Directory for jobs and their uploads. It must outlive the process.",
    )
    job_workers: int = Field(
        4,
        ge=1,
        le=256,
        validation_alias=AliasChoices("JOB_WORKERS", "MAX_WORKERS"),
        description="How many jobs run at a time in this process. They share the models.",
    )
    job_timeout_s: float = Field(
        21_600,
        gt=0,
        le=A_YEAR_S,
        validation_alias=AliasChoices("JOB_TIMEOUT_SECONDS", "TASK_TIMEOUT"),
        description="Longest time that one attempt at a job may take.",
    )
    job_max_attempts: int = Field(
        3,
        ge=1,
        le=100,
        validation_alias=AliasChoices("JOB_MAX_ATTEMPTS", "MAX_RETRIES"),
        description="How often a job is tried. Faults of the recording are not tried again.",
    )
    job_retry_s: float = Field(
        15,
        gt=0,
        le=A_DAY_S,
        validation_alias=AliasChoices("JOB_RETRY_SECONDS", "RETRY_DELAY"),
        description="Wait before the second attempt. Each later one is four times as long.",
    )
    job_takeover_s: float = Field(
        30,
        ge=1,
        le=A_DAY_S,
        validation_alias="JOB_TAKEOVER_SECONDS",
        description="How long a process may be silent before others take over its jobs.",
    )
    job_keep_days: float = Field(
        30,
        gt=0,
        le=36_500,
        validation_alias="JOB_KEEP_DAYS",
        description="How long ended jobs and their transcripts are kept.",
    )
    job_keep_audio_mb: int = Field(
        2000,
        ge=0,
        validation_alias="JOB_KEEP_AUDIO_MB",
        description=(
            "Largest recording that is kept as long as its transcript if the client asks for it "
            "(keep_audio), as the page does to play it. None if 0."
        ),
    )
    max_jobs: int = Field(
        10_000,
        ge=1,
        validation_alias="MAX_JOBS",
        description="Most jobs that may wait. Further ones are refused with 503.",
    )
