"""How a model of each kind is built from its files. Imports the model libraries."""

from __future__ import annotations

from typing import Any

import torchaudio

from app.config.settings import Settings
from app.engine.model import BatchModel, ModelKey, ModelKind
from app.models.alignment.aligner import Wav2Vec2Aligner
from app.models.build_lock import BuildLock
from app.models.devices import Devices
from app.models.protocols import Aligner, Diarizer, Recognizer, VoiceActivityDetector
from app.models.pyannote.diarizer import PyannoteDiarizer
from app.models.pyannote.vad import PyannoteVad
from app.models.pyannote.windows import WindowBatches, choose_batches
from app.models.recognizers.engine import BuildOptions
from app.models.recognizers.registry import Recognizers


class ModelBuilders:
    """Builds a model of each kind from its files. Call them in the model's thread."""

    def __init__(self, settings: Settings, devices: Devices, recognizers: Recognizers) -> None:
        self._settings = settings
        self._devices = devices
        self._recognizers = recognizers
        self._torch = BuildLock()

    def device(self, kind: ModelKind) -> str:
        devices = self._devices
        return {
            ModelKind.RECOGNIZER: devices.device,
            ModelKind.ALIGNER: devices.align,
            ModelKind.DIARIZER: devices.diarize,
            ModelKind.VAD: devices.align,
        }[kind]

    def build(self, key: ModelKey, source: str) -> BatchModel[Any, Any]:
        """`source`: what `ModelFetcher` returned."""
        if key.kind is ModelKind.RECOGNIZER:
            return self._build_recognizer(key, source)
        with self._torch.alone() if self._by_transformers(key, source) else self._torch.beside():
            if key.kind is ModelKind.ALIGNER:
                return self._build_aligner(key.language, source)
            if key.kind is ModelKind.DIARIZER:
                return self._build_diarizer(source)
            return self._build_detector()

    def _by_transformers(self, key: ModelKey, source: str) -> bool:
        return key.kind is ModelKind.ALIGNER and source not in torchaudio.pipelines.__all__

    def _build_recognizer(self, key: ModelKey, source: str) -> Recognizer:
        engine = self._recognizers.engine_of(key.source)
        devices = self._devices
        options = BuildOptions(
            devices.device, devices.compute_type, devices.cpu_threads, self._settings.batch_size
        )
        if not engine.uses_torch:
            return engine.build(source, options)
        with self._torch.alone():
            return engine.build(source, options)

    def _build_aligner(self, language: str, source: str) -> Aligner:
        settings, device = self._settings, self._devices.align
        return Wav2Vec2Aligner(
            language, source, device, settings.align_batch_size, settings.cache_dir
        )

    def _build_diarizer(self, source: str) -> Diarizer:
        settings, device = self._settings, self._devices.diarize
        return PyannoteDiarizer(
            source,
            device,
            self._window_batches(device),
            settings.cache_dir,
            settings.hf_token.get_secret_value() or None,
            settings.diarizer_params(),
            settings.diarization_part_s,
        )

    def _build_detector(self) -> VoiceActivityDetector:
        settings, device = self._settings, self._devices.align
        batch_size = self._window_batches(device).segmentation
        return PyannoteVad(device, settings.vad_onset, settings.vad_offset, batch_size)

    def _window_batches(self, device: str) -> WindowBatches:
        settings = self._settings
        return choose_batches(
            device, settings.segmentation_batch_size, settings.embedding_batch_size
        )
