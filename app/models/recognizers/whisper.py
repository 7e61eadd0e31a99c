"""Whisper on CTranslate2, loaded by faster-whisper: encode, generate, detokenize."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import torch  # before ctranslate2 opens a model: its wheels bring the CUDA libraries
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens
from transformers.models.whisper.tokenization_whisper import bytes_to_unicode
from whisperx.audio import HOP_LENGTH, N_SAMPLES

from app.domain.options import BRIEF_S, DecodingOptions
from app.domain.transcript import (
    SAMPLE_RATE,
    DecodingStats,
    Hypothesis,
    LanguageGuess,
    Samples,
    TokenProb,
)
from app.engine.pauses import pause
from app.models.devices import free_memory
from app.models.protocols import DetectionItem, LanguageGuesses, RecognitionItem
from app.models.recognizers.encodings import Encodings
from app.models.recognizers.features import log_mel
from app.models.recognizers.prompts import (
    CONTEXT_TOKENS,
    MAX_PROMPT_CHARS,
    MAX_TOKEN_CHARS,
    MAX_TOKENS,
    prompt_tokens,
)
from app.models.recognizers.whisper_abilities import WHISPER_ABILITIES, WHISPER_THRESHOLDS
from app.models.recognizers.word_times import spoken_words

PROMPTS_KEPT = 64  # tokenized once, not for each chunk
NUM_CANDIDATES = 5  # sampled at a temperature over 0, the best one taken

DETECT = "detect language"
# Encoding takes most of the time on a CPU, and half the sound takes less than half of it. Without a
# hurry, all get 30 s, as in Whisper's training: with less, some models repeat themselves; with less
# than 10 s, nearly all.
BRIEF_SAMPLES = round(BRIEF_S * SAMPLE_RATE)
SURE_BRIEF_S = BRIEF_S - 3  # silence at the end shows that nothing follows
WORKERS_ON_CPU = 2  # of CTranslate2, which share the weights
MIN_PROB = 1e-10  # the logarithm of 0 is not finite

# A token's name has a letter for each of its bytes.
BYTE_OF_LETTER = {letter: byte for byte, letter in bytes_to_unicode().items()}


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
        """`folder`: of a model in CTranslate2 format; see `WhisperEngine`."""
        self._device = device
        kind, _, index = device.partition(":")
        self.num_workers = WORKERS_ON_CPU if kind == "cpu" and cpu_threads > 1 else 1
        model = WhisperModel(
            str(folder),
            device=kind,
            device_index=int(index or 0),
            compute_type=compute_type,
            cpu_threads=cpu_threads,
            num_workers=self.num_workers,
            local_files_only=True,
        )
        self._model: Any = model.model
        self._encodings = Encodings(self._encode)
        self._hf_tokenizer = model.hf_tokenizer
        self._num_mels: int = self._model.n_mels
        self._multilingual: bool = self._model.is_multilingual
        self._prompt_tokens = lru_cache(PROMPTS_KEPT)(
            partial(prompt_tokens, self._tokenizer("en", "transcribe"))
        )
        self._suppressed = get_suppressed_tokens(self._tokenizer("en", "transcribe"), [-1])
        self.languages = frozenset(
            code
            for code in model.supported_languages
            if not self._multilingual or model.hf_tokenizer.token_to_id(f"<|{code}|>") is not None
        )
        self.abilities = replace(WHISPER_ABILITIES, word_times=_has_alignment_heads(Path(folder)))
        self.thresholds = WHISPER_THRESHOLDS
        # without word times, nothing shows whether a brief hearing has left something out
        may_be_brief = kind == "cpu" and self.abilities.word_times
        self.brief_s = SURE_BRIEF_S if may_be_brief else 0.0
        self.batch_size = batch_size
        self.memory_bytes = _weights_bytes(Path(folder), self._model)

    def close(self) -> None:
        self._model.unload_model()
        del self._model, self._encodings
        free_memory()

    def _tokenizer(self, language: str, task: str) -> Any:
        return Tokenizer(self._hf_tokenizer, self._multilingual, task=task, language=language)

    def batch_key(self, item: RecognitionItem | DetectionItem) -> Hashable:
        """CTranslate2 takes a prompt per item but one set of settings per call, and needs
        <|startoftranscript|> at the same position in all prompts. Language and task may differ;
        a language that is still unknown takes as many tokens as any other.
        """
        if isinstance(item, DetectionItem):
            return DETECT
        options = item.options
        return (
            options.beam_size,
            options.temperature,
            options.brief,
            len(self._prompt(options)),
        )

    def audio_s(self, item: RecognitionItem | DetectionItem) -> float:
        return len(item.samples) / SAMPLE_RATE

    def run(
        self, items: Sequence[RecognitionItem | DetectionItem]
    ) -> list[Hypothesis | LanguageGuesses]:
        samples = [item.samples for item in items]
        chunks = [item for item in items if isinstance(item, RecognitionItem)]
        if chunks and chunks[0].options.brief:  # seldom heard twice, and the batch is of one kind
            return [*self._recognize(chunks, self._encode(samples, BRIEF_SAMPLES))]
        encoded = self._encodings.of(samples)
        if not chunks:
            return [*self._detect(encoded, len(items))]
        return [*self._recognize(chunks, encoded)]

    def _recognize(self, items: Sequence[RecognitionItem], encoded: Any) -> list[Hypothesis]:
        options = [item.options for item in items]
        guesses: list[LanguageGuesses] = [()] * len(items)
        if any(o.language is None for o in options):
            guesses = self._detect(encoded, len(items))
            options = [
                replace(o, language=o.language or likeliest(own, o))
                for o, own in zip(options, guesses, strict=True)
            ]
        pause()
        hypotheses = self._with_words(items, self._generate(encoded, options), options, encoded)
        return [replace(h, guesses=own) for h, own in zip(hypotheses, guesses, strict=True)]

    def _encode(self, samples: Sequence[Samples], num_samples: int = N_SAMPLES) -> Any:
        features = log_mel(samples, self._num_mels, self._device, num_samples)
        if features.is_cuda:
            torch.cuda.current_stream().synchronize()  # CTranslate2 computes on a stream of its own
            view = ctranslate2.StorageView.from_array(features.contiguous())
        else:
            view = ctranslate2.StorageView.from_array(np.ascontiguousarray(features.numpy()))
        return self._model.encode(view, to_cpu=False)

    def _detect(self, encoded: Any, num_items: int) -> list[LanguageGuesses]:
        if not self._multilingual:
            return [(LanguageGuess("en", 1.0),)] * num_items
        found: list[list[tuple[str, float]]] = self._model.detect_language(encoded)
        return [tuple(LanguageGuess(token[2:-2], float(p)) for token, p in own) for own in found]

    def _prompt(self, options: DecodingOptions) -> list[int]:
        tokenizer = self._tokenizer(options.language or "en", options.task.value)
        prompt, hotwords = self._prompt_tokens(
            options.initial_prompt.strip()[-MAX_PROMPT_CHARS:],
            options.hotwords.strip()[:MAX_PROMPT_CHARS],
            options.context.strip()[-CONTEXT_TOKENS * MAX_TOKEN_CHARS :],
        )
        tokens: list[int] = [tokenizer.sot_prev] if prompt or hotwords else []
        return [*tokens, *hotwords, *prompt, *tokenizer.sot_sequence, tokenizer.no_timestamps]

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
        prompts = [self._prompt(o) for o in options]
        num_prompt = len(prompts[0])  # all are of one length
        room = MAX_TOKENS - num_prompt - 1  # one for the end
        results = self._model.generate(
            encoded,
            prompts,
            # CTranslate2 gives the answer half of it, and the room that the prompt leaves
            max_length=max(2 * room, room + num_prompt - 1),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=list(self._suppressed),
            **search,
        )
        return [self._hypothesis(r, o, room) for r, o in zip(results, options, strict=True)]

    def _hypothesis(self, result: Any, options: DecodingOptions, room: int) -> Hypothesis:
        """`room`: the number of tokens that it could have."""
        assert options.language is not None
        tokenizer = self._tokenizer(options.language, options.task.value)
        tokens: list[int] = [t for t in result.sequences_ids[0] if t < tokenizer.eot]
        text: str = tokenizer.decode(tokens)
        stats = DecodingStats(
            # this score is the mean over the text; Whisper's own counts the end token, too
            avg_logprob=float(result.scores[0]) * len(tokens) / (len(tokens) + 1),
            no_speech_prob=float(result.no_speech_prob),
            compression_ratio=compression_ratio(text),
            temperature=options.temperature,
        )
        return Hypothesis(
            options.language,
            text,
            tuple(tokens),
            self._token_ends(tokens, text),
            stats,
            is_cut_off=len(result.sequences_ids[0]) >= room,
        )

    def _with_words(
        self,
        items: Sequence[RecognitionItem],
        hypotheses: Sequence[Hypothesis],
        options: Sequence[DecodingOptions],
        encoded: Any,
    ) -> list[Hypothesis]:
        """Add the times of words, which show what speech has no words; and, if asked for, the
        probability of each token given those before it (without the prompt).
        """
        complete = list(hypotheses)
        if not self.abilities.word_times:
            return complete
        # `align` takes one language and one task per call
        for language, task in {(o.language, o.task) for o in options}:
            tokenizer = self._tokenizer(language or "en", task.value)
            rows = [i for i, o in enumerate(options) if (o.language, o.task) == (language, task)]
            found = self._model.align(
                encoded,
                list(tokenizer.sot_sequence),
                [list(h.tokens) if i in rows else [] for i, h in enumerate(hypotheses)],
                [max(2, min(len(item.samples), N_SAMPLES) // HOP_LENGTH) for item in items],
            )
            for i in rows:
                complete[i] = self._timed(hypotheses[i], options[i], tokenizer, found[i])
        return complete

    def _timed(
        self, hypothesis: Hypothesis, options: DecodingOptions, tokenizer: Any, alignment: Any
    ) -> Hypothesis:
        probs: tuple[TokenProb, ...] = ()
        if options.with_token_probs:
            probs = tuple(
                TokenProb(token, math.log(max(prob, MIN_PROB)))
                for token, prob in zip(
                    self._token_bytes(hypothesis.tokens), alignment.text_token_probs, strict=True
                )
            )
        words = spoken_words(tokenizer, hypothesis.tokens, alignment)
        likelihoods = tuple(map(float, alignment.text_token_probs))
        return replace(hypothesis, likelihoods=likelihoods, token_probs=probs, words=words)

    def _token_bytes(self, tokens: Sequence[int]) -> list[bytes]:
        names = [self._hf_tokenizer.id_to_token(token) or "" for token in tokens]
        return [bytes(BYTE_OF_LETTER[letter] for letter in name) for name in names]

    def _token_ends(self, tokens: Sequence[int], text: str) -> tuple[int, ...]:
        """Where each token ends in the text. A token is bytes; its name has a letter for each."""
        char_at_byte = np.cumsum([0] + [(b & 0xC0) != 0x80 for b in text.encode()])
        ends = np.cumsum([len(self._hf_tokenizer.id_to_token(t) or "") for t in tokens], dtype=int)
        last = len(char_at_byte) - 1
        return tuple(int(char_at_byte[min(end, last)]) for end in ends)


def likeliest(guesses: Sequence[LanguageGuess], options: DecodingOptions) -> str:
    """The language of a chunk whose options name none."""
    allowed = [g for g in guesses if not options.languages or g.language in options.languages]
    return (allowed or guesses)[0].language


def compression_ratio(text: str) -> float:
    """Bytes of the text divided by bytes of the compressed text: high for repetitions."""
    raw = text.strip().encode()
    return len(raw) / len(zlib.compress(raw))


def _has_alignment_heads(folder: Path) -> bool:
    """Whether CTranslate2 can give the times of words. Models converted before 2023 lack the
    necessary configuration.
    """
    config = folder / "config.json"
    return config.is_file() and bool(json.loads(config.read_bytes()).get("alignment_heads"))


def _weights_bytes(folder: Path, model: Any) -> int:
    """Memory of the weights, from the size of the file and the precision in memory."""
    stored = (folder / "model.bin").stat().st_size  # the published models store float16
    factor = {"float32": 2.0, "int16": 1.0, "float16": 1.0, "bfloat16": 1.0}
    return int(stored * factor.get(str(model.compute_type), 0.55))
