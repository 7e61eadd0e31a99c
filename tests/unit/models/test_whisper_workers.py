"""Whisper on a CPU with several cores is called in two threads at the same time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from app.config.settings import DEMO_DIR
from app.domain.options import DecodingOptions
from app.domain.transcript import Hypothesis
from app.engine.batching import Batcher
from app.models.protocols import DetectionItem, LanguageGuesses, RecognitionItem
from app.models.recognizers.whisper import WhisperRecognizer
from tests.support.media import speech

Item = RecognitionItem | DetectionItem
Outcome = Hypothesis | LanguageGuesses
MOST_DIFFERENT = 3  # of 48: what is on the edge may go either way beside others in a batch


def items() -> list[Item]:
    """Of several kinds, so that few share a batch; each sound is encoded more than once."""
    found: list[Item] = []
    for name, language in (("en_mono", "en"), ("es_short", "es")):
        sound = speech(name)
        for start in range(0, len(sound) - 48_000, 24_000):
            chunk = np.ascontiguousarray(sound[start : start + 80_000])
            found.append(DetectionItem(chunk))
            for options in (
                DecodingOptions(language=language, beam_size=2),
                DecodingOptions(language=None, beam_size=1, initial_prompt="A meeting."),
                DecodingOptions(language=language, beam_size=1, brief=True),
            ):
                found.append(RecognitionItem(chunk, options))
    return found[:48]


def heard(threads: int, wanted: Sequence[Item]) -> list[Outcome]:
    batcher: Batcher[Item, Outcome] = Batcher(
        "whisper", lambda: WhisperRecognizer(DEMO_DIR / "whisper", "cpu", "int8", threads, 4)
    )
    try:
        assert batcher.model.num_workers == threads
        futures = [batcher.submit(number % 5, [item])[0] for number, item in enumerate(wanted)]
        return [future.result(300) for future in futures]
    finally:
        batcher.close()


def test_two_workers_hear_what_one_hears() -> None:
    wanted = items()
    differ = [
        (one, two)
        for one, two in zip(heard(1, wanted), heard(2, wanted), strict=True)
        if gist(one) != gist(two)
    ]
    assert len(differ) <= MOST_DIFFERENT, differ


def gist(outcome: Outcome) -> tuple[object, ...]:
    if not isinstance(outcome, Hypothesis):
        return (outcome[0].language,)
    ends = [round(word.end_s, 1) for word in outcome.words or ()]
    return outcome.language, outcome.tokens, ends


def test_clear_speech_is_the_same_word_for_word() -> None:
    sound = speech("en_mono")
    options = DecodingOptions(language="en", beam_size=2)
    wanted: list[Item] = [
        RecognitionItem(np.ascontiguousarray(sound[16_000 * i : 16_000 * (i + 5)]), options)
        for i in range(5)
    ]
    one, two = (
        [outcome for outcome in heard(threads, wanted) if isinstance(outcome, Hypothesis)]
        for threads in (1, 2)
    )
    assert [h.text for h in one] == [h.text for h in two]
    assert len({h.text for h in one}) == 5
    starts = [[word.start_s for h in found for word in h.words or ()] for found in (one, two)]
    assert starts[0] == pytest.approx(starts[1], abs=0.021)
