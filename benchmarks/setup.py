"""One set of settings for both sides, which read it from the environment as the service does."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.config.environment import prepare_environment
from app.config.settings import Settings, load_settings
from app.observability.logs import quiet_libraries

OUT = Path(__file__).parent / "out"
PACKAGES = (
    *("torch", "ctranslate2", "faster-whisper", "whisperx", "pyannote.audio", "transformers"),
    "whisperx-asr-service",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run measures. Lengths are in minutes."""

    models: str
    minutes: float
    diarization_minutes: tuple[float, ...]
    long_minutes: float
    memory_minutes: tuple[float, ...]
    reference_memory_minutes: float
    callers: tuple[int, ...]
    repeats: int
    clips_per_caller: int
    speakers_in_clips: bool
    job_clips: int = 0
    job_minutes: tuple[float, ...] = ()
    idle_s: float = 0.0
    ray_clips: int = 0
    ray_minutes: float = 0.0
    ray_callers: int = 0


def apply_settings(models: Any) -> Settings:
    """The settings, after putting the models into the environment of this process and its children.

    `models`: a ModelSet, or None if the environment already has them.
    """
    if models is not None:
        os.environ |= {
            "ASR_MODEL": str(models.whisper),
            "PRELOAD_MODEL": str(models.whisper),
            "ALIGN_MODELS": json.dumps({"en": str(models.aligner)}),
            "DIARIZATION_MODEL": str(models.diarization),
            "HF_HUB_OFFLINE": "1",
            "MAX_QUEUE_SIZE": "200",
            "MAX_FILE_SIZE_MB": "4000",
            "MAX_DURATION_SECONDS": "100000",
            "REQUEST_TIMEOUT_SECONDS": "100000",
            "DECODE_TIMEOUT_SECONDS": "10000",
            "CACHE_DIR": str(OUT / "cache"),
            "TEMP_DIR": str(OUT / f"tmp-{os.getpid()}"),
            "DATA_DIR": str(OUT / f"data-{os.getpid()}"),
            "LOG_LEVEL": "warning",
            "MODEL_IDLE_TIMEOUT": "0",
        }
    settings = load_settings()
    prepare_environment(settings)
    quiet_libraries()
    return settings


def describe_machine() -> dict[str, Any]:
    """Processor, memory, GPU, versions and commit."""
    import psutil
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": gpu,
        "load_average_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit of the working tree, with "-dirty" if it has changes."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()
