"""Words, times and speakers through HTTP against what was really said."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.server import Server, heard
from tests.support.truth import (
    audio_of,
    median_start_error_s,
    speaker_accuracy,
    truth_of,
    word_error_rate,
    words_of,
)

CONVERSATIONS = ["en_two", "en_two_b", "en_three", "es_two", "es_two_b", "en_mono", "es_mono"]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversation(server: Server, name: str) -> None:
    truth = truth_of(name)
    body = heard(server, name)
    words = words_of(body)
    assert body["language"] == truth["language"]
    assert abs(body["duration"] - truth["duration"]) < 0.01
    assert word_error_rate((w["word"] for w in truth["words"]), (w["word"] for w in words)) <= 0.02
    assert median_start_error_s(truth["words"], words) <= 0.020
    assert speaker_accuracy(truth["words"], words) >= 0.98
    assert len(body["speakers"]) == len(truth["speakers"])
    assert body["word_segments"] == words
    assert "warnings" not in body


def test_three_minutes_of_three_speakers(server: Server) -> None:
    """Longer than a chunk: chunks, batches and clustering have something to do."""
    truth = truth_of("en_long")
    body = server.post(audio_of("en_long")).json()
    words = words_of(body)
    assert word_error_rate((w["word"] for w in truth["words"]), (w["word"] for w in words)) <= 0.02
    assert median_start_error_s(truth["words"], words) <= 0.020
    assert speaker_accuracy(truth["words"], words) >= 0.98
    starts = [segment["start"] for segment in body["segments"]]
    assert starts == sorted(starts)
    for segment in body["segments"]:
        assert segment["start"] <= segment["words"][0]["start"]
        assert segment["words"][-1]["end"] <= segment["end"] <= truth["duration"]


@pytest.mark.parametrize("name", ["en_two_b", "es_two_b"])
def test_segments_are_the_sentences_that_were_said(server: Server, name: str) -> None:
    truth = truth_of(name)
    body = heard(server, name)
    said = [sentence["text"] for sentence in truth["sentences"]]
    found = [segment["text"].strip() for segment in body["segments"]]
    same = [text for text in found if text in said]
    assert len(same) >= 0.9 * len(said)
    errors = []
    for segment in body["segments"]:
        truly = [s for s in truth["sentences"] if s["text"] == segment["text"].strip()]
        if len(truly) == 1:
            errors.append(abs(segment["start"] - truly[0]["start"]))
            errors.append(abs(segment["end"] - truly[0]["end"]))
    # a single word may be misaligned by half a second, by whisperx too
    assert np.median(errors) <= 0.05
    assert np.quantile(errors, 0.9) <= 0.3


@pytest.mark.parametrize("name", ["es_two_b", "es_mono"])
def test_translation(server: Server, name: str) -> None:
    truth = truth_of(name)
    body = server.post(audio_of(name), task="translate").json()
    translated = " ".join(sentence["translation"] for sentence in truth["sentences"])
    assert (
        word_error_rate(translated, " ".join(segment["text"] for segment in body["segments"]))
        <= 0.02
    )
    assert body["language"] == "es"
    assert any("approximate" in warning for warning in body["warnings"])
    for segment in body["segments"]:
        assert " ".join(word["word"] for word in segment["words"]) == segment["text"].strip()
    # timed by sentence, not by chunk
    assert len(body["segments"]) >= 0.8 * len(truth["sentences"])
    for segment, sentence in zip(body["segments"], truth["sentences"], strict=False):
        assert segment["end"] > segment["start"]
        if len(body["segments"]) == len(truth["sentences"]):
            # by cross-attention, and a pause may count to the word after it
            assert segment["start"] == pytest.approx(sentence["start"], abs=0.8)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_language_detection(server: Server, name: str) -> None:
    answer = server.post(audio_of(name), endpoint="/detect-language").json()
    assert answer["language_code"] == truth_of(name)["language"]
    assert 0.5 < answer["confidence"] <= 1


def test_word_timestamps_off_makes_nothing_coarser(server: Server) -> None:
    with_words = heard(server, "en_two_b")
    without = server.post(audio_of("en_two_b"), word_timestamps="false").json()
    for segment in with_words["segments"]:
        del segment["words"]
    assert without["segments"] == with_words["segments"]
    assert without["word_segments"] == []


def test_prompt_and_hotwords_do_not_spoil_the_words(server: Server) -> None:
    truth = truth_of("en_two_b")
    body = server.post(
        audio_of("en_two_b"),
        initial_prompt="A meeting about the budget and the contract.",
        hotwords="transcript microphone",
        diarize="false",
    ).json()
    assert (
        word_error_rate((w["word"] for w in truth["words"]), (w["word"] for w in words_of(body)))
        <= 0.02
    )


def test_prompt_and_hotwords_at_their_longest(server: Server) -> None:
    """Together they are cut to what fits the decoder: it still has room for the answer."""
    truth = truth_of("en_short")
    response = server.post(
        audio_of("en_short"),
        fields={
            "initial_prompt": "The meeting about the report starts at nine. " * 200,
            "hotwords": "transcript microphone budget " * 300,
            "diarize": "false",
        },
    )
    assert response.status_code == 200
    words = [w["word"] for w in words_of(response.json())]
    assert word_error_rate((w["word"] for w in truth["words"]), words) <= 0.34  # one word of nine
