"""Transcriber: the order of the stages, written once. Knows no wire format and no socket."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any

from app.audio.chunking import chunk_regions, find_regions
from app.audio.decode import BREAKS_OFF
from app.batching import Batcher, TaskFuture, Work
from app.errors import ModelUnavailable, ServiceError, StageFailed, UnsupportedOption
from app.languages import language_name
from app.models.catalog import Catalog, ModelKey
from app.models.protocols import (
    Aligner,
    AlignmentItem,
    Diarizer,
    RecognitionItem,
    Recognizer,
    VoiceActivityDetector,
)
from app.speakers import assign_speakers
from app.stages import Stage
from app.store import ModelStore
from app.transcript import (
    SAMPLE_RATE,
    Audio,
    Chunk,
    DecodingOptions,
    Diarization,
    Hypothesis,
    LanguageGuess,
    Samples,
    Segment,
    Task,
    TranscribeOptions,
    Transcript,
    Word,
)

log = logging.getLogger(__name__)

# When a hypothesis is decoded again, and when it is taken for no speech.
# Source: Radford et al. 2022, https://arxiv.org/abs/2212.04356, section 4.5
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MAX_COMPRESSION_RATIO = 2.4
MIN_AVG_LOGPROB = -1.0
MAX_NO_SPEECH_PROB = 0.6

# How far a request is after each stage, as a share of its time. Diarization runs beside the others.
SPEECH_FOUND, RECOGNISED, ALIGNED = 0.1, 0.7, 0.8

DETECTION_CHUNKS = 4  # looked at for the language, until one is clear
CLEAR_PROBABILITY = 0.5

# Fixed ASCII sentences: they travel in a header.
NO_DIARIZATION = (
    "Speakers are missing: the diarization model is not available. "
    "Accept its licence on the hub and set HF_TOKEN, or set DIARIZATION_MODEL."
)
DIARIZATION_FAILED = "Speakers are missing: diarization failed on this recording."
NO_ALIGNER = "Words have no times: there is no alignment model for this language."
ALIGNER_UNAVAILABLE = "Words have no times: the alignment model could not be loaded."
ALIGNMENT_FAILED = "Some words have no times: alignment failed on this recording."
WARNING_KINDS = {
    NO_DIARIZATION: "no_diarization_model",
    DIARIZATION_FAILED: "diarization_failed",
    NO_ALIGNER: "no_alignment_model",
    ALIGNER_UNAVAILABLE: "alignment_model_unavailable",
    ALIGNMENT_FAILED: "alignment_failed",
    BREAKS_OFF: "file_breaks_off",
}

NOTEWORTHY_LOAD_S = 0.001  # below it, the model was there


@dataclass(frozen=True, slots=True)
class TranscriberOptions:
    """What the operator chose, the same for every request."""

    chunk_s: float
    vad_onset: float
    vad_offset: float
    beam_size: int
    assign_nearest_speaker: bool
    strict_stages: bool


class Transcriber:
    """Runs one request at a time per calling thread; the models are shared by all of them."""

    def __init__(
        self,
        store: ModelStore,
        catalog: Catalog,
        threads: ThreadPoolExecutor,
        options: TranscriberOptions,
    ) -> None:
        """`threads` run what goes on beside the calling thread: diarization."""
        self._store = store
        self._catalog = catalog
        self._threads = threads
        self._options = options

    def transcribe(self, audio: Audio, options: TranscribeOptions, work: Work) -> Transcript:
        """Recognise, align, diarize.

        Raises:
            ServiceError: recognition failed, or `work` was cancelled.
        """
        diarizing = self._start_diarization(audio, options, work)
        try:
            return self._transcribe(audio, options, work, diarizing)
        except BaseException:
            # what still runs for this request runs for nobody
            work.cancel()
            raise

    def detect_language(self, audio: Audio, model: str, work: Work) -> LanguageGuess:
        """The language of the first speech; of the first 30 s where there is none."""
        chunks = self._detect_speech(audio, work)
        with self._lease(self._catalog.recognizer(model), work) as recognizer:
            return self._detect_language(recognizer, audio, chunks, work)

    def has_speech(self, audio: Audio, work: Work) -> bool:
        return bool(self._detect_speech(audio, work))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _lease(self, key: ModelKey, work: Work) -> Iterator[Any]:
        with ExitStack() as leases:
            with work.stages.measure(Stage.LOAD, at_least_s=NOTEWORTHY_LOAD_S):
                model = leases.enter_context(self._store.lease(key, work.wait))
            yield model

    # -- recognition and alignment ---------------------------------------------------------------

    def _transcribe(
        self,
        audio: Audio,
        options: TranscribeOptions,
        work: Work,
        diarizing: Future[tuple[Diarization | None, str]] | None,
    ) -> Transcript:
        warnings = list(audio.warnings)
        with self._lease(self._catalog.recognizer(options.model), work) as recognizer:
            self._check_language(recognizer, options)
            chunks = self._detect_speech(audio, work)
            first: TaskFuture | None = None
            language = options.language
            if language is None and len(chunks) == 1:
                with work.stages.measure(Stage.RECOGNISE):
                    first = self._recognize_unknown(recognizer, audio, chunks[0], options, work)
                    language = work.wait(first).language
            elif language is None:
                language = self._detect_language(recognizer, audio, chunks, work).language
            options = replace(options, language=language)
            segments = self._recognize_and_align(
                recognizer, audio, chunks, options, work, warnings, first
            )
        diarization = None
        if diarizing is not None:
            diarization, warning = work.wait(diarizing)
            if warning:
                warnings.append(warning)
        if diarization is not None:
            nearest = self._options.assign_nearest_speaker
            segments = list(assign_speakers(segments, diarization, nearest))
        return Transcript(
            language=language,
            duration_s=audio.duration_s,
            model=options.model,
            segments=tuple(segments),
            speakers_known=diarization is not None,
            speaker_embeddings=diarization.embeddings if diarization else {},
            warnings=tuple(dict.fromkeys(warnings)),
        )

    def _check_language(self, recognizer: Batcher[Recognizer], options: TranscribeOptions) -> None:
        if options.language and options.language not in recognizer.model.languages:
            raise UnsupportedOption(
                f"language: the model {options.model} does not know "
                f"{language_name(options.language)}."
            )

    def _detect_speech(self, audio: Audio, work: Work) -> list[Chunk]:
        with self._lease(self._catalog.vad(), work) as batcher:
            vad: VoiceActivityDetector = batcher.model
            futures = work.submit(batcher, vad.split(audio.samples))
            with work.stages.measure_turn(Stage.SPEECH, futures[0]):
                speech = vad.join(audio.samples, [work.wait(future) for future in futures])
        regions = find_regions(
            speech, self._options.vad_onset, self._options.vad_offset, self._options.chunk_s
        )
        work.progress = max(work.progress, SPEECH_FOUND)
        return chunk_regions(regions, self._options.chunk_s, audio.duration_s)

    def _detect_language(
        self, recognizer: Batcher[Recognizer], audio: Audio, chunks: Sequence[Chunk], work: Work
    ) -> LanguageGuess:
        """The first clear answer of the first chunks, or else what most of them say."""
        looked_at = chunks[:DETECTION_CHUNKS] or [Chunk(0.0, min(30.0, audio.duration_s))]
        heard: dict[str, list[float]] = {}
        for chunk in looked_at:
            item = RecognitionItem(_slice(audio, chunk.start_s, chunk.end_s), None)
            with work.stages.measure(Stage.RECOGNISE):
                guesses = work.wait(work.submit(recognizer, [item])[0])
            best: LanguageGuess = guesses[0]
            if best.probability > CLEAR_PROBABILITY:
                return best
            heard.setdefault(best.language, []).append(best.probability)
        language = max(heard, key=lambda code: (len(heard[code]), max(heard[code])))
        return LanguageGuess(language, max(heard[language]))

    def _decoding(self, options: TranscribeOptions, with_timestamps: bool) -> DecodingOptions:
        return DecodingOptions(
            language=options.language,
            task=options.task,
            initial_prompt=options.initial_prompt,
            hotwords=options.hotwords,
            beam_size=self._options.beam_size,
            with_timestamps=with_timestamps,
        )

    def _recognize_unknown(
        self,
        recognizer: Batcher[Recognizer],
        audio: Audio,
        chunk: Chunk,
        options: TranscribeOptions,
        work: Work,
    ) -> TaskFuture:
        """The hypothesis of an only chunk in whatever language it is: encoded once, not twice.

        It has timestamps where no language would have an aligner.
        """
        decoding = self._decoding(options, with_timestamps=options.task is not Task.TRANSCRIBE)
        item = RecognitionItem(_slice(audio, chunk.start_s, chunk.end_s), decoding)
        return work.submit(recognizer, [item])[0]

    def _recognize_and_align(
        self,
        recognizer: Batcher[Recognizer],
        audio: Audio,
        chunks: Sequence[Chunk],
        options: TranscribeOptions,
        work: Work,
        warnings: list[str],
        first: TaskFuture | None,
    ) -> list[Segment]:
        """Chunk by chunk: one is aligned while the next is recognised.

        `first`: of `_recognize_unknown`, taken if it has timestamps where they are needed.
        """
        with ExitStack() as leases:
            aligner = None
            if chunks and options.task is Task.TRANSCRIBE:
                aligner = self._lease_aligner(leases, options, work, warnings)
            decoding = self._decoding(options, with_timestamps=aligner is None)
            pieces = [_slice(audio, chunk.start_s, chunk.end_s) for chunk in chunks]
            aligning: list[tuple[Segment, TaskFuture | None]] = []
            with work.stages.measure(Stage.RECOGNISE):
                if first is not None and (aligner or options.task is not Task.TRANSCRIBE):
                    futures = [first]
                else:
                    items = [RecognitionItem(piece, decoding) for piece in pieces]
                    futures = work.submit(recognizer, items)
                for chunk, piece, future in zip(chunks, pieces, futures, strict=True):
                    hypothesis = self._settle(recognizer, piece, decoding, future, work)
                    work.progress += (RECOGNISED - SPEECH_FOUND) / len(chunks)
                    for segment in draft_segments(chunk, hypothesis):
                        task = _submit_alignment(aligner, audio, segment, work) if aligner else None
                        aligning.append((segment, task))
            begun = next((task.queued for _, task in aligning if task is not None), None)
            with work.stages.measure(Stage.ALIGN, begun) if begun else nullcontext():
                segments = self._collect_aligned(aligning, work, warnings)
        work.progress = ALIGNED
        return segments

    def _settle(
        self,
        recognizer: Batcher[Recognizer],
        piece: Samples,
        options: DecodingOptions,
        future: Future[Any],
        work: Work,
    ) -> Hypothesis:
        """The hypothesis of a chunk, decoded again at rising temperatures while it fails."""
        tried: list[Hypothesis] = []
        for temperature in TEMPERATURES:
            if tried:
                item = RecognitionItem(piece, replace(options, temperature=temperature))
                future = work.submit(recognizer, [item])[0]
            hypothesis: Hypothesis = work.wait(future)
            tried.append(hypothesis)
            if not needs_fallback(hypothesis):
                return hypothesis
        return best_hypothesis(tried)

    def _lease_aligner(
        self, leases: ExitStack, options: TranscribeOptions, work: Work, warnings: list[str]
    ) -> Batcher[Aligner] | None:
        key = self._catalog.aligner(options.model, options.language or "")
        if key is None:
            warnings.append(NO_ALIGNER)
            return None
        with self._optional_stage(ALIGNER_UNAVAILABLE, ALIGNER_UNAVAILABLE, warnings):
            batcher: Batcher[Aligner] = leases.enter_context(self._lease(key, work))
            return batcher
        return None

    def _collect_aligned(
        self,
        aligning: Sequence[tuple[Segment, TaskFuture | None]],
        work: Work,
        warnings: list[str],
    ) -> list[Segment]:
        segments: list[Segment] = []
        for segment, future in aligning:
            sentences: tuple[Segment, ...] | None = None
            if future is None:
                segments.append(segment)
                continue
            with self._optional_stage(ALIGNMENT_FAILED, ALIGNMENT_FAILED, warnings):
                sentences = work.wait(future)
                if sentences is None:
                    warnings.append(ALIGNMENT_FAILED)
            words = tuple(Word(text) for text in segment.text.split())
            segments.extend(sentences or (replace(segment, words=words),))
        return segments

    # -- diarization -----------------------------------------------------------------------------

    def _start_diarization(
        self, audio: Audio, options: TranscribeOptions, work: Work
    ) -> Future[tuple[Diarization | None, str]] | None:
        if not options.diarize:
            return None
        run = copy_context().run  # what is logged there belongs to this request too
        return work.track(self._threads.submit(run, self._diarize, audio, options, work))

    def _diarize(
        self, audio: Audio, options: TranscribeOptions, work: Work
    ) -> tuple[Diarization | None, str]:
        """(who speaks when, "") or (None, why that is not known)."""
        warnings: list[str] = []
        with ExitStack() as leases:
            key = self._catalog.diarizer(options.model)
            with self._optional_stage(NO_DIARIZATION, DIARIZATION_FAILED, warnings):
                batcher = leases.enter_context(self._lease(key, work))
            if warnings:
                return None, warnings[0]
            with (
                self._optional_stage(DIARIZATION_FAILED, DIARIZATION_FAILED, warnings),
                work.stages.measure(Stage.DIARIZE),
            ):
                diarizer: Diarizer = batcher.model
                futures = work.submit(batcher, diarizer.split(audio.samples))
                windows = [work.wait(future) for future in futures]
                return diarizer.join(audio.samples, windows, options.speakers), ""
        return None, warnings[0]

    @contextmanager
    def _optional_stage(self, unavailable: str, failed: str, warnings: list[str]) -> Iterator[None]:
        """A stage that must not cost its user the transcript: what breaks in it is a warning."""
        try:
            yield
        except (ModelUnavailable, StageFailed) as error:
            missing = isinstance(error, ModelUnavailable)
            if missing and self._options.strict_stages:
                raise ModelUnavailable(unavailable, error.retry_after_s) from error
            self._warn(unavailable if missing else failed, warnings)
        except ServiceError:
            raise  # cancelled, out of time, shutting down: the request ends
        # The optional stage's boundary: a library's fault on this recording.
        except Exception:  # noqa: BLE001
            self._warn(failed, warnings)

    def _warn(self, warning: str, warnings: list[str]) -> None:
        log.exception(warning)
        if self._options.strict_stages:
            raise StageFailed(warning)
        warnings.append(warning)


def _slice(audio: Audio, start_s: float, end_s: float) -> Samples:
    return audio.samples[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]


def _submit_alignment(
    aligner: Batcher[Aligner], audio: Audio, segment: Segment, work: Work
) -> TaskFuture:
    item = AlignmentItem(_slice(audio, segment.start_s, segment.end_s), segment)
    return work.submit(aligner, [item])[0]


def needs_fallback(hypothesis: Hypothesis) -> bool:
    """Whether a hypothesis is too repetitive or too unlikely, and is not silence."""
    decoding = hypothesis.decoding
    if is_silence(hypothesis):
        return False
    return (
        decoding.compression_ratio > MAX_COMPRESSION_RATIO or decoding.avg_logprob < MIN_AVG_LOGPROB
    )


def is_silence(hypothesis: Hypothesis) -> bool:
    decoding = hypothesis.decoding
    return decoding.no_speech_prob > MAX_NO_SPEECH_PROB and decoding.avg_logprob < MIN_AVG_LOGPROB


def best_hypothesis(tried: Sequence[Hypothesis]) -> Hypothesis:
    """The most likely of those that do not repeat themselves, or else of all."""
    sober = [h for h in tried if h.decoding.compression_ratio <= MAX_COMPRESSION_RATIO]
    return max(sober or tried, key=lambda h: h.decoding.avg_logprob)


def draft_segments(chunk: Chunk, hypothesis: Hypothesis) -> list[Segment]:
    """The parts of a chunk's hypothesis on the recording's time line; none for silence."""
    if is_silence(hypothesis):
        return []
    segments: list[Segment] = []
    last_end_s = chunk.start_s
    parts = hypothesis.parts
    for i, part in enumerate(parts):
        start_s = last_end_s if part.start_s is None else chunk.start_s + part.start_s
        following = next((p.start_s for p in parts[i + 1 :] if p.start_s is not None), None)
        end_s = chunk.end_s if following is None else chunk.start_s + following
        if part.end_s is not None:
            end_s = chunk.start_s + part.end_s
        start_s = min(max(start_s, last_end_s), chunk.end_s)
        end_s = min(max(end_s, start_s), chunk.end_s)
        segments.append(
            Segment(
                start_s,
                end_s,
                part.text,
                decoding=hypothesis.decoding,
                tokens=part.tokens,
                token_ends=part.token_ends,
            )
        )
        last_end_s = end_s
    return segments
