"""Variables of the services that this one replaces, and what to set here instead."""

from __future__ import annotations

import os
from collections.abc import Iterator

_NOT_NEEDED = "has no effect, and nothing needs to be set"
# Variable -> (values that need no word, advice)
REPLACED: dict[str, tuple[tuple[str, ...], str]] = {
    "ASR_BACKEND": (("whisper",), "has no effect: ASR_MODEL chooses the model"),
    "ASR_ENGINE": (
        ("whisper", "whisperx", "faster_whisper"),
        "has no effect: the engine is WhisperX; ASR_MODEL chooses the model",
    ),
    "DEFAULT_MODEL": ((), "has no effect: set ASR_MODEL"),
    "GPU_CONCURRENCY": (
        (),
        "has no effect: requests share batches; set BATCH_SIZE for what the GPU does at once, "
        "MAX_QUEUE_SIZE for how many requests are taken",
    ),
    "MODEL_EVICTION_INTERVAL_SECONDS": ((), f"{_NOT_NEEDED} beside MODEL_IDLE_TIMEOUT"),
    "PIPELINE_STRATEGY": ((), f"{_NOT_NEEDED}: stages always run side by side"),
    "RESEGMENT_BY_SPEAKER": ((), f"{_NOT_NEEDED}: a segment never has two speakers"),
    "SAMPLE_RATE": (("16000",), "has no effect: models take 16000 Hz"),
    "SERVE_MODE": (("simple",), "has no effect: run replicas behind a load balancer"),
    "VAD_CHUNK_SIZE": ((), "has no effect: set CHUNK_SECONDS (at most 30)"),
}


def replaced_variables() -> Iterator[str]:
    """A sentence for each variable that is set and has no effect here."""
    for name, (harmless, advice) in REPLACED.items():
        value = os.environ.get(name, "").strip()
        if value and value.lower() not in harmless:
            yield f"{name} {advice}."
