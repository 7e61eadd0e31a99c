"""The environment of the libraries, and what is read from it besides the settings."""

from __future__ import annotations

import os

from app.config.models import ModelSettings


def prepare_environment(settings: ModelSettings) -> None:
    """Set what the libraries read from the environment. Call before any of them is imported."""
    for secret in ("API_KEYS", "RATE_LIMIT_STORAGE_URL"):  # no business of the decoding processes
        os.environ.pop(secret, None)
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"  # telemetry, on by default
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # A checkpoint is a pickle, and pyannote.audio and torchaudio would let it run code. PyTorch
    # takes only one of the two variables; the second is set where older services needed it.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = (
        os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") or "1"
    )
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # a client of its own, without our time-outs
    os.environ.setdefault("HF_HOME", str(settings.cache_dir))
    os.environ.setdefault("TORCH_HOME", str(settings.cache_dir / "torch"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Several models compute side by side: threads that wait must not spin for long on the others'
    # cores, but for a moment, or an LSTM sleeps and wakes at each of its steps. Huge pages spare
    # PyTorch millions of page faults (its large buffers come and go).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def hub_is_offline() -> bool:
    """Whether the operator forbids downloads (HF_HUB_OFFLINE)."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}


def trace_exporters() -> tuple[str, ...]:
    """What OpenTelemetry's variables ask for, as the names that its exporters are found by."""

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
    """This process's environment with some values set, for a child."""
    return {**os.environ, **values}
