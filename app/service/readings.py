"""What /metrics shows of a service besides what it counts."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from app import __version__
from app.config.limits import LimitSettings
from app.domain.warnings import TranscriptWarning
from app.engine.model import ModelKey, ModelKind
from app.observability.gauges import Facts, GpuMemory, Reading, memory_limit_bytes
from app.service.admission import Admission


def service_facts(settings: LimitSettings, device: str, compute_type: str) -> Facts:
    return Facts(
        version=__version__,
        device=device,
        compute_type=compute_type,
        max_requests=settings.max_queue_size,
        max_audio_s=settings.max_queue_audio_s,
        memory_limit_bytes=memory_limit_bytes(),
        warning_kinds=tuple(dict.fromkeys(warning.kind for warning in TranscriptWarning)),
        model_kinds=tuple(ModelKind),
    )


def take_reading(
    ready: threading.Event,
    admission: Admission,
    loaded: Sequence[ModelKey],
    gpus: tuple[GpuMemory, ...],
) -> Reading:
    """What a scrape of /metrics shows at this moment."""
    entries = [entry for entry in admission.entries() if entry.has_place]
    num_waiting = sum(entry.state == "waiting" for entry in entries)
    return Reading(
        ready=ready.is_set(),
        num_waiting=num_waiting,
        num_running=len(entries) - num_waiting,
        audio_s=admission.audio_s,
        loaded=tuple((key.kind, key.short_name) for key in loaded),
        gpus=gpus,
    )
