"""A Whisper with real geometry and random weights that writes about as much text as a real one.

Random weights decode gibberish until the length limit, which no real model does. So this steers the
residual stream of the decoder and leaves everything else random:

- Channel 0 belongs to <|endoftext|>: no other token and no layer writes to it, so its value is the
  final logit of the end. The position embeddings raise it step by step.
- Channel 0 of the encoder carries the loudness of each frame; the layers do not change it. One head
  of the decoder's last cross attention has no queries, so it takes the mean over all frames and
  lowers the decoder's channel 0 by it. The more of the 30 s is speech, the later the end comes, at
  about `TOKENS_PER_S`. So hypotheses in a batch differ in length as in real use, and a clip of 3 s
  gets a few words instead of a page.
- Each position embedding also points at a few words, and the random layers choose among them. So
  the text has a real number of characters per second, and alignment has as much work.

The cost of a layer does not depend on its weights, so time and memory match the real model.
"""

from __future__ import annotations

import copy
import json
import math
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ctranslate2.converters.transformers import WhisperLoader
from torch import nn
from transformers import WhisperConfig, WhisperForConditionalGeneration
from whisperx.audio import HOP_LENGTH, log_mel_spectrogram

from app.domain.transcript import SAMPLE_RATE, Samples

TOKENS_PER_S = 2.7  # of English speech, 400 characters in 28 s
PROMPT_TOKENS = 4  # <|startoftranscript|>, language, task, <|notimestamps|>
END_SLOPE = 0.1  # rise of the end's strength per token; a word has about WORD_STRENGTH
WORD_STRENGTH = 3.0
WORDS_PER_POSITION = 8
SENTENCE_TOKENS = 14
TOP_LOGIT = 14.0
LOUDNESS_GAIN = 4.0
YUE = 50358  # position of <|yue|> in large-v3's vocabulary, before <|translate|>


@dataclass(frozen=True, slots=True)
class Geometry:
    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    num_mels: int = 80
    vocabulary: int = 51_865


GEOMETRIES = {
    "tiny": Geometry(384, 4, 4, 6),
    "base": Geometry(512, 6, 6, 8),
    "small": Geometry(768, 12, 12, 12),
    "large-v3": Geometry(1280, 32, 32, 20, 128, 51_866),
    "large-v3-turbo": Geometry(1280, 32, 4, 20, 128, 51_866),
}


def write_whisper(
    geometry: Geometry, tokenizer_folder: Path, speech: Samples, target: Path, seed: int = 0
) -> None:
    """Write a CTranslate2 model folder. `speech`: 28 s that set the loudness."""
    torch.manual_seed(seed)
    tokenizer = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    vocabulary = json.loads((tokenizer_folder / "vocabulary.json").read_text())
    settings = json.loads((tokenizer_folder / "config.json").read_text())
    if geometry.vocabulary > len(vocabulary):
        _add_cantonese(tokenizer, vocabulary, settings)
    model = _build(geometry)
    with torch.inference_mode():
        _fill_at_random(model)
        _mark_loudness(model.model.encoder)
        _place_tokens(model, vocabulary, random.Random(seed))
        _place_end(model, speech)
    _convert(model, vocabulary, settings, target)
    (target / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    features = json.loads((tokenizer_folder / "preprocessor_config.json").read_text())
    features["feature_size"] = geometry.num_mels
    (target / "preprocessor_config.json").write_text(json.dumps(features, indent=2))


def _add_cantonese(
    tokenizer: dict[str, Any], vocabulary: list[str], settings: dict[str, Any]
) -> None:
    """Add the language that large-v3 added. The tokens after it move up by one."""
    vocabulary.insert(YUE, "<|yue|>")
    template = next(t for t in tokenizer["added_tokens"] if t["id"] == YUE)
    added = copy.deepcopy(template) | {"content": "<|yue|>"}
    for token in tokenizer["added_tokens"]:
        token["id"] += token["id"] >= YUE
    tokenizer["added_tokens"].append(added)
    tokenizer["added_tokens"].sort(key=lambda token: token["id"])
    settings["suppress_ids"] = [i + (i >= YUE) for i in settings["suppress_ids"]]


def _build(geometry: Geometry) -> WhisperForConditionalGeneration:
    config = WhisperConfig(
        vocab_size=geometry.vocabulary,
        num_mel_bins=geometry.num_mels,
        d_model=geometry.width,
        encoder_layers=geometry.encoder_layers,
        decoder_layers=geometry.decoder_layers,
        encoder_attention_heads=geometry.heads,
        decoder_attention_heads=geometry.heads,
        encoder_ffn_dim=4 * geometry.width,
        decoder_ffn_dim=4 * geometry.width,
    )
    return WhisperForConditionalGeneration(config).eval()


def _fill_at_random(model: WhisperForConditionalGeneration) -> None:
    """Set weights that preserve the size of activations and add moderately to the stream."""
    decoder, encoder = model.model.decoder, model.model.encoder
    width = decoder.embed_positions.weight.shape[1]
    for part, sublayers, total in (
        (encoder, 2 * len(encoder.layers), 1.0 * math.sqrt(width)),
        (decoder, 3 * len(decoder.layers), 0.5 * math.sqrt(width)),
    ):
        share = total / math.sqrt(sublayers * width)
        for name, module in part.named_modules():
            if isinstance(module, nn.Linear):
                adds = name.endswith(("out_proj", "fc2"))
                nn.init.normal_(module.weight, std=(share if adds else 1.0) * _std(module))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
                if adds:
                    module.weight[0].zero_()  # layers do not use channel 0
    for conv in (encoder.conv1, encoder.conv2):
        nn.init.normal_(conv.weight, std=1.5 / math.sqrt(conv.weight[0].numel()))
        nn.init.zeros_(conv.bias)


def _std(linear: nn.Linear) -> float:
    return 1 / math.sqrt(linear.in_features)


def _mark_loudness(encoder: Any) -> None:
    """Set channel 0 of each encoder frame to the mean of its mel bins, where GELU is linear."""
    encoder.conv1.weight[0].zero_()
    encoder.conv1.weight[0, :, 1] = 1 / encoder.conv1.weight.shape[1]
    encoder.conv1.bias[0] = 1.5
    encoder.conv2.weight[0].zero_()
    encoder.conv2.weight[0, 0, 1] = LOUDNESS_GAIN
    encoder.embed_positions.weight[:, 0] = 0


def _place_tokens(
    model: WhisperForConditionalGeneration, vocabulary: list[str], rng: random.Random
) -> None:
    """Set tokens to unit vectors. Positions point at words, the first one at <|en|>."""
    decoder = model.model.decoder
    tokens = nn.functional.normalize(torch.randn(len(vocabulary), decoder.config.d_model), dim=1)
    tokens[:, 0] = 0
    end = vocabulary.index("<|endoftext|>")
    tokens[end] = 0
    tokens[end, 0] = 1
    decoder.embed_tokens.weight.copy_(tokens)
    words = [i for i, t in enumerate(vocabulary) if re.fullmatch("Ġ[a-z]{2,7}", t)]
    names = [i for i, t in enumerate(vocabulary) if re.fullmatch("Ġ[A-Z][a-z]{2,7}", t)]
    stop, english = vocabulary.index("."), vocabulary.index("<|en|>")
    for position, embedding in enumerate(decoder.embed_positions.weight):
        spoken = position - PROMPT_TOKENS + 1
        pool = names if spoken % SENTENCE_TOKENS == 0 else words
        chosen = rng.sample(pool, WORDS_PER_POSITION)
        if spoken % SENTENCE_TOKENS == SENTENCE_TOKENS - 1:
            chosen[0] = stop
        if position == 0:
            chosen[0] = english  # for language detection
        strengths = torch.full((WORDS_PER_POSITION, 1), WORD_STRENGTH)
        strengths[0] += 2.0 * (chosen[0] in (stop, english))
        embedding.copy_((strengths * tokens[chosen]).sum(dim=0))


def _place_end(model: WhisperForConditionalGeneration, speech: Samples) -> None:
    """Set position embeddings and one attention head to end a hypothesis where speech would."""
    decoder = model.model.decoder
    width = decoder.config.d_model
    lengths_s = np.array([len(speech) / SAMPLE_RATE, 5.0])
    loudness = [_loudness(model, speech[: round(s * SAMPLE_RATE)]) for s in lengths_s]
    per_loudness = TOKENS_PER_S * (lengths_s[0] - lengths_s[1]) / (loudness[0] - loudness[1])
    first_end = TOKENS_PER_S * lengths_s[0] - per_loudness * loudness[0]
    positions = torch.arange(decoder.embed_positions.weight.shape[0])
    spoken = positions - (PROMPT_TOKENS - 1)
    decoder.embed_positions.weight[:, 0] = WORD_STRENGTH + END_SLOPE * (spoken - first_end)
    attention = decoder.layers[-1].encoder_attn
    size = width // decoder.config.decoder_attention_heads
    attention.q_proj.weight[:size].zero_()
    attention.v_proj.weight[:size].zero_()
    attention.v_proj.weight[0, 0] = 1
    attention.out_proj.weight[:, :size].zero_()
    attention.out_proj.weight[0, 0] = -END_SLOPE * per_loudness
    # the stream: words, the layers' additions, and the end while it is far away
    length = math.hypot(WORD_STRENGTH * math.sqrt(WORDS_PER_POSITION), 0.5 * math.sqrt(width), 4)
    decoder.layer_norm.weight.fill_(TOP_LOGIT * length / (math.sqrt(width) * WORD_STRENGTH))


def padded_features(speech: Any, n_mels: int, padding: int = 0, device: Any = None) -> torch.Tensor:
    """whisperx's features with our padding, so both sides write as much for the same speech."""
    mel: torch.Tensor = log_mel_spectrogram(speech, n_mels, padding=padding, device=device)
    if padding:
        mel[..., -(padding // HOP_LENGTH) :] = 0.0
    return mel


def _loudness(model: WhisperForConditionalGeneration, speech: Samples) -> float:
    padding = 30 * SAMPLE_RATE - len(speech)
    mel = padded_features(speech, model.config.num_mel_bins, padding=padding)
    return float(model.model.encoder(mel[None]).last_hidden_state[0, :, 0].mean())


def _convert(
    model: WhisperForConditionalGeneration,
    vocabulary: list[str],
    settings: dict[str, Any],
    target: Path,
) -> None:
    """Convert as ctranslate2's TransformersConverter does, which needs files."""
    spec = WhisperLoader().get_model_spec(model.half())
    spec.register_vocabulary(vocabulary)
    spec.config.suppress_ids = settings["suppress_ids"]
    spec.config.suppress_ids_begin = settings["suppress_ids_begin"]
    # all languages, so that language detection costs as much as with a real model
    spec.config.lang_ids = [
        i for i, token in enumerate(vocabulary) if re.fullmatch(r"<\|[a-z]{2,3}\|>", token)
    ]
    spec.config.alignment_heads = [(len(model.model.decoder.layers) - 1, 0)]
    spec.validate()
    spec.optimize(quantization="float16")
    target.mkdir(parents=True, exist_ok=True)
    spec.save(str(target))
