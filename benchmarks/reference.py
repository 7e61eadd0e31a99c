"""The reference: unmodified whisperx and pyannote.audio, one request at a time.

Today's services put a lock around the libraries' own calls. The reference has every advantage:
models stay loaded, and batch sizes, threads, precision, beam and chunk length are those of our
side. whisperx's batched pipeline has no temperature fallback. On our side, the random models are
built not to trigger it, and the report counts how often it happened.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import whisperx
import whisperx.asr
from nltk.tokenize.punkt import PunktSentenceTokenizer
from whisperx.diarize import DiarizationPipeline, assign_word_speakers

from app.config.settings import Settings
from app.domain.transcript import SAMPLE_RATE, Samples
from app.models.devices import choose_devices
from app.models.pyannote.checkpoints import allow_metadata
from app.models.pyannote.windows import choose_batches
from benchmarks.random_whisper import padded_features

LANGUAGE = "en"


class Reference:
    """The libraries, loaded once. `transcribe` holds a lock; call the others from one thread."""

    def __init__(self, settings: Settings) -> None:
        self._devices = choose_devices(settings)  # sets the number of torch's threads
        self._settings = settings
        allow_metadata()  # otherwise whisperx's own speech detection is refused as unsafe
        kind, _, index = self._devices.device.partition(":")
        whisperx.asr.log_mel_spectrogram = padded_features
        self._pipeline = whisperx.load_model(
            settings.asr_model,
            kind,
            int(index or 0),
            self._devices.compute_type,
            asr_options={"beam_size": settings.beam_size},
            language=LANGUAGE,
            vad_options={
                "chunk_size": settings.chunk_s,
                "vad_onset": settings.vad_onset,
                "vad_offset": settings.vad_offset,
            },
            threads=self._devices.cpu_threads,
        )
        self._aligner, self._metadata = whisperx.load_align_model(
            LANGUAGE, self._devices.align, model_name=settings.align_models[LANGUAGE]
        )
        self._aligner.eval()
        # otherwise the first call downloads data for the splitter; English needs none
        whisperx.alignment.nltk_load = lambda _: PunktSentenceTokenizer()
        self._diarizer = DiarizationPipeline(
            settings.diarization_model, None, self._devices.diarize
        )
        batches = choose_batches(
            self._devices.diarize, settings.segmentation_batch_size, settings.embedding_batch_size
        )
        self._diarizer.model.segmentation_batch_size = batches.segmentation
        self._diarizer.model.embedding_batch_size = batches.embedding
        self._lock = threading.Lock()

    def configuration(self) -> dict[str, Any]:
        diarizer = self._diarizer.model
        return {
            "device": self._devices.device,
            "compute_type": self._devices.compute_type,
            "beam_size": self._pipeline.options.beam_size,
            "batch_size": self._settings.batch_size,
            "chunk_s": self._settings.chunk_s,
            "threads": [self._devices.cpu_threads, torch.get_num_threads()],
            "segmentation_batch_size": diarizer.segmentation_batch_size,
            "embedding_batch_size": diarizer.embedding_batch_size,
            "temperature_fallback": "none (whisperx has none in batches)",
            "requests_at_a_time": 1,
        }

    def decode(self, path: Path) -> Samples:
        """Decode with PyAV in this process. whisperx's own loader starts an ffmpeg program, which
        may be missing; faster-whisper's spends most of its time on garbage collection after a file.
        """
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        blocks = []
        with av.open(str(path)) as container:
            for frame in container.decode(audio=0):
                blocks += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        blocks += [part.to_ndarray()[0] for part in resampler.resample(None)]
        samples: Samples = np.concatenate(blocks).astype(np.float32) / np.float32(32768)
        return samples

    def recognize(self, samples: Samples) -> list[dict[str, Any]]:
        """The segments. Includes speech detection, which is part of whisperx's pipeline."""
        found = self._pipeline.transcribe(
            samples,
            batch_size=self._settings.batch_size,
            language=LANGUAGE,
            chunk_size=int(self._settings.chunk_s),
        )
        segments: list[dict[str, Any]] = found["segments"]
        return segments

    def align(self, segments: list[dict[str, Any]], samples: Samples) -> dict[str, Any]:
        aligned: dict[str, Any] = whisperx.align(
            segments, self._aligner, self._metadata, samples, self._devices.align
        )
        return aligned

    def diarize(self, samples: Samples) -> Any:
        """pyannote's turns in whisperx's data frame."""
        return self._diarizer(samples)

    def transcribe(self, path: Path, diarize: bool) -> dict[str, Any]:
        """Run all stages in order, with no other request at the same time."""
        with self._lock:
            samples = self.decode(path)
            aligned = self.align(self.recognize(samples), samples)
            if diarize:
                aligned = assign_word_speakers(self.diarize(samples), aligned, fill_nearest=True)
        return aligned
