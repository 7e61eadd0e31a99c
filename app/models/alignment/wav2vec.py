"""wav2vec2 on waveforms of different lengths at once, with the same outputs as one by one.

The libraries mask padding in the transformer. In models whose feature extractor has a group norm it
still changes the outputs, because that norm is taken over time; so the norm is masked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from app.domain.transcript import Samples
from app.models.devices import pause_between_layers, weights_bytes

Emission: TypeAlias = npt.NDArray[np.float32]  # (num_frames, num_labels), log probabilities

MIN_SAMPLES = 400  # the receptive field of wav2vec2's convolutions: less gives no frame


class MaskedGroupNorm(nn.Module):
    """A group norm with one channel per group, whose statistics cover the real frames only."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm
        self.num_frames: torch.Tensor | None = None  # int64 (batch,); None: all are real

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """float (batch, num_channels, num_frames), as in `nn.GroupNorm`."""
        if self.num_frames is None:
            out: torch.Tensor = self.norm(frames)
            return out
        steps = torch.arange(frames.shape[-1], device=frames.device)
        real = (steps < self.num_frames[:, None])[:, None, :]
        count = self.num_frames[:, None, None].to(frames.dtype)
        mean = torch.where(real, frames, 0.0).sum(-1, keepdim=True) / count
        centered = frames - mean
        variance = torch.where(real, centered.square(), 0.0).sum(-1, keepdim=True) / count
        normed = centered * torch.rsqrt(variance + self.norm.eps)
        return normed * self.norm.weight[:, None] + self.norm.bias[:, None]


class Wav2Vec2:
    """A model of transformers or torchaudio, as loaded by whisperx."""

    def __init__(self, model: Any, huggingface: bool, device: str) -> None:
        self._model = model.eval()
        self._huggingface = huggingface
        self._device = device
        self._convolutions: list[tuple[int, int]] = []
        layers = _find_layers(model)
        for layer in layers:
            self._convolutions.append((layer.conv.kernel_size[0], layer.conv.stride[0]))
        self._norm: MaskedGroupNorm | None = None
        norm = getattr(layers[0], "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            self._norm = layers[0].layer_norm = MaskedGroupNorm(norm)
        if device == "cpu":
            pause_between_layers(model)
        self.memory_bytes = weights_bytes(model)

    def emissions(self, waveforms: Sequence[Samples]) -> list[Emission]:
        """Log probabilities of each waveform: as one batch on a GPU; one by one on a CPU, where
        padding would only add work."""
        if self._device == "cpu" or len(waveforms) == 1:
            return [self._batch([waveform])[0] for waveform in waveforms]
        return self._batch(waveforms)

    def _batch(self, waveforms: Sequence[Samples]) -> list[Emission]:
        lengths = [max(len(waveform), MIN_SAMPLES) for waveform in waveforms]
        padded = np.zeros((len(waveforms), max(lengths)), np.float32)
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = waveform
        with torch.inference_mode():
            logits = self._forward(torch.from_numpy(padded).to(self._device), lengths)
            scores = torch.log_softmax(logits.float(), dim=-1).cpu().numpy()
        return [
            row[: self._num_frames(length)] for row, length in zip(scores, lengths, strict=True)
        ]

    def _forward(self, waveforms: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        if len(lengths) == 1:
            out = self._model(waveforms)
        else:
            sizes = torch.tensor(lengths, device=self._device)
            try:
                if self._norm is not None:
                    kernel, stride = self._convolutions[0]
                    self._norm.num_frames = (sizes - kernel) // stride + 1
                out = self._forward_masked(waveforms, sizes)
            finally:  # a batch that fails leaves nothing behind for the next
                if self._norm is not None:
                    self._norm.num_frames = None
        logits: torch.Tensor = out.logits if self._huggingface else out[0]
        return logits

    def _forward_masked(self, waveforms: torch.Tensor, sizes: torch.Tensor) -> Any:
        if not self._huggingface:
            return self._model(waveforms, lengths=sizes)
        steps = torch.arange(waveforms.shape[1], device=self._device)
        return self._model(waveforms, attention_mask=(steps < sizes[:, None]).long())

    def _num_frames(self, num_samples: int) -> int:
        for kernel, stride in self._convolutions:
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples


def _find_layers(model: nn.Module) -> Any:
    """The convolutions of the feature extractor, in any library's model and any wrapper."""
    for module in model.modules():
        layers = getattr(module, "conv_layers", None)
        if layers is not None and hasattr(layers[0], "conv"):
            return layers
    raise ValueError("not a wav2vec2 model")
