"""Where somebody speaks in a recording, and in which language: what comes before recognition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from itertools import groupby

from app.domain.options import DecodingOptions
from app.domain.transcript import Audio, Chunk, Hypothesis, LanguageGuess, SpeechRegion
from app.engine.batching import Batcher, TaskFuture
from app.engine.work import Work
from app.models.protocols import RecognitionItem, Recognizer, VoiceActivityDetector
from app.observability.stages import Stage
from app.pipeline.chunking import Chunker, ChunkingOptions, join_chunks
from app.pipeline.flow import slice_audio
from app.pipeline.spoken_language import (
    NUM_PROBES,
    PROBE_S,
    LanguageVote,
    follow_languages,
    probe_starts,
    spread,
)

BEGUN = 0.01  # how far a request is once the first speech was looked for, as a share of its time
WHOLE_S = 30.0  # a recording so short is listened to as a whole where no speech is found in it
# The speech of a recording up to here is looked for before its language is settled; longer ones
# are listened into here and there.
SURVEYED_S = 120.0


@dataclass(frozen=True, slots=True)
class FirstChunks:
    """Chunks that were found while the language was, with the hypotheses that came along, by the
    position of their chunk. `languages`: of each chunk, where they may differ.
    """

    language: str
    chunks: Sequence[Chunk]
    hypotheses: Mapping[int, TaskFuture] = field(default_factory=dict)
    languages: Sequence[str] = ()


class Listening:
    """One request's ear: detector and recognizer are leased by the caller."""

    def __init__(
        self,
        audio: Audio,
        work: Work,
        options: ChunkingOptions,
        lease_detector: Callable[[], AbstractContextManager[Batcher[VoiceActivityDetector]]],
    ) -> None:
        self._audio = audio
        self._work = work
        self._options = options
        self._lease_detector = lease_detector

    def chunks(self, max_pause_s: float | None = None) -> Generator[Chunk]:
        """Chunk by chunk, as soon as each is certain: those after it are still looked for. A short
        recording in which nothing is found comes as a whole.
        """
        found = False
        for chunk in self._find(self._audio, max_pause_s):
            found = True
            yield chunk
        if not found and 0 < self._audio.duration_s <= WHOLE_S:
            yield Chunk(0.0, self._audio.duration_s)

    def _find(
        self, audio: Audio, max_pause_s: float | None = None, first: bool = False
    ) -> Generator[Chunk]:
        """`max_pause_s`: shorter than usual. `first`: before what is still looked for."""
        work, options = self._work, self._options
        if max_pause_s is not None:
            options = replace(options, max_pause_s=max_pause_s)
        chunker = Chunker(options, audio.duration_s)
        with self._lease_detector() as batcher:
            vad = batcher.model
            track = vad.track(audio.samples)
            futures = work.submit(batcher, vad.split(audio.samples), first)
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
        self, recognizer: Batcher[Recognizer], found: Iterator[Chunk], decoding: DecodingOptions
    ) -> FirstChunks | None:
        """The language of the chunks that are `found`; None where there are none.

        `decoding` has no language. What is decoded to find out is of use later.
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
            futures = self._work.submit(recognizer, items)
            for i, future in zip(positions, futures, strict=True):
                hypothesis: Hypothesis = self._work.wait(future)
                vote.add(hypothesis.guesses, chunks[i].speech_s)
        language = vote.best.language
        hypotheses = {
            i: future
            for i, future in zip(positions, futures, strict=True)
            if future.result().language == language
        }
        return FirstChunks(language, chunks, hypotheses)

    def follow_languages(
        self, recognizer: Batcher[Recognizer], found: Iterator[Chunk], candidates: Sequence[str]
    ) -> FirstChunks | None:
        """All chunks that are `found`, each in one language; None where there are none.

        `candidates`: the languages that there may be, empty for all.
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

    def detect_language(
        self, recognizer: Batcher[Recognizer], is_all: bool
    ) -> LanguageGuess | None:
        """The language that most is spoken in. None where that is not clear, unless the recording
        `is_all` that there is to hear: then silence has a language, too.
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

    def language_of_silence(self, recognizer: Batcher[Recognizer]) -> LanguageGuess:
        whole = Chunk(0.0, min(WHOLE_S, self._audio.duration_s))
        return self._vote(recognizer, [whole]).best

    def _vote_by_probes(
        self, recognizer: Batcher[Recognizer], first: Sequence[Chunk], candidates: Sequence[str]
    ) -> LanguageGuess:
        """Listens into a long recording at a few places, and at more where they differ."""
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
        """The longest speech within half a minute from there."""
        piece = slice_audio(self._audio, start_s, start_s + PROBE_S)
        found = list(self._find(Audio(piece), first=True))
        if not found:
            return ()
        chunk = max(found, key=lambda chunk: chunk.speech_s)
        regions = tuple(SpeechRegion(start_s + r.start_s, start_s + r.end_s) for r in chunk.speech)
        return (Chunk(start_s + chunk.start_s, start_s + chunk.end_s, regions),)

    def _vote(
        self,
        recognizer: Batcher[Recognizer],
        chunks: Sequence[Chunk],
        candidates: Sequence[str] = (),
        vote: LanguageVote | None = None,
    ) -> LanguageVote:
        vote = vote or LanguageVote(candidates)
        for chunk, guesses in zip(chunks, self._guess(recognizer, chunks), strict=True):
            vote.add(guesses, chunk.speech_s)
        return vote

    def _guess(
        self, recognizer: Batcher[Recognizer], chunks: Sequence[Chunk]
    ) -> list[tuple[LanguageGuess, ...]]:
        with self._work.stages.measure(Stage.RECOGNIZE):
            futures = self._work.submit(recognizer, [self._item(c, None) for c in chunks])
            return [self._work.wait(future) for future in futures]

    def _item(self, chunk: Chunk, decoding: DecodingOptions | None) -> RecognitionItem:
        samples = slice_audio(self._audio, chunk.start_s, chunk.end_s)
        return RecognitionItem(samples, decoding, chunk.speech_s)
