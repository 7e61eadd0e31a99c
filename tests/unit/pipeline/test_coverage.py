"""Every second of speech is transcribed, whatever a single decode leaves out. The recognizer is
scripted: real ones do not forget on command. What real ones forget: test_real_whisper.py.
"""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.config.settings import load_settings
from app.domain.errors import Cancelled, StageFailed
from app.domain.options import Task, TranscribeOptions, WordAligner
from app.domain.transcript import (
    SAMPLE_RATE,
    Audio,
    DecodingStats,
    Hypothesis,
    LanguageGuess,
    Segment,
    SpokenWord,
    Transcript,
)
from app.engine.batching import Batcher
from app.engine.work import Work
from app.models.protocols import AlignmentItem, DetectionItem
from app.models.recognizers.whisper_abilities import WHISPER_ABILITIES, WHISPER_THRESHOLDS
from app.pipeline.transcriber import Transcriber
from app.service.build import build_service, close_service
from app.service.service import Service
from tests.support.media import samples_of
from tests.support.scripted import ScriptedStore
from tests.support.truth import audio_of, truth_of
from tests.support.waiting import eventually

WORD_S = 0.4
WORD = " seventh"


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, remembering_models: None
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("coverage")
    settings = {"asr_model": "demo", "cache_dir": folder, "temp_dir": folder / "tmp"}
    built = build_service(load_settings(settings))
    yield built
    close_service(built)


class Forgetful:
    """Says a word every 0.4 s of its sound, but of the first `attention_s` only. `loops`: text of
    more than that goes round in circles; `cuts_off`: it ends for want of tokens; `unsure`: it is
    unlikely. `briefly`: all that happens in brief hearings only.
    """

    languages = frozenset({"en"})
    batch_size = 4
    num_workers = 1
    memory_bytes = 1
    abilities = replace(WHISPER_ABILITIES, word_times=True)
    thresholds = WHISPER_THRESHOLDS
    brief_s = 12.0

    def __init__(
        self,
        attention_s: float,
        loops: bool = False,
        cuts_off: bool = False,
        unsure: bool = False,
        briefly: bool = False,
    ) -> None:
        self.attention_s = attention_s
        self.loops = loops
        self.cuts_off = cuts_off
        self.unsure = unsure
        self.briefly = briefly
        self.heard_s: list[float] = []
        self.brief: list[bool] = []

    def batch_key(self, item: Any) -> str:
        return ""

    def audio_s(self, item: Any) -> float:
        return len(item.samples) / SAMPLE_RATE

    def run(self, items: Sequence[Any]) -> list[Any]:
        return [self._answer(item) for item in items]

    def _answer(self, item: Any) -> Any:
        if isinstance(item, DetectionItem):
            return (LanguageGuess("en", 0.9),)
        if isinstance(item, AlignmentItem):
            return None
        duration_s = len(item.samples) / SAMPLE_RATE
        self.heard_s.append(duration_s)
        self.brief.append(item.options.brief)
        attention_s = self.attention_s if item.options.brief or not self.briefly else duration_s
        starts = np.arange(0, min(duration_s, attention_s) - WORD_S, WORD_S)
        words = tuple(SpokenWord(WORD, float(s), float(s) + WORD_S, 0.9) for s in starts)
        forgot = duration_s > attention_s
        likely = -0.7 if forgot and self.unsure else -0.2
        decoding = DecodingStats(likely, 0.0, 3.0 if forgot and self.loops else 1.0, 0.0)
        text = WORD * len(words)
        ends = tuple(len(WORD) * (i + 1) for i in range(len(words)))
        return Hypothesis(
            "en",
            text,
            tuple(range(len(words))),
            ends,
            decoding,
            words=words,
            is_cut_off=forgot and self.cuts_off,
            guesses=(LanguageGuess("en", 0.9),),
        )

    def close(self) -> None:
        pass


def transcribe(
    service: Service, model: Any, samples: np.ndarray, hurry: bool = False
) -> Transcript:
    batcher = Batcher("scripted", lambda: model)
    store: Any = ScriptedStore(service.models.store, batcher)
    options = replace(service.transcriber._options, word_aligner=WordAligner.WHISPER)
    transcriber = Transcriber(store, service.catalog, ThreadPoolExecutor(1), options)
    try:
        asked = TranscribeOptions("demo", language="en", hurry=hurry)
        return transcriber.transcribe(Audio(samples), asked, Work("coverage", 60))
    finally:
        batcher.close()


def spoken_s(transcript: Transcript) -> float:
    return sum(len(segment.words or ()) for segment in transcript.segments) * WORD_S


@pytest.mark.parametrize(
    ("attention_s", "faults"),
    [(1.0, {}), (1.0, {"loops": True}), (2.5, {"cuts_off": True}), (2.5, {"unsure": True})],
    ids=["forgets", "loops", "is cut off", "is unsure"],
)
def test_a_brief_hearing_that_leaves_a_doubt_is_followed_by_a_whole_one(
    service: Service, attention_s: float, faults: dict[str, bool]
) -> None:
    samples = samples_of(audio_of("en_short"))
    everything = transcribe(service, Forgetful(1e9), samples)
    hasty = Forgetful(attention_s, briefly=True, **faults)
    transcript = transcribe(service, hasty, samples, hurry=True)
    assert hasty.brief == [True, False]
    assert spoken_s(transcript) == spoken_s(everything) > 2.5


def test_only_in_a_hurry_a_short_chunk_is_heard_briefly(service: Service) -> None:
    samples = samples_of(audio_of("en_short"))
    hasty, patient = Forgetful(1e9), Forgetful(1e9)
    transcribe(service, hasty, samples, hurry=True)
    assert hasty.brief == [True]
    transcribe(service, patient, samples)
    assert patient.brief == [False]
    long = Forgetful(1e9)
    transcribe(service, long, samples_of(audio_of("en_long")), hurry=True)
    assert max(long.heard_s) > long.brief_s
    heard = zip(long.heard_s, long.brief, strict=True)
    assert all(brief == (heard_s <= long.brief_s) for heard_s, brief in heard)


@pytest.mark.parametrize(
    "faults", [{}, {"loops": True}, {"cuts_off": True}], ids=["forgets", "loops", "is cut off"]
)
def test_what_one_decode_leaves_out_is_decoded_again(
    service: Service, faults: dict[str, bool]
) -> None:
    samples = samples_of(audio_of("en_long"))
    everything = transcribe(service, Forgetful(1e9), samples)
    forgetful = Forgetful(8.0, **faults)
    transcript = transcribe(service, forgetful, samples)
    assert spoken_s(transcript) > 0.9 * spoken_s(everything)
    starts = [word.start_s for segment in transcript.segments for word in segment.words or ()]
    assert starts == sorted(starts), "halves stay in order"
    assert len(forgetful.heard_s) <= 4 * len(samples) / SAMPLE_RATE / forgetful.attention_s


def test_a_chunk_that_is_whole_is_decoded_once(service: Service) -> None:
    samples = samples_of(audio_of("en_two"))
    model = Forgetful(1e9)
    transcript = transcribe(service, model, samples)
    assert sum(model.heard_s) <= len(samples) / SAMPLE_RATE + 0.1
    assert transcript.segments


def test_a_noise_that_is_no_speech_ends_the_division(service: Service) -> None:
    """Whoever hears nothing is asked a few times, not for ever; and its words are not invented."""
    samples = samples_of(audio_of("en_two"))
    deaf = Forgetful(0.0)
    assert transcribe(service, deaf, samples).segments == ()
    assert sum(deaf.heard_s) < 6 * len(samples) / SAMPLE_RATE


def test_a_recording_leaves_memory_with_its_request(service: Service) -> None:
    """Also where its chunks were divided; no collector of cycles need come by."""
    samples = samples_of(audio_of("en_long")).copy()
    gone = weakref.ref(samples)
    gc.collect()
    gc.disable()
    try:
        assert transcribe(service, Forgetful(8.0), samples).segments
        del samples
        eventually(lambda: gone() is None)
    finally:
        gc.enable()


def test_a_half_that_fails_fails_the_request_and_the_next_one_works(service: Service) -> None:
    class Breaking(Forgetful):
        def _answer(self, item: Any) -> Any:
            if len(self.heard_s) == 2:
                self.heard_s.append(0.0)
                raise ValueError("broken")
            return super()._answer(item)

    samples = samples_of(audio_of("en_two"))
    batcher = Batcher("breaking", lambda: Breaking(5.0))
    store: Any = ScriptedStore(service.models.store, batcher)
    options = replace(service.transcriber._options, word_aligner=WordAligner.WHISPER)
    transcriber = Transcriber(store, service.catalog, ThreadPoolExecutor(1), options)
    asked = TranscribeOptions("demo", language="en")
    with pytest.raises(StageFailed):
        transcriber.transcribe(Audio(samples), asked, Work("first", 60))
    assert transcriber.transcribe(Audio(samples), asked, Work("second", 60)).segments
    batcher.close()


# -- where the times of words come from ------------------------------------------------------------


def with_aligner(service: Service, chosen: WordAligner, **asked: Any) -> Transcript:
    real = service.transcriber
    options = replace(real._options, word_aligner=chosen)
    transcriber = Transcriber(service.models.store, service.catalog, ThreadPoolExecutor(1), options)
    samples = samples_of(audio_of("es_two"))
    return transcriber.transcribe(
        Audio(samples), TranscribeOptions("demo", language="es", **asked), Work("words", 120)
    )


def words_of(segments: Sequence[Segment]) -> list[Any]:
    return [word for segment in segments for word in segment.words or ()]


@pytest.mark.parametrize("chosen", list(WordAligner))
def test_words_have_times_from_the_aligner_that_is_chosen(
    service: Service, chosen: WordAligner
) -> None:
    transcript = with_aligner(service, chosen)
    truth = truth_of("es_two")["words"]
    words = words_of(transcript.segments)
    assert len(words) == len(truth)
    errors = [abs(word.start_s - w["start"]) for word, w in zip(words, truth, strict=True)]
    approximate = any("approximate" in warning.sentence for warning in transcript.warnings)
    assert approximate is (chosen is WordAligner.WHISPER)
    assert np.median(errors) < (0.25 if approximate else 0.05)


@pytest.mark.parametrize("chosen", list(WordAligner))
def test_words_of_a_translation(service: Service, chosen: WordAligner) -> None:
    transcript = with_aligner(service, chosen, task=Task.TRANSLATE)
    words = words_of(transcript.segments)
    if chosen is WordAligner.WAV2VEC2:
        assert not words
        assert len(transcript.segments) > 3, "sentences all the same"
        return
    assert any("approximate" in warning.sentence for warning in transcript.warnings)
    spoken = " ".join(word.text for word in words)
    assert spoken == " ".join("".join(s.text for s in transcript.segments).split())
    starts = [word.start_s for word in words]
    assert starts == sorted(starts)


def test_a_request_that_is_given_up_while_it_waits_its_turn_ends_at_once(service: Service) -> None:
    """None of its chunks ever ran, so no outcome wakes it."""
    started, go_on = threading.Event(), threading.Event()

    class Slow(Forgetful):
        batch_size = 1

        def _answer(self, item: Any) -> Any:
            started.set()
            go_on.wait(30)
            return super()._answer(item)

    samples = samples_of(audio_of("en_two"))
    batcher = Batcher("slow", lambda: Slow(1e9))
    store: Any = ScriptedStore(service.models.store, batcher)
    transcriber = Transcriber(
        store, service.catalog, ThreadPoolExecutor(1), service.transcriber._options
    )
    asked = TranscribeOptions("demo", language="en")
    first, second = Work("first", 60), Work("second", 60)
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(transcriber.transcribe, Audio(samples), asked, first)
        assert started.wait(30)
        waiting = threads.submit(transcriber.transcribe, Audio(samples), asked, second)
        eventually(lambda: second._open)
        time.sleep(0.5)  # its speech is found, its chunks are queued
        second.cancel()
        with pytest.raises(Cancelled):
            waiting.result(timeout=60)
        go_on.set()
        assert running.result(timeout=60).segments
    batcher.close()
