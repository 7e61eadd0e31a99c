"""Where somebody speaks in a recording, and in which language: the steps before recognition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from itertools import groupby

from app.domain.options import DecodingOptions
from app.domain.transcript import Audio, Chunk, Hypothesis, LanguageGuess, Samples, SpeechRegion
from app.engine.tasks import TaskFuture
from app.engine.work import Work
from app.models.leases import LeasedDetector, LeasedRecognizer
from app.models.protocols import DetectionItem, LanguageGuesses, RecognitionItem
from app.observability.stages import Stage
from app.pipeline.chunking import Chunker, ChunkingOptions, fill_gaps, join_chunks
from app.pipeline.flow import slice_audio
from app.pipeline.spoken_language import (
    NUM_PROBES,
    PROBE_S,
    LanguageVote,
    follow_languages,
    probe_starts,
    spread,
)

BEGUN = 0.01  # the progress of a request after its first windows, as a share of its time
WHOLE_S = 30.0  # recordings up to here are recognized as a whole if no speech is found in them
# Up to here, all speech is found before the language is settled; longer recordings are sampled.
SURVEYED_S = 120.0


@dataclass(frozen=True, slots=True)
class FirstChunks:
    """Chunks that were found along with the language.

    `hypotheses`: those that were made on the way, by the position of their chunk. `languages`: of
    each chunk, if they may differ.
    """

    language: str
    chunks: Sequence[Chunk]
    hypotheses: Mapping[int, TaskFuture[Hypothesis]] = field(default_factory=dict)
    languages: Sequence[str] = ()


class Listening:
    """Finds the speech and the language of one recording. The caller leases the models."""

    def __init__(
        self,
        audio: Audio,
        work: Work,
        options: ChunkingOptions,
        lease_detector: Callable[[], AbstractContextManager[LeasedDetector]],
    ) -> None:
        self._audio = audio
        self._work = work
        self._options = options
        self._lease_detector = lease_detector

    def chunks(self, max_pause_s: float | None = None) -> Generator[Chunk]:
        """Each chunk as soon as it is certain, while later ones are still being found. A short
        recording without speech comes as a whole.
        """
        found = False
        chunks: Iterator[Chunk] = self._find(self._audio, max_pause_s)
        if self._options.keep_silence:
            chunks = fill_gaps(chunks, self._audio.duration_s, self._options.max_chunk_s)
        for chunk in chunks:
            found = True
            yield chunk
        if not found and 0 < self._audio.duration_s <= WHOLE_S:
            yield Chunk(0.0, self._audio.duration_s)

    def _find(
        self, audio: Audio, max_pause_s: float | None = None, first: bool = False
    ) -> Generator[Chunk]:
        """`max_pause_s`: shorter than usual. `first`: before windows that are already queued."""
        work, options = self._work, self._options
        if max_pause_s is not None:
            options = replace(options, max_pause_s=max_pause_s)
        chunker = Chunker(options, audio.duration_s)
        with self._lease_detector() as vad:
            track = vad.model.track(audio.samples)
            futures = work.submit(vad.batcher, vad.model.split(audio.samples), first)
            try:
                with work.stages.measure_queued(Stage.SPEECH, futures[0]):
                    for i, future in enumerate(futures, 1):
                        last = i == len(futures)
                        work.progress = max(work.progress, BEGUN)
                        yield from chunker.advance(track.add(work.wait(future), last), last)
            finally:
                for future in futures:
                    future.cancel()

    # -- language --------------------------------------------------------------------------------

    def settle_language(
        self, recognizer: LeasedRecognizer, found: Iterator[Chunk], decoding: DecodingOptions
    ) -> FirstChunks | None:
        """The language of the chunks that are `found`; None if there are none.

        `decoding` has no language. The hypotheses that settle it are kept for later.
        """
        if self._audio.duration_s > SURVEYED_S:
            first = next(found, None)
            if first is None:
                return None
            guess = self._vote_by_probes(recognizer, [first], decoding.languages)
            return FirstChunks(guess.language, [first])
        chunks = list(found)
        if not chunks:
            return None
        vote = LanguageVote(decoding.languages)
        positions = spread(chunks)
        items = [self._item(chunks[i], decoding) for i in positions]
        with self._work.stages.measure(Stage.RECOGNIZE):
            futures = self._work.submit(recognizer.recognition, items)
            for i, future in zip(positions, futures, strict=True):
                hypothesis = self._work.wait(future)
                vote.add(hypothesis.guesses, chunks[i].speech_s)
        language = vote.best.language
        hypotheses = {
            i: future
            for i, future in zip(positions, futures, strict=True)
            if future.result().language == language
        }
        return FirstChunks(language, chunks, hypotheses)

    def follow_languages(
        self, recognizer: LeasedRecognizer, found: Iterator[Chunk], candidates: Sequence[str]
    ) -> FirstChunks | None:
        """All chunks that are `found`, each in one language; None if there are none.

        `candidates`: the possible languages; empty for all.
        """
        parts = list(found)
        if not parts:
            return None
        guesses = [
            [g for g in own if not candidates or g.language in candidates] or own
            for own in self._guess(recognizer, parts)
        ]
        languages = follow_languages(parts, guesses)
        joined: list[tuple[str, Chunk]] = []
        for language, run in groupby(zip(languages, parts, strict=True), key=lambda p: p[0]):
            chunks = join_chunks([chunk for _, chunk in run], self._options)
            joined.extend((language, chunk) for chunk in chunks)
        spoken_s: defaultdict[str, float] = defaultdict(float)
        for language, chunk in joined:
            spoken_s[language] += chunk.speech_s
        return FirstChunks(
            max(spoken_s, key=lambda code: spoken_s[code]),
            [chunk for _, chunk in joined],
            languages=[language for language, _ in joined],
        )

    def detect_language(self, recognizer: LeasedRecognizer, is_all: bool) -> LanguageGuess | None:
        """The language that is spoken most; None if that is unclear and more of the recording may
        follow. `is_all`: this is the whole recording, so even silence gets a language.
        """
        if self._audio.duration_s > SURVEYED_S:
            with closing(self._find(self._audio)) as found:
                first = next(found, None)
            if first is not None:
                return self._vote_by_probes(recognizer, [first], ())
        elif chunks := list(self._find(self._audio)):
            vote = self._vote(recognizer, [chunks[i] for i in spread(chunks)])
            return vote.best if vote.is_clear or is_all else None
        return self.language_of_silence(recognizer) if is_all else None

    def language_of_silence(self, recognizer: LeasedRecognizer) -> LanguageGuess:
        whole = Chunk(0.0, min(WHOLE_S, self._audio.duration_s))
        return self._vote(recognizer, [whole]).best

    def _vote_by_probes(
        self, recognizer: LeasedRecognizer, first: Sequence[Chunk], candidates: Sequence[str]
    ) -> LanguageGuess:
        """Sample a long recording at a few places, and at more if the vote is not clear."""
        vote = self._vote(recognizer, first, candidates)
        starts = probe_starts(self._audio.duration_s)
        for places in (starts[:NUM_PROBES], starts[NUM_PROBES:]):
            speech = [chunk for start_s in places for chunk in self._probe(start_s)]
            if speech:
                self._vote(recognizer, speech, candidates, vote)
            if vote.is_clear:
                break
        return vote.best

    def _probe(self, start_s: float) -> Iterable[Chunk]:
        """The longest speech within half a minute from `start_s`."""
        piece = slice_audio(self._audio, start_s, start_s + PROBE_S)
        found = list(self._find(Audio(piece), first=True))
        if not found:
            return ()
        chunk = max(found, key=lambda chunk: chunk.speech_s)
        regions = tuple(SpeechRegion(start_s + r.start_s, start_s + r.end_s) for r in chunk.speech)
        return (Chunk(start_s + chunk.start_s, start_s + chunk.end_s, regions),)

    def _vote(
        self,
        recognizer: LeasedRecognizer,
        chunks: Sequence[Chunk],
        candidates: Sequence[str] = (),
        vote: LanguageVote | None = None,
    ) -> LanguageVote:
        vote = vote or LanguageVote(candidates)
        for chunk, guesses in zip(chunks, self._guess(recognizer, chunks), strict=True):
            vote.add(guesses, chunk.speech_s)
        return vote

    def _guess(
        self, recognizer: LeasedRecognizer, chunks: Sequence[Chunk]
    ) -> list[LanguageGuesses]:
        with self._work.stages.measure(Stage.RECOGNIZE):
            items = [DetectionItem(self._samples(chunk)) for chunk in chunks]
            futures = self._work.submit(recognizer.detection, items)
            return [self._work.wait(future) for future in futures]

    def _item(self, chunk: Chunk, decoding: DecodingOptions) -> RecognitionItem:
        return RecognitionItem(self._samples(chunk), decoding)

    def _samples(self, chunk: Chunk) -> Samples:
        return slice_audio(self._audio, chunk.start_s, chunk.end_s)
