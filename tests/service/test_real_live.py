"""Live streams with real Whisper: nothing is invented, and no word is lost where speech is cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.domain.transcript import SAMPLE_RATE, Samples
from app.models.silero import FRAME_SAMPLES, StreamingVad
from benchmarks.audio import read_samples
from benchmarks.material.nothing import quiet_recordings
from benchmarks.material.recording import Recording, read_pack
from benchmarks.material.synthesis import SHIPPED, SHIPPED_SEED
from benchmarks.scoring import add_up, count_errors
from benchmarks.utterances import utterances_of
from tests.support.paths import ROOT
from tests.support.real_models import SOURCES
from tests.support.server import Server, running_server
from tests.support.streams import Stream, event, stream
from tests.support.truth import DATA
from tests.support.waiting import eventually

REAL = DATA / "real"
READ = [f"austen-{number}" for number in ("0870", "0880", "0890", "0920", "0930")]
SOUNDS = ("white-35", "pink-25", "hum50", "typing", "chords", "melody")  # 5 s of each
MISHEARD_ALONE = ("sentences-010-en-us", "sentences-041-en-us")
PATIENCE_S = 600.0  # real models are slow on a busy machine
PAUSE = np.zeros(2 * SAMPLE_RATE, np.float32)


def truth(name: str) -> str:
    return str(json.loads((REAL / f"{name}.json").read_text())["text"])


def finals(client: Stream) -> list[dict[str, Any]]:
    return client.all(event("final"))


def text_of(told: list[dict[str, Any]]) -> str:
    return " ".join(final["text"] for final in told)


def listened(server: Server, samples: Samples, **config: Any) -> Stream:
    """A stream that has heard it all."""
    with stream(server, events=True, **config) as client:
        client.say(samples, SAMPLE_RATE)
        client.end(PATIENCE_S)
        return client


def noises() -> Samples:
    """Machines, music, a crowd that claps, and somebody who breathes."""
    known = {r.name.removeprefix("nothing-"): r.samples for r in quiet_recordings(SHIPPED_SEED)}
    chance, times = np.random.default_rng(4), np.arange(8 * SAMPLE_RATE) / SAMPLE_RATE
    hiss = chance.standard_normal(len(times))
    claps = np.zeros(len(times))
    for at in chance.integers(0, len(times) - 800, 400):
        claps[at : at + 800] += 0.1 * chance.standard_normal(800) * np.exp(-np.arange(800) / 150)
    breath = 0.02 * hiss * np.maximum(0, np.sin(2 * np.pi * 0.3 * times))
    sounds = [known[name][: 5 * SAMPLE_RATE] for name in SOUNDS]
    return np.concatenate([*sounds, claps, breath]).astype(np.float32)


def without_pauses(samples: Samples) -> Samples:
    """Only what is spoken, and a moment around it."""
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]
    spoken = StreamingVad().track().add(frames) > 0.3
    kept = np.convolve(spoken, np.ones(5), "same") > 0
    return frames.reshape(-1, FRAME_SAMPLES)[kept].reshape(-1)


@pytest.mark.parametrize("model", SOURCES)
def test_two_minutes_of_silence_then_noise_then_speech(
    real_server: Server, real_models: dict[str, Path], model: str
) -> None:
    silence = np.zeros(120 * SAMPLE_RATE, np.float32)
    speech = read_samples(REAL / "austen-0870.flac")
    sound = np.concatenate([silence, noises(), speech])
    client = listened(real_server, sound, model=str(real_models[model]), language="en")
    assert count_errors(truth("austen-0870"), text_of(finals(client))).rate <= 0.05
    assert count_errors(truth("austen-0870"), client.text()).rate <= 0.05
    first = client.words()[0]["start"]
    assert first >= (len(sound) - len(speech)) / SAMPLE_RATE - 0.3


def test_languages_change_between_utterances(real_server: Server) -> None:
    german = next(r for r in read_pack(SHIPPED, "languages") if r.language == "de")
    before, after = (read_samples(REAL / f"{name}.flac") for name in READ[3:])
    sentence = german.samples[: round(5.5 * SAMPLE_RATE)]
    client = listened(real_server, np.concatenate([before, PAUSE, sentence, PAUSE, after]))
    said = {"en": " ".join(map(truth, READ[3:])), "de": german.texts[0].partition(".")[0]}
    for language, most in (("en", 0.1), ("de", 0.3)):
        told = [final for final in finals(client) if final["language"] == language]
        assert count_errors(said[language], text_of(told), language).rate <= most
    assert {final["language"] for final in finals(client)} == {"en", "de"}


def in_time(server: Server, spoken: Recording, **config: Any) -> list[dict[str, Any]]:
    """What is told where nobody is late: each utterance begins once the one before it is told."""
    ends_s = [at_s + len(of) / SAMPLE_RATE for at_s, of in utterances_of(spoken, StreamingVad())]
    sent = 0
    with stream(server, events=True, language="en", **config) as client:
        for number, end_s in enumerate(ends_s, 1):
            until = round((end_s + 0.35) * SAMPLE_RATE)  # its silence is noticed by then
            client.say(spoken.samples[sent:until], SAMPLE_RATE)
            sent = until
            if number < len(ends_s):
                eventually(lambda number=number: len(finals(client)) >= number, PATIENCE_S)
        client.end(PATIENCE_S)
    told = finals(client)
    assert len(told) == len(ends_s)
    return told


@pytest.fixture
def patient_server(real_models: dict[str, Path], tmp_path: Path) -> Iterator[Server]:
    tiny = str(real_models["tiny.en"])
    settings = {"ASR_MODEL": tiny, "PRELOAD_MODEL": tiny, "ALLOWED_MODELS": tiny, "JOBS": "false"}
    script = ROOT / "tests" / "support" / "patient_server.py"
    with running_server(tmp_path, script=script, **settings) as running:
        yield running


def test_what_is_misheard_alone_is_heard_after_what_was_before(patient_server: Server) -> None:
    """How many words are wrong depends on the processor: alone 12 to 15, after sound 4 to 7."""
    alone, after = [], []
    for spoken in read_pack(SHIPPED, "sentences"):
        if spoken.name in MISHEARD_ALONE:
            for errors, use_context in ((alone, False), (after, True)):
                told = in_time(patient_server, spoken, use_context=use_context)
                errors.append(count_errors(spoken.texts[0], text_of(told)))
                assert len({final["text"] for final in told}) == len(told)  # not the context again
    assert add_up(after).rate < 0.7 * add_up(alone).rate


def test_speech_that_never_pauses_is_cut_between_words(
    real_server: Server, real_models: dict[str, Path]
) -> None:
    names = [*READ, "jfk"]
    files = [REAL / f"{name}.flac" for name in names]
    sound = np.concatenate([without_pauses(read_samples(file)) for file in files])
    assert len(sound) > 30 * SAMPLE_RATE
    client = listened(real_server, sound, model=str(real_models["tiny.en"]), language="en")
    told = finals(client)
    assert any(a["end"] == b["start"] for a, b in pairwise(told))  # a cut
    errors = count_errors(" ".join(map(truth, names)), text_of(told))
    assert errors.lost <= 2
    assert errors.added <= 2
    assert errors.rate <= 0.1
