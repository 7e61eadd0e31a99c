#!/usr/bin/env python3
"""Train a tiny, genuine Whisper model on the synthetic language of `grammar.py`, from nothing, on a CPU.

    python train_whisper.py all --tokens multilingual.tiktoken --work WORK

runs four steps, each also available alone (`synthesise`, `train`, `export`, `evaluate`):

  synthesise  speak random sentences with many synthetic voices; keep mel spectra, word and phoneme times in WORK/corpus
  train       a small Whisper, for --minutes of wall-clock time
  export      widen to Whisper's full vocabulary and write a CTranslate2 model folder
  evaluate    run the folder through whisperx and faster-whisper, on training voices and on voices never trained on

Because the synthesiser knows when every word and phoneme is spoken, training is densely supervised: every encoder
position is told which phoneme (half-way) and which text token (at the end) it hears, and some of the decoder's
attention heads are told where to look. That replaces the hours in which such a model otherwise only learns the
grammar and does not listen. The helpers are dropped at export: what remains is an ordinary Whisper.

`multilingual.tiktoken` is the token table in the `openai-whisper` source package (whisper/assets/).
Nothing pretrained is used. `--start-from FOLDER` goes on with a folder that `export` wrote.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import functools
import itertools
import json
import math
import random
import re
import shutil
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
import torch
import torch.nn.functional as F
from scipy.signal import lfilter
from torch import nn
from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode
from transformers.models.whisper.tokenization_whisper import LANGUAGES as LANGUAGE_NAMES
from whisperx.audio import mel_filters

import conversation
import grammar

HERE = Path(__file__).resolve().parent.parent  # the demo folder, which holds the models
SAMPLE_RATE = conversation.SAMPLE_RATE
MELS, HOP, N_FFT = 80, 160, 400
FRAMES = 3000                       # mel frames in Whisper's 30 s window
POSITIONS = FRAMES // 2             # encoder positions in that window
FULL_VOCABULARY = 51865
LANGUAGES = ["en", "es"]

# the voices that training begins with; the later part of the corpus has all of conversation.TRAIN_*
FIRST_VOICES = {"en": ["m1", "m2", "m3", "m7", "f1", "f2", "f4", "Andrea", "adam", "steph", "john", "max"],
                "es": ["m1", "m2", "m5", "f1", "f2", "f5", "Alicia", "pablo", "mario", "antonio"]}

# ---------------------------------------------------------------------------------------------- corpus


def mel_power(samples: np.ndarray) -> np.ndarray:
    """Mel power spectrogram as Whisper computes it, before the logarithm: float32 [frames, 80]."""
    spectrum = torch.stft(torch.from_numpy(samples), N_FFT, HOP, window=torch.hann_window(N_FFT),
                          pad_mode="constant", return_complex=True)
    return (mel_filters("cpu", MELS) @ spectrum.abs() ** 2).T.numpy()


def log_power(power: np.ndarray) -> np.ndarray:
    return np.log10(np.maximum(power, 1e-10))


class ListeningEspeak(conversation.Espeak):
    """eSpeak that also remembers the phoneme events of the texts it spoke."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: dict[str, list[tuple[int, str]]] = {}

    def _synthesise(self, text: str, *voice) -> np.ndarray:
        audio = super()._synthesise(text, *voice)
        self.heard[text] = [(sample, name) for kind, _, sample, name in self._events
                            if kind == conversation._PHONEME and name]
        return audio


conversation._espeak = functools.cache(ListeningEspeak)


def first_voice(rng: random.Random, language: str) -> conversation.Voice:
    shift = round(rng.uniform(0.92, 1.1), 2)
    if language == "en" and rng.random() < 0.12:
        return conversation.Voice("flite", rng.choice(conversation.TRAIN_FLITE), shift=shift)
    return conversation.Voice("espeak", rng.choice(FIRST_VOICES[language]), pitch=rng.randint(30, 70),
                              pitch_range=rng.randint(40, 60), rate=rng.randint(145, 185), shift=shift,
                              accent=rng.randrange(3))


def any_voice(rng: random.Random, language: str) -> conversation.Voice:
    """Any training voice; half of them with a more unusual vocal tract, and more of flite's few voices, than usual."""
    voice = conversation.random_voice(rng, False, language)
    if rng.random() < 0.5:
        return voice
    if language == "en" and rng.random() < 0.2:
        voice = conversation.Voice("flite", rng.choice(conversation.TRAIN_FLITE))
    return dataclasses.replace(voice, shift=round(rng.uniform(0.8, 1.35), 2))


def synthesise_shard(path: Path, seed: int, first: bool, utterances: int = 1000) -> None:
    """Speak sentences with training voices; save mels, texts and the times of words and phonemes."""
    rng, mels, rows = random.Random(seed), [], []
    while len(rows) < utterances:
        language = LANGUAGES[len(rows) % 2]
        voice = (first_voice if first else any_voice)(rng, language)
        english, spanish = grammar.sentence(rng)
        text = english if language == "en" else spanish
        try:
            spoken = conversation.speak(text, language, voice)
        except ValueError:              # the synthesiser runs two words together: no times
            continue
        phonemes = []
        if voice.engine == "espeak":
            espeak = conversation._espeak()
            phonemes = [(name, sample / espeak.sample_rate / voice.shift) for sample, name in espeak.heard.pop(text)]
            espeak.heard.clear()
        end = min(len(spoken.audio), round((spoken.words[-1].end + 0.12) * SAMPLE_RATE))
        mel = mel_power(spoken.audio[:end])
        mels.append(log_power(mel).astype(np.float16))
        rows.append({"voice": voice.id, "language": language, "en": english, "es": spanish, "frames": len(mel),
                     "words": [(round(w.start, 3), round(w.end, 3)) for w in spoken.words],
                     "phonemes": [(name, round(start, 3)) for name, start in phonemes]})
    np.save(path.with_suffix(".npy"), np.concatenate(mels))
    path.with_suffix(".tmp").write_text(json.dumps(rows, ensure_ascii=False))
    path.with_suffix(".tmp").rename(path.with_suffix(".json"))


def synthesise(folder: Path, first_shards: int, shards: int) -> None:
    """Shards by the first voices, shards by all training voices, and one that only checks the training's progress."""
    folder.mkdir(parents=True, exist_ok=True)
    synthesise_shard(folder / "unseen", 77, True, 160)
    for shard in range(shards):
        started = time.time()
        synthesise_shard(folder / f"shard{shard:03d}", 1000 + shard, shard < first_shards)
        print(f"shard {shard}: {time.time() - started:.0f} s", flush=True)


# ---------------------------------------------------------------------------------------------- tokens


def read_tiktoken(path: Path) -> dict[bytes, int]:
    lines = (line.split() for line in path.read_text().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def bpe_parts(ranks: dict[bytes, int], token: bytes) -> list[bytes]:
    """The two pieces that byte-pair encoding merges last to build `token`."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [(ranks.get(a + b, math.inf), i) for i, (a, b) in enumerate(zip(parts, parts[1:]))]
        i = min(pairs)[1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def special_tokens() -> list[str]:
    """Whisper's special tokens after the text tokens, in id order (the 99-language layout)."""
    return ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in list(LANGUAGE_NAMES)[:99]),
            "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>",
            "<|notimestamps|>", *(f"<|{i * 0.02:.2f}|>" for i in range(POSITIONS + 1))]


def build_tokenizer(tiktoken: Path) -> tokenizers.Tokenizer:
    """Whisper's multilingual tokenizer, from OpenAI's published token table."""
    ranks = read_tiktoken(tiktoken)
    byte_names = bytes_to_unicode()

    def name(token: bytes) -> str:
        return "".join(byte_names[byte] for byte in token)

    merges = [tuple(map(name, bpe_parts(ranks, token))) for token in sorted(ranks, key=ranks.get) if len(token) > 1]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({name(t): rank for t, rank in ranks.items()}, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    # like the published tokenizer, timestamps are ordinary added tokens and the rest are special ones
    specials, first_time = special_tokens(), special_tokens().index("<|0.00|>")
    tokenizer.add_special_tokens([tokenizers.AddedToken(t, normalized=False, special=True) for t in specials[:first_time]])
    tokenizer.add_tokens([tokenizers.AddedToken(t, normalized=False, special=False) for t in specials[first_time:]])
    assert tokenizer.get_vocab_size() == FULL_VOCABULARY, tokenizer.get_vocab_size()
    return tokenizer


class Vocabulary:
    """The few hundred tokens the language needs, numbered compactly for training.

    Layout: text tokens, control tokens, one row for every token never used, then the 1501 timestamps.
    """
    CONTROLS = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{language}|>" for language in LANGUAGES),
                "<|translate|>", "<|transcribe|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]

    def __init__(self, tokenizer: tokenizers.Tokenizer):
        self.tokenizer = tokenizer
        rng, used = random.Random(0), set()
        for _ in range(40000):
            for text in grammar.sentence(rng):
                used.update(tokenizer.encode(" " + text, add_special_tokens=False).ids)
        self.text_ids = sorted(used)
        self.full_ids = self.text_ids + [tokenizer.token_to_id(token) for token in self.CONTROLS]
        self.compact = {full: i for i, full in enumerate(self.full_ids)}
        self.unused = len(self.full_ids)
        self.timestamp = self.unused + 1        # compact id of <|0.00|>
        self.size = self.timestamp + POSITIONS + 1
        self.unused_count = FULL_VOCABULARY - len(self.full_ids) - (POSITIONS + 1)
        self.control = {token.strip("<|>"): self.compact[tokenizer.token_to_id(token)] for token in self.CONTROLS}
        self._cache: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        if text not in self._cache:
            ids = self.tokenizer.encode(" " + text, add_special_tokens=False).ids
            self._cache[text] = [self.compact[i] for i in ids]
        return self._cache[text]

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode([self.text_ids[i] for i in ids if i < len(self.text_ids)]).strip()

    @functools.cache
    def is_mark(self, token: int) -> bool:
        """Whether a text token is punctuation only, which nobody hears."""
        return self.decode([token]) in {".", ",", "?", "¿", ""}

    def align(self, text: str, times: list[tuple[float, float]],
              parts: bool = True) -> tuple[list[int], list[tuple[float, float]]]:
        """The tokens of `text` and a time span for each, from the times of its words (in hundredths of a second).

        The tokens of a word share its time by their letters (`parts`), or each get all of it. A punctuation mark
        gets a short time at the edge of the word it follows, or precedes.
        """
        encoding = self.tokenizer.encode(" " + text, add_special_tokens=False)
        found, spans = conversation.tokens(text), []
        for first, last in ((a - 1, b - 1) for a, b in encoding.offsets):
            at = next((i for i, (a, b, _) in enumerate(found) if max(first, a) < min(last, b)), None)
            if at is None:
                before = [i for i, (_, b, _) in enumerate(found) if b <= last]
                edge = times[before[-1]][1] if before else times[0][0]
                spans.append((edge - 10, edge + 14))
                continue
            (a, b, _), (start, end) = found[at], times[at]
            shares = [(min(max(x, a), b) - a) / (b - a) if parts else y for x, y in ((first, 0), (last, 1))]
            spans.append((start + shares[0] * (end - start), start + shares[1] * (end - start)))
        return [self.compact[i] for i in encoding.ids], spans


def words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split()


# ---------------------------------------------------------------------------------------------- the corpus in memory


@dataclass
class Utterance:
    """One spoken sentence. Times are in mel frames from its start; spans are (first, one past the last)."""
    mel: np.ndarray                     # float16 log10 mel power [frames, 80]
    language: str
    en: str
    es: str
    phonemes: np.ndarray                # label of every frame: int16 [frames]; -100 unknown, 0 silence
    tokens: np.ndarray                  # label of every frame: token + 1; 0 silence
    spoken: list[int]                   # tokens of the sentence as spoken, and the span of each
    spoken_spans: list[tuple[float, float]]
    english: list[int]                  # the same of its English translation, if it is Spanish
    english_spans: list[tuple[float, float]]

    def text(self, language: str) -> str:
        return self.en if language == "en" else self.es


class Translations:
    """Which Spanish word an English word goes with, by how often they occur together (Dice coefficient)."""

    def __init__(self):
        rng, both, english, spanish = random.Random(0), Counter(), Counter(), Counter()
        for _ in range(20000):
            en, es = (set(words(text)) for text in grammar.sentence(rng))
            english.update(en)
            spanish.update(es)
            both.update(itertools.product(en, es))
        self.dice = {(a, b): 2 * n / (english[a] + spanish[b]) for (a, b), n in both.items()}

    def partner(self, word: str, candidates: list[str]) -> int | None:
        """Index of the candidate that `word` translates, or None."""
        scores = [self.dice.get((word, candidate), 0) for candidate in candidates]
        return int(np.argmax(scores)) if max(scores) > 0.3 else None


class Corpus:
    """All synthesised utterances, by language."""

    def __init__(self, folder: Path, vocabulary: Vocabulary, pattern: str = "shard*.json"):
        self.vocabulary, self.translations = vocabulary, Translations()
        self.utterances: dict[str, list[Utterance]] = {language: [] for language in LANGUAGES}
        self.first: dict[str, list[Utterance]] = {language: [] for language in LANGUAGES}     # by the first voices only
        self.phonemes: dict[str, int] = {"": 0}
        for listing in sorted(folder.glob(pattern)):
            mels, start = np.load(listing.with_suffix(".npy")), 0
            for row in json.loads(listing.read_text()):
                utterance = self._utterance(row, mels[start:start + row["frames"]])
                start += row["frames"]
                self.utterances[utterance.language].append(utterance)
                engine, name = row["voice"].split("-")[:2]
                if engine == "flite" or name in FIRST_VOICES[utterance.language]:
                    self.first[utterance.language].append(utterance)

    def _utterance(self, row: dict, mel: np.ndarray) -> Utterance:
        times = [(100 * start, 100 * end) for start, end in row["words"]]
        text = row[row["language"]]
        spoken, spans = self.vocabulary.align(text, times)
        frames, last = np.arange(len(mel)), times[-1][1]
        tokens = np.zeros(len(mel), np.int16)
        for token, (first, end) in zip(spoken, spans):
            if not self.vocabulary.is_mark(token):
                tokens[(frames >= first) & (frames < end)] = token + 1
        phonemes = np.full(len(mel), -100, np.int16)
        for name, start in row["phonemes"]:
            symbol = name.strip("',%=_:;|*")
            label = self.phonemes.setdefault(symbol, len(self.phonemes)) if not name.startswith("_") else 0
            phonemes[frames >= 100 * start] = label
        if row["phonemes"]:
            phonemes[frames >= last + 2] = 0
        english, english_spans = [], []
        if row["language"] == "es":
            listed, spanish = words(row["en"]), words(text)
            aligned = [self.translations.partner(word, spanish) for word in listed]
            whole = (times[0][0], last)
            english, english_spans = self.vocabulary.align(
                row["en"], [times[i] if i is not None and i < len(times) else whole for i in aligned], parts=False)
        return Utterance(mel, row["language"], row["en"], row["es"], phonemes, tokens, spoken, spans, english,
                         english_spans)

    @property
    def size(self) -> int:
        return sum(map(len, self.utterances.values()))

    def texts(self) -> set[str]:
        return {u.text(u.language) for group in self.utterances.values() for u in group}

    def draw(self, rng: random.Random, count: int, wide: float) -> list[Utterance]:
        """`count` utterances in one language; a share `wide` of them by any voice, the others by the first voices."""
        language = rng.choice(LANGUAGES)
        return [rng.choice((self.utterances if rng.random() < wide else self.first)[language]) for _ in range(count)]


# ---------------------------------------------------------------------------------------------- windows


@dataclass
class Placed:
    """An utterance at its place in a window."""
    utterance: Utterance
    power: np.ndarray                   # mel power [frames, 80]
    phonemes: np.ndarray                # labels of its positions
    tokens: np.ndarray
    speed: float                        # frames here per frame of the utterance
    start: int = 0                      # first frame in the window, even
    cut: bool = False                   # whether the window ends before it does

    @property
    def end(self) -> int:
        return self.start + len(self.power)

    def span(self, span: tuple[float, float]) -> tuple[int, int]:
        """A span of the utterance, in encoder positions of the window, a position wider on both sides."""
        first, last = (self.start + self.speed * frame for frame in span)
        return max(0, int(first / 2) - 1), int(last / 2) + 2


@dataclass
class Sequence:
    """What the decoder reads and should answer. A span names the positions to look at for a token; (0, 0): none."""
    inputs: list[int]
    labels: list[int]                   # -100 is not scored
    spans: list[tuple[int, int]]        # of the labels


@dataclass
class Sample:
    features: np.ndarray                # [2 * positions, 80]
    positions: np.ndarray               # which of the 1500 encoder positions are computed
    bias: np.ndarray                    # log of how many positions each of them stands for
    phonemes: np.ndarray                # label of each position
    tokens: np.ndarray
    sequences: list[Sequence]


@dataclass
class Stage:
    """One part of the curriculum, until that share of the training time has passed."""
    until: float
    sentences: list[int]                # choices for the sentences in a window
    budget: int                         # encoder positions per step
    decode: bool = True
    frame_weight: float = 1.0
    guide_weight: float = 0.5
    spread: float = 0.3                 # share of windows scattered over 30 s
    wide: float = 0.0                   # share of utterances by any voice, not the first ones
    rough: float = 0.3                  # how much noise, filtering and warping: 0..1
    timestamps: float = 0.2             # share of transcriptions with timestamps; half of it for translations
    prompts: float = 0.15               # share of sequences after a prompt; twice of it for those with timestamps
    cut: float = 0.0                    # share of full windows whose last sentence goes on after them


class WindowMaker:
    """Lays utterances out in a 30 s window and draws the noise, filtering and task for it."""

    def __init__(self, corpus: Corpus, vocabulary: Vocabulary, seed: int):
        self.corpus, self.vocabulary = corpus, vocabulary
        self.rng, self.random = random.Random(seed), np.random.default_rng(seed)
        self.noises = [self._noise(tilt) for tilt in (0.0, 0.4, 0.7, 1.0)]
        self.warps = [self._warp(ratio) for ratio in np.linspace(0.9, 1.1, 9)]

    def _noise(self, tilt: float) -> np.ndarray:
        spectrum = np.fft.rfft(self.random.standard_normal(FRAMES * HOP))
        spectrum /= np.maximum(np.arange(len(spectrum)), 200.0) ** tilt
        power = mel_power(np.fft.irfft(spectrum).astype(np.float32))[:FRAMES]
        return power / power.mean()

    @staticmethod
    def _warp(ratio: float) -> np.ndarray:
        """Matrix that stretches the mel axis by `ratio` (another vocal-tract length)."""
        source = np.clip(np.arange(MELS) * ratio, 0, MELS - 1)
        low = source.astype(int)
        matrix = np.zeros((MELS, MELS), np.float32)
        matrix[low, np.arange(MELS)] += 1 - (source - low)
        matrix[np.minimum(low + 1, MELS - 1), np.arange(MELS)] += source - low
        return matrix

    def _filter(self, rough: float) -> np.ndarray:
        """A random voice or recording channel: a gentle equaliser."""
        x = np.linspace(0, 1, MELS)
        decibels = self.random.normal(0, 4) * x + self.random.normal(0, 3) * np.cos(np.pi * self.rng.randint(1, 4) * x)
        return (10 ** (rough * decibels / 10)).astype(np.float32)

    def _place(self, utterance: Utterance, rough: float) -> Placed:
        rng, power = self.rng, 10 ** utterance.mel.astype(np.float32)
        rows = np.arange(len(power))
        if rng.random() < 0.6 * rough:          # another speaking rate
            length = max(20, int(len(power) * rng.uniform(0.85, 1.2)))
            rows = np.linspace(0, len(power) - 1, length).round().astype(int)
            power = power[rows]
        if rng.random() < 0.6 * rough:
            power = power @ rng.choice(self.warps)
        if rng.random() < 0.2 * rough:          # a little room: decaying late energy
            decay = rng.uniform(0.6, 0.85)
            power = power + rng.uniform(0.02, 0.15) * lfilter([1], [1, -decay], power, axis=0).astype(np.float32)
        power = power * self._filter(rough) * 10 ** rng.uniform(-0.5, 0.3)
        return Placed(utterance, power.astype(np.float32), utterance.phonemes[rows][::2],
                      utterance.tokens[rows][::2], len(rows) / len(utterance.mel))

    def _layout(self, placed: list[Placed], spread: bool) -> int:
        """Set the start of each utterance; returns the frame where the recording ends."""
        rng = self.rng
        gaps = [rng.uniform(0, 60) if rng.random() < 0.85 else rng.uniform(0, 110)]
        gaps += [rng.uniform(4, 45) if rng.random() < 0.6 else rng.uniform(20, 130) for _ in placed[1:]]
        room = FRAMES - sum(len(p.power) for p in placed)
        gaps = [gap * min(1, room / sum(gaps)) for gap in gaps]     # too much for 30 s: squeeze the pauses
        if spread:
            shares = self.random.dirichlet([0.7] * (len(gaps) + 1)) * (room - sum(gaps))
            gaps = [gap + share for gap, share in zip(gaps, shares)]
        at = 0.0
        for gap, piece in zip(gaps, placed):
            piece.start = int(at + gap) // 2 * 2
            at = piece.end
        # voice detection may end a recording with its last word, 12 frames before the end of the utterance
        return FRAMES if rng.random() < 0.1 else min(FRAMES, int(at + rng.uniform(-12, 60)))

    def window(self, utterances: list[Utterance], stage: Stage) -> tuple[list[Placed], int, np.ndarray]:
        """As many utterances as fit, in place; where the recording ends; and which positions they need."""
        rng, placed, room = self.rng, [], FRAMES
        for utterance in utterances:
            piece = self._place(utterance, stage.rough)
            room -= len(piece.power) + 25
            if room < 0:
                break
            placed.append(piece)
        end = self._layout(placed, rng.random() < stage.spread)
        if room < 0 and placed and rng.random() < stage.cut:        # the next sentence begins, but goes on after 30 s
            piece.start, piece.cut = placed[-1].end + rng.randrange(4, 60, 2), True
            if piece.start < FRAMES - 20 and piece.end > FRAMES + 10:
                placed.append(piece)
                end = FRAMES
        needed = np.zeros(POSITIONS, bool)
        needed[:8] = True
        for piece in placed:
            needed[max(0, piece.start // 2 - rng.randint(3, 12)):piece.end // 2 + rng.randint(3, 12)] = True
        return placed, end, needed

    def render(self, placed: list[Placed], end: int, needed: np.ndarray, count: int, stage: Stage) -> Sample:
        """Compute `count` positions: the needed ones, and a sample of the silent others that stands for all of them."""
        rng, bias = self.rng, np.zeros(POSITIONS, np.float32)
        free, extra = np.flatnonzero(~needed), count - int(needed.sum())
        if extra > 0:
            chosen = self.random.choice(free, extra, replace=False)
            bias[chosen] = math.log(len(free) / extra)
            needed = needed.copy()
            needed[chosen] = True
        canvas = np.zeros((FRAMES, MELS), np.float32)
        phonemes, tokens = np.zeros(POSITIONS, np.int64), np.zeros(POSITIONS, np.int64)
        channel = self._filter(stage.rough) * 10 ** rng.uniform(-2.5, 0.3)
        for piece in placed:
            canvas[piece.start:piece.end] += piece.power[:FRAMES - piece.start] * channel
            at = piece.start // 2
            phonemes[at:at + len(piece.phonemes)] = piece.phonemes[:POSITIONS - at]
            tokens[at:at + len(piece.tokens)] = piece.tokens[:POSITIONS - at]
        canvas[end:] = 0
        keep = np.flatnonzero(needed)
        frames = np.stack([2 * keep, 2 * keep + 1], 1).ravel()
        power, recorded = canvas[frames], (frames < end)[:, None]
        if rng.random() < 0.2 + 0.5 * stage.rough or not placed:
            level = float(power.mean()) * len(frames) / max(1, sum(len(p.power) for p in placed))
            level = level or 10 ** rng.uniform(-6, 1)
            level *= 10 ** -(rng.uniform(1.8, 6) if rng.random() > 0.3 * stage.rough else rng.uniform(0.6, 1.8))
            power += rng.choice(self.noises)[(frames + rng.randrange(FRAMES)) % FRAMES] * (level * recorded)
        elif rng.random() < 0.5:
            power += 1e-7 * self.random.random(power.shape, np.float32) * recorded
        features = log_power(power)
        features = (np.maximum(features, features.max() - 8) + 4) / 4
        if rng.random() < 0.4:                  # faster-whisper pads the finished features with zeros instead
            features[frames >= end] = 0.0
        sequences = self._sequences(placed, stage)
        for sequence in sequences:              # from positions of the window to those computed
            edges = np.searchsorted(keep, np.array(sequence.spans).reshape(-1, 2))
            sequence.spans = [tuple(pair) for pair in edges.tolist()]
        return Sample(features.astype(np.float32), keep, bias[keep], phonemes[keep], tokens[keep], sequences)

    def _sequences(self, placed: list[Placed], stage: Stage) -> list[Sequence]:
        """A transcription, and for Spanish a translation; sometimes with timestamps, sometimes after a prompt."""
        rng = self.rng
        language = placed[0].utterance.language if placed else rng.choice(LANGUAGES)
        tasks = ["transcribe", "translate"] if language == "es" else ["transcribe" if rng.random() < 0.96 else "translate"]
        sequences = []
        for task in tasks:
            timestamps = rng.random() < stage.timestamps * (1 if task == "transcribe" else 0.5)
            prompt = self._prompt(timestamps) if rng.random() < stage.prompts * (2 if timestamps else 1) else None
            sequences.append(self._sequence(placed, language, task, timestamps, prompt))
        return sequences

    def _sequence(self, placed: list[Placed], language: str, task: str, timestamps: bool,
                  prompt: list[int] | None) -> Sequence:
        rng, vocabulary, control = self.rng, self.vocabulary, self.vocabulary.control
        written = "en" if task == "translate" else language
        prefix = [] if prompt is None else [control["startofprev"], *prompt]
        prefix += [control["startoftranscript"], control[language], control[task]]
        labels = [-100] * (len(prefix) - 3) + [control[language if placed else "nospeech"], -100]
        spans = [(0, 0)] * len(labels)
        body: list[tuple[int, tuple[int, int]]] = []
        for piece in placed:
            said = piece.utterance
            tokens, times = said.spoken, said.spoken_spans
            if written != said.language:
                tokens, times = said.english, said.english_spans
            if timestamps:
                first = piece.start // 2
                if not body:                    # decoders cap the first timestamp at 1 s
                    first = min(first, 50)
                body.append((vocabulary.timestamp + first, (max(0, piece.start // 2 - 3), piece.start // 2 + 4)))
            if piece.cut and (timestamps or written != said.language):     # left to the next window
                break
            body += [(token, piece.span(span)) for token, span in zip(tokens, times)
                     if not piece.cut or piece.start + piece.speed * span[1] <= FRAMES]
            if timestamps:
                last = min(piece.end // 2, POSITIONS)
                body.append((vocabulary.timestamp + last, (last - 8, last + 1)))
        if timestamps and not placed:
            body.append((vocabulary.timestamp, (0, 0)))
        if not timestamps:
            prefix.append(control["notimestamps"])
            labels.append(-100)
            spans.append((0, 0))
        last = min(placed[-1].end // 2, POSITIONS) if placed else 0
        body.append((control["endoftext"], (max(0, last - 8), last + 1) if placed else (0, 0)))
        inputs = prefix + [token if token >= vocabulary.unused or rng.random() > 0.03 else
                           rng.randrange(len(vocabulary.text_ids)) for token, _ in body[:-1]]
        return Sequence(inputs, labels + [token for token, _ in body], spans + [span for _, span in body])

    def _prompt(self, timestamps: bool) -> list[int]:
        """Up to 223 tokens that may precede a window: earlier sentences, or any words, known or not.

        faster-whisper puts the text so far before every window but the first, timestamps included.
        """
        rng, vocabulary, tokens, moment = self.rng, self.vocabulary, [], 0
        texts = [u.text(u.language) for u in rng.choices(self.corpus.utterances[rng.choice(LANGUAGES)],
                                                         k=rng.choice([1, 2, 3, 6, 10, 14, 20]))]
        if timestamps and rng.random() < 0.7:
            for text in texts:
                end = moment + rng.randint(40, 140)
                if end > POSITIONS:
                    moment, end = 0, end - moment
                tokens += [vocabulary.timestamp + moment, *vocabulary.encode(text), vocabulary.timestamp + end]
                moment = min(POSITIONS, end + rng.randint(0, 40))
        elif (kind := rng.random()) < 0.4:
            tokens = [token for text in texts for token in vocabulary.encode(text)]
        else:
            listed = [word for text in texts for word in text.split()]
            for word in rng.sample(listed, min(len(listed), rng.choice([1, 2, 4, 8, 40]))):
                tokens += vocabulary.encode(word)
            unknown = rng.random() if kind < 0.8 else 0
            tokens = [vocabulary.unused if rng.random() < unknown else token for token in tokens]
        return tokens[-223:]

    def batch(self, stage: Stage) -> dict[str, torch.Tensor]:
        """Windows of about `stage.budget` encoder positions altogether."""
        sentences = self.rng.choice(stage.sentences)
        count = max(2, round(stage.budget / (50 + 110 * sentences)))
        counts = [0 if self.rng.random() < 0.03 else sentences for _ in range(count)]
        windows = [self.window(self.corpus.draw(self.rng, n, stage.wide), stage) for n in counts]
        positions = min(POSITIONS, max(int(needed.sum()) for _, _, needed in windows) + 24)
        return self.collate([self.render(*window, positions, stage) for window in windows])

    def collate(self, samples: list[Sample]) -> dict[str, torch.Tensor]:
        sequences = [(row, sequence) for row, sample in enumerate(samples) for sequence in sample.sequences]
        longest = max(len(sequence.inputs) for _, sequence in sequences)
        inputs = np.full((len(sequences), longest), self.vocabulary.control["endoftext"], np.int64)
        labels = np.full((len(sequences), longest), -100, np.int64)
        spans = np.zeros((len(sequences), longest, 2), np.int64)
        for i, (_, sequence) in enumerate(sequences):
            inputs[i, :len(sequence.inputs)] = sequence.inputs
            labels[i, :len(sequence.labels)], spans[i, :len(sequence.spans)] = sequence.labels, sequence.spans
        arrays = {name: np.stack([getattr(sample, name) for sample in samples])
                  for name in ("features", "positions", "bias", "phonemes", "tokens")}
        arrays |= {"inputs": inputs, "labels": labels, "spans": spans, "rows": np.array([row for row, _ in sequences])}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


# ---------------------------------------------------------------------------------------------- model


def sinusoids(length: int, width: int) -> torch.Tensor:
    scales = torch.exp(-math.log(10000) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * scales[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Self-attention: causal, or with `bias` [rows, keys] on the keys."""
        q, k, v = (self.split(projection(x)) for projection in (self.q_proj, self.k_proj, self.v_proj))
        mask = None if bias is None else bias[:, None, None, :].expand(-1, 1, q.shape[2], -1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=bias is None)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def across(self, x: torch.Tensor, context: torch.Tensor, bias: torch.Tensor,
               rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention of sequence i to `context[rows[i]]`, and the attention weights."""
        q = self.split(self.q_proj(x)) * (x.shape[-1] // self.heads) ** -0.5
        k, v = (self.split(projection(context))[rows] for projection in (self.k_proj, self.v_proj))
        weights = (q @ k.transpose(2, 3) + bias[rows, None, None, :]).softmax(-1)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2)), weights


class Layer(nn.Module):
    """A pre-norm transformer layer, with the parameter names of transformers' Whisper."""

    def __init__(self, width: int, heads: int, cross: bool):
        super().__init__()
        self.self_attn, self.self_attn_layer_norm = Attention(width, heads), nn.LayerNorm(width)
        if cross:
            self.encoder_attn, self.encoder_attn_layer_norm = Attention(width, heads), nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class Encoder(nn.Module):
    def __init__(self, width: int, heads: int, layers: int):
        super().__init__()
        self.conv1 = nn.Conv1d(MELS, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(Layer(width, heads, cross=False) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, features: torch.Tensor, places: torch.Tensor, bias: torch.Tensor) -> list[torch.Tensor]:
        """The states after each layer, the last one normalised."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(features.transpose(1, 2))))).transpose(1, 2) + places
        states = []
        for layer in self.layers:
            x = layer.feed_forward(x + layer.self_attn(layer.self_attn_layer_norm(x), bias))
            states.append(x)
        return states[:-1] + [self.layer_norm(x)]


class Decoder(nn.Module):
    def __init__(self, width: int, heads: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads, cross=True) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, context: torch.Tensor, bias: torch.Tensor,
                rows: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The output, and each layer's cross-attention weights."""
        attention = []
        for layer in self.layers:
            x = x + layer.self_attn(layer.self_attn_layer_norm(x))
            seen, weights = layer.encoder_attn.across(layer.encoder_attn_layer_norm(x), context, bias, rows)
            x = layer.feed_forward(x + seen)
            attention.append(weights)
        return self.layer_norm(x), attention


PLACE_CHANNELS = 32                 # encoder channels that carry nothing but the position
PLACE_RATES = torch.exp(torch.linspace(0, -math.log(500), PLACE_CHANNELS // 2))    # radians per position


def place_table() -> torch.Tensor:
    """The encoder's position rows, [1501, 32]: sine and cosine at 16 rates."""
    angles = torch.arange(POSITIONS + 1)[:, None] * PLACE_RATES
    return 5 * torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


@torch.no_grad()
def keep_places_pure(encoder: Encoder) -> None:
    """Stop the convolutions and layers from ever writing into the position channels."""
    def erase(gradient: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(gradient[:PLACE_CHANNELS]), gradient[PLACE_CHANNELS:]])
    writers = [encoder.conv2, *(w for layer in encoder.layers for w in (layer.self_attn.out_proj, layer.fc2))]
    for parameter in (p for writer in writers for p in (writer.weight, writer.bias)):
        parameter[:PLACE_CHANNELS] = 0
        parameter.register_hook(erase)


@torch.no_grad()
def look_nearby(attention: Attention, offsets: list[int], gain: float = 0.9) -> None:
    """Start one head per offset as "attend that many positions away".

    Left to itself a small encoder takes hours to find out that speech is local; this saves them.
    """
    size = PLACE_CHANNELS
    for head, offset in enumerate(offsets):
        query, key = torch.zeros(size, attention.q_proj.in_features), torch.zeros(size, attention.q_proj.in_features)
        for sine in range(0, size, 2):
            turn = PLACE_RATES[sine // 2] * offset
            query[sine, sine], query[sine, sine + 1] = turn.cos(), turn.sin()
            query[sine + 1, sine], query[sine + 1, sine + 1] = -turn.sin(), turn.cos()
            key[sine, sine] = key[sine + 1, sine + 1] = 1
        rows = slice(head * size, (head + 1) * size)
        attention.q_proj.weight[rows], attention.k_proj.weight[rows] = gain * query, gain * key
        attention.q_proj.bias[rows] = 0


# which decoder heads are shown where to look: (layer, head) -> at the token just read (-1), or at the next one (0)
GUIDED_HEADS = {(0, 0): -1, (1, 0): -1, (1, 1): 0, (2, 0): 0, (2, 1): 0}


class TinyWhisper(nn.Module):
    """Whisper over the compact vocabulary; `full_state` widens it to the real one."""

    def __init__(self, vocabulary: Vocabulary, width: int = 128, heads: int = 4, encoder_layers: int = 4,
                 decoder_layers: int = 3, phonemes: int = 160):
        super().__init__()
        self.vocabulary, self.width = vocabulary, width
        self.encoder, self.decoder = Encoder(width, heads, encoder_layers), Decoder(width, heads, decoder_layers)
        self.tokens = nn.Parameter(torch.randn(vocabulary.unused + 1, width) * width ** -0.5)
        # a timestamp's row is a linear image of the position it names, so all 1501 are learnt together
        self.times = nn.Linear(PLACE_CHANNELS, width)
        self.decoder_scale = nn.Parameter(torch.tensor(0.2))
        # helpers, dropped at export: the phoneme heard at each position half-way, and the token at the end
        self.phoneme_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, phonemes))
        self.token_head = nn.Linear(width, len(vocabulary.text_ids) + 1)
        self.register_buffer("places", place_table(), persistent=False)
        self.register_buffer("encoder_places", F.pad(self.places, (0, width - PLACE_CHANNELS)), persistent=False)
        self.register_buffer("decoder_places", sinusoids(448, width), persistent=False)
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "fc2.weight")):
                nn.init.normal_(parameter, std=(2 * encoder_layers * parameter.shape[1]) ** -0.5)
        nn.init.normal_(self.times.weight, std=0.01)
        for convolution in (self.encoder.conv1, self.encoder.conv2):
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        for layer, reach in zip(self.encoder.layers, [3, 5, 8, 14]):
            look_nearby(layer.self_attn, [-reach, 0, reach])
        keep_places_pure(self.encoder)

    def encode(self, features: torch.Tensor, positions: torch.Tensor, bias: torch.Tensor) -> list[torch.Tensor]:
        return self.encoder(features, self.encoder_places[positions], bias)

    def embedding(self) -> torch.Tensor:
        return torch.cat([self.tokens, self.times(self.places)])

    def decode(self, inputs: torch.Tensor, encoded: torch.Tensor, bias: torch.Tensor,
               rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """The decoder's output, the table to multiply it with for logits, and its cross-attention weights."""
        table = self.embedding()
        x = F.embedding(inputs, table) + self.decoder_scale * self.decoder_places[:inputs.shape[1]]
        output, attention = self.decoder(x, encoded, bias, rows)
        return output, table, attention

    def logits(self, states: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Over the compact vocabulary; the "unused" entry stands for all the tokens it replaces."""
        bonus = torch.zeros(len(table))
        bonus[self.vocabulary.unused] = math.log(self.vocabulary.unused_count)
        return states @ table.T + bonus

    def loss(self, batch: dict[str, torch.Tensor], stage: Stage) -> tuple[torch.Tensor, list[float]]:
        """Total loss, and its parts: decoder, guided attention, phonemes and tokens of the frames."""
        states = self.encode(batch["features"], batch["positions"], batch["bias"])
        halfway, encoded = states[len(states) // 2 - 1], states[-1]
        phonemes = F.cross_entropy(self.phoneme_head(halfway).flatten(0, 1), batch["phonemes"].flatten(), ignore_index=-100)
        tokens = F.cross_entropy(self.token_head(encoded).flatten(0, 1), batch["tokens"].flatten())
        total = stage.frame_weight * (phonemes + tokens)
        decoder = guided = torch.zeros(())
        if stage.decode:
            output, table, attention = self.decode(batch["inputs"], encoded, batch["bias"], batch["rows"])
            scored = batch["labels"] >= 0
            decoder = F.cross_entropy(self.logits(output[scored], table), batch["labels"][scored])
            guided = self.guidance(attention, batch["spans"])
            total = total + decoder + stage.guide_weight * guided
        return total, [decoder.item(), guided.item(), phonemes.item(), tokens.item()]

    @staticmethod
    def guidance(attention: list[torch.Tensor], spans: torch.Tensor) -> torch.Tensor:
        """How little of the guided heads' attention lies in the spans: mean of -log of the share."""
        index = torch.arange(attention[0].shape[-1])
        inside = ((index >= spans[..., :1]) & (index < spans[..., 1:])).float()
        earlier = F.pad(inside, (0, 0, 1, 0))[:, :-1]
        total, count = torch.zeros(()), 0
        for (layer, head), when in GUIDED_HEADS.items():
            wanted = inside if when == 0 else earlier
            share = (attention[layer][:, head] * wanted).sum(-1)
            asked = wanted.any(-1)
            total = total - share[asked].clamp(min=1e-6).log().sum()
            count += int(asked.sum())
        return total / max(1, count)

    def full_state(self) -> dict[str, torch.Tensor]:
        """State for transformers' WhisperForConditionalGeneration."""
        vocabulary, embedding = self.vocabulary, self.embedding().detach()
        table = embedding[vocabulary.unused].repeat(FULL_VOCABULARY, 1)
        table[vocabulary.full_ids] = embedding[:vocabulary.unused]
        table[FULL_VOCABULARY - POSITIONS - 1:] = embedding[vocabulary.timestamp:]
        state = {f"model.{name}": value for name, value in self.state_dict().items()
                 if name.startswith(("encoder.", "decoder."))}
        state["model.encoder.embed_positions.weight"] = self.encoder_places[:POSITIONS]
        state["model.decoder.embed_positions.weight"] = self.decoder_scale.detach() * self.decoder_places
        state["model.decoder.embed_tokens.weight"] = state["proj_out.weight"] = table
        return state

    @torch.no_grad()
    def greedy(self, features: torch.Tensor, prefixes: list[list[int]], limit: int = 120) -> list[str]:
        """Greedy decoding of full windows, [rows, 3000, 80]."""
        rows, bias = torch.arange(len(features)), torch.zeros(len(features), POSITIONS)
        encoded = self.encode(features, torch.arange(POSITIONS).expand(len(features), -1), bias)[-1]
        ids, done = torch.tensor(prefixes), torch.zeros(len(features), dtype=torch.bool)
        end = self.vocabulary.control["endoftext"]
        for _ in range(limit):
            output, table, _ = self.decode(ids, encoded, bias, rows)
            best = torch.where(done, end, self.logits(output[:, -1], table).argmax(-1))
            ids = torch.cat([ids, best[:, None]], 1)
            done |= best == end
            if done.all():
                break
        return [self.vocabulary.decode(row[len(prefixes[0]):]) for row in ids.tolist()]


# ---------------------------------------------------------------------------------------------- training


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised (Newton-Schulz); for the weight matrices of the layers."""

    def __init__(self, parameters, lr: float, momentum: float = 0.95, weight_decay: float = 0.02):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape: dict[tuple, list] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = []
                for parameter in parameters:
                    velocity = self.state[parameter].setdefault("velocity", torch.zeros_like(parameter))
                    velocity.lerp_(parameter.grad, 1 - group["momentum"])
                    updates.append(parameter.grad.lerp(velocity, group["momentum"]))
                x = torch.stack(updates)
                x = x.transpose(1, 2) if shape[0] > shape[1] else x
                x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
                for _ in range(5):
                    a = x @ x.transpose(1, 2)
                    x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
                x = x.transpose(1, 2) if shape[0] > shape[1] else x
                for parameter, update in zip(parameters, x):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(shape)))


CURRICULUM = [Stage(0.10, [1], 1600, decode=False, wide=0.1, rough=0.15),
              Stage(0.35, [1, 1, 2], 1800, wide=0.2, rough=0.2, timestamps=0.06, prompts=0.05),
              Stage(0.65, [1, 2, 3, 4, 6, 8], 2400, wide=0.4, rough=0.4, timestamps=0.12, prompts=0.1, frame_weight=0.6,
                    guide_weight=0.8),
              Stage(1.01, [1, 2, 4, 6, 8, 10, 12, 14, 15, 15, 15], 3000, wide=0.8, rough=0.5, timestamps=0.4,
                    prompts=0.25, cut=0.4, frame_weight=0.4, guide_weight=0.8)]
# for a model that `load_exported` read: first only the helpers, which start anew
FINE_TUNING = [Stage(0.02, [4], 2400, decode=False, wide=0.8, rough=0.5), CURRICULUM[-1]]


@torch.no_grad()
def progress_check(model: TinyWhisper, maker: WindowMaker, count: int = 10) -> str:
    """Word error rates of greedy decoding at the full 30 s, on windows of the maker's own corpus."""
    stage, report = Stage(1, [1], 0, spread=0.0, rough=0.0, timestamps=0.0, prompts=0.0), []
    control = maker.vocabulary.control
    everywhere = np.ones(POSITIONS, bool)
    for sentences, language, task in ((1, "en", "transcribe"), (1, "es", "transcribe"), (1, "es", "translate"),
                                      (12, "en", "transcribe"), (12, "es", "transcribe")):
        samples, wanted = [], []
        for _ in range(count):
            utterances = maker.rng.choices(maker.corpus.utterances[language], k=sentences)
            placed, end, _ = maker.window(utterances, stage)
            samples.append(maker.render(placed, end, everywhere, POSITIONS, stage).features)
            wanted.append(" ".join(p.utterance.text("en" if task == "translate" else language) for p in placed))
        prefix = [control["startoftranscript"], control[language], control[task], control["notimestamps"]]
        guesses = model.greedy(torch.from_numpy(np.stack(samples)), [prefix] * count, 16 * sentences)
        report.append(f"{language} {task} x{sentences}: {word_error_rate(list(zip(wanted, guesses)))}")
    return "   ".join(report)


def train(work: Path, tokenizer: tokenizers.Tokenizer, minutes: float, seed: int, start_from: Path | None = None,
          check_minutes: float = 6) -> None:
    """Train for `minutes`; WORK/model.pt always holds the latest averaged weights, WORK/state.pt can be resumed."""
    torch.manual_seed(seed)
    vocabulary = Vocabulary(tokenizer)
    corpus = Corpus(work / "corpus", vocabulary)
    maker = WindowMaker(corpus, vocabulary, seed)
    model = load_exported(start_from, vocabulary) if start_from else TinyWhisper(vocabulary)
    curriculum, peak = (FINE_TUNING, 1.5e-3) if start_from else (CURRICULUM, 3e-3)
    known, unseen = corpus.texts(), Corpus(work / "corpus", vocabulary, "unseen*.json")
    for language, group in unseen.utterances.items():
        unseen.utterances[language] = [u for u in group if u.text(language) not in known]
    checker = WindowMaker(unseen, vocabulary, seed)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and ".layers." in name)]
    optimizers = [Muon(matrices, lr=peak), torch.optim.AdamW(others, lr=peak, betas=(0.9, 0.98), weight_decay=0.0)]
    shares = [1.0, 0.5]             # of the learning rate, for the two optimizers
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    step, spent, state_file = 0, 0.0, work / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=False)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        average, step, spent = state["average"], state["step"], state["spent"]
    print(f"{corpus.size} utterances, {len(corpus.phonemes)} phonemes, {vocabulary.unused} tokens in use, "
          f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    started, saved_at, checked_at, sums = time.time() - spent, time.time(), time.time(), np.zeros(7)
    while (progress := (time.time() - started) / (60 * minutes)) < 1:
        stage = next(stage for stage in curriculum if progress < stage.until)
        rate = peak * min(1, (step + 1) / 150) * min(1, max(0.02, (1 - progress) / 0.6))
        for optimizer, share in zip(optimizers, shares):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
        model.encoder.requires_grad_(stage.decode or not start_from)
        clock = time.time()
        batch = maker.batch(stage)
        made = time.time() - clock
        loss, parts = model.loss(batch, stage)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        with torch.no_grad():
            blend = min(0.995, step / (step + 20))
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - blend)
        sums += [*parts, made, time.time() - clock, batch["features"].shape[0] * batch["features"].shape[1] / 100]
        if step % 100 == 0:
            decoder, guided, phonemes, tokens, data, whole, audio = sums / 100
            print(f"step {step} {(time.time() - started) / 60:.1f} min ({progress:.0%})  decoder {decoder:.3f}  "
                  f"guide {guided:.3f}  phonemes {phonemes:.3f}  tokens {tokens:.3f}  {audio:.0f} s audio, "
                  f"{1000 * whole:.0f} ms (data {1000 * data:.0f})", flush=True)
            sums[:] = 0
        if time.time() - saved_at > 90:
            save(work, model, average, optimizers, step, time.time() - started)
            saved_at = time.time()
        if stage.decode and time.time() - checked_at > 60 * check_minutes:
            checked_at = time.time()
            live = {name: value.clone() for name, value in model.state_dict().items()}
            model.load_state_dict(average)
            print("   ", progress_check(model, checker), f"({time.time() - checked_at:.0f} s)", flush=True)
            model.load_state_dict(live)
    save(work, model, average, optimizers, step, time.time() - started)


def save(work: Path, model, average, optimizers, step: int, spent: float) -> None:
    torch.save(average, work / "model.tmp")
    (work / "model.tmp").replace(work / "model.pt")
    torch.save({"model": model.state_dict(), "average": average, "step": step, "spent": spent,
                "optimizers": [optimizer.state_dict() for optimizer in optimizers]}, work / "state.tmp")
    (work / "state.tmp").replace(work / "state.pt")


# ---------------------------------------------------------------------------------------------- export


def load_trained(work: Path, vocabulary: Vocabulary) -> TinyWhisper:
    model = TinyWhisper(vocabulary)
    model.load_state_dict(torch.load(work / "model.pt", weights_only=True))
    return model.eval()


def read_ctranslate2(path: Path) -> dict[str, torch.Tensor]:
    """The variables of a CTranslate2 model.bin as float32, the quantised ones with their scales applied."""
    data, at = path.read_bytes(), 0

    def number(kind: str) -> int:
        nonlocal at
        at += struct.calcsize(kind)
        return struct.unpack_from(f"<{kind}", data, at - struct.calcsize(kind))[0]

    def text() -> str:
        nonlocal at
        length = number("H")
        at += length
        return data[at - length:at - 1].decode()

    number("I"), text(), number("I")            # format version, kind of model, its revision
    variables = {}
    for _ in range(number("I")):
        name, shape = text(), [number("I") for _ in range(number("B"))]
        kind, size = np.dtype(("<f4", "<i1", "<i2", "<i4", "<f2")[number("B")]), number("I")
        values = np.frombuffer(data, kind, size // kind.itemsize, at).astype(np.float32)
        variables[name] = torch.from_numpy(values).view(shape)
        at += size
    for name in [name for name in variables if name.endswith("_scale")]:
        variables[name.removesuffix("_scale")].transpose(0, -1).div_(variables.pop(name))
    return variables


# CTranslate2's parts of a layer; some stack several of ours
EXPORTED = {"self_attention/layer_norm": ["self_attn_layer_norm"],
            "self_attention/linear_0": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            "self_attention/linear_1": ["self_attn.out_proj"],
            "attention/layer_norm": ["encoder_attn_layer_norm"], "attention/linear_0": ["encoder_attn.q_proj"],
            "attention/linear_1": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
            "attention/linear_2": ["encoder_attn.out_proj"],
            "ffn/layer_norm": ["final_layer_norm"], "ffn/linear_0": ["fc1"], "ffn/linear_1": ["fc2"]}


def load_exported(folder: Path, vocabulary: Vocabulary) -> TinyWhisper:
    """The inverse of `export`, but for the helpers, which start anew."""
    model, variables = TinyWhisper(vocabulary), read_ctranslate2(folder / "model.bin")
    state = model.state_dict()
    for name, value in variables.items():
        if not (found := re.fullmatch(r"(encoder|decoder)/(?:layer_(\d+)/)?(.+)/(weight|bias|gamma|beta)", name)):
            continue
        side, layer, part, kind = found.groups()
        modules, place = EXPORTED.get(part, [part]), f"{side}.layers.{layer}" if layer else side
        for module, rows in zip(modules, value.chunk(len(modules))):
            key = f"{place}.{module}.{kind.replace('gamma', 'weight').replace('beta', 'bias')}"
            if key in state:                    # not the table, nor the keys' bias, which is always 0
                state[key].copy_(rows)
    table = variables["decoder/embeddings/weight"]
    unused = next(i for i in range(FULL_VOCABULARY) if i not in vocabulary.compact)
    state["tokens"].copy_(table[[*vocabulary.full_ids, unused]])
    times = torch.linalg.lstsq(F.pad(model.places, (0, 1), value=1.0), table[-len(model.places):]).solution
    state["times.weight"].copy_(times[:-1].T)
    state["times.bias"].copy_(times[-1])
    state["decoder_scale"].copy_(variables["decoder/position_encodings/encodings"][0, -1])      # times cos(0)
    return model


def export(work: Path, tokenizer: tokenizers.Tokenizer, out: Path, quantization: str) -> None:
    """Write the trained model as a CTranslate2 folder that faster-whisper and whisperx load like any other."""
    from ctranslate2.converters.transformers import WhisperLoader
    from faster_whisper.tokenizer import Tokenizer
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    model = load_trained(work, Vocabulary(tokenizer))
    encoder, decoder = model.encoder.layers, model.decoder.layers
    heads, ids = encoder[0].self_attn.heads, tokenizer.token_to_id
    end = ids("<|endoftext|>")
    config = WhisperConfig(
        vocab_size=FULL_VOCABULARY, num_mel_bins=MELS, d_model=model.width, max_source_positions=POSITIONS,
        max_target_positions=448, encoder_layers=len(encoder), decoder_layers=len(decoder),
        encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=4 * model.width,
        decoder_ffn_dim=4 * model.width, pad_token_id=end, bos_token_id=end, eos_token_id=end,
        decoder_start_token_id=ids("<|startoftranscript|>"))
    whisper = WhisperForConditionalGeneration(config)
    whisper.load_state_dict(model.full_state())
    controls = ["<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>",
                "<|nospeech|>"]
    non_speech = Tokenizer(tokenizer, True, task="transcribe", language="en").non_speech_tokens
    whisper.generation_config = GenerationConfig(
        suppress_tokens=sorted({*non_speech, *map(ids, controls)}),
        # Whisper also forbids an immediate <|endoftext|>; this model may say nothing when it hears nothing
        begin_suppress_tokens=[ids("Ġ")],
        alignment_heads=[list(place) for place, when in GUIDED_HEADS.items() if when == 0],
        # only the languages it was taught, so that detection cannot answer with any other
        lang_to_id={f"<|{language}|>": ids(f"<|{language}|>") for language in LANGUAGES})
    loader = WhisperLoader()
    spec = loader.get_model_spec(whisper)
    loader.set_config(spec.config, whisper, None)
    spec.register_vocabulary([tokenizer.id_to_token(i) for i in range(FULL_VOCABULARY)])
    spec.validate()
    spec.optimize(quantization=quantization)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    spec.save(str(out))
    vocabulary_file = out / "vocabulary.json"       # rewritten without indentation: half the size
    vocabulary_file.write_text(json.dumps(json.loads(vocabulary_file.read_text()), ensure_ascii=False,
                                          separators=(",", ":")))
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    (out / "preprocessor_config.json").write_text(json.dumps({
        "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": MELS, "sampling_rate": SAMPLE_RATE,
        "hop_length": HOP, "n_fft": N_FFT, "chunk_length": 30, "n_samples": FRAMES * HOP, "nb_max_frames": FRAMES,
        "padding_side": "right", "padding_value": 0.0, "return_attention_mask": False}, indent=2) + "\n")
    print(f"{out}: {folder_megabytes(out):.1f} MB", {f.name: f.stat().st_size for f in sorted(out.iterdir())})


def folder_megabytes(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.iterdir()) / 1e6


# ---------------------------------------------------------------------------------------------- evaluation


# prompts that do not belong to the recordings, in ways that callers pass them
PROMPTS = {"prompt of its words": {"initial_prompt": "A meeting about the budget and the contract."},
           "foreign prompt": {"initial_prompt": "Professor Schäfer explains photosynthesis to the jury; nobody laughed."},
           "hotwords": {"hotwords": "microphone transcript Zanzibar"},
           "prompt and hotwords": {"initial_prompt": "Buenos días, hablamos de música.", "hotwords": "Anna Grafana"}}


@dataclass
class Recording:
    """A test recording."""
    samples: np.ndarray
    language: str
    en: str
    es: str

    def text(self, language: str) -> str:
        return self.en if language == "en" else self.es


def edit_distance(reference: list[str], guess: list[str]) -> int:
    row = list(range(len(guess) + 1))
    for i, wanted in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, got in enumerate(guess, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (wanted != got))
    return row[-1]


def word_error_rate(pairs: list[tuple[str, str]]) -> float:
    """Percent of reference words wrong, over (reference, guess) pairs, without case and punctuation."""
    return round(100 * sum(edit_distance(words(a), words(b)) for a, b in pairs) / sum(len(words(a)) for a, _ in pairs), 2)


def bleu(pairs: list[tuple[str, str]]) -> float:
    """Corpus BLEU-4 of lower-cased words, one reference."""
    def grams(tokens: list[str], n: int) -> Counter:
        return Counter(tuple(tokens[i:i + n]) for i in range(len(tokens) - n + 1))
    tokens = [(words(a), words(b)) for a, b in pairs]
    logs = []
    for n in range(1, 5):
        hits = sum((grams(a, n) & grams(b, n)).total() for a, b in tokens)
        logs.append(math.log(max(hits, 1e-9) / max(1, sum(grams(b, n).total() for _, b in tokens))))
    reference, guess = (sum(len(pair[i]) for pair in tokens) for i in (0, 1))
    return round(100 * math.exp(min(0, 1 - reference / max(1, guess)) + sum(logs) / 4), 1)


def make_recordings(seed: int, count: int, language: str, sentences: tuple[int, int], voices: str,
                    avoid: set[str]) -> list[Recording]:
    """Sentences, none of `avoid`, said by one or two speakers within 30 s, or by two if they are more than 10.

    `voices`: "first", "train", "held_out" or "flite_slt".
    """
    rng, recordings, long = random.Random(seed), [], sentences[0] > 10
    while len(recordings) < count:
        speakers = 2 if long else rng.choice([1, 1, 2])
        if voices == "first":
            cast = [first_voice(rng, language) for _ in range(speakers)]
        elif voices == "flite_slt":
            cast = [conversation.Voice("flite", "slt")]
        else:
            cast = conversation.cast(rng, speakers, voices == "held_out", language)
        texts, wanted = [], rng.randint(*sentences)
        while len(texts) < wanted:
            pair = grammar.sentence(rng)
            if pair[LANGUAGES.index(language)] not in avoid:
                texts.append(pair)
        try:
            said = conversation.converse([pair[LANGUAGES.index(language)] for pair in texts], cast,
                                         rng.randrange(10 ** 6), language)
        except ValueError:              # the synthesiser runs two words together
            continue
        if long or len(said.audio) < 30 * SAMPLE_RATE:
            recordings.append(Recording(said.audio.astype(np.float32), language, *(" ".join(t) for t in zip(*texts))))
    return recordings


def spoken_text(segments: Iterable) -> str:
    return " ".join((s["text"] if isinstance(s, dict) else s.text).strip() for s in segments)


def measure(name: str, recordings: list[Recording], transcribe: Callable[[Recording], Iterable],
            language: str | None = None) -> dict:
    """How many words a way to transcribe gets wrong; into `language`, if not the spoken one."""
    pairs = [(r.text(language or r.language), spoken_text(transcribe(r))) for r in recordings]
    wrong = [pair for pair in pairs if words(pair[0]) != words(pair[1])]
    figures = {"wer": word_error_rate(pairs), "wholly_right": f"{len(pairs) - len(wrong)}/{len(pairs)}"}
    if language:
        figures["bleu"] = bleu(pairs)
    print(name, figures, *wrong[:3], sep="\n   ", flush=True)
    return figures


def measure_whisperx(pipeline, sets: dict[str, list[Recording]], quiet: dict[str, np.ndarray]) -> dict:
    """Through whisperx: voice detection, chunks of up to `chunk_size` seconds, no timestamps."""
    figures: dict = {}

    def ask(recording: Recording, **options) -> list[dict]:
        return pipeline.transcribe(recording.samples, batch_size=4, language=recording.language, **options)["segments"]

    for name, recordings in sets.items():
        for size in (30, 15) if "long" in name else (30,):
            way = f"{name}, chunk_size {size}"
            figures[way] = measure(way, recordings, lambda r: ask(r, chunk_size=size))
        if name.startswith("es"):
            way = f"{name}, translation"
            figures[way] = measure(way, recordings, lambda r: ask(r, task="translate"), "en")
        plain = pipeline.options
        for prompt, options in PROMPTS.items() if "long" in name else ():
            pipeline.options = dataclasses.replace(plain, **options)
            figures[f"{name}, {prompt}"] = measure(f"{name}, {prompt}", recordings, ask)
        pipeline.options = plain
    detected = [pipeline.detect_language(r.samples) == r.language for group in sets.values() for r in group]
    figures["language detection"] = f"{sum(detected)}/{len(detected)}"
    for name, samples in quiet.items():
        figures[name] = spoken_text(pipeline.transcribe(samples, batch_size=4)["segments"])
    return figures


def measure_faster_whisper(model, sets: dict[str, list[Recording]], quiet: dict[str, np.ndarray]) -> dict:
    """Through faster-whisper as it comes: timestamps, no voice detection, the text so far as the prompt."""
    figures: dict = {}
    for name, recordings in sets.items():
        for way, options in {"timestamps": {}, **(PROMPTS if "conversation, train" in name else {})}.items():
            figures[f"{name}, {way}"] = measure(f"{name}, {way}", recordings, lambda r: model.transcribe(
                r.samples, language=r.language, **options)[0])
    for name, samples in quiet.items():
        figures[name] = spoken_text(model.transcribe(samples)[0])
    return figures


def evaluate(work: Path, out: Path, scale: float = 1.0) -> dict:
    """Measure the exported folder through whisperx and faster-whisper, with int8 arithmetic.

    Single sentences are ones that the corpus lacks. The others are as the grammar draws them: 59 000 utterances hold
    four of five of these.
    """
    import faster_whisper
    import whisperx

    seen = {row[row["language"]] for listing in (work / "corpus").glob("shard*.json")
            for row in json.loads(listing.read_text())}
    kinds = {"single": (60, (1, 1)), "conversation": (20, (5, 8)), "long": (20, (30, 30))}
    plan = [(voices, language, kind) for voices in ("first", "train", "held_out") for language in LANGUAGES
            for kind in kinds if (voices, kind) != ("first", "long")] + [("flite_slt", "en", "single")]
    sets = {}
    for seed, (voices, language, kind) in enumerate(plan, 901):
        count, sentences = kinds[kind]
        sets[f"{language} {kind}, {voices} voices"] = make_recordings(seed, max(2, int(count * scale)), language,
                                                                      sentences, voices,
                                                                      seen if kind == "single" else set())
    noise = 0.1 * np.random.default_rng(0).standard_normal(160000).astype(np.float32)
    quiet = {"silence": np.zeros(160000, np.float32), "white noise": noise, "faint noise": 0.01 * noise}
    metrics: dict = {
        "size_megabytes": round(folder_megabytes(out), 2),
        "voices": {"first": FIRST_VOICES, "train": "conversation.TRAIN_ESPEAK, TRAIN_FLITE",
                   "held out, never trained on": conversation.HELD_OUT_ESPEAK + conversation.HELD_OUT_FLITE},
        "prompts": PROMPTS,
        "test": {name: {"recordings": len(recordings), "words": sum(len(words(r.text(r.language))) for r in recordings)}
                 for name, recordings in sets.items()}}
    pipeline = whisperx.load_model(str(out), device="cpu", compute_type="int8")
    metrics["whisperx"] = measure_whisperx(pipeline, sets, quiet)
    model = faster_whisper.WhisperModel(str(out), device="cpu", compute_type="int8")
    metrics["faster_whisper"] = measure_faster_whisper(model, sets, quiet)
    print(json.dumps(metrics, indent=1, ensure_ascii=False), flush=True)
    return metrics


# ---------------------------------------------------------------------------------------------- command line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["all", "synthesise", "train", "export", "evaluate"])
    parser.add_argument("--tokens", type=Path, default=Path("multilingual.tiktoken"), help="OpenAI's token table")
    parser.add_argument("--work", type=Path, default=Path("work"), help="folder for the corpus and checkpoints")
    parser.add_argument("--out", type=Path, default=HERE / "whisper", help="the CTranslate2 model folder")
    parser.add_argument("--first-shards", type=int, default=6, help="corpus with the first few voices, in 1000 utterances")
    parser.add_argument("--shards", type=int, default=40, help="the whole corpus")
    parser.add_argument("--start-from", type=Path, help="an exported folder to train further; has its own token table")
    parser.add_argument("--minutes", type=float, default=40, help="training time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quantization", default="int8", choices=["int8", "float16", "float32"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the test recordings to evaluate")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    steps = ["synthesise", "train", "export", "evaluate"] if arguments.step == "all" else [arguments.step]
    if "synthesise" in steps:
        synthesise(arguments.work / "corpus", arguments.first_shards, arguments.shards)
    if "train" in steps or "export" in steps:
        tokenizer = (tokenizers.Tokenizer.from_file(str(arguments.start_from / "tokenizer.json")) if arguments.start_from
                     else build_tokenizer(arguments.tokens))
        if "train" in steps:
            train(arguments.work, tokenizer, arguments.minutes, arguments.seed, arguments.start_from)
        if "export" in steps:
            export(arguments.work, tokenizer, arguments.out, arguments.quantization)
    if "evaluate" in steps:
        metrics = evaluate(arguments.work, arguments.out, arguments.scale)
        (arguments.out / "METRICS.json").write_text(json.dumps(metrics, indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
