"""Endpointer and Sound: where utterances begin and end, and that no sample is lost or doubled."""

from __future__ import annotations

import numpy as np
import pytest

from app.audio.stream import Encoding
from app.domain.transcript import SAMPLE_RATE
from app.live.endpointing import FRAME_S, Ended, Endpointer, EndpointOptions, Mark, Started
from app.live.options import LiveOptions
from app.live.sound import Sound

SPEECH, SILENCE = 0.95, 0.02


def marks_of(probabilities: list[float], **options: float) -> list[Mark]:
    endpointer = Endpointer(EndpointOptions(**options))
    found = [mark for p in probabilities for mark in endpointer.feed(p)]
    return [*found, *endpointer.finish()]


def frames(seconds: float, probability: float) -> list[float]:
    return [probability] * round(seconds / FRAME_S)


def test_an_utterance_has_its_prefix_and_half_of_the_silence() -> None:
    started, ended = marks_of([*frames(2, SILENCE), *frames(1, SPEECH), *frames(2, SILENCE)])
    assert isinstance(started, Started)
    assert started.at_s == pytest.approx(1.7, abs=0.1)
    assert ended.at_s == pytest.approx(3.25, abs=0.1)


def test_a_pause_begins_with_the_fifth_frame_without_speech() -> None:
    endpointer = Endpointer(EndpointOptions())
    found = []
    for probability in [*[SPEECH] * 10, *[SILENCE] * 6, *[SPEECH] * 2]:
        endpointer.feed(probability)
        found.append(endpointer.paused_at_s)
    assert found[9:] == [None] * 5 + [pytest.approx(15 * FRAME_S)] * 2 + [None] * 2


def test_clicks_are_no_speech() -> None:
    click = [*frames(1, SILENCE), SPEECH, SPEECH, *frames(1, SILENCE)]
    assert marks_of(click * 5) == []


def test_a_short_pause_does_not_end_an_utterance() -> None:
    said = [*frames(1, SPEECH), *frames(0.4, SILENCE), *frames(1, SPEECH), *frames(1, SILENCE)]
    assert len(marks_of(said)) == 2


def test_long_speech_is_cut_at_its_best_pause() -> None:
    said = [*frames(25, SPEECH), *frames(0.2, 0.1), *frames(20, SPEECH)]
    _, cut, again, _ = marks_of(said)
    assert isinstance(cut, Ended)
    assert cut.cut
    assert 25 <= cut.at_s <= 25.2
    assert again.at_s == cut.at_s


def test_long_speech_that_pauses_just_then_ends() -> None:
    said = [*frames(27.7, SPEECH), *frames(3, SILENCE), *frames(1, SPEECH)]
    first, ended, _, _ = marks_of(said)
    assert isinstance(ended, Ended)
    assert not ended.cut
    assert ended.at_s > first.at_s


@pytest.mark.parametrize("longest_s", [1.0, 3.0, 28.0])
@pytest.mark.parametrize("seed", range(8))
def test_utterances_never_overlap(seed: int, longest_s: float) -> None:
    chance = np.random.default_rng(seed)
    levels = chance.choice([0.01, 0.3, 0.45, 0.6, 0.99], 60)
    lengths = chance.integers(1, 90, 60)
    said = [float(p) for p, n in zip(levels, lengths, strict=True) for _ in range(n)]
    found = marks_of(said, longest_s=longest_s)
    assert [isinstance(m, Started) for m in found] == [True, False] * (len(found) // 2)
    times = [mark.at_s for mark in found]
    assert times == sorted(times)
    for start, end in zip(times[::2], times[1::2], strict=True):
        assert 0 < end - start <= longest_s + 0.5


class LevelTrack:
    """Takes loud frames for speech."""

    def add(self, samples: np.ndarray) -> np.ndarray:
        return np.abs(samples.reshape(-1, 512)).max(1)


@pytest.mark.parametrize("seed", range(6))
def test_no_sample_of_speech_is_lost_or_doubled(seed: int) -> None:
    """Pieces of any size, cuts and ends: utterances hold the speech, each sample once."""
    chance = np.random.default_rng(seed)
    loud = np.repeat(chance.choice([0.0, 0.9], 40), chance.integers(4_000, 40_000, 40))
    loud = loud.astype(np.float32)
    options = LiveOptions("m", Encoding.F32, endpoints=EndpointOptions(longest_s=6.0))
    sound, spans, start_s, at = Sound(options, LevelTrack, 100.0), [], 0.0, 0
    while at <= len(loud):
        size = int(chance.integers(1, 30_000))
        found = sound.hear(loud[at : at + size].tobytes())
        at += size
        for mark in [*found, *(sound.finish() if at > len(loud) else [])]:
            if isinstance(mark, Started):
                start_s = mark.at_s
                assert start_s >= sound.tape.start_s
                continue
            span = [round((t - 100.0) * SAMPLE_RATE) for t in (start_s, mark.at_s)]
            assert np.array_equal(sound.tape.between(start_s, mark.at_s), loud[slice(*span)])
            spans.append(span)
            sound.tape.forget(mark.at_s)
        if not sound._speaking:
            sound.forget_silence()
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    missed = loud.copy()
    for start, end in spans:
        missed[start:end] = 0
    assert (missed > 0).sum() <= 4 * 512  # a first word in the middle of which the stream ends


def test_where_clients_end_utterances_silence_before_them_does_not_count() -> None:
    sound = Sound(LiveOptions("m", endpoints=None), LevelTrack, 0.0)
    silence, speech = (np.full(SAMPLE_RATE, level, np.float32).tobytes() for level in (0, 1))
    assert [sound.hear(silence) for _ in range(5)] == [[]] * 5
    [started] = sound.hear(speech)
    assert started.at_s == pytest.approx(3.7, abs=0.1)
    assert [sound.hear(silence) for _ in range(3)] == [[]] * 3
    assert not sound.is_voiced
    assert sound.finish() == [Ended(9.0)]
    assert sound.finish() == []


def test_speech_that_is_not_found_is_transcribed_if_the_client_says_so() -> None:
    sound = Sound(LiveOptions("m", endpoints=None), LevelTrack, 0.0)
    assert sound.hear(b"\0") == []  # not a sample yet
    assert sound.finish() == []
    for end_s in (1.0, 2.0):
        assert sound.hear(np.zeros(SAMPLE_RATE, np.float32).tobytes()) == []
        assert sound.finish() == [Started(end_s - 1), Ended(end_s)]


def test_an_utterance_that_is_too_long_is_not_followed_by_one_of_silence() -> None:
    sound = Sound(LiveOptions("m", endpoints=None), LevelTrack, 0.0)
    sound.hear(np.ones(SAMPLE_RATE, np.float32).tobytes())
    silence = np.zeros(300 * SAMPLE_RATE, np.float32).tobytes()
    marks = [mark for _ in range(3) for mark in sound.hear(silence)]
    assert [type(mark) for mark in marks] == [Ended]


def test_half_a_sample_at_a_commit_belongs_to_the_next_one() -> None:
    sound = Sound(LiveOptions("m"), LevelTrack, 0.0)
    data = np.full(SAMPLE_RATE, 0.25, np.float32).tobytes()
    sound.hear(data[:33])
    sound.finish()
    sound = sound.continued(LiveOptions("m", endpoints=None))
    sound.hear(data[33:])
    assert set(sound.tape.between(0, 2)) == {0.25}
