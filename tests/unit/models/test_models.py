"""The adapters with their real models, held against the libraries that they adapt."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from scipy.cluster import hierarchy

from app.config.environment import prepare_environment
from app.config.settings import DEMO_DIR, Settings
from app.domain.options import SpeakerBounds
from app.domain.transcript import Segment, Word
from app.engine.model import ModelKind
from app.live.echoes import without_echo
from app.pipeline.speakers import assign_speakers
from tests.support.media import samples_of
from tests.support.pipelines import make_vbx_pipeline
from tests.support.remembering import REMEMBERED, Run, remembering_model
from tests.support.telephone import sample_folder
from tests.support.truth import audio_of, normalize, speaker_accuracy, truth_of

SETTINGS = Settings(_env_file=None)  # type: ignore[call-arg]
prepare_environment(SETTINGS)

import nltk  # noqa: E402
import torch  # noqa: E402 - the libraries read the environment when they are imported
import torchaudio  # noqa: E402
import whisperx.alignment  # noqa: E402
from nltk.tokenize.punkt import PunktSentenceTokenizer  # noqa: E402
from pyannote.audio import Inference  # noqa: E402
from pyannote.audio.models.embedding import WeSpeakerResNet34  # noqa: E402
from pyannote.audio.utils.signal import binarize  # noqa: E402
from pyannote.core import SlidingWindow, SlidingWindowFeature  # noqa: E402
from whisperx.audio import N_SAMPLES, log_mel_spectrogram  # noqa: E402

from app.domain.options import DecodingOptions, Task  # noqa: E402
from app.domain.transcript import Hypothesis  # noqa: E402
from app.engine.pauses import pauses  # noqa: E402
from app.models.alignment.aligner import Wav2Vec2Aligner, spell, word_spans  # noqa: E402
from app.models.alignment.wav2vec import Wav2Vec2  # noqa: E402
from app.models.protocols import AlignmentItem, DetectionItem, RecognitionItem  # noqa: E402
from app.models.pyannote.clustering import join_centroids  # noqa: E402
from app.models.pyannote.diarizer import PyannoteDiarizer  # noqa: E402
from app.models.pyannote.linkage import INLINE_ROWS, linkage  # noqa: E402
from app.models.pyannote.pipelines import fold_batch_norms, load_pipeline  # noqa: E402
from app.models.pyannote.vad import PyannoteVad  # noqa: E402
from app.models.pyannote.windows import WindowBatches, choose_batches  # noqa: E402
from app.models.recognizers.features import log_mel  # noqa: E402
from app.models.recognizers.prompts import CONTEXT_TOKENS, MAX_PROMPT_TOKENS, fit_prompt  # noqa: E402
from app.models.recognizers.whisper import WhisperRecognizer  # noqa: E402

RATE = 16_000


@pytest.fixture(scope="module")
def recognizer() -> Iterator[WhisperRecognizer]:
    model = WhisperRecognizer(DEMO_DIR / "whisper", "cpu", "int8", 2, 8)
    yield model
    model.close()


def remembering_run(model: Any, kind: ModelKind, source: str) -> Run:
    """For tests of what becomes of the answers."""
    folder = Path(os.environ[REMEMBERED])
    return remembering_model(model, kind, source, "", SETTINGS, folder)


def run_broken_into(model: Any, items: list[Any], other: Any) -> tuple[list[Any], int]:
    """The outcomes of a batch in every pause of which the model does something else, and how many
    pauses there were."""
    num_pauses = 0

    def break_in() -> None:
        nonlocal num_pauses
        num_pauses += 1
        with pauses(lambda: None):
            model.run([other])

    with pauses(break_in):
        return model.run(items), num_pauses


# -- recognizer ----------------------------------------------------------------------------------


def test_a_pause_changes_no_hypothesis(recognizer: WhisperRecognizer) -> None:
    english, spanish = (
        RecognitionItem(samples_of(audio_of(f"{language}_short")), DecodingOptions(language))
        for language in ("en", "es")
    )
    expected = recognizer.run([english, spanish])
    assert run_broken_into(recognizer, [english, spanish], spanish) == (expected, 1)


def test_features_are_whispers_own() -> None:
    pieces = [samples_of(audio_of(name)) for name in ("en_short", "es_mono")]
    batch = log_mel(pieces, 80, "cpu").numpy()
    for features, piece in zip(batch, pieces, strict=True):
        alone = log_mel_spectrogram(piece, 80, padding=N_SAMPLES - len(piece)).numpy()
        num_frames = -(-len(piece) // 160)
        assert features.shape == (80, 3000)
        np.testing.assert_allclose(features[:, :num_frames], alone[:, :num_frames], atol=1e-4)
        assert not features[:, num_frames:].any(), "the features are padded, not the sound"


def test_languages_and_tasks_share_a_batch(recognizer: WhisperRecognizer) -> None:
    items = [
        RecognitionItem(samples_of(audio_of("en_short")), DecodingOptions("en")),
        RecognitionItem(samples_of(audio_of("es_short")), DecodingOptions("es")),
        RecognitionItem(
            samples_of(audio_of("es_short")), DecodingOptions("es", task=Task.TRANSLATE)
        ),
    ]
    assert len({recognizer.batch_key(item) for item in items}) == 1
    texts = [h.text.strip() for h in recognizer.run(items) if isinstance(h, Hypothesis)]
    spanish = truth_of("es_short")["sentences"]
    assert texts == [
        " ".join(s["text"] for s in truth_of("en_short")["sentences"]),
        " ".join(s["text"] for s in spanish),
        " ".join(s["translation"] for s in spanish),
    ]


def test_an_unknown_language_is_found_within_the_batch(recognizer: WhisperRecognizer) -> None:
    items = [
        RecognitionItem(samples_of(audio_of(name)), DecodingOptions(language))
        for name, language in (("es_short", None), ("en_short", "en"), ("en_short", None))
    ]
    assert len({recognizer.batch_key(item) for item in items}) == 1
    found = [h for h in recognizer.run(items) if isinstance(h, Hypothesis)]
    assert [h.language for h in found] == ["es", "en", "en"]
    assert found[1].text == found[2].text
    [known] = recognizer.run([RecognitionItem(items[0].samples, DecodingOptions("es"))])
    assert found[0].text == known.text
    assert [h.guesses[0].language for h in found] == ["es", "en", "en"]


def test_a_preview_hears_the_same_words(recognizer: WhisperRecognizer) -> None:
    """And detects the language. Its words have times within the sound."""
    samples = [samples_of(audio_of(f"{language}_short")) for language in ("en", "es")]
    whole = recognizer.run([RecognitionItem(s, DecodingOptions(None)) for s in samples])
    brief = recognizer.run([RecognitionItem(s, DecodingOptions(None, brief=True)) for s in samples])
    for expected, found, sound in zip(whole, brief, samples, strict=True):
        assert isinstance(expected, Hypothesis)
        assert isinstance(found, Hypothesis)
        assert (found.language, found.text) == (expected.language, expected.text)
        assert found.words
        assert found.words[-1].end_s <= len(sound) / RATE


def test_a_preview_that_ends_in_a_word_says_no_sentence_twice(
    recognizer: WhisperRecognizer,
) -> None:
    """As this model does by itself."""
    sound = samples_of(audio_of("en_mono"))
    spans = [(4.02, 17.01), (6.49, 17.04), (3.83, 16.99), (7.99, 16.99)]
    items = [
        RecognitionItem(
            sound[round(start_s * RATE) : round(end_s * RATE)],
            DecodingOptions("en", beam_size=1, brief=True),
        )
        for start_s, end_s in spans
    ]
    last = normalize(" ".join(word["word"] for word in truth_of("en_mono")["words"]))[-9:]
    for found in recognizer.run(items):
        assert isinstance(found, Hypothesis)
        words = normalize("".join(word.text for word in without_echo(found.words or ())))
        # the last word is cut off: what becomes of it differs from one kind of CPU to the other
        assert words[-9:-1] == last[:-1]
        assert words.count("raining") == 1


def test_what_cannot_share_a_batch_has_another_key(recognizer: WhisperRecognizer) -> None:
    silence = np.zeros(RATE, np.float32)
    variants = [
        DecodingOptions("en"),
        DecodingOptions("en", temperature=0.2),
        DecodingOptions("en", beam_size=1),
        DecodingOptions("en", brief=True),
        DecodingOptions("en", initial_prompt="Budget"),
        DecodingOptions("en", initial_prompt="Budget and contract"),
    ]
    items = [DetectionItem(silence), *(RecognitionItem(silence, options) for options in variants)]
    keys = [recognizer.batch_key(item) for item in items]
    assert len(set(keys)) == len(items)


def test_tokens_rebuild_the_text_that_they_end_in(recognizer: WhisperRecognizer) -> None:
    [hypothesis] = recognizer.run(
        [RecognitionItem(samples_of(audio_of("es_mono")), DecodingOptions("es"))]
    )
    assert isinstance(hypothesis, Hypothesis)
    part = hypothesis
    assert part.token_ends[-1] == len(part.text)
    assert list(part.token_ends) == sorted(part.token_ends)
    tokenizer = recognizer._tokenizer("es", "transcribe")
    for i in range(1, len(part.tokens)):
        head = tokenizer.decode(list(part.tokens[:i]))
        if "\ufffd" not in head:  # else the token ends inside a character
            assert part.text[: part.token_ends[i - 1]] == head


def test_decoding_figures_are_plausible(recognizer: WhisperRecognizer) -> None:
    [clear] = recognizer.run(
        [RecognitionItem(samples_of(audio_of("en_short")), DecodingOptions("en"))]
    )
    assert isinstance(clear, Hypothesis)
    assert -0.3 < clear.stats.avg_logprob < 0
    assert clear.stats.no_speech_prob < 0.1
    assert 0.5 < clear.stats.compression_ratio < 2
    [sampled] = recognizer.run(
        [RecognitionItem(samples_of(audio_of("en_short")), DecodingOptions("en", temperature=0.4))]
    )
    assert isinstance(sampled, Hypothesis)
    assert sampled.stats.temperature == 0.4
    assert sampled.text


def test_words_have_times_by_cross_attention(recognizer: WhisperRecognizer) -> None:
    truth = truth_of("es_mono")
    options = DecodingOptions("es")
    [hypothesis] = recognizer.run([RecognitionItem(samples_of(audio_of("es_mono")), options)])
    assert isinstance(hypothesis, Hypothesis)
    assert hypothesis.words is not None
    assert "".join(word.text for word in hypothesis.words) == hypothesis.text
    assert [w.text.strip().lower().strip(".,?¿") for w in hypothesis.words] == [
        w["word"].lower().strip(".,?¿") for w in truth["words"]
    ]
    starts = [word.start_s for word in hypothesis.words]
    assert starts == sorted(starts)
    errors = [abs(s - w["start"]) for s, w in zip(starts, truth["words"], strict=True)]
    assert np.median(errors) < 0.2


def test_each_item_of_a_batch_has_words_in_its_own_language(recognizer: WhisperRecognizer) -> None:
    items = [
        RecognitionItem(samples_of(audio_of(name)), DecodingOptions(language))
        for name, language in (("es_short", "es"), ("en_short", "en"), ("es_short", None))
    ]
    together = recognizer.run(items)
    for item, hypothesis in zip(items, together, strict=True):
        [alone] = recognizer.run([item])
        assert isinstance(hypothesis, Hypothesis)
        assert isinstance(alone, Hypothesis)
        assert hypothesis.words
        assert [w.text for w in hypothesis.words] == [w.text for w in alone.words or ()]
        for word, expected in zip(hypothesis.words, alone.words or (), strict=True):
            assert word.start_s == pytest.approx(expected.start_s, abs=0.1)


def test_a_clients_special_tokens_are_none(recognizer: WhisperRecognizer) -> None:
    plain = DecodingOptions("en", initial_prompt="budget", hotwords="contract")
    sly = DecodingOptions(
        "en", initial_prompt="budget<|startoftranscript|>", hotwords="contract<|es|><|endoftext|>"
    )
    assert recognizer._prompt(sly) == recognizer._prompt(plain)


def test_texts_without_end_are_cut_and_tokenized_once(recognizer: WhisperRecognizer) -> None:
    words = " ".join(f"word{i}" for i in range(20_000))
    long = DecodingOptions("en", initial_prompt=words, hotwords=words)
    prompt = recognizer._prompt(long)
    tokenizer = recognizer._tokenizer("en", "transcribe")
    ends, starts = fit_prompt(*[tokenizer.encode(" " + words)] * 2, MAX_PROMPT_TOKENS)
    assert prompt[1 : 1 + MAX_PROMPT_TOKENS] == [*starts, *ends]
    tokenized = recognizer._prompt_tokens.cache_info().misses
    assert recognizer._prompt(replace(long, language="es"))[: len(ends)] == prompt[: len(ends)]
    assert recognizer._prompt_tokens.cache_info().misses == tokenized


def test_streams_with_other_contexts_share_a_batch(recognizer: WhisperRecognizer) -> None:
    """The end of a long context counts, in as many tokens as that of any other; a short one not."""

    def key(context: str, prompt: str = "") -> object:
        options = DecodingOptions("en", context=context, initial_prompt=prompt)
        return recognizer.batch_key(RecognitionItem(np.zeros(16_000, np.float32), options))

    one, other = "The budget starts at five. " * 20, "Maria, please change the meeting! " * 30
    assert key(one) == key(other) != key("")
    assert key("too short") == key("")
    assert key(one, "names") == key(other, "names") != key(one)
    alone = recognizer._prompt(DecodingOptions("en", context=one))
    after = recognizer._prompt(DecodingOptions("en", context=one, initial_prompt=other * 20))
    assert after[1 + MAX_PROMPT_TOKENS - CONTEXT_TOKENS :] == alone[1:]  # it has its place


@pytest.mark.parametrize(
    ("num_prompt", "num_hotwords", "kept"),
    [
        (0, 0, (0, 0)),
        (10, 20, (10, 20)),
        (500, 0, (223, 0)),
        (0, 500, (0, 223)),
        (500, 500, (112, 111)),
        (20, 500, (20, 203)),
        (500, 20, (203, 20)),
    ],
)
def test_prompt_and_hotwords_share_what_there_is(
    num_prompt: int, num_hotwords: int, kept: tuple[int, int]
) -> None:
    prompt, hotwords = list(range(num_prompt)), list(range(1000, 1000 + num_hotwords))
    short_prompt, short_hotwords = fit_prompt(prompt, hotwords, MAX_PROMPT_TOKENS)
    assert (len(short_prompt), len(short_hotwords)) == kept
    assert short_prompt == prompt[len(prompt) - kept[0] :]  # its end
    assert short_hotwords == hotwords[: kept[1]]  # their beginning


# -- aligner -------------------------------------------------------------------------------------


def chunks_of(truth: dict[str, Any]) -> list[Segment]:
    """The truth's sentences in chunks as the recognizer returns them."""
    groups: list[list[dict[str, Any]]] = [[]]
    for sentence in truth["sentences"]:
        if groups[-1] and sentence["end"] - groups[-1][0]["start"] > 28:
            groups.append([])
        groups[-1].append(sentence)
    return [
        Segment(g[0]["start"] - 0.05, g[-1]["end"] + 0.1, "".join(f" {s['text']}" for s in g))
        for g in groups
    ]


@pytest.mark.parametrize("language", ["en", "es"])
def test_word_times_are_those_of_whisperx(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # its own splitter's data would be downloaded; the times of words do not hang on sentences
    monkeypatch.setattr(whisperx.alignment, "nltk_load", lambda _: PunktSentenceTokenizer())
    source = str(DEMO_DIR / "align")
    aligner = Wav2Vec2Aligner(language, source, "cpu", 8, Path("unused"))
    model, metadata = whisperx.alignment.load_align_model(language, "cpu", model_name=source)
    differences: list[float] = []
    for name in ("two_b", "mono"):
        audio = samples_of(audio_of(f"{language}_{name}"))
        segments = chunks_of(truth_of(f"{language}_{name}"))
        items = [
            AlignmentItem(audio[round(s.start_s * RATE) : round(s.end_s * RATE)], s)
            for s in segments
        ]
        sentences = [s for group in aligner.run(items) for s in group or ()]
        ours = [w for s in sentences for w in s.words or ()]
        theirs = whisperx.alignment.align(
            [{"start": s.start_s, "end": s.end_s, "text": s.text} for s in segments],
            model,
            metadata,
            audio,
            "cpu",
        )["word_segments"]
        assert [w.text for w in ours] == [w["word"] for w in theirs]
        assert "".join(s.text for s in sentences) == "".join(s.text for s in segments)
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.start_s is not None
            differences.append(abs(mine.start_s - other["start"]))
    assert np.mean(np.array(differences) <= 0.0205) >= 0.99


def test_a_batch_gives_what_each_segment_gives_alone() -> None:
    aligner = Wav2Vec2Aligner("en", str(DEMO_DIR / "align"), "cpu", 8, Path("unused"))
    audio = samples_of(audio_of("en_two"))
    items = [
        AlignmentItem(audio[round(s.start_s * RATE) : round(s.end_s * RATE)], s)
        for s in chunks_of(truth_of("en_two"))
    ]
    items.append(AlignmentItem(audio[:100], Segment(0, 100 / RATE, " Too short to say this.")))
    together = aligner.run(items)
    assert together == [aligner.run([item])[0] for item in items]
    assert together[-1] is None


def test_a_pause_changes_no_word() -> None:
    aligner = Wav2Vec2Aligner("en", str(DEMO_DIR / "align"), "cpu", 8, Path("unused"))
    audio = samples_of(audio_of("en_two"))
    first, second, *_ = (
        AlignmentItem(audio[round(s.start_s * RATE) : round(s.end_s * RATE)], s)
        for s in chunks_of(truth_of("en_two"))
    )
    expected = aligner.run([first])
    outcome, num_pauses = run_broken_into(aligner, [first], second)
    assert outcome == expected
    assert num_pauses >= 8, "one before each of its layers"


@pytest.mark.parametrize("library", ["transformers", "torchaudio"])
def test_padding_is_not_heard(library: str) -> None:
    """A batch of unequal lengths, as on a GPU, gives what each waveform gives alone."""
    if library == "transformers":
        model, _ = whisperx.alignment.load_align_model(
            "en", "cpu", model_name=str(DEMO_DIR / "align")
        )
    else:
        torch.manual_seed(0)
        model = torchaudio.models.wav2vec2_base(aux_num_out=29)
    network = Wav2Vec2(model, library == "transformers", "cpu")
    audio = samples_of(audio_of("en_two"))
    pieces = [audio[:40_000], audio[80_000:102_345], audio[200_000:203_000], audio[5000:5200]]
    together = network._batch(pieces)
    for emission, piece in zip(together, pieces, strict=True):
        [alone] = network._batch([piece])
        assert emission.shape == alone.shape
        np.testing.assert_allclose(emission, alone, atol=2e-3)


def test_characters_outside_the_alphabet_get_times() -> None:
    aligner = Wav2Vec2Aligner("es", str(DEMO_DIR / "align"), "cpu", 8, Path("unused"))
    audio = samples_of(audio_of("es_short"))
    text = " Hola, 25 % de 東京. ¿(2) sí?"
    [sentences] = aligner.run([AlignmentItem(audio, Segment(0, len(audio) / RATE, text))])
    assert sentences is not None
    words = [w for s in sentences for w in s.words or ()]
    assert [w.text for w in words] == text.split()
    starts = [w.start_s for w in words]
    assert None not in starts
    assert starts == sorted(starts)  # type: ignore[type-var]


def test_sentences_need_no_data_of_nltk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("NLTK's data were asked for")

    for name in ("find", "load", "retrieve"):
        monkeypatch.setattr(nltk.data, name, fail)
    monkeypatch.setattr(nltk, "download", fail)
    monkeypatch.setattr(whisperx.alignment, "nltk_load", fail)
    aligner = Wav2Vec2Aligner("de", str(DEMO_DIR / "align"), "cpu", 8, Path("unused"))
    audio = samples_of(audio_of("es_short"))
    text = " Am 5. Mai kam Dr. Weber. Das war z. B. gut!"
    [sentences] = aligner.run([AlignmentItem(audio, Segment(0, len(audio) / RATE, text))])
    assert sentences is not None
    assert [s.text for s in sentences] == [" Am 5. Mai kam Dr. Weber.", " Das war z. B. gut!"]


def test_spelling() -> None:
    alphabet = {"|": 4, "a": 5, "b": 6}
    spelling = spell("  Ab 7|b. ", alphabet, with_spaces=True)
    assert spelling.labels == (5, 6, 4, -1, 4, 6, -1)
    assert spelling.positions == (2, 3, 4, 5, 6, 7, 8)
    assert spell(" a b ", {"a": 1, "b": 2}, with_spaces=True).labels == (1, 2)
    assert list(word_spans(" a  bc ", 0, 7, with_spaces=True)) == [(1, 2), (4, 6)]
    assert list(word_spans("東 京", 0, 3, with_spaces=False)) == [(0, 1), (2, 3)]
    assert list(word_spans("ที่ นี้", 0, 7, with_spaces=False)) == [(0, 3), (4, 7)]


# -- diarizer ------------------------------------------------------------------------------------

WINDOWS = WindowBatches(segmentation=32, embedding=8)


@pytest.fixture(scope="module", params=["agglomerative", "vbx"])
def pipeline_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    if request.param == "agglomerative":
        return DEMO_DIR / "diarization"
    return make_vbx_pipeline(tmp_path_factory.mktemp("vbx") / "pipeline")


@pytest.fixture(scope="module")
def diarizer(pipeline_folder: Path) -> Iterator[PyannoteDiarizer]:
    model = PyannoteDiarizer(str(pipeline_folder), "cpu", WINDOWS, Path("unused"))
    yield model
    model.close()


@pytest.fixture(scope="module")
def reference(pipeline_folder: Path) -> Any:
    return load_pipeline(str(pipeline_folder), None, Path("unused"))


@pytest.fixture(scope="module")
def telephone() -> Any:
    """A recording of two people, float32."""
    with av.open(str(sample_folder() / "sample.wav")) as container:
        frames = [f.to_ndarray().reshape(-1) for f in container.decode(audio=0)]
    return np.concatenate(frames).astype(np.float32) / 32768


@pytest.fixture(scope="module")
def gappy() -> Any:
    """Speech, silence for two windows, speech, and the padding of the last window."""
    speech = samples_of(audio_of("en_two_b"))[: 8 * RATE]
    whole = np.concatenate([speech, np.zeros(20 * RATE, np.float32), speech, np.zeros(7 * RATE)])
    return whole.astype(np.float32)


def file_of(samples: Any) -> dict[str, Any]:
    """As pyannote takes it."""
    return {"waveform": torch.from_numpy(samples[None]), "sample_rate": RATE}


@pytest.fixture(scope="module")
def heard() -> dict[str, Any]:
    """What pyannote's networks answered. Both pipelines have the same ones, with the same
    parameters: they differ in their clustering.
    """
    return {}


def once(heard: dict[str, Any], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives what the first call under this name gave, whatever it is called with."""

    def call(*given: Any, **options: Any) -> Any:
        if name not in heard:
            heard[name] = function(*given, **options)
        return deepcopy(heard[name])

    return call


def test_turns_are_those_of_the_pipeline(
    diarizer: PyannoteDiarizer,
    reference: Any,
    telephone: Any,
    heard: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks = [diarizer.run([block])[0] for block in diarizer.split(telephone)]
    for name in ("get_segmentations", "get_embeddings"):  # whatever the bounds are
        monkeypatch.setattr(reference, name, once(heard, name, getattr(reference, name)))
    for bounds in ({}, {"num_speakers": 3}, {"max_speakers": 1}):
        ours = diarizer.join(telephone, blocks, SpeakerBounds(**bounds))
        theirs = reference(file_of(telephone), **bounds).speaker_diarization
        end_s = len(telephone) / RATE
        expected = sorted(
            (round(t.start, 3), round(min(t.end, end_s), 3)) for t, _ in theirs.itertracks()
        )
        assert sorted((round(t.start_s, 3), round(t.end_s, 3)) for t in ours.turns) == expected


def test_embeddings_are_those_of_the_pipeline_silent_windows_included(
    diarizer: PyannoteDiarizer, reference: Any, gappy: Any, heard: dict[str, Any]
) -> None:
    found = diarizer.run(diarizer.split(gappy))  # all in one batch
    ours = np.concatenate([block.embeddings for block in found])
    file = file_of(gappy)
    segmentations = once(heard, "segmentations of gaps", reference.get_segmentations)(file)
    binary = binarize(segmentations, onset=reference.segmentation.threshold, initial_state=False)
    theirs = once(heard, "embeddings of gaps", reference.get_embeddings)(
        file, binary, exclude_overlap=reference.embedding_exclude_overlap
    )
    silent = binary.data.sum(axis=(1, 2)) == 0
    assert silent.any()
    assert not silent.all()
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_windows_of_two_recordings_share_a_batch(diarizer: PyannoteDiarizer) -> None:
    blocks = [
        block
        for name in ("en_short", "es_two_b")
        for block in diarizer.split(samples_of(audio_of(name))[: 12 * RATE])
    ]
    for together, block in zip(diarizer.run(blocks), blocks, strict=True):
        [alone] = diarizer.run([block])
        np.testing.assert_allclose(together.activity, alone.activity, atol=1e-4)
        np.testing.assert_allclose(together.embeddings, alone.embeddings, atol=2e-3)


def test_a_pause_changes_no_embedding(diarizer: PyannoteDiarizer) -> None:
    blocks = diarizer.split(samples_of(audio_of("en_two_b"))[: 20 * RATE])
    expected = diarizer.run(blocks[:1])
    outcome, num_pauses = run_broken_into(diarizer, blocks[:1], blocks[-1])
    np.testing.assert_array_equal(outcome[0].activity, expected[0].activity)
    np.testing.assert_array_equal(outcome[0].embeddings, expected[0].embeddings)
    assert num_pauses >= 4


def test_batches_are_as_set_or_as_the_device_likes() -> None:
    assert choose_batches("cuda:1", 0, 0) == WindowBatches(32, 32)
    assert choose_batches("cpu", 0, 3) == WindowBatches(8, 3)
    small = PyannoteDiarizer(
        str(DEMO_DIR / "diarization"), "cpu", WindowBatches(1, 1), Path("unused")
    )
    assert small.batch_size == 1
    speech = samples_of(audio_of("en_short"))
    [found] = small.run(small.split(speech)[:1])
    assert len(found.embeddings) == small.split(speech)[0].num_windows


def test_exclusive_turns_never_overlap(pipeline_folder: Path) -> None:
    """pyannote's own do, wherever min_duration_off fills a gap that another speaker speaks in."""
    params = {"segmentation": {"min_duration_off": 1.0}}
    diarizer = PyannoteDiarizer(
        str(pipeline_folder), "cpu", WINDOWS, Path("unused"), token=None, params=params
    )
    audio = samples_of(audio_of("en_three"))[: 30 * RATE]
    blocks = [diarizer.run([block])[0] for block in diarizer.split(audio)]
    found = diarizer.join(audio, blocks, SpeakerBounds())
    turns = sorted(found.exclusive_turns, key=lambda t: t.start_s)
    assert turns
    for before, after in pairwise(turns):
        assert before.end_s <= after.start_s + 1e-6


@pytest.mark.parametrize("seconds", [0.0001, 0.05, 0.1, 0.5, 1.0, 2.5])
def test_scraps_of_speech_give_no_error_and_no_nan(
    diarizer: PyannoteDiarizer, seconds: float
) -> None:
    speech = samples_of(audio_of("en_two_b"))[RATE : RATE + max(1, round(seconds * RATE))]
    blocks = [diarizer.run([block])[0] for block in diarizer.split(speech)]
    for bounds in ({}, {"num_speakers": 4}, {"min_speakers": 3}):
        found = diarizer.join(speech, blocks, SpeakerBounds(**bounds))
        assert all(np.isfinite(vector).all() for vector in found.embeddings.values())
        assert all(t.end_s <= len(speech) / RATE + 1e-6 for t in found.turns)


def test_clustering_of_many_embeddings_is_scipys() -> None:
    embeddings = np.random.default_rng(0).normal(size=(INLINE_ROWS + 50, 8))
    for method, metric in (("average", "cosine"), ("centroid", "euclidean")):
        expected = hierarchy.linkage(embeddings, method=method, metric=metric)
        np.testing.assert_array_equal(linkage(embeddings, method=method, metric=metric), expected)


def test_a_long_recording_is_clustered_in_parts_with_the_same_speakers() -> None:
    """Three speakers over three minutes in parts of one: the same people from end to end."""
    truth = truth_of("en_long")
    audio = samples_of(audio_of("en_long"))
    source = str(DEMO_DIR / "diarization")
    diarizer = PyannoteDiarizer(source, "cpu", WINDOWS, Path("unused"), part_s=60)
    blocks = remembering_run(diarizer, ModelKind.DIARIZER, source)(diarizer.split(audio))
    for bounds in ({}, {"num_speakers": 3}, {"min_speakers": 2, "max_speakers": 3}):
        found = diarizer.join(audio, blocks, SpeakerBounds(**bounds))
        assert len(found.embeddings) == 3
        spoken = [
            Segment(w["start"], w["end"], w["word"], (Word(w["word"], w["start"], w["end"]),))
            for w in truth["words"]
        ]
        heard = [
            {"word": s.text, "start": s.start_s, "end": s.end_s, "speaker": s.speaker}
            for s in assign_speakers(spoken, found, nearest=True)
        ]
        assert speaker_accuracy(truth["words"], heard) >= 0.97
    assert len(diarizer.join(audio, blocks, SpeakerBounds(num_speakers=2)).embeddings) == 2


def test_joining_centroids() -> None:
    a, b, c = np.eye(3)
    near_a, near_b = a + 0.1 * b, b + 0.2 * c
    part = np.array([0, 0, 1, 1, 2])
    centroids = np.stack([a, b, near_b, c, near_a])
    assert join_centroids(centroids, part, SpeakerBounds()).tolist() in (
        [[0, 1, 1, 2, 0], [1, 0, 0, 2, 1], [2, 1, 1, 0, 2], [0, 2, 2, 1, 0], [1, 2, 2, 0, 1],
         [2, 0, 0, 1, 2]]
    )  # fmt: skip
    assert len(set(join_centroids(centroids, part, SpeakerBounds(num_speakers=2)))) == 2
    assert len(set(join_centroids(centroids, part, SpeakerBounds(min_speakers=4)))) == 4
    # two speakers of one part were told apart already, however near they are
    assert len(set(join_centroids(np.stack([a, near_a]), np.array([0, 0]), SpeakerBounds()))) == 2
    assert join_centroids(np.zeros((2, 3)), np.array([0, 1]), SpeakerBounds()).max() <= 1


def test_folded_batch_norms_give_the_same_embeddings() -> None:
    torch.manual_seed(0)
    model = WeSpeakerResNet34().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training, not as after birth
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    waveforms = torch.from_numpy(samples_of(audio_of("en_short"))[None, None, :32_000].copy())
    masks = torch.ones(1, 2, 100)
    masks[0, 1, 50:] = 0
    with torch.inference_mode():
        before = model(waveforms, weights=masks)
        fold_batch_norms(model)
        after = model(waveforms, weights=masks)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.resnet.layer1.modules())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


# -- speech detection ----------------------------------------------------------------------------


def test_scores_that_come_in_blocks_are_those_of_pyannote() -> None:
    samples = samples_of(audio_of("en_long"))
    vad = PyannoteVad("cpu", 0.5, 0.363, 8)
    blocks = remembering_run(vad, ModelKind.VAD, "bundled")(vad.split(samples))
    aggregated = Inference.aggregate(
        SlidingWindowFeature(
            np.concatenate(blocks),
            SlidingWindow(start=0.0, duration=vad._window_s, step=vad._step_s),
        ),
        vad._frames,
        hamming=True,
        missing=0.0,
    )
    track = vad.track(samples)
    for block in blocks:
        known = track.add(block, last=block is blocks[-1])
        num_known = len(known.scores)
        np.testing.assert_allclose(known.scores, aggregated.data[:num_known, 0], atol=1e-6)
    assert abs(num_known * known.step_s - len(samples) / 16_000) < 0.1
    assert known.first_s == aggregated.sliding_window[0].middle
    vad.close()


def test_windows_without_sound_are_computed_once() -> None:
    """Gaps between timestamps are not work: a few kilobytes claim hours of them."""
    speech = samples_of(audio_of("en_two_b"))[: 12 * RATE]
    gappy = np.concatenate([speech, np.zeros(60 * RATE, np.float32), speech])
    vad = PyannoteVad("cpu", 0.5, 0.363, 8)
    blocks, infer, num_windows = vad.split(gappy), vad._inference.infer, list[int]()

    def counted(windows: torch.Tensor) -> Any:
        num_windows.append(len(windows))
        return infer(windows)

    vad._inference.infer = counted
    found = np.concatenate(vad.run(blocks))
    assert sum(num_windows) < len(found) * 0.7
    expected = infer(vad._stack(blocks)).max(axis=-1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    vad.close()
