"""Which device and precision the models run on."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from pathlib import Path

import ctranslate2
import torch
from torch import nn

from app.config.devices import DeviceSettings
from app.domain.errors import ConfigurationError
from app.engine.pauses import pause
from app.models.host_memory import return_freed_memory
from app.observability.gauges import GpuMemory

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, slots=True)
class Devices:
    """The device of each kind of model, as torch names it: "cpu" or "cuda:0"."""

    device: str
    compute_type: str
    align: str
    diarize: str
    cpu_threads: int


def choose_devices(settings: DeviceSettings) -> Devices:
    """The devices that the settings ask for.

    Raises:
        ConfigurationError: a device or precision is not available.
    """
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    compute_type = settings.compute_type
    if compute_type in ("auto", "default"):
        compute_type = "float16" if device == "cuda" else "int8"
    for name, wanted in (
        ("DEVICE", device),
        ("ALIGN_DEVICE", settings.align_device),
        ("DIARIZE_DEVICE", settings.diarize_device),
    ):
        if wanted == "cuda" and not torch.cuda.is_available():
            raise ConfigurationError(
                f"{name}=cuda, but PyTorch finds no CUDA device: check the driver and the "
                f"container's GPU access, or set {name}=cpu."
            )
    if device == "cuda" and settings.device_index >= torch.cuda.device_count():
        raise ConfigurationError(
            f"DEVICE_INDEX={settings.device_index}, but there are only "
            f"{torch.cuda.device_count()} CUDA devices, counted from 0."
        )
    supported = _supported(device)
    if compute_type not in supported:
        raise ConfigurationError(
            f"COMPUTE_TYPE={compute_type} does not work on {device}; "
            f"it must be auto or one of {', '.join(sorted(supported))}."
        )

    def placed(wanted: str) -> str:
        return f"cuda:{settings.device_index}" if wanted == "cuda" else "cpu"

    threads = settings.cpu_threads or available_cpus()
    torch.set_num_threads(threads)
    return Devices(
        placed(device),
        compute_type,
        placed(settings.align_device or device),
        placed(settings.diarize_device or device),
        threads,
    )


def available_cpus() -> int:
    """The cores that this process may use: by affinity, and by a container's quota (cgroup v2)."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CPU_QUOTA.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def _supported(device: str) -> set[str]:
    try:
        return set(ctranslate2.get_supported_compute_types(device))
    except (RuntimeError, ValueError) as error:
        raise ConfigurationError(
            f"CTranslate2 cannot use DEVICE={device}: its CUDA libraries do not load."
        ) from error


def gpu_memory(devices: Devices) -> tuple[GpuMemory, ...]:
    """Of the GPUs in use only: even the question takes memory on a GPU."""
    used = {devices.device, devices.align, devices.diarize} - {"cpu"}
    found = []
    for name in sorted(used):
        free, total = torch.cuda.mem_get_info(name)
        found.append(GpuMemory(name, total - free, total, torch.cuda.memory_reserved(name)))
    return tuple(found)


def weights_bytes(*models: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for model in models for p in model.parameters())


def free_memory() -> None:
    """Free the memory of dropped models."""
    gc.collect()
    return_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Of the GPU or the host: PyTorch has an error class for it, CTranslate2 only a message."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    words = str(error).lower()
    known = ("out of memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(word in words for word in known)


def is_lost(error: BaseException) -> bool:
    """Whether this process cannot use the GPU any more (a broken CUDA context)."""
    words = str(error).lower()
    known = ("illegal memory access", "device-side assert", "unspecified launch failure")
    return isinstance(error, RuntimeError) and any(word in words for word in known)


def pause_between_layers(model: nn.Module) -> None:
    """Let more urgent work go first between the layers of a network, not only between batches."""

    def before(layer: nn.Module, inputs: object) -> None:
        pause()

    for module in model.modules():
        if isinstance(module, nn.Sequential | nn.ModuleList):
            for layer in module:
                layer.register_forward_pre_hook(before)
