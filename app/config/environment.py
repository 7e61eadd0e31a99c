"""The environment besides the settings: variables of the libraries that are set or read."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from app.config.models import ModelSettings

# Read into the settings, and then nobody's: no library, no child process, nobody who looks into
# /proc/PID/environ.
SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "API_KEYS",
    "DATABASE_URL",
    "HF_TOKEN",
    "HUGGINGFACE_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "RATE_LIMIT_STORAGE_URL",
    "WEBHOOK_SECRET",
)
# What a process may know that sees hostile data.
PLAIN = {
    "PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "TERM", "NO_COLOR",
    "FORCE_COLOR", "SSL_CERT_FILE", "SSL_CERT_DIR",
}  # fmt: skip
PLAIN_PREFIXES = ("LC_", "PYTHON", "MALLOC_")
ENVIRONMENT_BEGINS, ENVIRONMENT_ENDS = 47, 48  # of /proc/PID/stat, counted after the name


def prepare_environment(settings: ModelSettings) -> None:
    """Set the variables that the libraries read. Call this before importing any of them."""
    forget_secrets()
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"  # telemetry, on by default
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # A checkpoint is a pickle, and pyannote.audio and torchaudio would let it run code. PyTorch
    # accepts only one of the two variables; deployments of older services set the other one.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = (
        os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") or "1"
    )
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # a separate client that ignores our time-outs
    os.environ.setdefault("HF_HOME", str(settings.cache_dir))
    os.environ.setdefault("TORCH_HOME", str(settings.cache_dir / "torch"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Several models share the cores, so waiting threads must not spin for long. A short spin stays,
    # or an LSTM would sleep and wake at each step. Huge pages save PyTorch millions of page faults,
    # as it allocates and frees large buffers.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def prepare_ray() -> None:
    """Set the variables that Ray reads. Call this before importing it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # telemetry, on by default
    # its proxies repeat a request whose front has died
    os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] = "app.serving.second_try:middlewares"
    # a replica that hangs is ended at once: it would finish nothing, and keep its GPU meanwhile
    os.environ.setdefault("RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS", "1")
    # its workers are what the machine is for, so they are not to give way
    os.environ.setdefault("RAY_worker_niceness", "0")
    # a busy machine takes longer to start a process than Ray waits
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")
    os.environ.setdefault("RAY_worker_register_timeout_seconds", "300")
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "20")


def hub_is_offline() -> bool:
    """Whether the operator has turned downloads off (HF_HUB_OFFLINE)."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}


def trace_exporters() -> tuple[str, ...]:
    """The exporters that OpenTelemetry's variables select, by the names of their entry points."""

    def variable(name: str) -> str:
        return os.environ.get(name, "").strip()

    if variable("OTEL_SDK_DISABLED").lower() == "true":
        return ()
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    default = "otlp" if any(variable(name) for name in endpoints) else "none"
    names = [name.strip() for name in (variable("OTEL_TRACES_EXPORTER") or default).split(",")]
    protocols = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((value for name in protocols if (value := variable(name))), "grpc")
    otlp = "otlp_proto_http" if protocol.startswith("http") else "otlp_proto_grpc"
    return tuple(otlp if name == "otlp" else name for name in names if name not in ("none", ""))


def subprocess_environment(**values: str) -> dict[str, str]:
    """The environment of this process with some values replaced, for a child process."""
    return {**os.environ, **values}


def bare_environment() -> dict[str, str]:
    """The environment of a process that sees hostile data: no secrets, and no threads for BLAS."""
    plain = {k: v for k, v in os.environ.items() if k in PLAIN or k.startswith(PLAIN_PREFIXES)}
    return {**plain, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def forget_secrets(names: Iterable[str] = SECRETS) -> None:
    """Remove variables from the environment, also from what the kernel shows of it."""
    for name in names:
        if os.environ.pop(name, None) is not None:
            with suppress(OSError, ValueError):  # no /proc
                _overwrite(os.fsencode(name))


def _overwrite(name: bytes) -> None:
    """Clear a variable in the memory that the process was started with, which nobody reads now."""
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    begin, end = int(fields[ENVIRONMENT_BEGINS]), int(fields[ENVIRONMENT_ENDS])
    at = begin
    for entry in ctypes.string_at(begin, end - begin).split(b"\0") if begin else ():
        if entry.partition(b"=")[0] == name:
            ctypes.memset(at, 0, len(entry))
        at += len(entry) + 1
