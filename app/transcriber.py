"""Transcriber: the order of the stages, written once. Knows no wire format and no socket."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from app.audio.chunking import Chunker
from app.batching import Batcher, TaskFuture, Work
from app.errors import ServiceError, UnsupportedOption
from app.flow import NOBODY, Flow, Listener, Request, slice_audio
from app.languages import language_name
from app.models.catalog import Catalog, ModelKey
from app.models.protocols import (
    Aligner,
    Diarizer,
    RecognitionItem,
    Recognizer,
    VoiceActivityDetector,
)
from app.optional import (
    ALIGNER_UNAVAILABLE,
    DIARIZATION_FAILED,
    NO_ALIGNER,
    NO_DIARIZATION,
    optional_stage,
)
from app.speakers import assign_speakers, number_speakers
from app.stages import Stage
from app.store import ModelStore
from app.transcript import (
    Audio,
    Chunk,
    DecodingOptions,
    Diarization,
    KnownSpeaker,
    LanguageGuess,
    Segment,
    SpeakerBounds,
    Task,
    TranscribeOptions,
    Transcript,
)
from app.voices import match_voices, rename_speakers

# How far a request is after each stage, as a share of its time. Diarization runs beside the others.
BEGUN, ALIGNED = 0.01, 0.8

DETECTION_CHUNKS = 4  # looked at for the language, until one is clear
CLEAR_PROBABILITY = 0.5

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
            request = Request(audio, options, work, listener, warnings)
            return self._transcribe(request, diarizing)
        except BaseException:
            # what still runs for this request runs for nobody
            work.cancel()
            raise

    def detect_language(
        self, audio: Audio, model: str, work: Work, of_silence: bool
    ) -> LanguageGuess | None:
        """The language of the first speech; where there is none, of the first 30 s if `of_silence`,
        and else None.
        """
        chunks = list(self._find_speech(audio, work))
        if not chunks and not of_silence:
            return None
        with self._lease(self._catalog.recognizer(model), work) as recognizer:
            return self._detect_language(recognizer, audio, chunks, (), work)

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
        self, request: Request, diarizing: Future[tuple[Diarization | None, str]] | None
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
        embeddings: Mapping[str, tuple[float, ...]] = {}
        if diarizing is not None:
            diarization, warning = work.wait(diarizing)
            if warning:
                request.warnings.append(warning)
        if diarization is not None:
            nearest = self._options.assign_nearest_speaker
            assigned = assign_speakers(segments, diarization, nearest)
            numbered, embeddings = number_speakers(assigned, diarization.embeddings)
            segments = list(numbered)
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
            speaker_embeddings=embeddings,
            warnings=tuple(dict.fromkeys(request.warnings)),
        )

    def _settle_language(
        self,
        recognizer: Batcher[Recognizer],
        request: Request,
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
            item = RecognitionItem(slice_audio(audio, chunk.start_s, chunk.end_s), None)
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
        self, recognizer: Batcher[Recognizer], request: Request, chunk: Chunk
    ) -> TaskFuture:
        """The hypothesis of an only chunk in whatever language it is: encoded once, not twice.

        It has timestamps where no language would have an aligner.
        """
        options = request.options
        decoding = self._decoding(options, with_timestamps=options.task is not Task.TRANSCRIBE)
        item = RecognitionItem(slice_audio(request.audio, chunk.start_s, chunk.end_s), decoding)
        return request.work.submit(recognizer, [item])[0]

    def _recognize_and_align(
        self,
        recognizer: Batcher[Recognizer],
        request: Request,
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
            flow = Flow(request, recognizer, aligner, decoding, self._options.strict_stages)
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

    def _lease_aligner(
        self, leases: ExitStack, options: TranscribeOptions, work: Work, warnings: list[str]
    ) -> Batcher[Aligner] | None:
        key = self._catalog.aligner(options.model, options.language or "")
        if key is None:
            warnings.append(NO_ALIGNER)
            return None
        with optional_stage(
            ALIGNER_UNAVAILABLE, ALIGNER_UNAVAILABLE, warnings, self._options.strict_stages
        ):
            batcher: Batcher[Aligner] = leases.enter_context(self._lease(key, work))
            return batcher
        return None

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
        must = options.must_diarize or self._options.strict_stages
        with ExitStack() as leases:
            key = self._catalog.diarizer(options.model)
            with optional_stage(NO_DIARIZATION, DIARIZATION_FAILED, warnings, must):
                batcher = leases.enter_context(self._lease(key, work))
            if warnings:
                return None, warnings[0]
            with (
                optional_stage(DIARIZATION_FAILED, DIARIZATION_FAILED, warnings, must),
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


def _diarize_one(
    batcher: Batcher[Diarizer], audio: Audio, bounds: SpeakerBounds, work: Work
) -> Diarization:
    diarizer: Diarizer = batcher.model
    futures = work.submit(batcher, diarizer.split(audio.samples))
    windows = [work.wait(future) for future in futures]
    return diarizer.join(audio.samples, windows, bounds)
