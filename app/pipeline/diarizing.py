"""Diarizing: the stage that finds who speaks when. It runs beside recognition, and a transcript can
do without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from contextvars import copy_context
from typing import TypeAlias

from app.domain.errors import ServiceError, UnsupportedOption
from app.domain.options import KnownSpeaker, SpeakerBounds, TranscribeOptions
from app.domain.transcript import Audio, Diarization
from app.domain.warnings import TranscriptWarning
from app.engine.work import Work
from app.models.leases import LeasedDiarizer
from app.observability.stages import Stage
from app.pipeline.optional_stages import optional_stage
from app.pipeline.voices import match_voices, rename_speakers

# (who speaks when, None), or (None, the reason why that is unknown)
Diarized: TypeAlias = tuple[Diarization | None, TranscriptWarning | None]
Lease: TypeAlias = Callable[[], AbstractContextManager[LeasedDiarizer]]


class Diarizing:
    def __init__(
        self, threads: ThreadPoolExecutor, known_speaker_similarity: float, strict: bool
    ) -> None:
        """`strict`: a transcript must not do without it."""
        self._threads = threads
        self._known_speaker_similarity = known_speaker_similarity
        self._strict = strict

    def start(
        self, audio: Audio, options: TranscribeOptions, work: Work, lease: Lease
    ) -> Future[Diarized]:
        """Diarize in another thread. If it must succeed and does not, `work` is cancelled."""

        def diarize() -> Diarized:
            try:
                return self._diarize(audio, options, work, lease)
            except ServiceError as error:
                work.cancel(error)  # recognition is of no more use
                raise

        run = copy_context().run  # log lines from there belong to this request too
        return work.track(self._threads.submit(run, diarize))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _diarize(
        self, audio: Audio, options: TranscribeOptions, work: Work, lease: Lease
    ) -> Diarized:
        warnings: list[TranscriptWarning] = []
        must = options.must_diarize or self._strict
        with ExitStack() as leases:
            with optional_stage(
                TranscriptWarning.NO_DIARIZATION,
                TranscriptWarning.DIARIZATION_FAILED,
                warnings,
                must,
            ):
                diarizer = leases.enter_context(lease())
            if warnings:
                return None, warnings[0]
            with (
                optional_stage(
                    TranscriptWarning.DIARIZATION_FAILED,
                    TranscriptWarning.DIARIZATION_FAILED,
                    warnings,
                    must,
                ),
                work.stages.measure(Stage.DIARIZE),
            ):
                known = _embed_known(diarizer, options.known_speakers, work)
                diarization = _diarize_one(diarizer, audio, options.speakers, work)
                names = match_voices(diarization.embeddings, known, self._known_speaker_similarity)
                return rename_speakers(diarization, names), None
        return None, warnings[0]


def _embed_known(
    diarizer: LeasedDiarizer, speakers: Sequence[KnownSpeaker], work: Work
) -> dict[str, tuple[float, ...]]:
    """The voice of each known speaker, the only one in that speaker's recording."""
    voices = {}
    for i, speaker in enumerate(speakers):
        found = _diarize_one(diarizer, speaker.audio, SpeakerBounds(num_speakers=1), work)
        if not found.embeddings:
            raise UnsupportedOption(f"known_speaker_references[{i}]: nobody speaks in it.")
        [voices[speaker.name]] = found.embeddings.values()
    return voices


def _diarize_one(
    diarizer: LeasedDiarizer, audio: Audio, bounds: SpeakerBounds, work: Work
) -> Diarization:
    futures = work.submit(diarizer.batcher, diarizer.model.split(audio.samples))
    windows = [work.wait(future) for future in futures]
    return diarizer.model.join(audio.samples, windows, bounds)
