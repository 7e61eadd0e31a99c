"""Gauges: what is read from the service at each scrape, and what a reading holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX = "whisperx_asr_"  # of the name of each metric
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # the container's limit (cgroup v2)


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """In bytes. `used`: by all processes. `reserved`: by PyTorch in this process."""

    device: str
    used: int
    total: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Reading:
    """Values that are read for each scrape. `loaded`: (kind, name) of each model."""

    ready: bool
    num_waiting: int
    num_running: int
    audio_s: float
    loaded: tuple[tuple[str, str], ...]
    gpus: tuple[GpuMemory, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Values that never change, and the known values of labels."""

    version: str
    device: str
    compute_type: str
    max_requests: int
    max_audio_s: float
    memory_limit_bytes: int
    warning_kinds: tuple[str, ...]
    model_kinds: tuple[str, ...] = ()


class ServiceGauges(Collector):
    """Gauges, read from the service at each scrape."""

    def __init__(self, facts: Facts, read: Callable[[], Reading]) -> None:
        self._facts = facts
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not read the service

    def collect(self) -> Iterator[Metric]:
        facts, now = self._facts, self._read()
        yield _gauge(
            "info",
            "Always 1. The labels show the version and the device of the models.",
            {(facts.version, facts.device, facts.compute_type): 1},
            "version", "device", "compute_type",
        )  # fmt: skip
        yield _gauge("ready", "1 if the service accepts requests.", {(): now.ready})
        yield _gauge(
            "queue_requests",
            "Requests in progress. waiting: no speech has been found yet.",
            {("waiting",): now.num_waiting, ("running",): now.num_running},
            "state",
        )
        yield _gauge(
            "queue_audio_seconds", "Seconds of decoded audio in progress.", {(): now.audio_s}
        )
        yield _gauge("queue_limit_requests", "MAX_QUEUE_SIZE.", {(): facts.max_requests})
        yield _gauge(
            "queue_limit_audio_seconds", "MAX_QUEUE_AUDIO_SECONDS.", {(): facts.max_audio_s}
        )
        loaded = dict.fromkeys(now.loaded, 1)
        yield _gauge("model_loaded", "1 for each model in memory.", loaded, "kind", "name")
        yield _gauge(
            "memory_limit_bytes",
            "Memory that the process may use: the container's limit or the machine's memory.",
            {(): facts.memory_limit_bytes},
        )
        for name, description in (
            ("used", "GPU memory in use by all processes."),
            ("total", "GPU memory in total."),
            ("reserved", "GPU memory that PyTorch holds in this process, without recognition's."),
        ):
            values = {(gpu.device,): getattr(gpu, name) for gpu in now.gpus}
            yield _gauge(f"gpu_memory_{name}_bytes", description, values, "device")


class JobGauges(Collector):
    """Jobs of all processes that share the database, read at each scrape."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        values = {(state,): number for state, number in self._read().items()}
        yield _gauge("jobs", "Jobs of all processes that have not ended.", values, "state")


def _gauge(name: str, description: str, values: Mapping[Any, float], *labels: str) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, description, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def memory_limit_bytes() -> int:
    """Memory that this process may use: the container's limit or the machine's memory."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(machine, int(MEMORY_LIMIT.read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return machine
