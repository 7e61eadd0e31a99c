"""Our side without HTTP: the service's object graph, as a whole or stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from app.config.settings import Settings
from app.domain.options import DecodingOptions, SpeakerBounds, TranscribeOptions
from app.domain.transcript import (
    SAMPLE_RATE,
    Audio,
    Chunk,
    Diarization,
    Samples,
    Segment,
    Transcript,
)
from app.engine.work import Work
from app.models.leases import (
    lease_aligner,
    lease_detector,
    lease_diarizer,
    lease_recognizer,
)
from app.models.protocols import AlignmentItem, RecognitionItem
from app.models.pyannote.windows import choose_batches
from app.pipeline.chunking import Chunker, ChunkingOptions
from app.pipeline.hypotheses import Judge
from app.service.build import build_service, close_service
from app.text.segments import segments_of

LANGUAGE = "en"
TIMEOUT_S = 100_000.0

T = TypeVar("T")


class Ours:
    """The models stay loaded between calls. `num_fallbacks` counts chunks that need a fallback."""

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

    def decode(self, path: Path) -> Audio:
        """Decode in a separate process, through the pool that the service uses."""
        work = Work("benchmark", TIMEOUT_S)
        job = self._service.decode_pool.submit(path, self._settings.max_duration_s)
        work.track(job.future)
        return job.audio(work.wait)

    def detect_speech(self, audio: Audio) -> list[Chunk]:
        settings = self._settings
        work, key = Work("benchmark", TIMEOUT_S), self._service.catalog.vad()
        with lease_detector(self._service.models.store, key, work.wait) as vad:
            track = vad.model.track(audio.samples)
            for block in _values(work, work.submit(vad.batcher, vad.model.split(audio.samples))):
                track.add(block, last=False)
        options = ChunkingOptions(settings.vad_onset, settings.vad_offset, settings.chunk_s)
        chunker = Chunker(options, audio.duration_s)
        nothing = np.empty((0, 0, 1), np.float32)
        return list(chunker.advance(track.add(nothing, last=True), complete=True))

    def recognize(self, audio: Audio, chunks: Sequence[Chunk]) -> list[Segment]:
        options = DecodingOptions(LANGUAGE, beam_size=self._settings.beam_size)
        items = [RecognitionItem(_slice(audio.samples, c), options) for c in chunks]
        work, key = Work("benchmark", TIMEOUT_S), self._service.catalog.recognizer(self._model)
        with lease_recognizer(self._service.models.store, key, work.wait) as recognizer:
            judge = Judge(recognizer.model.thresholds)
            hypotheses = _values(work, work.submit(recognizer.recognition, items))
        self.num_fallbacks += sum(map(judge.needs_fallback, hypotheses))
        return [
            segment
            for chunk, hypothesis in zip(chunks, hypotheses, strict=True)
            if judge.is_credible(chunk, hypothesis)
            for segment in segments_of(chunk, hypothesis, LANGUAGE, with_words=False)
        ]

    def align(self, segments: Sequence[Segment], audio: Audio) -> list[Segment]:
        items = [
            AlignmentItem(_slice(audio.samples, Chunk(s.start_s, s.end_s)), s) for s in segments
        ]
        work, key = (
            Work("benchmark", TIMEOUT_S),
            self._service.catalog.aligner(self._model, LANGUAGE),
        )
        assert key is not None
        with lease_aligner(self._service.models.store, key, work.wait) as aligner:
            aligned = _values(work, work.submit(aligner.batcher, items))
        return [sentence for found in aligned for sentence in found or ()]

    def diarize(self, audio: Audio) -> Diarization:
        work, key = Work("benchmark", TIMEOUT_S), self._service.catalog.diarizer(self._model)
        with lease_diarizer(self._service.models.store, key, work.wait) as diarizer:
            blocks = diarizer.model.split(audio.samples)
            windows = _values(work, work.submit(diarizer.batcher, blocks))
            return diarizer.model.join(audio.samples, windows, SpeakerBounds())

    def transcribe(self, path: Path, diarize: bool) -> Transcript:
        """The transcript of a file, made as for a request."""
        options = TranscribeOptions(self._model, LANGUAGE, diarize=diarize)
        work = Work("benchmark", TIMEOUT_S)
        return self._service.transcriber.transcribe(self.decode(path), options, work)

    def text(self, path: Path, language: str) -> str:
        """The text of the file."""
        return self._text(self.decode(path), TranscribeOptions(self._model, language))

    def text_of_utterance(self, samples: Samples, left_context: tuple[Samples, ...]) -> str:
        """The text of an utterance of a stream. `left_context`: the sound before it."""
        options = TranscribeOptions(self._model, LANGUAGE, left_context=left_context)
        return self._text(Audio(samples), options)

    def _text(self, audio: Audio, options: TranscribeOptions) -> str:
        work = Work("benchmark", TIMEOUT_S)
        transcript = self._service.transcriber.transcribe(audio, options, work)
        return " ".join(segment.text.strip() for segment in transcript.segments)


def _values(work: Work, futures: Sequence[Future[T]]) -> list[T]:
    return [work.wait(future) for future in futures]


def _slice(samples: Samples, chunk: Chunk) -> Samples:
    return samples[round(chunk.start_s * SAMPLE_RATE) : round(chunk.end_s * SAMPLE_RATE)]
