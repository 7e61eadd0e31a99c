"""The order of the stages, without HTTP: the core is callable by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.config.settings import load_settings
from app.domain.errors import ModelUnavailable, StageFailed, UnsupportedOption
from app.domain.options import KnownSpeaker, SpeakerBounds, Task, TranscribeOptions
from app.domain.transcript import (
    Audio,
    Chunk,
    DecodingStats,
    Hypothesis,
    LanguageGuess,
    Segment,
    SpeechRegion,
    SpokenWord,
)
from app.domain.warnings import TranscriptWarning
from app.engine.batching import Batcher
from app.engine.model import ModelKey
from app.engine.work import Work
from app.formats.text import text_of
from app.models.protocols import AlignmentItem, DetectionItem, RecognitionItem
from app.models.recognizers.whisper_abilities import WHISPER_ABILITIES, WHISPER_THRESHOLDS
from app.pipeline.flow import Listener
from app.pipeline.hypotheses import Judge, missing_speech
from app.pipeline.transcriber import Transcriber
from app.service.build import build_service, close_service
from app.service.service import Service
from app.text.letters import num_letters
from tests.support.media import samples_of
from tests.support.scripted import ScriptedStore
from tests.support.truth import audio_of, truth_of, word_error_rate
from tests.support.waiting import eventually

JUDGE = Judge(WHISPER_THRESHOLDS)


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, remembering_models: None
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("core")
    built = build_service(
        load_settings(
            {
                "asr_model": "demo",
                "batch_size": 2,
                "cache_dir": folder,
                "temp_dir": folder / "tmp",
            }
        )
    )
    yield built
    close_service(built)


def audio(name: str) -> Audio:
    return Audio(samples_of(audio_of(name)))


def hypothesis(
    text: str = " Fine.", logprob: float = -0.2, ratio: float = 1.0, silence: float = 0.0
) -> Hypothesis:
    decoding = DecodingStats(logprob, silence, ratio, 0.0)
    guesses = (LanguageGuess("en", 0.9),)
    return Hypothesis("en", text, (1,), (len(text),), decoding, guesses=guesses)


def test_the_core_without_http(service: Service) -> None:
    truth = truth_of("es_two_b")
    options = TranscribeOptions("demo", diarize=True, speakers=SpeakerBounds(num_speakers=2))
    transcript = service.transcriber.transcribe(audio("es_two_b"), options, Work("core", 60))
    assert transcript.language == "es"
    assert transcript.speakers_known
    assert len(transcript.speaker_embeddings) == 2
    assert sum(len(s.words or ()) for s in transcript.segments) == len(truth["words"])


def test_a_clip_does_not_wait_for_the_end_of_background_work(service: Service) -> None:
    """Both are transcribed as if alone."""
    unheard = samples_of(audio_of("es_two"))[1_000:]  # whose windows no model remembers
    long = Audio(np.tile(unheard, 2))
    options = TranscribeOptions("demo", diarize=True)
    job, clip = Work("job", 600, background=True), Work("clip", 600)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(service.transcriber.transcribe, long, options, job)
        eventually(lambda: job.progress > 0)
        heard = service.transcriber.transcribe(audio("en_short"), options, clip)
        assert not running.done()
        assert job.progress < 1
        whole = running.result(600)
    for transcript, name, times in ((heard, "en_short", 1), (whole, "es_two", 2)):
        said = " ".join(sentence["text"] for sentence in truth_of(name)["sentences"] * times)
        assert word_error_rate(said, text_of(transcript.segments)) < 0.02
        assert transcript.speakers_known


@pytest.mark.parametrize("task", list(Task))
def test_what_the_decoder_knows_stays_with_the_sentences(service: Service, task: Task) -> None:
    options = TranscribeOptions("demo", language="es", task=task, diarize=True)
    transcript = service.transcriber.transcribe(audio("es_two"), options, Work("core", 60))
    tokens = 0
    for segment in transcript.segments:
        assert segment.stats is not None
        assert -1 < segment.stats.avg_logprob < 0
        assert 0 <= segment.stats.no_speech_prob < 0.5
        assert segment.stats.compression_ratio > 0.5
        assert segment.stats.temperature == 0.0
        assert segment.tokens, "no token of the hypothesis is lost to a sentence"
        assert segment.token_ends[-1] == len(segment.text)
        tokens += len(segment.tokens)
    assert tokens > len(transcript.segments) * 4


def test_a_listener_hears_of_everything_in_order_and_early(service: Service) -> None:
    heard: list[tuple[str, Segment]] = []
    listener = Listener(
        lambda segment: heard.append(("recognized", segment)),
        lambda segment: heard.append(("settled", segment)),
    )
    transcript = service.transcriber.transcribe(
        audio("en_long"), TranscribeOptions("demo", language="en"), Work("core", 60), listener
    )
    assert tuple(s for kind, s in heard if kind == "settled") == transcript.segments
    drafts = [s for kind, s in heard if kind == "recognized"]
    assert "".join(s.text for s in drafts) == "".join(s.text for s in transcript.segments)
    kinds = [kind for kind, _ in heard]
    first_settled = kinds.index("settled")
    assert "recognized" in kinds[first_settled:], "words have times while more is recognized"


def test_speakers_that_must_be_known_end_a_request_without_them(service: Service) -> None:
    """At once, and not after all has been recognized."""
    real = service.transcriber
    store: Any = WithoutDiarizer(service.models.store)
    transcriber = Transcriber(store, service.catalog, ThreadPoolExecutor(1), real._options)
    for must in (False, True):
        options = TranscribeOptions("demo", language="en", diarize=True, must_diarize=must)
        work = Work("core", 60)
        if must:
            with pytest.raises(ModelUnavailable, match="Speakers are missing"):
                transcriber.transcribe(audio("en_long"), options, work)
        else:
            transcript = transcriber.transcribe(audio("en_short"), options, work)
            assert transcript.warnings == (TranscriptWarning.NO_DIARIZATION,)


class WithoutDiarizer:
    """A store that has every model but one."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def lease(self, key: ModelKey, wait: Any = None) -> Any:
        if key.kind == "diarizer":
            raise ModelUnavailable("No licence.")
        return self._real.lease(key, wait)


def test_a_language_that_the_model_does_not_know(service: Service) -> None:
    with pytest.raises(UnsupportedOption, match="language"):
        service.transcriber.transcribe(
            audio("en_short"), TranscribeOptions("demo", language="yue"), Work("core", 60)
        )


# -- hypotheses ----------------------------------------------------------------------------------


def test_what_is_decoded_again() -> None:
    assert not JUDGE.needs_fallback(hypothesis())
    assert JUDGE.needs_fallback(hypothesis(ratio=2.5))
    assert JUDGE.needs_fallback(hypothesis(logprob=-1.1))
    silence = hypothesis(logprob=-1.1, silence=0.7)
    assert JUDGE.is_silence(silence)
    assert not JUDGE.needs_fallback(silence)
    assert not JUDGE.is_silence(hypothesis(silence=0.9)), "clear words are no silence"


def test_the_best_of_bad_hypotheses() -> None:
    repeating = hypothesis(logprob=-0.1, ratio=3.0)
    unlikely, less = hypothesis(logprob=-2.0), hypothesis(logprob=-1.5)
    assert JUDGE.best([repeating, unlikely, less]) is less
    assert JUDGE.best([repeating]) is repeating


SPOKEN = Chunk(0, 5, (SpeechRegion(0.5, 4.5),))
UNHEARD = Chunk(0, 5)  # the detector found nothing


def test_what_is_no_text_of_a_chunk() -> None:
    assert not JUDGE.is_credible(SPOKEN, hypothesis(logprob=-1.5, silence=0.9))
    assert not JUDGE.is_credible(SPOKEN, hypothesis(" "))
    assert not JUDGE.is_credible(SPOKEN, hypothesis(" . . . ♪")), "signs for music"
    doubtful = hypothesis(" Thank you.", logprob=-0.8)
    assert JUDGE.is_credible(SPOKEN, doubtful)
    assert not JUDGE.is_credible(UNHEARD, doubtful), (
        "where no speech was found, no doubt is allowed"
    )
    stray = Chunk(0, 12, (SpeechRegion(1, 11),))
    assert not JUDGE.is_credible(stray, doubtful), "ten seconds of music are no two words"
    assert JUDGE.is_credible(stray, hypothesis(" Yes.", logprob=-0.2))
    guessed = hypothesis(" Thank you for watching the show.", logprob=-1.3)
    assert not JUDGE.is_credible(stray, guessed), "nor a sentence that is a mere guess"
    assert JUDGE.is_credible(UNHEARD, hypothesis(" Half past six.", logprob=-0.2, silence=0.1))


def spoken(*words: tuple[float, float], text: str = " seventeen") -> Hypothesis:
    """Such a word from each start to each end."""
    timed = tuple(SpokenWord(text, start, end, 0.9) for start, end in words)
    return replace(hypothesis(text * len(words)), words=timed)


def test_speech_without_words_is_missing() -> None:
    speech = (SpeechRegion(10.5, 13.0), SpeechRegion(13.5, 14.0), SpeechRegion(15.0, 18.0))
    chunk = Chunk(10, 20, speech)
    everywhere = [(0.5 + 0.6 * i, 1.0 + 0.6 * i) for i in range(13)]
    assert missing_speech(chunk, spoken(*everywhere)) == []
    first_only = spoken(*everywhere[:4])
    missing = missing_speech(chunk, first_only)
    assert missing == [SpeechRegion(15.0, 18.0)], "half a second may be a breath"
    beginning_lost = spoken(*everywhere[8:])
    assert missing_speech(chunk, beginning_lost)[0] == SpeechRegion(10.5, 13.0)
    assert missing_speech(chunk, replace(first_only, words=None)) == [], "nobody looked"
    stretched = spoken((0.5, 4.0), (4.0, 8.0))
    assert missing_speech(chunk, stretched) == list(speech), "two words last no six seconds"


def test_letters_are_about_as_many_in_every_script() -> None:
    assert num_letters(" Good morning, everybody!") == 20
    assert num_letters("早上好，大家！") == 15


# -- models that fail on demand ------------------------------------------------------------------


class Scripted:
    """Recognizer, aligner and detector in one: what it says is given beforehand."""

    languages = frozenset({"en"})
    batch_size = 4
    num_workers = 1
    memory_bytes = 1
    abilities, thresholds = WHISPER_ABILITIES, WHISPER_THRESHOLDS
    brief_s = 0.0

    def __init__(self, by_temperature: dict[float, Hypothesis], align_error: Exception | None):
        self.by_temperature = by_temperature
        self.align_error = align_error
        self.tried: list[float] = []

    def batch_key(self, item: Any) -> str:
        return str(type(item)) + str(getattr(item, "options", ""))

    def audio_s(self, item: Any) -> float:
        return 30.0

    def run(self, items: Sequence[Any]) -> list[Any]:
        return [self._answer(item) for item in items]

    def _answer(self, item: Any) -> Any:
        if isinstance(item, AlignmentItem):
            if self.align_error is not None:
                raise self.align_error
            return None
        if isinstance(item, DetectionItem):
            return (LanguageGuess("en", 0.9),)
        assert isinstance(item, RecognitionItem)
        self.tried.append(item.options.temperature)
        return self.by_temperature.get(item.options.temperature, hypothesis(logprob=-3.0))

    def close(self) -> None:
        pass


def scripted_transcriber(
    service: Service, batcher: Batcher[Any, Any], **options: Any
) -> Transcriber:
    """With `options` instead of the service's."""
    chosen = replace(service.transcriber._options, **options)
    store: Any = ScriptedStore(service.models.store, batcher)
    return Transcriber(store, service.catalog, ThreadPoolExecutor(1), chosen)


def run_scripted(
    service: Service,
    by_temperature: dict[float, Hypothesis],
    align_error: Exception | None = None,
    **options: Any,
) -> tuple[Scripted, Any]:
    batcher = Batcher("scripted", lambda: Scripted(by_temperature, align_error))
    model = batcher.model
    transcriber = scripted_transcriber(service, batcher, **options)
    try:
        work = Work("scripted", 60)
        return model, transcriber.transcribe(audio("en_short"), TranscribeOptions("demo"), work)
    finally:
        batcher.close()


def test_failing_hypotheses_are_decoded_again_at_higher_temperatures(service: Service) -> None:
    good = hypothesis(" Better.")
    model, transcript = run_scripted(service, {0.4: good})
    assert model.tried == [0.0, 0.2, 0.4]
    assert [s.text for s in transcript.segments] == [" Better."]


def test_a_second_try_passes_what_waits_behind_it(service: Service) -> None:
    """Nobody hears of the later chunks before it, so it is what all wait for."""
    order: list[str] = []

    class Failing(Scripted):
        batch_size = 1

        def _answer(self, item: Any) -> Any:
            if isinstance(item, RecognitionItem):
                again = item.options.temperature > 0
                order.append("again" if again else "chunk")
                failed = len(order) == 1
                return hypothesis(" No.", logprob=-3.0) if failed else hypothesis(" Yes.")
            return super()._answer(item)

    batcher = Batcher("failing", lambda: Failing({}, None))
    transcriber = scripted_transcriber(service, batcher)
    options = TranscribeOptions("demo", language="en")
    transcriber.transcribe(audio("en_long"), options, Work("scripted", 60))
    batcher.close()
    assert order.count("again") == 1
    assert len(order) > 5
    assert order.index("again") < len(order) - 2, "not behind all other chunks"


CLEAR, UNCLEAR = " He was not an ill disposed man", " He was not an old sposed man"


@pytest.mark.parametrize(
    ("alone", "after_context", "said", "num_heard"),
    [
        ((UNCLEAR, -0.3), (CLEAR, -0.1), CLEAR, 2),
        ((UNCLEAR, -0.3), (CLEAR, -0.4), UNCLEAR, 2),
        ((UNCLEAR, -0.3), ("", -0.1), UNCLEAR, 2),
        ((UNCLEAR, -0.1), (CLEAR, -0.1), UNCLEAR, 1),
    ],
)
def test_what_is_in_doubt_is_heard_again_after_what_was_before(
    service: Service,
    alone: tuple[str, float],
    after_context: tuple[str, float],
    said: str,
    num_heard: int,
) -> None:
    before, seconds = np.zeros(3 * 16_000, np.float32), []

    class Mishearing(Scripted):
        def _answer(self, item: Any) -> Any:
            if not isinstance(item, RecognitionItem):
                return super()._answer(item)
            seconds.append(len(item.samples) / 16_000)
            if len(seconds) == 1:
                return in_words([], *alone)
            return in_words([SpokenWord(" Before.", 0.5, 1.0, 0.9)], *after_context)

    batcher = Batcher("mishearing", lambda: Mishearing({}, None))
    transcriber = scripted_transcriber(service, batcher)
    options = TranscribeOptions("demo", language="en", left_context=(before,))
    transcript = transcriber.transcribe(audio("en_short"), options, Work("scripted", 60))
    batcher.close()
    assert [segment.text for segment in transcript.segments] == [said]
    assert len(seconds) == num_heard
    if num_heard > 1:
        assert seconds[1] >= 3.0 + seconds[0]


def in_words(before: list[SpokenWord], text: str, logprob: float) -> Hypothesis:
    """The text at the time of the speech, after three seconds of other sound if there is any."""
    since_s = 3.6 if before else 0.6
    words = [*before]
    for i, word in enumerate(text.split()):
        words.append(SpokenWord(f" {word}", since_s + 0.3 * i, since_s + 0.3 * i + 0.3, 0.9))
    texts = [word.text for word in words]
    return replace(
        hypothesis("".join(texts), logprob),
        tokens=tuple(range(len(texts))),
        token_ends=tuple(sum(map(len, texts[: i + 1])) for i in range(len(texts))),
        words=tuple(words),
    )


def test_known_speakers_must_be_alike_enough(service: Service) -> None:
    real = service.transcriber
    turn = next(t for t in truth_of("en_two")["turns"] if t["end"] - t["start"] >= 2)
    samples = samples_of(audio_of("en_two"))
    clip = samples[int(turn["start"] * 16_000) : int(turn["end"] * 16_000)]
    known = KnownSpeaker("Anna", Audio(clip))
    found = []
    for least in (real._options.known_speaker_similarity, 1.0):
        transcriber = Transcriber(
            service.models.store,
            service.catalog,
            ThreadPoolExecutor(1),
            replace(real._options, known_speaker_similarity=least),
        )
        options = TranscribeOptions("demo", diarize=True, known_speakers=(known,))
        transcript = transcriber.transcribe(audio("en_two"), options, Work("core", 60))
        found.append({segment.speaker for segment in transcript.segments})
    assert "Anna" in found[0]
    assert found[1] == {"SPEAKER_00", "SPEAKER_01"}


def test_when_all_temperatures_fail_the_best_is_kept(service: Service) -> None:
    text = " Of all that was heard, this is the least bad."
    model, transcript = run_scripted(service, {0.6: hypothesis(text, logprob=-1.2)})
    assert model.tried == list(WHISPER_THRESHOLDS.temperatures)
    assert [s.text for s in transcript.segments] == [text]


def test_alignment_that_breaks_costs_nobody_the_transcript(service: Service) -> None:
    fine = {0.0: hypothesis(" It is fine.")}
    for error in (ValueError("/secret"), None):
        _, transcript = run_scripted(service, fine, error)
        [segment] = transcript.segments
        assert segment.text == " It is fine."
        assert [w.text for w in segment.words or ()] == ["It", "is", "fine."]
        assert all(w.start_s is None for w in segment.words or ())
        assert transcript.warnings == (TranscriptWarning.ALIGNMENT_FAILED,)


def test_strict_stages_make_it_an_error(service: Service) -> None:
    with pytest.raises(StageFailed):
        run_scripted(
            service, {0.0: hypothesis(" It is fine.")}, ValueError("broken"), strict_stages=True
        )
