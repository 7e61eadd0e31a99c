"""Which language a recording is in: arithmetic over guesses."""

from __future__ import annotations

from itertools import pairwise

import pytest

from app.domain.transcript import Chunk, LanguageGuess, SpeechRegion
from app.pipeline.spoken_language import (
    MAX_PROBES,
    PROBE_S,
    LanguageVote,
    follow_languages,
    probe_starts,
    spread,
)


def chunk(start_s: float, speech_s: float) -> Chunk:
    region = SpeechRegion(start_s, start_s + speech_s)
    return Chunk(region.start_s, region.end_s, (region,))


def guesses(**probabilities: float) -> tuple[LanguageGuess, ...]:
    found = [LanguageGuess(code, p) for code, p in probabilities.items()]
    return tuple(sorted(found, key=lambda guess: -guess.probability))


def test_a_murmur_is_outvoted() -> None:
    vote = LanguageVote()
    vote.add(guesses(en=0.9, fr=0.1), 0.3)
    assert vote.best.language == "en"
    assert not vote.is_clear
    vote.add(guesses(fr=0.8, en=0.1), 12.0)
    assert vote.best.language == "fr"
    assert vote.is_clear
    assert vote.best.probability == pytest.approx((0.03 + 9.6) / 12.3)


def test_languages_that_are_evenly_heard_are_not_clear() -> None:
    vote = LanguageVote()
    vote.add(guesses(en=0.9), 20.0)
    vote.add(guesses(de=0.9), 19.0)
    assert vote.best.language == "en"
    assert not vote.is_clear


def test_only_candidates_are_voted_for() -> None:
    vote = LanguageVote(("de", "fr"))
    vote.add(guesses(en=0.9, de=0.02, fr=0.01), 20.0)
    assert vote.best.language == "de"


def test_silence_has_a_language() -> None:
    vote = LanguageVote()
    vote.add(guesses(en=0.4, nn=0.2), 0.0)
    assert vote.best == LanguageGuess("en", pytest.approx(0.4))


def test_chunks_are_spread_over_the_recording() -> None:
    chunks = [chunk(10.0 * i, 4.0) for i in range(20)]
    chunks[13] = chunk(130.0, 9.0)
    chosen = spread(chunks)
    assert chosen[0] == 0
    assert chosen[-1] == 19
    assert 13 in chosen, "the longest"
    assert len(chosen) <= 5
    assert spread(chunks[:3]) == [0, 1, 2]


def test_probes_lie_inside_the_recording_and_apart() -> None:
    starts = probe_starts(3600.0)
    assert len(starts) == MAX_PROBES
    assert all(0 <= start_s <= 3600 - PROBE_S for start_s in starts)
    ordered = sorted(starts)
    assert all(b - a > PROBE_S for a, b in pairwise(ordered))


def test_a_word_or_two_do_not_change_the_language() -> None:
    parts = [chunk(0, 5.0), chunk(6, 0.8), chunk(8, 5.0)]
    found = [guesses(en=0.9, de=0.02), guesses(de=0.7, en=0.2), guesses(en=0.8, de=0.1)]
    assert follow_languages(parts, found) == ["en", "en", "en"]


def test_languages_change_where_people_change_them() -> None:
    parts = [chunk(6.0 * i, 5.0) for i in range(6)]
    english, german = guesses(en=0.95, de=0.01), guesses(de=0.9, en=0.02)
    doubtful = guesses(cy=0.3, en=0.2, de=0.2)
    found = [english, english, doubtful, german, german, german]
    followed = follow_languages(parts, found)
    assert followed[:2] == ["en", "en"]
    assert followed[3:] == ["de", "de", "de"]
    assert followed[2] in ("en", "de")
