"""The benchmark harness runs: tiny lengths, demo models, and the geometry that it builds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import WhisperModel

from app.domain.options import DecodingOptions
from app.domain.transcript import Hypothesis
from app.models.protocols import DetectionItem, RecognitionItem
from app.models.recognizers.whisper import WhisperRecognizer
from app.models.silero import StreamingVad
from app.pipeline.hypotheses import Judge
from benchmarks import utterances, words
from benchmarks.__main__ import main
from benchmarks.audio import LONGEST, clips, duration_s, read_samples
from benchmarks.material.synthesis import SHIPPED_SEED
from benchmarks.random_whisper import GEOMETRIES, Geometry, write_whisper
from benchmarks.results import Figure
from benchmarks.scoring import Errors, add_up, count_errors, least_errors
from benchmarks.words import material
from tests.support.paths import DEMO

SPEECH = read_samples(LONGEST)[: 28 * 16_000]


@pytest.fixture
def environment() -> Iterator[None]:
    """A run writes its settings into the environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("environment")
def test_stages_run_and_both_sides_agree(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    arguments = ["--models", "demo", "--minutes", "0.1", "--repeats", "1", "--out", str(out)]
    assert main([*arguments, "--only", "stages", "--stages", "recognition,diarization"]) == 0
    written = json.loads(out.read_text())
    figures = {figure["name"].split()[0]: figure for figure in written["figures"]}
    assert set(figures) == {"recognition", "alignment", "diarization"}
    assert all(figure["ratio"] > 0 for figure in figures.values())
    assert "DIFFERENT" not in figures["alignment"]["note"]
    assert "identical" in figures["diarization"]["note"]
    for setting in ("batch_size", "beam_size", "compute_type", "threads", "chunk_s"):
        assert written["ours"][setting] == written["reference"][setting]


def test_random_whisper_says_more_of_longer_speech(tmp_path: Path) -> None:
    write_whisper(Geometry(384, 2, 2, 6), DEMO / "whisper", SPEECH, tmp_path)
    lengths = _tokens(tmp_path)
    assert 50 < lengths[0] < 110
    assert 3 < lengths[1] < 40


def test_random_whisper_of_the_third_vocabulary(tmp_path: Path) -> None:
    largest = GEOMETRIES["large-v3"]
    small = Geometry(384, 2, 2, 6, largest.num_mels, largest.vocabulary)
    write_whisper(small, DEMO / "whisper", SPEECH, tmp_path)
    assert 50 < _tokens(tmp_path)[0] < 110
    tokenizer = WhisperModel(str(tmp_path), device="cpu").hf_tokenizer
    assert tokenizer.token_to_id("<|yue|>") == 50_358
    assert tokenizer.token_to_id("<|notimestamps|>") == 50_364


def _tokens(folder: Path) -> list[int]:
    """Text tokens for 28 s and for 5 s of speech."""
    model = WhisperRecognizer(folder, "cpu", "int8", 1, 2)
    items = [RecognitionItem(s, DecodingOptions("en")) for s in (SPEECH, SPEECH[: 5 * 16_000])]
    hypotheses = [found for found in model.run(items) if isinstance(found, Hypothesis)]
    judge = Judge(model.thresholds)
    assert not any(judge.needs_fallback(hypothesis) for hypothesis in hypotheses)
    guesses = model.run([DetectionItem(SPEECH)])[0]
    assert isinstance(guesses, tuple)
    assert guesses[0].language == "en"
    return [len(hypothesis.tokens) for hypothesis in hypotheses]


def test_clips_have_the_lengths_of_calls() -> None:
    lengths = sorted(duration_s(clip) for clip in clips(4))
    assert lengths == [5.125, 9.375, 13.625, 17.875]


def test_a_ratio_over_one_is_in_our_favour() -> None:
    assert Figure("latency", 2.0, 4.0, bar=1.5).ratio == 2.0
    assert Figure("throughput", 4.0, 2.0, higher_is_better=True).ratio == 2.0
    assert "MISSED" in Figure("alignment", 2.0, 4.0, bar=3.0).verdict
    assert "met" in Figure("overhead", 4.0, None, limit=5.0).verdict


@pytest.mark.usefixtures("environment")
def test_words_of_real_recordings_are_counted_on_all_sides(
    tmp_path: Path, real_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    [speech] = (r for r in material(SHIPPED_SEED) if r.name == "jfk")
    monkeypatch.setattr(words, "material", lambda seed: [speech])
    out = tmp_path / "results.json"
    arguments = ["--only", "words", "--words-kinds", "real", "--out", str(out)]
    assert main([*arguments, "--words-model", str(real_models["tiny.en"])]) == 0
    figures = {figure["name"]: figure for figure in json.loads(out.read_text())["figures"]}
    for path in ("ours with an aligner", "ours without an aligner"):
        lost = figures[f"words lost, real, {path}"]
        assert set(lost["runs"]) >= {path, "faster-whisper", "faster-whisper with VAD"}
        assert lost["ours"] == 0
        assert figures[f"speed, {path}"]["ours"] > 0


@pytest.mark.usefixtures("environment")
def test_utterances_are_heard_alone_and_after_what_was_before(
    tmp_path: Path, real_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    [spoken] = (r for r in material(SHIPPED_SEED) if r.name == "sentences-017-slt")
    found = utterances.utterances_of(spoken, StreamingVad())
    assert len(found) > 3
    assert sum(len(samples) for _, samples in found) > 0.6 * len(spoken.samples)
    monkeypatch.setattr(utterances, "material", lambda seed: [spoken])
    out = tmp_path / "results.json"
    arguments = ["--only", "utterances", "--words-model", str(real_models["tiny.en"])]
    assert main([*arguments, "--out", str(out)]) == 0
    wrong, lost = json.loads(out.read_text())["figures"]
    assert max(wrong["ours"], wrong["reference"]) < 20
    assert lost["ours"] <= lost["limit"]
    assert f"{len(found)} utterances" in wrong["note"]


def test_the_shipped_material_is_whole() -> None:
    recordings = material(SHIPPED_SEED)
    spoken = add_up(count_errors(r.texts[0], "") for r in recordings if r.kind == "sentences")
    assert spoken.lost == spoken.num_words > 800
    assert sum(r.kind == "commands" for r in recordings) == 70
    assert {r.language for r in recordings} == {"en", "es", "de", "fr", "it", "el"}
    for recording in recordings:
        if recording.kind != "nothing":
            assert np.abs(recording.samples).max() > 0.03, recording.name
    assert len({recording.name for recording in recordings}) == len(recordings)


def test_errors_are_counted_after_both_texts_are_written_alike() -> None:
    assert count_errors("Twenty people don't agree.", "20 people do not agree") == Errors(5)
    assert count_errors("a red, cold lake", "A RED lake") == Errors(4, lost=1)
    assert count_errors("a red lake", "a wet lake too") == Errors(3, changed=1, added=1)
    assert count_errors("", "Thank you.") == Errors(0, added=2)
    assert least_errors(["half past six", "6.30"], "6.30.").rate == 0
