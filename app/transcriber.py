"""Transcriber: the order of the stages, written once. Knows no wire format and no socket."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, TypeAlias

from app.audio.chunking import Chunker
from app.audio.decode import BREAKS_OFF
from app.batching import Batcher, TaskFuture, Work
from app.errors import ModelUnavailable, ServiceError, StageFailed, UnsupportedOption
from app.hypotheses import TEMPERATURES, best_hypothesis, draft_segments, needs_fallback
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
    KnownSpeaker,
    LanguageGuess,
    Samples,
    Segment,
    SpeakerBounds,
    Task,
    TranscribeOptions,
    Transcript,
    Word,
)
from app.voices import match_voices, rename_speakers

log = logging.getLogger(__name__)

Aligning: TypeAlias = tuple[Segment, TaskFuture | None]  # None: there is no aligner

# How far a request is after each stage, as a share of its time. Diarization runs beside the others.
BEGUN, RECOGNISED, ALIGNED = 0.01, 0.7, 0.8

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
    known_speaker_similarity: float
    strict_stages: bool


@dataclass(frozen=True, slots=True)
class Listener:
    """Hears of a transcript while it comes about: in the thread that transcribes, in order.

    `recognised`: a part of a chunk, as soon as the chunk is. `settled`: a segment that will not
    change any more; with speakers, all of them at the end.
    """

    recognised: Callable[[Segment], None] = lambda segment: None
    settled: Callable[[Segment], None] = lambda segment: None

    def of_text(self) -> Listener:
        """This one, as long as speakers are not known."""
        return Listener(recognised=self.recognised)


NOBODY = Listener()


@dataclass(frozen=True, slots=True)
class _Request:
    """What belongs to one call of `transcribe`. Only `warnings` grows."""

    audio: Audio
    options: TranscribeOptions
    work: Work
    listener: Listener
    warnings: list[str]


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

    def transcribe(
        self, audio: Audio, options: TranscribeOptions, work: Work, listener: Listener = NOBODY
    ) -> Transcript:
        """Recognise, align, diarize.

        Raises:
            ServiceError: recognition failed, or `work` was cancelled.
        """
        diarizing = self._start_diarization(audio, options, work)
        try:
            warnings = list(audio.warnings)
            request = _Request(audio, options, work, listener, warnings)
            return self._transcribe(request, diarizing)
        except BaseException:
            # what still runs for this request runs for nobody
            work.cancel()
            raise

    def detect_language(self, audio: Audio, model: str, work: Work) -> LanguageGuess:
        """The language of the first speech; of the first 30 s where there is none."""
        chunks = list(self._find_speech(audio, work))
        with self._lease(self._catalog.recognizer(model), work) as recognizer:
            return self._detect_language(recognizer, audio, chunks, (), work)

    def has_speech(self, audio: Audio, work: Work) -> bool:
        return bool(list(self._find_speech(audio, work)))

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
        self, request: _Request, diarizing: Future[tuple[Diarization | None, str]] | None
    ) -> Transcript:
        audio, options, work = request.audio, request.options, request.work
        listener = request.listener
        with (
            self._lease(self._catalog.recognizer(options.model), work) as recognizer,
            closing(self._find_speech(audio, work)) as found,
        ):
            self._check_language(recognizer, options)
            # a second one only to know whether the first is the only one
            known = list(islice(found, 1 if options.language else 2))
            options, first = self._settle_language(recognizer, request, known, found)
            # who speaks in a segment is not known before the end
            early = listener if diarizing is None else listener.of_text()
            request = replace(request, options=options, listener=early)
            segments: list[Segment] = []
            if known:
                chunks = chain(known, found)
                segments = self._recognize_and_align(recognizer, request, chunks, first)
        diarization = None
        if diarizing is not None:
            diarization, warning = work.wait(diarizing)
            if warning:
                request.warnings.append(warning)
        if diarization is not None:
            nearest = self._options.assign_nearest_speaker
            segments = list(assign_speakers(segments, diarization, nearest))
        if diarizing is not None:
            for segment in segments:
                listener.settled(segment)
        assert options.language is not None
        return Transcript(
            language=options.language,
            duration_s=audio.duration_s,
            model=options.model,
            segments=tuple(segments),
            speakers_known=diarization is not None,
            speaker_embeddings=diarization.embeddings if diarization else {},
            warnings=tuple(dict.fromkeys(request.warnings)),
        )

    def _settle_language(
        self,
        recognizer: Batcher[Recognizer],
        request: _Request,
        known: list[Chunk],
        found: Iterator[Chunk],
    ) -> tuple[TranscribeOptions, TaskFuture | None]:
        """The options with their language, and the hypothesis that came along with it if any.

        What is looked at of the chunks that are `found` is `known` afterwards.
        """
        options, work = request.options, request.work
        first: TaskFuture | None = None
        language = options.language
        any_language = not options.languages and not options.with_token_probs
        if language is None and len(known) == 1 and any_language:
            with work.stages.measure(Stage.RECOGNISE):
                first = self._recognize_unknown(recognizer, request, known[0])
                language = work.wait(first).language
        elif language is None:
            chunks = chain(tuple(known), _noting(found, known))
            guess = self._detect_language(
                recognizer, request.audio, chunks, options.languages, work
            )
            language = guess.language
        return replace(options, language=language), first

    def _check_language(self, recognizer: Batcher[Recognizer], options: TranscribeOptions) -> None:
        for name, languages in (
            ("language", (options.language,)),
            ("languages", options.languages),
        ):
            for code in languages:
                if code and code not in recognizer.model.languages:
                    raise UnsupportedOption(
                        f"{name}: the model {options.model} does not know {language_name(code)}."
                    )

    def _find_speech(self, audio: Audio, work: Work) -> Generator[Chunk]:
        """Chunk by chunk, as soon as each is certain: those after it are still looked for."""
        options = self._options
        chunker = Chunker(options.vad_onset, options.vad_offset, options.chunk_s, audio.duration_s)
        with self._lease(self._catalog.vad(), work) as batcher:
            vad: VoiceActivityDetector = batcher.model
            track = vad.track(audio.samples)
            futures = work.submit(batcher, vad.split(audio.samples))
            try:
                with work.stages.measure_turn(Stage.SPEECH, futures[0]):
                    for i, future in enumerate(futures, 1):
                        last = i == len(futures)
                        work.progress = max(work.progress, BEGUN)
                        yield from chunker.advance(track.add(work.wait(future), last), last)
            finally:
                for future in futures:
                    future.cancel()

    def _detect_language(
        self,
        recognizer: Batcher[Recognizer],
        audio: Audio,
        chunks: Iterable[Chunk],
        candidates: Sequence[str],
        work: Work,
    ) -> LanguageGuess:
        """The first clear answer of the first chunks, or else what most of them say.

        `candidates`: the languages that it may be, empty for all.
        """
        heard: dict[str, list[float]] = {}
        whole = Chunk(0.0, min(30.0, audio.duration_s))
        for chunk in _or_else(islice(chunks, DETECTION_CHUNKS), whole):
            item = RecognitionItem(_slice(audio, chunk.start_s, chunk.end_s), None)
            with work.stages.measure(Stage.RECOGNISE):
                guesses = work.wait(work.submit(recognizer, [item])[0])
            best: LanguageGuess = next(
                guess for guess in guesses if not candidates or guess.language in candidates
            )
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
            temperature=options.temperature,
            with_timestamps=with_timestamps,
            with_token_probs=options.with_token_probs,
        )

    def _recognize_unknown(
        self, recognizer: Batcher[Recognizer], request: _Request, chunk: Chunk
    ) -> TaskFuture:
        """The hypothesis of an only chunk in whatever language it is: encoded once, not twice.

        It has timestamps where no language would have an aligner.
        """
        options = request.options
        decoding = self._decoding(options, with_timestamps=options.task is not Task.TRANSCRIBE)
        item = RecognitionItem(_slice(request.audio, chunk.start_s, chunk.end_s), decoding)
        return request.work.submit(recognizer, [item])[0]

    def _recognize_and_align(
        self,
        recognizer: Batcher[Recognizer],
        request: _Request,
        chunks: Iterable[Chunk],
        first: TaskFuture | None,
    ) -> list[Segment]:
        """Chunk by chunk: one is aligned while the next is recognised and others are looked for.

        `first`: of `_recognize_unknown`, taken if it has timestamps where they are needed.
        """
        options, work = request.options, request.work
        with ExitStack() as leases:
            aligner = None
            if options.task is Task.TRANSCRIBE:
                aligner = self._lease_aligner(leases, options, work, request.warnings)
            decoding = self._decoding(options, with_timestamps=aligner is None)
            if aligner is None and options.task is Task.TRANSCRIBE:
                first = None
            flow = _Flow(self, request, recognizer, aligner, decoding)
            with work.stages.measure(Stage.RECOGNISE):
                for chunk in chunks:
                    flow.recognise(chunk, first)
                    first = None
                    flow.settle(wait=False)
                flow.settle(wait=True)
            begun = flow.aligning_since
            with work.stages.measure(Stage.ALIGN, begun) if begun else nullcontext():
                flow.finish()
        work.progress = ALIGNED
        return flow.segments

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
        for temperature in (options.temperature,) if options.temperature else TEMPERATURES:
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
        self, aligning: Iterable[Aligning], work: Work, warnings: list[str]
    ) -> Iterator[Segment]:
        for segment, future in aligning:
            sentences: tuple[Segment, ...] | None = None
            if future is None:
                yield segment
                continue
            with self._optional_stage(ALIGNMENT_FAILED, ALIGNMENT_FAILED, warnings):
                sentences = work.wait(future)
                if sentences is None:
                    warnings.append(ALIGNMENT_FAILED)
            words = tuple(Word(text) for text in segment.text.split())
            yield from sentences or (replace(segment, words=words),)

    # -- diarization -----------------------------------------------------------------------------

    def _start_diarization(
        self, audio: Audio, options: TranscribeOptions, work: Work
    ) -> Future[tuple[Diarization | None, str]] | None:
        if not options.diarize:
            return None

        def diarize() -> tuple[Diarization | None, str]:
            try:
                return self._diarize(audio, options, work)
            except ServiceError as error:
                work.cancel(error)  # what is still recognised is of no use
                raise

        run = copy_context().run  # what is logged there belongs to this request too
        return work.track(self._threads.submit(run, diarize))

    def _diarize(
        self, audio: Audio, options: TranscribeOptions, work: Work
    ) -> tuple[Diarization | None, str]:
        """(who speaks when, "") or (None, why that is not known)."""
        warnings: list[str] = []
        must = options.must_diarize
        with ExitStack() as leases:
            key = self._catalog.diarizer(options.model)
            with self._optional_stage(NO_DIARIZATION, DIARIZATION_FAILED, warnings, must):
                batcher = leases.enter_context(self._lease(key, work))
            if warnings:
                return None, warnings[0]
            with (
                self._optional_stage(DIARIZATION_FAILED, DIARIZATION_FAILED, warnings, must),
                work.stages.measure(Stage.DIARIZE),
            ):
                known = self._embed_known(batcher, options.known_speakers, work)
                diarization = _diarize_one(batcher, audio, options.speakers, work)
                names = match_voices(
                    diarization.embeddings, known, self._options.known_speaker_similarity
                )
                return rename_speakers(diarization, names), ""
        return None, warnings[0]

    def _embed_known(
        self, batcher: Batcher[Diarizer], speakers: Sequence[KnownSpeaker], work: Work
    ) -> dict[str, tuple[float, ...]]:
        """The voice of each: that of its recording's only speaker."""
        voices = {}
        for i, speaker in enumerate(speakers):
            found = _diarize_one(batcher, speaker.audio, SpeakerBounds(num_speakers=1), work)
            if not found.embeddings:
                raise UnsupportedOption(f"known_speaker_references[{i}]: nobody speaks in it.")
            [voices[speaker.name]] = found.embeddings.values()
        return voices

    @contextmanager
    def _optional_stage(
        self, unavailable: str, failed: str, warnings: list[str], must: bool = False
    ) -> Iterator[None]:
        """A stage that must not cost its user the transcript: what breaks in it is a warning.
        Unless it must be: then it is an error.
        """
        must = must or self._options.strict_stages
        try:
            yield
        except (ModelUnavailable, StageFailed) as error:
            missing = isinstance(error, ModelUnavailable)
            if missing and must:
                raise ModelUnavailable(unavailable, error.retry_after_s) from error
            self._warn(unavailable if missing else failed, warnings, must)
        except ServiceError:
            raise  # cancelled, out of time, shutting down: the request ends
        # The optional stage's boundary: a library's fault on this recording.
        except Exception:  # noqa: BLE001
            self._warn(failed, warnings, must)

    def _warn(self, warning: str, warnings: list[str], must: bool) -> None:
        log.exception(warning)
        if must:
            raise StageFailed(warning)
        warnings.append(warning)


class _Flow:
    """The chunks of one request on their way through recognition and alignment, in order."""

    def __init__(
        self,
        transcriber: Transcriber,
        request: _Request,
        recognizer: Batcher[Recognizer],
        aligner: Batcher[Aligner] | None,
        decoding: DecodingOptions,
    ) -> None:
        self.segments: list[Segment] = []
        self.aligning_since: float | None = None
        self._transcriber = transcriber
        self._request = request
        self._recognizer = recognizer
        self._aligner = aligner
        self._decoding = decoding
        self._recognising: deque[tuple[Chunk, Samples, TaskFuture]] = deque()
        self._aligning: deque[Aligning] = deque()

    def recognise(self, chunk: Chunk, future: TaskFuture | None) -> None:
        """`future`: of its hypothesis, where that is under way."""
        piece = _slice(self._request.audio, chunk.start_s, chunk.end_s)
        if future is None:
            item = RecognitionItem(piece, self._decoding)
            [future] = self._request.work.submit(self._recognizer, [item])
        self._recognising.append((chunk, piece, future))

    def settle(self, wait: bool) -> None:
        """Go on with the chunks that are recognised, or `wait` until all are."""
        work = self._request.work
        while self._recognising and (wait or self._recognising[0][2].done()):
            chunk, piece, future = self._recognising.popleft()
            hypothesis = self._transcriber._settle(
                self._recognizer, piece, self._decoding, future, work
            )
            share = chunk.end_s / self._request.audio.duration_s
            work.progress = max(work.progress, RECOGNISED * share)
            for segment in draft_segments(chunk, hypothesis):
                self._align(segment)
            self._collect(_done(self._aligning))

    def finish(self) -> None:
        self._collect(self._aligning)

    def _align(self, segment: Segment) -> None:
        task = None
        if self._aligner is not None:
            samples = _slice(self._request.audio, segment.start_s, segment.end_s)
            item = AlignmentItem(samples, segment)
            [task] = self._request.work.submit(self._aligner, [item])
            if self.aligning_since is None:
                self.aligning_since = task.queued
        self._aligning.append((segment, task))
        self._request.listener.recognised(segment)

    def _collect(self, aligning: Iterable[Aligning]) -> None:
        request = self._request
        for segment in self._transcriber._collect_aligned(aligning, request.work, request.warnings):
            self.segments.append(segment)
            request.listener.settled(segment)


def _noting(found: Iterator[Chunk], known: list[Chunk]) -> Iterator[Chunk]:
    """Pass on what is found, and remember it."""
    for chunk in found:
        known.append(chunk)
        yield chunk


def _or_else(chunks: Iterator[Chunk], other: Chunk) -> Iterator[Chunk]:
    """The chunks, or the other one where there are none."""
    first = next(chunks, other)
    yield first
    yield from chunks


def _slice(audio: Audio, start_s: float, end_s: float) -> Samples:
    return audio.samples[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]


def _diarize_one(
    batcher: Batcher[Diarizer], audio: Audio, bounds: SpeakerBounds, work: Work
) -> Diarization:
    diarizer: Diarizer = batcher.model
    futures = work.submit(batcher, diarizer.split(audio.samples))
    windows = [work.wait(future) for future in futures]
    return diarizer.join(audio.samples, windows, bounds)


def _done(aligning: deque[Aligning]) -> Iterator[Aligning]:
    """Take out what needs no waiting, in order."""
    while aligning and (aligning[0][1] is None or aligning[0][1].done()):
        yield aligning.popleft()
