"""Our side without HTTP: the service's object graph, whole or stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from app.config.settings import Settings
from app.domain.options import DecodingOptions, SpeakerBounds, TranscribeOptions
from app.domain.transcript import (
    SAMPLE_RATE,
    Audio,
    Chunk,
    Diarization,
    Hypothesis,
    Samples,
    Segment,
    Transcript,
)
from app.engine.batching import Batcher
from app.engine.model import ModelKey
from app.engine.work import Work
from app.models.protocols import AlignmentItem, Diarizer, RecognitionItem, VoiceActivityDetector
from app.models.pyannote.windows import choose_batches
from app.pipeline.chunking import Chunker, ChunkingOptions
from app.pipeline.hypotheses import is_credible, needs_fallback
from app.service.build import build_service, close_service
from app.text.segments import segments_of

LANGUAGE = "en"
TIMEOUT_S = 100_000.0


class Ours:
    """The models stay loaded between calls. `num_fallbacks` counts what would be decoded again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._service = build_service(settings)
        self._model = self._service.catalog.default_model
        self.num_fallbacks = 0

    def close(self) -> None:
        close_service(self._service)

    def configuration(self) -> dict[str, Any]:
        settings = self._settings
        batches = choose_batches(
            self._service.device, settings.segmentation_batch_size, settings.embedding_batch_size
        )
        return {
            "device": self._service.device,
            "compute_type": self._service.compute_type,
            "beam_size": settings.beam_size,
            "batch_size": settings.batch_size,
            "chunk_s": settings.chunk_s,
            "threads": [torch.get_num_threads(), torch.get_num_threads()],
            "segmentation_batch_size": batches.segmentation,
            "embedding_batch_size": batches.embedding,
            "align_batch_size": settings.align_batch_size,
            "temperature_fallback": "as the service does",
            "requests_at_a_time": settings.max_queue_size,
        }

    @contextmanager
    def _lease(self, key: ModelKey | None) -> Iterator[tuple[Batcher[Any], Work]]:
        assert key is not None
        work = Work("benchmark", TIMEOUT_S)
        with self._service.store.lease(key) as batcher:
            yield cast("Batcher[Any]", batcher), work

    def decode(self, path: Path) -> Audio:
        """In a process of its own, through the pool that the service uses."""
        work = Work("benchmark", TIMEOUT_S)
        job = self._service.decode_pool.submit(path, self._settings.max_duration_s)
        work.track(job.future)
        return job.audio(work.wait)

    def detect_speech(self, audio: Audio) -> list[Chunk]:
        settings = self._settings
        with self._lease(self._service.catalog.vad()) as (batcher, work):
            vad: VoiceActivityDetector = batcher.model
            track = vad.track(audio.samples)
            for block in _run(work, batcher, vad.split(audio.samples)):
                track.add(block, last=False)
        options = ChunkingOptions(settings.vad_onset, settings.vad_offset, settings.chunk_s)
        chunker = Chunker(options, audio.duration_s)
        nothing = np.empty((0, 0, 1), np.float32)
        return list(chunker.advance(track.add(nothing, last=True), complete=True))

    def recognize(self, audio: Audio, chunks: Sequence[Chunk]) -> list[Segment]:
        options = DecodingOptions(LANGUAGE, beam_size=self._settings.beam_size)
        items = [RecognitionItem(_slice(audio.samples, c), options, c.speech_s) for c in chunks]
        with self._lease(self._service.catalog.recognizer(self._model)) as (batcher, work):
            hypotheses: list[Hypothesis] = _run(work, batcher, items)
        self.num_fallbacks += sum(map(needs_fallback, hypotheses))
        return [
            segment
            for chunk, hypothesis in zip(chunks, hypotheses, strict=True)
            if is_credible(chunk, hypothesis)
            for segment in segments_of(chunk, hypothesis, LANGUAGE, with_words=False)
        ]

    def align(self, segments: Sequence[Segment], audio: Audio) -> list[Segment]:
        items = [
            AlignmentItem(_slice(audio.samples, Chunk(s.start_s, s.end_s)), s) for s in segments
        ]
        key = self._service.catalog.aligner(self._model, LANGUAGE)
        with self._lease(key) as (batcher, work):
            return [sentence for found in _run(work, batcher, items) for sentence in found or ()]

    def diarize(self, audio: Audio) -> Diarization:
        with self._lease(self._service.catalog.diarizer(self._model)) as (batcher, work):
            diarizer: Diarizer = batcher.model
            windows = _run(work, batcher, diarizer.split(audio.samples))
            return diarizer.join(audio.samples, windows, SpeakerBounds())

    def transcribe(self, path: Path, diarize: bool) -> Transcript:
        """What a request does, from the file on."""
        options = TranscribeOptions(self._model, LANGUAGE, diarize=diarize)
        work = Work("benchmark", TIMEOUT_S)
        return self._service.transcriber.transcribe(self.decode(path), options, work)

    def text(self, path: Path, language: str) -> str:
        """What is said in the file."""
        options = TranscribeOptions(self._model, language)
        work = Work("benchmark", TIMEOUT_S)
        transcript = self._service.transcriber.transcribe(self.decode(path), options, work)
        return " ".join(segment.text.strip() for segment in transcript.segments)


def _run(work: Work, batcher: Batcher[Any], items: Sequence[Any]) -> list[Any]:
    futures: list[Future[Any]] = work.submit(batcher, items)
    return [work.wait(future) for future in futures]


def _slice(samples: Samples, chunk: Chunk) -> Samples:
    return samples[round(chunk.start_s * SAMPLE_RATE) : round(chunk.end_s * SAMPLE_RATE)]
