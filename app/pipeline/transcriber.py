"""Transcriber: the order of the stages, written once. Knows no wire format and no socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

from app.domain.options import (
    DecodingOptions,
    SpeechDetection,
    TranscribeOptions,
    WordAligner,
)
from app.domain.transcript import Audio, Chunk, LanguageGuess, Segment, Transcript
from app.engine.loading import Wait
from app.engine.model import ModelKey
from app.engine.store import ModelStore
from app.engine.work import Work
from app.models.catalog import Catalog
from app.models.leases import (
    LeasedAligner,
    LeasedDetector,
    LeasedRecognizer,
    lease_aligner,
    lease_detector,
    lease_diarizer,
    lease_recognizer,
)
from app.observability.stages import Stage
from app.pipeline.aligners import Aligners
from app.pipeline.chunking import ChunkingOptions
from app.pipeline.diarizing import Diarized, Diarizing
from app.pipeline.ears import LeasedEar
from app.pipeline.flow import NOBODY, Flow, Listener, TranscriptionRequest
from app.pipeline.listening import FirstChunks, Listening
from app.pipeline.speakers import assign_speakers, number_speakers
from app.pipeline.support import check_support

ALIGNED = 0.8  # progress after alignment, as a share of the time; diarization runs in parallel

# If each chunk may have another language: speakers pause this long before they change it.
MULTILINGUAL_PAUSE_S = 0.5

NOTEWORTHY_LOAD_S = 0.001  # a shorter load means that the model was already loaded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TranscriberOptions:
    """The operator's choices, the same for every request."""

    chunking: ChunkingOptions
    word_aligner: WordAligner
    beam_size: int
    assign_nearest_speaker: bool
    known_speaker_similarity: float
    strict_stages: bool


class Transcriber:
    """Implements `Transcribing` with the models of this process. Runs one request at a time per
    calling thread; all threads share the models.
    """

    def __init__(
        self,
        store: ModelStore,
        catalog: Catalog,
        threads: ThreadPoolExecutor,
        options: TranscriberOptions,
    ) -> None:
        """`threads` run diarization beside the calling thread."""
        self._store = store
        self._catalog = catalog
        self._options = options
        self._diarizing = Diarizing(
            threads, options.known_speaker_similarity, options.strict_stages
        )

    def transcribe(
        self, audio: Audio, options: TranscribeOptions, work: Work, listener: Listener = NOBODY
    ) -> Transcript:
        """The transcript of `audio`: recognized, aligned, diarized.

        Raises:
            ServiceError: recognition failed, or `work` was cancelled.
        """
        diarizing = self._start_diarization(audio, options, work) if options.diarize else None
        try:
            warnings = list(audio.warnings)
            request = TranscriptionRequest(audio, options, work, listener, warnings)
            return self._transcribe(request, diarizing)
        except BaseException:
            # nobody needs what still runs for this request
            work.cancel()
            raise

    def detect_language(
        self, audio: Audio, model: str, work: Work, is_all: bool
    ) -> LanguageGuess | None:
        """The language of most of the speech, or None if it is unclear. With `is_all`, `audio` is
        the whole recording, and even silence has a language.
        """
        key = self._catalog.recognizer(model)
        with self._lease(lease_recognizer, key, work) as recognizer:
            return self._listening(audio, work, SpeechDetection()).detect_language(
                recognizer, is_all
            )

    @contextmanager
    def ear(self, model: str, work: Work) -> Iterator[LeasedEar]:
        """The recognizer alone, for hypotheses of sound that goes on."""
        key = self._catalog.recognizer(model)
        with closing(LeasedEar(lambda: self._lease(lease_recognizer, key, work))) as ear:
            yield ear

    def prepare(self, model: str, language: str | None, work: Work) -> None:
        """Load what a transcript needs besides the recognizer. `language` None: not known yet.

        Raises:
            ServiceError
        """
        with self._lease(lease_detector, self._catalog.vad(), work):
            pass
        key = self._catalog.aligner(model, language) if language else None
        if key is not None and self._options.word_aligner is not WordAligner.WHISPER:
            with self._lease(lease_aligner, key, work):
                pass

    def _listening(self, audio: Audio, work: Work, speech: SpeechDetection) -> Listening:
        def lease() -> AbstractContextManager[LeasedDetector]:
            return self._lease(lease_detector, self._catalog.vad(), work)

        chunking = self._options.chunking.for_request(speech)
        return Listening(audio, work, chunking, lease)

    def close(self) -> None:
        self._diarizing.close()

    def _start_diarization(
        self, audio: Audio, options: TranscribeOptions, work: Work
    ) -> Future[Diarized]:
        key = self._catalog.diarizer(options.model)
        return self._diarizing.start(
            audio, options, work, lambda: self._lease(lease_diarizer, key, work)
        )

    @contextmanager
    def _lease(
        self,
        lease: Callable[[ModelStore, ModelKey, Wait], AbstractContextManager[T]],
        key: ModelKey,
        work: Work,
    ) -> Iterator[T]:
        with ExitStack() as leases:
            with work.stages.measure(Stage.LOAD, at_least_s=NOTEWORTHY_LOAD_S):
                model = leases.enter_context(lease(self._store, key, work.wait_tracked))
            yield model

    # -- recognition and alignment ---------------------------------------------------------------

    def _transcribe(
        self,
        request: TranscriptionRequest,
        diarizing: Future[Diarized] | None,
    ) -> Transcript:
        listener = request.listener
        if diarizing is not None:  # the speaker of a segment is known only at the end
            request = replace(request, listener=listener.of_text())
        language, segments = self._transcribe_words(request)
        diarization = None
        embeddings: Mapping[str, tuple[float, ...]] = {}
        if diarizing is not None:
            diarization, warning = request.work.wait(diarizing)
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
        return Transcript(
            language=language,
            duration_s=request.audio.duration_s,
            model=request.options.model,
            segments=tuple(segments),
            speakers_known=diarization is not None,
            speaker_embeddings=embeddings,
            warnings=tuple(dict.fromkeys(request.warnings)),
        )

    def _transcribe_words(self, request: TranscriptionRequest) -> tuple[str, list[Segment]]:
        """The language and the segments, without speakers."""
        options, work = request.options, request.work
        listening = self._listening(request.audio, work, options.speech)
        max_pause_s = MULTILINGUAL_PAUSE_S if options.multilingual else None
        key = self._catalog.recognizer(options.model)
        with (
            self._lease(lease_recognizer, key, work) as recognizer,
            closing(listening.chunks(max_pause_s)) as found,
        ):
            check_support(recognizer.model, options)
            if options.usual_language in recognizer.model.languages:
                options = replace(options, language=options.language or options.usual_language)
            first = None
            if options.multilingual:
                first = listening.follow_languages(recognizer, found, options.languages)
            elif options.language is None:
                decoding = self._decoding(options)
                first = listening.settle_language(recognizer, found, decoding)
            language = options.language or (first and first.language)
            language = language or listening.language_of_silence(recognizer).language
            request = replace(request, options=replace(options, language=language))
            return language, self._recognize_and_align(recognizer, request, found, first)

    def _decoding(self, options: TranscribeOptions) -> DecodingOptions:
        return DecodingOptions(
            language=options.language,
            task=options.task,
            initial_prompt=options.initial_prompt,
            hotwords=options.hotwords,
            context=options.context,
            beam_size=options.beam_size or self._options.beam_size,
            temperature=options.temperature,
            with_token_probs=options.with_token_probs,
            languages=options.languages,
        )

    def _recognize_and_align(
        self,
        recognizer: LeasedRecognizer,
        request: TranscriptionRequest,
        found: Iterator[Chunk],
        first: FirstChunks | None,
    ) -> list[Segment]:
        """The segments. One chunk is aligned while the next is recognized and others are found."""
        options, work = request.options, request.work
        chunks = found
        if first is None:
            earliest = next(found, None)
            if earliest is None:
                return []  # silence needs no alignment
            chunks = chain([earliest], found)
        with ExitStack() as leases:
            aligners = self._aligners(leases, request)
            if not options.multilingual:
                aligners.of(options.language or "")  # loaded, or refused, before recognition
            decoding = self._decoding(options)
            flow = Flow(request, recognizer, aligners, decoding, self._options.strict_stages)
            with work.stages.measure(Stage.RECOGNIZE):
                if first is not None:
                    for i, chunk in enumerate(first.chunks):
                        language = first.languages[i] if first.languages else None
                        flow.recognize(chunk, first.hypotheses.get(i), language)
                for chunk in chunks:
                    flow.recognize(chunk)
                    flow.settle(wait=False)
                flow.settle(wait=True)
            begun = flow.aligning_since
            with work.stages.measure(Stage.ALIGN, begun) if begun else nullcontext():
                flow.finish()
            if flow.segments:
                request.warnings.extend(aligners.warnings)
        work.progress = ALIGNED
        return flow.segments

    def _aligners(self, leases: ExitStack, request: TranscriptionRequest) -> Aligners:
        def lease(key: ModelKey) -> LeasedAligner:
            return leases.enter_context(self._lease(lease_aligner, key, request.work))

        options, chosen = request.options, self._options
        return Aligners(
            chosen.word_aligner,
            options.task,
            lambda language: self._catalog.aligner(options.model, language),
            lease,
            chosen.strict_stages,
        )
