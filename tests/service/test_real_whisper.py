"""Real Whisper on real and on synthetic voices, through HTTP: no word is lost."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.domain.transcript import SAMPLE_RATE, Samples
from benchmarks.audio import read_samples, write_audio
from benchmarks.material.nothing import quiet_recordings
from benchmarks.material.recording import Recording, read_pack
from benchmarks.material.synthesis import SHIPPED, SHIPPED_SEED
from benchmarks.scoring import Errors, add_up, count_errors, least_errors, normalizer
from tests.support.real_models import SOURCES, whisper_folder
from tests.support.server import Server
from tests.support.truth import DATA, matched_words, words_of

REAL, CASES = DATA / "real", DATA / "cases"
READ = [f"austen-{number}" for number in ("0870", "0880", "0890", "0920", "0930")]
PATHS = ("real_server", "aligning_server")
# Of seven sentences of Spanish, a word each. Without VNNI, int8 does not find the first.
TRANSLATED = {"meeting", "village", "morning", "river", "house", "children", "door"}


@pytest.fixture(params=PATHS)
def either_server(request: pytest.FixtureRequest) -> Server:
    """Without an aligner, and with one."""
    running: Server = request.getfixturevalue(request.param)
    return running


def truth_of(name: str) -> dict[str, Any]:
    truth: dict[str, Any] = json.loads((REAL / f"{name}.json").read_text())
    return truth


def transcribed(server: Server, file: Path | bytes, **query: Any) -> dict[str, Any]:
    """The JSON of /asr without speakers, whatever else is asked; asked for once."""
    asked = {"diarize": "false", "language": "en"} | query
    body: dict[str, Any] = json.loads(_answer(server, file, tuple(asked.items())))
    return body


@cache
def _answer(server: Server, file: Path | bytes, asked: tuple[tuple[str, Any], ...]) -> str:
    response = server.post(file, **dict(asked))
    assert response.status_code == 200, response.text
    return response.text


def text_of(body: dict[str, Any]) -> str:
    return " ".join(segment["text"].strip() for segment in body["segments"])


def flac(samples: Samples) -> bytes:
    file = io.BytesIO()
    write_audio(file, samples, "flac", "flac")
    return file.getvalue()


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def shipped(kind: str) -> list[Recording]:
    return read_pack(SHIPPED, kind)


def errors_of(server: Server, recordings: Sequence[Recording]) -> Errors:
    found = []
    for recording in recordings:
        body = transcribed(server, flac(recording.samples), language=recording.language)
        found.append(least_errors(recording.texts, text_of(body), recording.language))
    return add_up(found)


# -- people ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", SOURCES)
def test_a_speech_word_for_word(either_server: Server, model: str) -> None:
    body = transcribed(either_server, REAL / "jfk.flac", model=model)
    assert count_errors(truth_of("jfk")["text"], text_of(body)).rate == 0
    assert body["model"] == model


def test_a_reader_of_old_prose(either_server: Server) -> None:
    errors = [
        count_errors(
            truth_of(name)["text"], text_of(transcribed(either_server, REAL / f"{name}.flac"))
        )
        for name in READ
    ]
    total = add_up(errors)
    assert total.num_words == 71
    assert total.lost <= 1  # the reader's slip, "a more a amiable", is smoothed
    assert total.rate <= 0.06


def test_times_of_words_from_attention(real_server: Server) -> None:
    errors = []
    for name in READ:
        body = transcribed(real_server, REAL / f"{name}.flac")
        heard = words_of(body)
        assert any("approximate" in warning for warning in body["warnings"])
        pairs = matched_words(truth_of(name)["words"], heard)
        errors += [abs(truth["start"] - word["start"]) for truth, word in pairs]
        check_times(body)
    assert len(errors) >= 60
    assert np.median(errors) <= 0.080
    assert np.quantile(errors, 0.9) <= 0.250


def check_times(body: dict[str, Any]) -> None:
    """Words follow each other, inside their segments, and make up the segments' texts."""
    last_start = last_end = 0.0
    assert body["segments"]
    for segment in body["segments"]:
        assert 0 <= segment["start"] <= segment["end"] <= body["duration"]
        for word in segment["words"]:
            assert segment["start"] <= word["start"] <= word["end"] <= segment["end"]
            assert word["start"] >= last_start
            assert word["start"] >= last_end - 0.001
            last_start, last_end = word["start"], word["end"]
        spelled = "".join(word["word"].strip() for word in segment["words"])
        assert spelled == segment["text"].replace(" ", "")


def test_words_of_a_translation_have_times(real_server: Server) -> None:
    recording = next(r for r in shipped("languages") if r.language == "es")
    body = transcribed(real_server, flac(recording.samples), language="es", task="translate")
    check_times(body)
    assert body["language"] == "es"
    english = normalizer("en")(text_of(body)).split()
    assert len(TRANSLATED - set(english)) <= 1
    assert body["word_segments"] == words_of(body)


# -- every second of speech ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("onset_seven_espeak", ("seven",)),
        ("onset_third_gb", ("third",)),
        ("onset_half_past_six_flite", ("half past six", "6.30")),
    ],
)
def test_the_first_sound_of_a_short_clip(
    either_server: Server, name: str, words: tuple[str, ...]
) -> None:
    body = transcribed(either_server, CASES / f"{name}.wav")
    assert least_errors(words, text_of(body)).rate == 0, text_of(body)


def test_short_commands(either_server: Server, real_server: Server) -> None:
    """Half of the chosen ones on each path, as of the sounds below."""
    commands = shipped("commands")[6 * int(either_server is real_server) :: 12]
    errors = [errors_of(either_server, [command]) for command in commands]
    assert sum(error.rate == 0 for error in errors) >= 0.5 * len(commands)
    assert sum(error.lost for error in errors) <= 2


def test_sentences_with_pauses(either_server: Server) -> None:
    errors = errors_of(either_server, shipped("sentences")[:2])
    assert errors.num_words > 75
    assert errors.lost <= 2
    assert errors.added <= 2


def test_a_translation_goes_on_until_the_chunk_ends(real_server: Server) -> None:
    body = transcribed(real_server, CASES / "chunk_tail_lost_translate.ogg", task="translate")
    heard = normalizer("en")(text_of(body))
    assert "check the pump again before winter comes" in heard
    assert "behind the old barn" in heard


def test_more_tokens_than_one_decode_has(real_server: Server) -> None:
    """Few of these words are right with a model so small, but all of the speech has some."""
    body = transcribed(real_server, CASES / "dense_greek_29s.ogg", language="el")
    assert body["segments"][-1]["end"] >= 27.5
    late = [word for word in words_of(body) if word["start"] >= 21.5]
    assert len(late) >= 12
    edges = [0.0, *(t for s in body["segments"] for t in (s["start"], s["end"])), body["duration"]]
    assert max(after - before for before, after in zip(edges[::2], edges[1::2], strict=True)) <= 2


def test_a_line_ends_with_the_speech(real_server: Server) -> None:
    speech = read_samples(REAL / "jfk.flac")
    body = transcribed(real_server, flac(np.concatenate([speech, silence(20), speech])))
    first = [segment for segment in body["segments"] if segment["start"] < 15]
    second = [segment for segment in body["segments"] if segment["start"] >= 15]
    assert count_errors(truth_of("jfk")["text"], text_of({"segments": first})).rate <= 0.05
    assert count_errors(truth_of("jfk")["text"], text_of({"segments": second})).rate <= 0.05
    assert first[-1]["end"] <= 11.7
    assert second[0]["start"] >= 30.5


def later(samples: Samples) -> Samples:
    """Another recording for the models of tests, which remember what they answered."""
    return np.concatenate([silence(0.1), samples])


def test_nothing_is_invented(either_server: Server, real_server: Server) -> None:
    """Some of the sounds on each path: they cost as much as speech. A benchmark has them all.

    What is repetitive is decoded again by sampling, which invents something once in many times: so
    what has a text is asked for again.
    """
    sounds = quiet_recordings(SHIPPED_SEED)[2 * int(either_server is real_server) :: 4]
    invented = {
        recording.name: text
        for recording in sounds
        if text_of(transcribed(either_server, flac(recording.samples)))
        and (text := text_of(transcribed(either_server, flac(later(recording.samples)))))
    }
    assert invented == {}
    body = transcribed(either_server, REAL / "jfk.flac")
    assert count_errors(truth_of("jfk")["text"], text_of(body)).rate == 0


# -- languages -------------------------------------------------------------------------------------


def test_a_murmur_does_not_decide_the_language(real_server: Server) -> None:
    recording = CASES / "hm_40s_then_french.ogg"
    body = transcribed(real_server, recording, language="")
    assert body["language"] == "fr"
    answer = real_server.post(recording, endpoint="/detect-language").json()
    assert answer["language_code"] == "fr"


def test_two_languages_in_one_recording(real_server: Server) -> None:
    german = next(r for r in shipped("languages") if r.language == "de")
    english = read_samples(REAL / "jfk.flac")
    body = transcribed(
        real_server, flac(np.concatenate([english, silence(2), german.samples])), language="multi"
    )
    by_language = {
        language: text_of({"segments": [s for s in body["segments"] if s["language"] == language]})
        for language in ("en", "de")
    }
    assert count_errors(truth_of("jfk")["text"], by_language["en"]).rate <= 0.05
    assert count_errors(german.texts[0], by_language["de"], "de").rate <= 0.3
    assert {segment["language"] for segment in body["segments"]} == {"en", "de"}


# -- the weights -----------------------------------------------------------------------------------


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        SOURCES,
        "tiny.en",
        SOURCES["base"].__class__(
            SOURCES["base"].weights[:1], SOURCES["base"].side_files, SOURCES["base"].sha256
        ),
    )
    with pytest.raises(ValueError, match="not the weights expected"):
        whisper_folder("tiny.en", tmp_path)
    assert list(tmp_path.iterdir()) == []
