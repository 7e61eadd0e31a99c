"""What a checkpoint may contain: weights and plain values but no code, whoever made it.

`prepare_environment` makes PyTorch unpickle weights only, even if pyannote.audio and torchaudio ask
for more. This module lists the harmless classes that their checkpoints need.
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

# They describe how a model was trained. Creating one runs no code of the checkpoint.
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
    """Allow checkpoints to describe a pyannote.audio model, besides holding its weights."""
    torch.serialization.add_safe_globals(list(METADATA))


def check_pipeline(source: str, token: str | None, cache_dir: Path) -> None:
    """Check a diarization pipeline's config.yaml before loading it: pyannote.audio creates any
    object that the file names, with arguments from the file.

    Raises:
        ModelUnavailable: it names any other class than a diarization pipeline.
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
