"""Whisper on CTranslate2, loaded by faster-whisper: features, generate, detokenize."""

from __future__ import annotations

import math
import zlib
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import torch  # before ctranslate2 opens a model: its wheels bring the CUDA libraries along
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens
from faster_whisper.utils import available_models
from transformers.models.whisper.tokenization_whisper import bytes_to_unicode
from whisperx.audio import HOP_LENGTH, N_FFT, N_SAMPLES, mel_filters

from app.models.devices import free_memory
from app.models.protocols import RecognitionItem
from app.pauses import pause
from app.transcript import (
    SAMPLE_RATE,
    Decoding,
    DecodingOptions,
    Hypothesis,
    HypothesisPart,
    LanguageGuess,
    Samples,
    TokenProb,
)

MAX_TOKENS = 448  # of Whisper's decoder, prompt included
MAX_PROMPT_TOKENS = MAX_TOKENS // 2 - 1  # <|startofprev|> not counted; leaves half for the answer
TIMESTAMP_STEP_S = 0.02
MAX_INITIAL_TIMESTAMP = 50  # in steps: speech begins within the first second of a chunk
NUM_CANDIDATES = 5  # sampled at a temperature over 0, the best one taken

DETECT = "detect language"
MIN_PROB = 1e-10  # the logarithm of 0 is no number

# A token's name has a letter for each of its bytes.
BYTE_OF_LETTER = {letter: byte for byte, letter in bytes_to_unicode().items()}


def known_models() -> tuple[str, ...]:
    """The names that faster-whisper knows."""
    return tuple(available_models())


def log_mel(samples: Sequence[Samples], num_mels: int, device: str) -> torch.Tensor:
    """Whisper's features: float32 (len(samples), num_mels, 3000), each item padded to 30 s.

    Source: whisper/audio.py, log_mel_spectrogram; there for one recording at a time.
    """
    padded = np.zeros((len(samples), N_SAMPLES), np.float32)
    for row, piece in zip(padded, samples, strict=True):
        row[: min(len(piece), N_SAMPLES)] = piece[:N_SAMPLES]
    audio = torch.from_numpy(padded).to(device)
    window = torch.hann_window(N_FFT, device=device)
    spectrum = torch.stft(audio, N_FFT, HOP_LENGTH, window=window, return_complex=True)
    power = spectrum[..., :-1].abs() ** 2
    mel = mel_filters(audio.device, num_mels) @ power
    log = torch.clamp(mel, min=1e-10).log10()
    log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8.0)
    features: torch.Tensor = (log + 4.0) / 4.0
    return features


def fit_prompt(prompt: list[int], hotwords: list[int], limit: int) -> tuple[list[int], list[int]]:
    """Cut both so that together they have at most `limit` tokens.

    Each may take half, and what the other leaves. The end of a prompt matters most, and the
    beginning of a list of hotwords.
    """
    half = limit // 2
    num_hotwords = min(len(hotwords), max(half, limit - len(prompt)))
    num_prompt = min(len(prompt), limit - num_hotwords)
    return prompt[len(prompt) - num_prompt :], hotwords[:num_hotwords]


class WhisperRecognizer:
    """Implements `Recognizer`."""

    def __init__(
        self,
        folder: str | Path,
        device: str,
        compute_type: str,
        cpu_threads: int,
        batch_size: int,
    ) -> None:
        """`folder`: of a model in CTranslate2 format; see `ModelFetcher`."""
        self._device = device
        kind, _, index = device.partition(":")
        model = WhisperModel(
            str(folder),
            device=kind,
            device_index=int(index or 0),
            compute_type=compute_type,
            cpu_threads=cpu_threads,
            local_files_only=True,
        )
        self._model: Any = model.model
        self._hf_tokenizer = model.hf_tokenizer
        self._num_mels: int = self._model.n_mels
        self._multilingual: bool = self._model.is_multilingual
        self._suppressed = get_suppressed_tokens(self._tokenizer("en", "transcribe"), [-1])
        self.languages = frozenset(
            code
            for code in model.supported_languages
            if not self._multilingual or model.hf_tokenizer.token_to_id(f"<|{code}|>") is not None
        )
        self.batch_size = batch_size
        self.memory_bytes = _weights_bytes(Path(folder), self._model)

    def close(self) -> None:
        self._model.unload_model()
        del self._model
        free_memory()

    def _tokenizer(self, language: str, task: str) -> Any:
        return Tokenizer(self._hf_tokenizer, self._multilingual, task=task, language=language)

    def batch_key(self, item: RecognitionItem) -> Hashable:
        """CTranslate2 takes a prompt per item but one set of settings per call, and wants
        <|startoftranscript|> at the same place in all prompts. Language and task may differ,
        and a language that is still unknown takes as many tokens as another.
        """
        if item.options is None:
            return DETECT
        options = item.options
        return (
            options.beam_size,
            options.temperature,
            options.with_timestamps,
            len(self._prompt(options)),
            # `align` takes one language and one task for all
            (options.language, options.task) if options.with_token_probs else None,
        )

    def audio_s(self, item: RecognitionItem) -> float:
        return len(item.samples) / SAMPLE_RATE

    def run(self, items: Sequence[RecognitionItem]) -> list[Hypothesis | tuple[LanguageGuess, ...]]:
        options = [item.options for item in items]
        encoded = self._encode([item.samples for item in items])
        if options[0] is None:
            return [self._guesses(found) for found in self._detect(encoded, len(items))]
        known = [o for o in options if o is not None]
        if any(o.language is None for o in known):
            best = [self._guesses(found)[0].language for found in self._detect(encoded, len(items))]
            known = [
                replace(o, language=o.language or language)
                for o, language in zip(known, best, strict=True)
            ]
        pause()
        hypotheses = self._generate(encoded, known)
        if options[0].with_token_probs:
            num_samples = [len(item.samples) for item in items]
            return self._with_token_probs(hypotheses, known, encoded, num_samples)
        return list(hypotheses)

    def _encode(self, samples: Sequence[Samples]) -> Any:
        features = log_mel(samples, self._num_mels, self._device)
        if features.is_cuda:
            torch.cuda.current_stream().synchronize()  # CTranslate2 computes on a stream of its own
            view = ctranslate2.StorageView.from_array(features.contiguous())
        else:
            view = ctranslate2.StorageView.from_array(np.ascontiguousarray(features.numpy()))
        return self._model.encode(view, to_cpu=False)

    def _detect(self, encoded: Any, num_items: int) -> list[list[tuple[str, float]]]:
        if not self._multilingual:
            return [[("<|en|>", 1.0)]] * num_items
        found: list[list[tuple[str, float]]] = self._model.detect_language(encoded)
        return found

    def _guesses(self, found: list[tuple[str, float]]) -> tuple[LanguageGuess, ...]:
        return tuple(LanguageGuess(token[2:-2], float(p)) for token, p in found)

    def _prompt(self, options: DecodingOptions) -> list[int]:
        tokenizer = self._tokenizer(options.language or "en", options.task.value)
        prompt, hotwords = fit_prompt(
            _encode_prompt(tokenizer, options.initial_prompt),
            _encode_prompt(tokenizer, options.hotwords),
            MAX_PROMPT_TOKENS,
        )
        tokens: list[int] = [tokenizer.sot_prev] if prompt or hotwords else []
        tokens += hotwords + prompt + tokenizer.sot_sequence
        if not options.with_timestamps:
            tokens.append(tokenizer.no_timestamps)
        return tokens

    def _generate(self, encoded: Any, options: Sequence[DecodingOptions]) -> list[Hypothesis]:
        shared = options[0]
        if shared.temperature > 0:
            search = {
                "beam_size": 1,
                "num_hypotheses": NUM_CANDIDATES,
                "sampling_topk": 0,
                "sampling_temperature": shared.temperature,
            }
        else:
            search = {"beam_size": shared.beam_size, "patience": 1}
        results = self._model.generate(
            encoded,
            [self._prompt(o) for o in options],
            max_length=MAX_TOKENS,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=list(self._suppressed),
            max_initial_timestamp_index=MAX_INITIAL_TIMESTAMP,
            **search,
        )
        return [self._hypothesis(r, o) for r, o in zip(results, options, strict=True)]

    def _hypothesis(self, result: Any, options: DecodingOptions) -> Hypothesis:
        assert options.language is not None
        tokens: list[int] = result.sequences_ids[0]
        tokenizer = self._tokenizer(options.language, options.task.value)
        text: str = tokenizer.decode(tokens)
        decoding = Decoding(
            # the score is the mean over the text; Whisper's figure counts the end token too
            avg_logprob=float(result.scores[0]) * len(tokens) / (len(tokens) + 1),
            no_speech_prob=float(result.no_speech_prob),
            compression_ratio=compression_ratio(text),
            temperature=options.temperature,
        )
        parts = self._parts(tokens, tokenizer, options.with_timestamps)
        return Hypothesis(options.language, tuple(parts), decoding)

    def _parts(
        self, tokens: list[int], tokenizer: Any, with_timestamps: bool
    ) -> list[HypothesisPart]:
        if not with_timestamps:
            return [p for p in [self._part(tokens, tokenizer, None, None)] if p.text.strip()]
        parts = []
        for start, end, text_tokens in split_at_timestamps(tokens, tokenizer.timestamp_begin):
            part = self._part(text_tokens, tokenizer, start, end)
            if part.text.strip():
                parts.append(part)
        return parts

    def _part(
        self, tokens: list[int], tokenizer: Any, start_s: float | None, end_s: float | None
    ) -> HypothesisPart:
        tokens = [t for t in tokens if t < tokenizer.eot]
        text: str = tokenizer.decode(tokens)
        return HypothesisPart(text, tuple(tokens), self._token_ends(tokens, text), start_s, end_s)

    def _with_token_probs(
        self,
        hypotheses: Sequence[Hypothesis],
        options: Sequence[DecodingOptions],
        encoded: Any,
        num_samples: Sequence[int],
    ) -> list[Hypothesis | tuple[LanguageGuess, ...]]:
        """How likely each token of the text is after those before it, the prompt left out."""
        assert options[0].language is not None
        tokenizer = self._tokenizer(options[0].language, options[0].task.value)
        texts = [[t for part in h.parts for t in part.tokens] for h in hypotheses]
        found = self._model.align(
            encoded,
            list(tokenizer.sot_sequence),
            texts,
            [min(n // HOP_LENGTH, N_SAMPLES // HOP_LENGTH) for n in num_samples],
        )
        return [
            _add_token_probs(hypothesis, self._token_bytes(tokens), alignment.text_token_probs)
            for hypothesis, tokens, alignment in zip(hypotheses, texts, found, strict=True)
        ]

    def _token_bytes(self, tokens: Sequence[int]) -> list[bytes]:
        names = [self._hf_tokenizer.id_to_token(token) or "" for token in tokens]
        return [bytes(BYTE_OF_LETTER[letter] for letter in name) for name in names]

    def _token_ends(self, tokens: Sequence[int], text: str) -> tuple[int, ...]:
        """Where each token ends in the text. A token is bytes, one letter of its name for each."""
        char_at_byte = np.cumsum([0] + [(b & 0xC0) != 0x80 for b in text.encode()])
        ends = np.cumsum([len(self._hf_tokenizer.id_to_token(t) or "") for t in tokens], dtype=int)
        last = len(char_at_byte) - 1
        return tuple(int(char_at_byte[min(end, last)]) for end in ends)


def _add_token_probs(
    hypothesis: Hypothesis, tokens: Sequence[bytes], probs: Sequence[float]
) -> Hypothesis:
    """`tokens` and `probs`: of all parts of the hypothesis, one after the other."""
    both = iter(zip(tokens, probs, strict=True))
    parts = tuple(
        replace(
            part,
            token_probs=tuple(
                TokenProb(token, math.log(max(prob, MIN_PROB)))
                for token, prob in islice(both, len(part.tokens))
            ),
        )
        for part in hypothesis.parts
    )
    return replace(hypothesis, parts=parts)


def _encode_prompt(tokenizer: Any, text: str) -> list[int]:
    """Tokens of plain text: a client's "<|startoftranscript|>" is none of Whisper's own."""
    text = text.strip()
    tokens: list[int] = tokenizer.encode(" " + text) if text else []
    return [token for token in tokens if token < tokenizer.eot]


def split_at_timestamps(
    tokens: Sequence[int], timestamp_begin: int
) -> list[tuple[float | None, float | None, list[int]]]:
    """(start, end, text tokens) between timestamp tokens; None where one is missing.

    Whisper writes <|start|> text <|end|><|start|> text <|end|>, but leaves timestamps out at will.
    """
    spans: list[tuple[float | None, float | None, list[int]]] = []
    start: float | None = None
    text: list[int] = []
    for token in tokens:
        if token < timestamp_begin:
            text.append(token)
            continue
        at = (token - timestamp_begin) * TIMESTAMP_STEP_S
        if text:
            spans.append((start, at, text))
            text = []
        start = at
    if text:
        spans.append((start, None, text))
    return spans


def compression_ratio(text: str) -> float:
    """Bytes of the text by bytes of the text compressed: high for repetitions."""
    raw = text.strip().encode()
    return len(raw) / len(zlib.compress(raw))


def _weights_bytes(folder: Path, model: Any) -> int:
    """Memory of the weights, from the size of the file and the precision that it is loaded in."""
    stored = (folder / "model.bin").stat().st_size  # the published models store float16
    factor = {"float32": 2.0, "int16": 1.0, "float16": 1.0, "bfloat16": 1.0}
    return int(stored * factor.get(str(model.compute_type), 0.55))
