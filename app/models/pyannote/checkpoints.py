"""What a checkpoint may bring along: weights and plain values, no code, whoever made it.

`settings.prepare_environment` has PyTorch unpickle weights only, even where pyannote.audio and
torchaudio ask for more; this module names the harmless classes that their checkpoints need.
"""

from __future__ import annotations

import collections
import typing
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf.base import ContainerMetadata, Metadata
from omegaconf.listconfig import ListConfig
from omegaconf.nodes import AnyNode
from pyannote.audio.core.model import Introspection
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.utils.hf_hub import AssetFileName, download_from_hf_hub
from torch.torch_version import TorchVersion

from app.domain.errors import ModelUnavailable

# What a model was trained for, and with which options: none of them does anything when it is made.
METADATA = (
    AnyNode, ContainerMetadata, Introspection, ListConfig, Metadata, Problem, Resolution,
    Specifications, TorchVersion, collections.defaultdict, dict, int, list, typing.Any,
)  # fmt: skip

PIPELINES = frozenset(
    {
        "pyannote.audio.pipelines.SpeakerDiarization",
        "pyannote.audio.pipelines.speaker_diarization.SpeakerDiarization",
    }
)


def allow_metadata() -> None:
    """Let checkpoints hold what describes a model of pyannote.audio, beside its weights."""
    torch.serialization.add_safe_globals(list(METADATA))


def check_pipeline(source: str, token: str | None, cache_dir: Path) -> None:
    """Look at a diarization pipeline's config.yaml before it is loaded: pyannote.audio makes an
    object of any class that is named in it, with arguments from there.

    Raises:
        ModelUnavailable: it names another class than the one that is wanted.
    """
    content: Any = yaml.safe_load(_config_path(source, token, cache_dir).read_text())
    if not isinstance(content, dict) or not isinstance(content.get("pipeline"), dict):
        raise ModelUnavailable("DIARIZATION_MODEL: its config.yaml describes no pipeline.")
    if content["pipeline"].get("name") not in PIPELINES:
        raise ModelUnavailable("DIARIZATION_MODEL is not a speaker diarization pipeline.")
    if content.get("preprocessors"):
        raise ModelUnavailable("DIARIZATION_MODEL: preprocessors are not allowed in a pipeline.")


def _config_path(source: str, token: str | None, cache_dir: Path) -> Path:
    local = Path(source)
    if local.is_file():
        return local
    if local.is_dir():
        return Path(local, AssetFileName.Pipeline.value)
    path = download_from_hf_hub(source, AssetFileName.Pipeline, cache_dir=cache_dir, token=token)
    if path is None:
        raise ModelUnavailable("The diarization model is gated: accept its licence, set HF_TOKEN.")
    return Path(path)
