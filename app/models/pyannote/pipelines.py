"""Pipelines: pyannote's, loaded from a folder or the cache and made ready for a device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import whisperx
import yaml
from pyannote.audio import Pipeline
from pyannote.audio.models.embedding.wespeaker import BaseWeSpeakerResNet
from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization
from pyannote.audio.utils.reproducibility import fix_reproducibility
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from app.domain.errors import ModelUnavailable
from app.models.devices import pause_between_layers
from app.models.pyannote.checkpoints import allow_metadata, check_pipeline


def open_pipeline(
    source: str,
    device: str,
    cache_dir: Path,
    token: str | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
) -> SpeakerDiarization:
    """A pipeline on its device. `params` overrides the pipeline's own.

    Raises:
        ModelUnavailable: it is gated, is not a diarization pipeline, or has no such parameter.
    """
    pipeline = load_pipeline(source, token, cache_dir)
    if not isinstance(pipeline, SpeakerDiarization):
        raise ModelUnavailable("DIARIZATION_MODEL is not a speaker diarization pipeline.")
    pipeline.to(torch.device(device))
    fix_reproducibility(torch.device(device))  # no TF32, as the pipeline's own `apply` does
    if device == "cpu":
        fold_batch_norms(pipeline._embedding.model_)
        pause_between_layers(pipeline._embedding.model_)
    if params:
        _override(pipeline, params)
    return pipeline


def load_pipeline(source: str, token: str | None, cache_dir: Path) -> Any:
    allow_metadata()
    check_pipeline(source, token, cache_dir)
    checkpoint: str | dict[str, Any] = source
    config = Path(source) / "config.yaml"
    if config.is_file() and not (Path(source) / "segmentation").exists():
        checkpoint = _with_bundled_segmentation(config)
    pipeline = Pipeline.from_pretrained(checkpoint, token=token, cache_dir=cache_dir)
    if pipeline is None:  # pyannote's answer if a licence is not accepted
        raise ModelUnavailable("The diarization model is gated: accept its licence, set HF_TOKEN.")
    return pipeline


def _with_bundled_segmentation(config: Path) -> dict[str, Any]:
    """For a local pipeline without a segmentation model of its own: the one inside whisperx."""
    content: dict[str, Any] = yaml.safe_load(config.read_text())
    params = content["pipeline"]["params"]
    for key, value in params.items():
        if isinstance(value, str) and value.startswith("$model/"):
            params[key] = str(config.parent / value.removeprefix("$model/"))
    params["segmentation"] = str(Path(whisperx.__file__).parent / "assets" / "pytorch_model.bin")
    return content


def fold_batch_norms(model: nn.Module) -> None:
    """Make a WeSpeaker ResNet take two thirds of the time on a CPU, with the same outputs: batch
    norms are folded into the convolutions before them, and channels become the last dimension.
    """
    if not isinstance(model, BaseWeSpeakerResNet):
        return
    module: Any
    for module in model.modules():
        for conv, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")):
            if hasattr(module, conv) and hasattr(module, norm):
                fused = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
                setattr(module, conv, fused)
                setattr(module, norm, nn.Identity())
        shortcut: Any = getattr(module, "shortcut", None)
        if isinstance(shortcut, nn.Sequential) and len(shortcut) == 2:
            conv_and_norm: Any = tuple(shortcut)
            module.shortcut = nn.Sequential(fuse_conv_bn_eval(*conv_and_norm))
    model.resnet.to(memory_format=torch.channels_last)


def _override(pipeline: Any, params: Mapping[str, Mapping[str, Any]]) -> None:
    merged = {
        group: dict(values) for group, values in pipeline.parameters(instantiated=True).items()
    }
    for group, values in params.items():
        unknown = set(values) - set(merged.get(group, {}))
        if group not in merged or unknown:
            raise ModelUnavailable(
                f"The diarization pipeline has no parameter {group}."
                f"{', '.join(sorted(unknown)) or '*'}; it has {merged}."
            )
        merged[group].update(values)
    pipeline.instantiate(merged)
